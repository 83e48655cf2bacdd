"""The command: processes that fail alone, stops that lose an item at most, shards, a cluster."""

import contextlib
import csv
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import fake_slurm
import front_doors
import pytest
import stand_ins

# Configures logging when it is imported, which closes what absl prints to if that is not the
# standard error of the moment: so here, and not within a test that captures it.
import submitit  # noqa: F401
from stand_ins import content, medium, request

from vmr.media import launch, workers

DOOR = "tools.extract_features"
HERE, ROOT = pathlib.Path(__file__).parent, pathlib.Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def stand_in(monkeypatch):
    monkeypatch.setattr(workers, "_serve", stand_ins.serve)


@pytest.fixture
def folder(tmp_path):
    """Six videos with their own sound."""
    for number in range(6):
        medium(tmp_path / "videos" / f"v{number}.mp4", number, 20, 30)
    return tmp_path


def flags(folder, **changed):
    named = {"videos": folder / "videos", "pairs": "own_sound", "output": folder / "out"}
    named |= dict.fromkeys(("video_features", "music_features"), "stand_in")
    return [f"--{name}={value}" for name, value in (named | changed).items()]


def report(folder):
    with (folder / "out" / "report.csv").open(newline="", encoding="utf-8") as file:
        return {(row["side"], row["id"]): row for row in csv.DictReader(file)}


@pytest.fixture
def expected(folder):
    """What an extraction that nothing disturbs comes to."""
    launch.extract_media(request(folder), jobs=1)
    (folder / "out").rename(folder / "undisturbed")
    return content(folder / "undisturbed")


def test_the_number_of_processes_and_of_shards_changes_nothing(folder, expected, monkeypatch):
    told = folder / "told"
    told.mkdir()
    monkeypatch.setenv("STAND_IN_TOLD", str(told))
    # One process is held up until the other has loaded its extractors.
    held = {"began": str(folder / "began"), "until": str(told / "two processes")}
    medium(folder / "videos" / "v0.mp4", 0, 20, 30, **held)
    out = front_doors.succeed(DOOR, *flags(folder, jobs=2))
    assert out.splitlines()[:3] == [
        "video: 6 extracted",
        "music: 6 extracted",
        "pairs: 6 (train 6)",
    ]
    assert content(folder / "out") == expected
    # Each process loads each extractor once, and keeps to one core.
    assert [path.read_text() for path in told.glob("[0-9]*")] == ["video 1\nmusic 1\n"] * 2
    assert "OMP_NUM_THREADS" not in os.environ

    times = {file: file.stat().st_mtime_ns for file in (folder / "out").glob("*/*.npy")}
    front_doors.succeed(DOOR, *flags(folder, jobs=1))
    assert {file: file.stat().st_mtime_ns for file in times} == times
    (folder / "out").rename(folder / "first")

    for shard in (1, 0):
        out = front_doors.succeed(DOOR, *flags(folder, shard=shard, shards=2, jobs=1))
        assert ("no pairs are written before all shards" in out) == (shard == 1)
        assert (folder / "out" / "train.csv").exists() == (shard == 0)
    assert content(folder / "out") == expected


def test_a_process_that_dies_costs_its_item(folder, monkeypatch):
    medium(folder / "videos" / "v1.mp4", 1, crash=int(signal.SIGSEGV))
    medium(folder / "videos" / "v3.mp4", 3, crash_once=str(folder / "crashed"))
    (folder / "videos" / "v5.mp4").write_bytes(b"no media")
    out = front_doors.succeed(DOOR, *flags(folder, jobs=2))
    assert "video: 4 extracted, 2 failed\nmusic: 4 extracted, 2 failed\n" in out
    reason = "ends the process that decodes it: killed by signal 11, Segmentation fault"
    assert f"failed: video v1: {reason}\n" in out
    assert "pairs: 4 (train 4); 2 lack a feature, and are left out" in out
    failed = {key for key, row in report(folder).items() if row["status"] == "failed"}
    assert failed == {(side, id) for side in ("video", "music") for id in ("v1", "v5")}
    train = (folder / "out" / "train.csv").read_text()
    assert train == "video_id,music_id\nv0,v0\nv2,v2\nv3,v3\nv4,v4\n"
    for name in ("v0", "v2", "v3", "v4"):
        (folder / "videos" / f"{name}.mp4").write_bytes(b"no media")
    done = front_doors.run(DOOR, *flags(folder, jobs=1))
    assert done.returncode == 1
    assert "pairs: 0; 6 lack a feature" in done.stdout


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("no weights", "error: no weights\n"),
        (
            "killed",
            "error: a process of the extraction ended early: killed by signal 9, perhaps for",
        ),
    ],
)
def test_an_extractor_that_cannot_be_loaded_ends_it(folder, monkeypatch, fault, message):
    monkeypatch.setenv("STAND_IN_FAULT", fault)
    done = front_doors.run(DOOR, *flags(folder))
    assert done.returncode == 1
    assert done.stderr.startswith(message)
    assert done.stderr.count("\n") == 1
    assert not (folder / "out").exists()


