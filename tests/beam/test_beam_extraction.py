"""Workers of Apache Beam do the shards of an extraction: the same files, the same report."""

import pathlib

import front_doors
import pytest
from media import stand_ins
from media.stand_ins import content, medium, request

from vmr.disk import write_bytes
from vmr.errors import UserError
from vmr.media import extraction, launch, workers

pytest.importorskip("apache_beam", reason="needs the environment of `make test-beam`")

from vmr.beam import beam_options
from vmr.media.beam import extract_under_beam

DOOR = "tools.extract_features"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Six videos with their own sound, one of them damaged."""
    stand_ins.install(monkeypatch.setitem)
    monkeypatch.setattr(workers, "_serve", stand_ins.serve)
    extraction._loaded.cache_clear()
    for number in range(6):
        medium(tmp_path / "videos" / f"v{number}.mp4", number, 20, 30)
    (tmp_path / "videos" / "v4.mp4").write_bytes(b"no media")
    return tmp_path


def flags(folder, *more):
    sides = [f"--{side}_features=stand_in" for side in ("video", "music")]
    where = [f"--videos={folder / 'videos'}", f"--output={folder / 'out'}", "--pairs=own_sound"]
    return [*sides, *where, *more]


def test_shards_under_beam_are_an_extraction_without_it(folder):
    launch.extract_media(request(folder), jobs=1)
    (folder / "out").rename(folder / "plain")
    shown = front_doors.succeed(DOOR, *flags(folder, "--beam", "--shards=3"))
    assert "video: 5 extracted, 1 failed" in shown
    assert content(folder / "out") == content(folder / "plain")
    assert not list((folder / "out" / "journal").glob("*.pickle"))


def test_workers_need_not_be_in_the_folder_of_the_command(folder, monkeypatch):
    def written(path, content):
        write_bytes(path, content)
        monkeypatch.chdir("/")  # the pipeline runs next

    monkeypatch.setattr("vmr.media.beam.write_bytes", written)
    monkeypatch.chdir(folder)
    assert extract_under_beam(request(pathlib.Path(), shards=2), beam_options()).pairs == 5


def test_what_is_done_is_not_done_again(folder):
    wanted = request(folder, shards=2)
    extract_under_beam(wanted, beam_options())
    (folder / "out" / "video" / "v1.npy").unlink()
    times = {file: file.stat().st_mtime_ns for file in (folder / "out").glob("*/*.npy")}
    extract_under_beam(wanted, beam_options())
    assert {file: file.stat().st_mtime_ns for file in times} == times
    assert (folder / "out" / "video" / "v1.npy").is_file()


def test_an_output_that_cannot_be_written_is_told_in_one_line(folder):
    wanted = request(folder)
    extract_under_beam(wanted, beam_options())
    (folder / "out" / "music").rename(folder / "moved")
    (folder / "out" / "music").touch()
    with pytest.raises(UserError, match=r"out/music/v\d\.npy cannot be written: [^\[\n]*$"):
        extract_under_beam(wanted, beam_options())


def test_beam_needs_a_number_of_shards(folder):
    done = front_doors.run(DOOR, *flags(folder, "--beam"))
    assert done.stderr == "error: --beam: expected --shards=N with it, and no --shard\n"
