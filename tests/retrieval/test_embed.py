"""Embedding part by part: what is written, killed and gone on with, and what is refused."""

import json
import pathlib
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from stand_in_model import StandIn

from vmr.collection import fingerprint_of, open_collection
from vmr.errors import UserError
from vmr.retrieval import embed as embedding
from vmr.retrieval.embed import embed, source_for

ROOT = pathlib.Path(__file__).parents[2]
ITEMS, WIDTH = 23, 5
ROWS = np.random.default_rng(0).normal(size=(ITEMS, WIDTH)).astype(np.float32)
IDS = [f"album{n // 5}/{n:02d}" for n in range(ITEMS)]


@pytest.fixture
def music(tmp_path: pathlib.Path) -> pathlib.Path:
    for item, row in zip(IDS, ROWS, strict=True):
        path = tmp_path / "music" / f"{item}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, row)
    return tmp_path / "music"


def embedded(
    music: pathlib.Path, output: pathlib.Path, model: StandIn | None = None, **sizes: int
) -> bool:
    """Four parts, the last of five items, in batches of three."""
    model = model or StandIn()
    sizes = {"batch_size": 3, "part_items": 6} | sizes
    return embed(model, source_for(model, str(music), "music"), output, **sizes)  # type: ignore[arg-type]


def content(output: pathlib.Path) -> dict[str, Any]:
    """What a folder or an npz holds, but for when it was made."""
    if output.suffix == ".npz":
        with np.load(output, allow_pickle=False) as arrays:
            return {name: arrays[name].tobytes() for name in arrays}
    assert not list(output.rglob("*.unfinished"))
    return {
        str(path.relative_to(output)): path.read_bytes()
        for path in output.rglob("*")
        if path.is_file() and path.name != ".lock"
    }