def test_a_bug_in_a_process_keeps_its_traceback(folder, monkeypatch):
    monkeypatch.setenv("STAND_IN_FAULT", "bug")
    with pytest.raises(RuntimeError, match=r"(?s)Traceback .*ZeroDivisionError: a bug"):
        launch.extract_media(request(folder))


def test_a_full_disk_ends_all_processes(folder, expected):
    # A file where a folder is to be, as a disk without space, refuses what is to be written.
    (folder / "out").mkdir()
    (folder / "undisturbed" / "extraction.json").rename(folder / "out" / "extraction.json")
    (folder / "out" / "music").touch()
    done = front_doors.run(DOOR, *flags(folder, jobs=2))
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {folder}/out/music/v0.npy cannot be written: ")
    assert done.stderr.count("\n") == 1
    (folder / "out" / "music").unlink()
    front_doors.succeed(DOOR, *flags(folder, jobs=2))
    assert content(folder / "out") == expected


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        *(({"clips": clips}, rf"--clips={clips}: expected seconds a clip, 0\.1 or more, or whole")
          for clips in ("0", "-1", "nan", "inf", "0.05", "ten", "10s")),
        ({"clips": ""}, "--clips= is empty"),
        ({"frames": "all"}, "frames"),
        ({"jobs": "0"}, "jobs"),
        ({"shard": 0}, "--shard and --shards: expected both"),
        ({"shards": 2}, "--shard and --shards: expected both"),
        ({"shard": 2, "shards": 2}, "--shard=2: expected 0 to 1, one of --shards=2"),
        ({"slurm": "timeout_min=5"}, "--slurm: expected --shards=N with it"),
        ({"slurm": "timeout_min=5", "shards": 2, "shard": 0}, "--slurm: expected --shards=N"),
        ({"slurm": "gpu", "shards": 2}, "--slurm: 'gpu' is not NAME=VALUE"),
        ({"videos": "no-such"}, "no-such: no such folder"),
        ({"pairs": "no-such.csv"}, r"no-such\.csv: no such file"),
        ({"music": "music"}, "--music=music: with --pairs=own_sound the videos are the music"),
        ({"output": "{folder}/videos/out"}, "lies in --videos="),
        ({"video_features": "librosa1140"}, "--video_features=librosa1140: expected one of effi"),
        ({"music_features": "onnx"}, "--music_features=onnx: expected one of librosa1140, musi"),
    ],
)  # fmt: skip
def test_mistakes_are_told_in_a_line(folder, changed, message):
    filled = {name: str(value).format(folder=folder) for name, value in changed.items()}
    done = front_doors.run(DOOR, *flags(folder, **filled))
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: ")
    assert re.search(message, done.stderr), done.stderr
    assert not (folder / "out").exists()


COMMAND = """
import signal
import stand_ins
from tools import extract_features
from vmr.command import run
from vmr.media import workers

if __name__ == "__main__":
    workers._serve = stand_ins.serve
    # What a shell starts in the background, as these tests perhaps, ignores Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    run(extract_features.main)
"""