def test_a_folder_holds_what_the_model_gives_in_the_layout_of_others(
    music: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    output, model = tmp_path / "out", StandIn()
    assert embedded(music, output, model)
    assert model.seen == [3, 3, 3, 3, 3, 3, 3, 2]
    found = open_collection(output)
    assert found.ids.tolist() == IDS
    assert [len(part) for part in found.parts] == [6, 6, 6, 5]
    np.testing.assert_array_equal(np.concatenate(found.parts), model.embedded(ROWS))
    assert found.columns["path"][3] == str(music / "album0/03.npy")
    manifest = json.loads((output / "manifest.json").read_text())
    assert (
        manifest.items()
        >= {
            "side": "music",
            "items": 23,
            "width": 4,
            "parts": 4,
            "part_items": 6,
            "model": "f" * 64,
            "step": 7,
            "source_path": str(music),
            "complete": True,
        }.items()
    )
    assert found.fingerprint == fingerprint_of(found.ids, found.parts)
    names = sorted(path.name for path in output.iterdir())
    assert names == [".lock", "manifest.json", "metadata", "music_emb"]
    files = [path.name for path in sorted((output / "music_emb").iterdir())]
    assert files == [f"music_emb_000{n}.npy" for n in range(4)]
    table = pq.read_table(output / "metadata" / "metadata_0003.parquet")
    assert table["id"].to_pylist() == IDS[18:]


def test_an_npz_holds_the_rows_of_the_folder_and_its_parts_are_gone(
    music: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    embedded(music, tmp_path / "out")
    embedded(music, tmp_path / "out.npz")
    folder, file = open_collection(tmp_path / "out"), open_collection(tmp_path / "out.npz")
    assert folder.fingerprint == file.fingerprint
    assert folder.fingerprint == fingerprint_of(file.ids, file.parts)
    assert file.meta["model"] == "f" * 64
    assert not (tmp_path / "out.npz.parts").exists()
    with np.load(tmp_path / "out.npz", allow_pickle=False) as arrays:
        assert set(arrays) == {"music_emb", "music_ids", "split", "meta"}


KILLED = """
import os, pathlib, signal, sys
from stand_in_model import StandIn
from vmr.retrieval.embed import embed, source_for

music, folder = sys.argv[1:]
replace = pathlib.Path.replace

def run(name, moment):
    calls = []
    def killing(self, target):
        calls.append(target)
        if len(calls) == moment // 2 + 1:
            if moment % 2:
                replace(self, target)
            os.kill(os.getpid(), signal.SIGKILL)
        return replace(self, target)
    pathlib.Path.replace = killing
    output = pathlib.Path(folder) / str(moment) / name
    output.parent.mkdir(exist_ok=True)
    model = StandIn()
    embed(model, source_for(model, music, "music"), output, 3, 6)

for name in ("out", "out.npz"):
    status, moment = 1, -1
    while status:
        moment += 1
        child = os.fork()
        if not child:
            run(name, moment)
            os._exit(0)
        status = os.waitpid(child, 0)[1]
    print(moment)
"""


@pytest.mark.slow
def test_killed_at_any_moment_and_gone_on_with_is_as_never_killed(
    music: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    """Before and after each file gets its name."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", KILLED, str(music), str(tmp_path)],
        capture_output=True,
        env={"PYTHONPATH": f"{ROOT}:{ROOT / 'tests/retrieval'}"},
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    # The plan, four parts of two files, and the manifest or the npz, which is renamed twice.
    moments = {"out": 2 * (1 + 4 * 2 + 1), "out.npz": 2 * (1 + 4 * 2 + 2)}
    assert [int(line) for line in done.stdout.split()] == list(moments.values())
    for name, count in moments.items():
        embedded(music, tmp_path / name)
        whole = content(tmp_path / name)
        for moment in range(count):
            model, output = StandIn(), tmp_path / str(moment) / name
            embedded(music, output, model)
            assert content(output) == whole
            assert sum(model.seen) == max(0, ITEMS - 6 * max(0, (moment - 1) // 4))
    left = {path.name for path in tmp_path.glob("[0-9]*/*")}
    assert left == {"out", "out.npz"}


def test_what_is_finished_is_left_as_it_is(music: pathlib.Path, tmp_path: pathlib.Path) -> None:
    for name in ("out", "out.npz"):
        output, model = tmp_path / name, StandIn()
        assert embedded(music, output)
        before = content(output)
        assert not embedded(music, output, model, part_items=7)
        assert content(output) == before
        assert not model.seen
        for change, message in (
            (StandIn("e" * 64), r"another model \(ffffffffffff there, eeeeeeeeeeee now\): delete"),
            (None, "another source"),
        ):
            if change is None:
                np.save(music / "more.npy", ROWS[0])
            with pytest.raises(UserError, match=f"{name} holds embeddings of {message}"):
                embedded(music, output, change)
            assert content(output) == before
        (music / "more.npy").unlink()


def bad(music: pathlib.Path, item: str, row: Any = (np.nan,) * WIDTH) -> None:
    np.save(music / f"{item}.npy", np.asarray(row, np.float32))


@pytest.mark.parametrize("name", ["out", "out.npz"])
def test_a_bad_item_is_named_and_costs_no_finished_part(
    music: pathlib.Path, tmp_path: pathlib.Path, name: str
) -> None:
    output = tmp_path / name
    embedded(music, tmp_path / "whole")
    bad(music, IDS[12])  # the first of the third part
    with pytest.raises(UserError, match=r"music 'album2/12' holds NaN or infinity"):
        embedded(music, output)
    folder = output if name == "out" else tmp_path / "out.npz.parts"
    assert len(list(folder.glob("music_emb/*.npy"))) == 2
    if folder == output:
        with pytest.raises(UserError, match="out is unfinished"):
            open_collection(output)
    else:
        assert not output.exists()
    np.save(music / f"{IDS[12]}.npy", ROWS[12])  # mended
    model = StandIn()
    assert embedded(music, output, model)
    assert sum(model.seen) == ITEMS - 12
    assert open_collection(output).fingerprint == open_collection(tmp_path / "whole").fingerprint


def test_a_bad_item_may_be_taken_out(music: pathlib.Path, tmp_path: pathlib.Path) -> None:
    bad(music, IDS[22], ROWS[0, :3])
    with pytest.raises(UserError, match="'album4/22' has width 3, expected 5, which the model"):
        embedded(music, tmp_path / "out")
    (music / f"{IDS[22]}.npy").unlink()
    assert embedded(music, tmp_path / "out")
    assert open_collection(tmp_path / "out").ids.tolist() == IDS[:22]


def interrupted(music: pathlib.Path, output: pathlib.Path) -> None:
    """Two parts are there, and a third begun."""
    bad(music, IDS[15])
    with pytest.raises(UserError, match="album3/15"):
        embedded(music, output)
    np.save(music / f"{IDS[15]}.npy", ROWS[15])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda music: {"model": StandIn("e" * 64)}, "another model"),
        (lambda music: {"part_items": 12}, r"another part size \(6 there, 12 now\)"),
        (lambda music: bad(music, IDS[7], ROWS[8]), r"_0001.npy is of items that .* changed"),
        (lambda music: (music / "album0/00.npy").unlink(), r"_0000.npy is of items that .* chang"),
        (lambda music: bad(music, "album0/00a", ROWS[8]), r"_0000.npy is of items that .* changed"),
    ],
)
def test_what_is_unfinished_goes_on_only_as_it_began(
    music: pathlib.Path,
    tmp_path: pathlib.Path,
    change: Callable[[pathlib.Path], Any],
    message: str,
) -> None:
    output = tmp_path / "out"
    interrupted(music, output)
    before = content(output)
    changed = change(music)
    with pytest.raises(UserError, match=message) as raised:
        embedded(music, output, **(changed if isinstance(changed, dict) else {}))
    assert str(output) in str(raised.value)
    after = content(output)
    assert {**after, "unfinished.json": None} == {**before, "unfinished.json": None}


@pytest.mark.parametrize("damage", ["rows", "table", "gone"])
def test_a_damaged_part_is_made_again(
    music: pathlib.Path, tmp_path: pathlib.Path, damage: str
) -> None:
    embedded(music, tmp_path / "whole")
    output = tmp_path / "out"
    interrupted(music, output)
    rows, table = output / "music_emb/music_emb_0001.npy", output / "metadata/metadata_0001.parquet"
    if damage == "gone":
        rows.unlink()
    else:
        path = rows if damage == "rows" else table
        path.write_bytes(path.read_bytes()[:-8])
    assert embedded(music, output)
    assert open_collection(output).fingerprint == open_collection(tmp_path / "whole").fingerprint


def test_what_failed_before_its_first_part_may_be_begun_anew(
    music: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    bad(music, IDS[0])
    with pytest.raises(UserError, match="album0/00"):
        embedded(music, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    np.save(music / f"{IDS[0]}.npy", ROWS[0])
    assert embedded(music, tmp_path / "out", StandIn("e" * 64), part_items=10)


def test_another_folder_and_a_full_disk_lose_nothing(
    music: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    np.savez(tmp_path / "other.npz", x=ROWS)
    for name, message in (
        ("mine", "mine is not empty, expected a new folder"),
        ("file", "file cannot be made: File exists"),
        ("other.npz", "other.npz holds embeddings of another modality"),
        ("music/out", "lies in the source: expected"),
        ("music", "lies in the source: expected"),
    ):
        with pytest.raises(UserError, match=message):
            embedded(music, tmp_path / name)
    assert (tmp_path / "mine/notes.txt").read_text() == "mine"
    interrupted(music, tmp_path / "out")
    before = {name: of for name, of in content(tmp_path / "out").items() if "json" not in name}

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(embedding.np, "save", full)
    with pytest.raises(UserError, match=r"music_emb_0002.npy cannot be written: No space left"):
        embedded(music, tmp_path / "out")
    after = content(tmp_path / "out")
    assert after.items() >= before.items()
    assert not (tmp_path / "out/music_emb/music_emb_0002.npy").exists()


def videos(tmp_path: pathlib.Path) -> pathlib.Path:
    (tmp_path / "video").mkdir()
    for n in range(3):
        np.save(tmp_path / f"video/v{n}.npy", np.full((n + 1, 6), 1 + n, np.float32))
    return tmp_path / "video"


def test_text_goes_with_videos_where_the_model_reads_it(tmp_path: pathlib.Path) -> None:
    path, table = str(videos(tmp_path)), tmp_path / "text.csv"
    table.write_text("video_id,text\nv1,four\n")
    reads, deaf, tokens = StandIn(text="gated_sum"), StandIn(), StandIn(text="tokens", tokens=8)
    source = source_for(reads, path, "video", text=str(table))
    embed(reads, source, tmp_path / "out")
    features = [np.load(file) for file in sorted(pathlib.Path(path).iterdir())]
    np.testing.assert_array_equal(
        open_collection(tmp_path / "out").parts[0], reads.embedded(features, ["", "four", ""])
    )
    without = source_for(reads, path, "video")
    assert without.note.startswith("no text is given")
    with pytest.raises(UserError, match="holds embeddings of another source"):
        embed(reads, without, tmp_path / "out")
    for model, side, message in (
        (deaf, "video", "reads no text beside video"),
        (reads, "music", "reads no text beside music"),
        (tokens, "video", "reads embeddings of text, not words"),
    ):
        with pytest.raises(UserError, match=f"text.csv: runs/stand_in {message}"):
            source_for(model, path, side, text=str(table))
    deaf.widths, deaf.pairing = {"music": 5}, "music"
    with pytest.raises(UserError, match="is a model of music alone: it embeds no video"):
        source_for(deaf, path, "video")


def test_sequences_without_frames_are_named(tmp_path: pathlib.Path) -> None:
    path = videos(tmp_path)
    np.save(path / "v1.npy", np.empty((0, 6), np.float32))
    with pytest.raises(UserError, match="video 'v1' has length 0, expected at least one frame"):
        embed(StandIn(), source_for(StandIn(), str(path), "video"), tmp_path / "out")


def test_what_a_model_cannot_embed_is_named(
    music: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sound = StandIn.embedded

    def broken(self: StandIn, features: Any, text: Any = None) -> np.ndarray:
        rows = sound(self, features, text)
        rows[1] = np.nan
        return rows

    monkeypatch.setattr(StandIn, "embedded", broken)
    with pytest.raises(UserError, match="runs/stand_in gives 'album0/01' no unit embedding"):
        embedded(music, tmp_path / "out")