@contextlib.contextmanager
def started(folder, *arguments):
    """The command as a group of processes of its own, once its decoder is at v2; none is left."""
    medium(
        folder / "videos" / "v2.mp4",
        *(2, 20, 30),
        began=str(folder / "began"),
        until=str(folder / "until"),
    )
    (folder / "command.py").write_text(COMMAND)
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{HERE}"}
    command = [sys.executable, str(folder / "command.py"), *arguments]
    process = subprocess.Popen(
        command, env=environment, start_new_session=True, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 120
        while not (folder / "began").exists() or not (folder / "began").read_text():
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):  # as it should be
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def gone(pid):
    """True once no process, or a zombie, has the id."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            if pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.01)
    return False


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks at processes in /proc")
@pytest.mark.parametrize("stop", ["group", "parent", "interrupt"])
def test_a_stop_at_any_moment_loses_the_item_at_hand(folder, stop):
    with started(folder, *flags(folder, jobs=1)) as process:
        worker = int((folder / "began").read_text())
        if stop == "group":
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.send_signal(signal.SIGKILL if stop == "parent" else signal.SIGINT)
        _, err = process.communicate(timeout=60)
        if stop == "interrupt":
            assert process.returncode == 130
            assert err == "stopped by the keyboard\n"
        assert gone(worker)
    done = {path.name for path in (folder / "out").rglob("*.npy")}
    assert done == {"v0.npy", "v1.npy"}

    times = {file: file.stat().st_mtime_ns for file in (folder / "out").glob("video/v[01].npy")}
    (folder / "until").touch()
    front_doors.succeed(DOOR, *flags(folder, jobs=1))
    assert {file: file.stat().st_mtime_ns for file in times} == times
    resumed = content(folder / "out")
    (folder / "out").rename(folder / "resumed")
    front_doors.succeed(DOOR, *flags(folder, jobs=2))
    assert resumed == content(folder / "out")
    assert not list(folder.rglob("*.unfinished"))


@pytest.fixture
def cluster(folder, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}:{HERE}")
    monkeypatch.setenv("PATH", fake_slurm.install(folder / "cluster"))
    monkeypatch.setattr(launch, "extract_media", stand_ins.extract_on_node)
    return lambda: fake_slurm.submissions(folder / "cluster")


def stopped(_):
    raise KeyboardInterrupt


@pytest.mark.skipif(sys.platform != "linux", reason="looks at processes in /proc")
def test_shards_go_to_a_cluster_once(folder, expected, cluster, monkeypatch, capsys):
    wanted = request(folder, shards=2)
    with monkeypatch.context() as patch:
        patch.setattr("time.sleep", stopped)
        with pytest.raises(KeyboardInterrupt):
            launch.extract_on_slurm(wanted, {"timeout_min": 5}, jobs=1)
    summary = launch.extract_on_slurm(wanted, {"timeout_min": 5}, jobs=1, poll_seconds=0.1)
    assert summary.pairs == 6
    assert content(folder / "out") == expected
    assert cluster() == 1
    told = capsys.readouterr().out
    assert "2/2 shard" in told or "1/1 shard" in told or not told
    launch.extract_on_slurm(wanted, {"timeout_min": 5}, jobs=1, poll_seconds=0.1)
    assert cluster() == 1  # nothing was left to do


@pytest.mark.skipif(sys.platform != "linux", reason="looks at processes in /proc")
def test_a_shard_whose_job_dies_is_told_and_submitted_again(folder, expected, cluster, capsys):
    wanted = request(folder, shards=2)
    medium(folder / "videos" / "v3.mp4", 3, crash_job=True)
    summary = launch.extract_on_slurm(wanted, {"timeout_min": 5}, jobs=1, poll_seconds=0.1)
    assert (summary.pairs, summary.waiting > 0) == (0, True)
    dead, alive = sorted(capsys.readouterr().out.splitlines(), key=lambda line: "done" in line)
    assert re.fullmatch(rf"./2 shard .: {summary.waiting} items wait, see .*_log\.err", dead)
    assert re.fullmatch(r"./2 shard .: done", alive)
    medium(folder / "videos" / "v3.mp4", 3, 20, 30)
    launch.extract_on_slurm(wanted, {"timeout_min": 5}, jobs=1, poll_seconds=0.1)
    assert capsys.readouterr().out.startswith("1/1 shard ")
    assert content(folder / "out") == expected
    assert cluster() == 2


def test_a_cluster_that_is_not_there_is_told(folder, monkeypatch):
    monkeypatch.setenv("PATH", str(folder))
    done = front_doors.run(DOOR, *flags(folder, slurm="timeout_min=5", shards=2))
    assert done.returncode == 1
    assert done.stderr.startswith('error: Slurm: Could not detect "srun"')
