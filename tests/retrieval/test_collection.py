"""Collections of one modality: npz and folders of parts, ours and anybody's, sound and damaged."""

import json
import pathlib
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vmr import embeddings
from vmr.arrays import unit_rows
from vmr.collection import Collection, open_collection, write_npz
from vmr.errors import UserError

ROWS = unit_rows(np.random.default_rng(0).normal(size=(7, 4)))
IDS = np.array(["a", "b/1", "ü", "d", "e", "f", "g"])
PARTS = (ROWS[:3], ROWS[3:6], ROWS[6:])


def written(folder: pathlib.Path, side: str = "music", **columns: list) -> pathlib.Path:
    """Anybody's folder of three parts, without a manifest."""
    (folder / f"{side}_emb").mkdir(parents=True)
    (folder / "metadata").mkdir()
    first = 0
    for number, part in enumerate(PARTS):
        rows = slice(first, first := first + len(part))
        np.save(folder / f"{side}_emb/{side}_emb_{number:04d}.npy", part)
        table = {"id": IDS[rows].tolist()} | {name: of[rows] for name, of in columns.items()}
        pq.write_table(pa.table(table), folder / f"metadata/metadata_{number:04d}.parquet")
    return folder


def assert_same(opened: Collection) -> None:
    assert (len(opened), opened.width, opened.side) == (7, 4, "music")
    assert opened.ids.tolist() == IDS.tolist()
    np.testing.assert_array_equal(np.concatenate(opened.parts), ROWS)


def test_an_npz_and_a_folder_of_the_same_rows_are_the_same_collection(
    tmp_path: pathlib.Path,
) -> None:
    write_npz(tmp_path / "music.npz", "music", PARTS, IDS, {"model": "abc"}, split="test")
    folder = written(tmp_path / "folder", seconds=list(range(7)))
    of_file, of_folder = open_collection(tmp_path / "music.npz"), open_collection(folder)
    for opened in (of_file, of_folder):
        assert_same(opened)
        np.testing.assert_array_equal(opened.rows([6, 0, 3, 3]), ROWS[[6, 0, 3, 3]])
        assert opened.rows([]).shape == (0, 4)
        with pytest.raises(IndexError, match="rows 2 to 7 of 7"):
            opened.rows([2, 7])
    assert of_file.fingerprint == of_folder.fingerprint
    assert len(of_file.parts) == 1
    assert all(isinstance(part, np.memmap) for part in of_folder.parts)
    assert of_file.meta["model"] == "abc"
    assert of_folder.meta.get("model") is None
    assert of_folder.columns["seconds"].tolist() == list(range(7))
    with np.load(tmp_path / "music.npz", allow_pickle=False) as arrays:
        assert set(arrays) == {"music_emb", "music_ids", "split", "meta"}
        assert str(arrays["split"]) == "test"


def test_the_fingerprint_tells_other_ids_and_other_rows(tmp_path: pathlib.Path) -> None:
    found = set()
    for name, rows, ids in (
        ("same", ROWS, IDS),
        ("rows", ROWS[::-1], IDS),
        ("ids", ROWS, IDS[::-1]),
        ("cut", ROWS, np.array(["a,b", *IDS[2:], "h"])),
    ):
        write_npz(tmp_path / name, "music", [rows], ids, {})
        found.add(open_collection(tmp_path / name).fingerprint)
    assert len(found) == 4


def test_either_side_of_an_exported_npz_is_a_collection(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "both.npz"
    embeddings.save(path, ROWS[:3], ROWS, np.arange(3), video_ids=IDS[:3], music_ids=IDS)
    assert_same(open_collection(path, "music"))
    assert open_collection(path, "video").ids.tolist() == IDS[:3].tolist()
    with pytest.raises(UserError, match="holds video_emb and music_emb, expected one of them"):
        open_collection(path)
    write_npz(path, "music", [ROWS], IDS, {})
    with pytest.raises(UserError, match=r"both.npz holds music_emb, expected video_emb"):
        open_collection(path, "video")


def test_half_precision_is_opened_as_float32(tmp_path: pathlib.Path) -> None:
    folder = written(tmp_path / "half")
    for file in (folder / "music_emb").iterdir():
        np.save(file, np.load(file).astype(np.float16))
    assert {part.dtype for part in open_collection(folder).parts} == {np.dtype(np.float32)}


def rewrite(file: str, rows: np.ndarray) -> Callable[[pathlib.Path], None]:
    return lambda folder: np.save(folder / f"music_emb/{file}", rows)


def retable(**columns: list) -> Callable[[pathlib.Path], object]:
    return lambda folder: pq.write_table(
        pa.table(columns), folder / "metadata/metadata_0002.parquet"
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: (f / "music_emb/music_emb_0001.npy").unlink(), "music_emb has no part 0001"),
        (lambda f: (f / "metadata/metadata_0001.parquet").unlink(), "metadata has no part 0001"),
        (lambda f: (f / "unfinished.json").write_text("{}"), "is unfinished: the command"),
        (lambda f: (f / "manifest.json").write_text("{"), "manifest.json cannot be read as JSON"),
        (
            lambda f: (f / "manifest.json").write_text(json.dumps({"parts": 4, "items": 8})),
            "holds 7 rows in 3 parts, and 8 in 4 by its manifest.json",
        ),
        (
            lambda f: (f / "music_emb/music_emb_0001.npy").write_bytes(b"\x93NUMPY"),
            "0001.npy: cannot be read as npy",
        ),
        (rewrite("music_emb_0001.npy", ROWS[:2]), "0001.npy has 2 rows, .*0001.parquet has 3"),
        (rewrite("music_emb_0001.npy", ROWS[:3, :3]), "0001.npy has width 3, parts before 4"),
        (rewrite("music_emb_0001.npy", ROWS[0]), r"0001.npy has shape \(4,\)"),
        (rewrite("music_emb_0001.npy", ROWS[:3] * 2), "row 0 of part 1 from row 0 on has length 2"),
        (rewrite("music_emb_0001.npy", ROWS[:3] * np.nan), "row 0 of part 1 .* has length nan"),
        (rewrite("music_emb_0001.npy", np.ones((3, 4), int)), "type int64, expected floats"),
        (rewrite("mine_0001.npy", ROWS[:3]), "music_emb_0001.npy and mine_0001.npy are both of"),
        (retable(id=["a"]), "metadata: id 'a' comes twice, in rows 0 and 6"),
        (retable(id=[None]), "row 6 has no id"),
        (retable(id=[3]), "columns differ"),
        (
            lambda f: (f / "metadata/metadata_0002.parquet").write_bytes(b"PAR1"),
            "0002.parquet cannot be read as parquet",
        ),
        (lambda f: (f / "music_emb").rename(f / "emb"), "holds neither video_emb nor music_emb"),
        (lambda f: (f / "video_emb").mkdir(), "holds video_emb and music_emb, expected one"),
    ],
)
def test_a_damaged_folder_is_told_in_one_line(
    tmp_path: pathlib.Path, change: Callable[[pathlib.Path], object], message: str
) -> None:
    folder = written(tmp_path / "folder")
    change(folder)
    with pytest.raises(UserError, match=message) as raised:
        open_collection(folder)
    assert str(folder) in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(("item", "shown"), [("", "''"), ("\ud800", r"'\\ud800'")])
def test_an_id_that_no_file_could_hold_is_refused(
    tmp_path: pathlib.Path, item: str, shown: str
) -> None:
    path = tmp_path / "mine.npz"
    np.savez(path, music_emb=ROWS[:2], music_ids=np.array(["a", item]))
    with pytest.raises(UserError, match=f"npz: the id of row 1 is {shown}, expected Unicode text"):
        open_collection(path)


@pytest.mark.parametrize("names", [["key"], ["key", "url"]])
def test_metadata_without_ids_is_told_with_what_it_has(
    tmp_path: pathlib.Path, names: list[str]
) -> None:
    folder = written(tmp_path / "folder")
    for file in (folder / "metadata").iterdir():
        pq.write_table(pq.read_table(file).select(["id"] * len(names)).rename_columns(names), file)
    with pytest.raises(UserError, match=f"no column id; it has {', '.join(names)}"):
        open_collection(folder)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"music_ids": IDS[:3]}, r"music_ids has shape \(3,\)"),
        ({"music_ids": np.arange(7)}, "type int64, expected"),
        ({"music_ids": np.array(list("abcdefa"))}, "id 'a' comes twice, in rows 0 and 6"),
        ({"music_emb": ROWS * 2}, "row 0 of music_emb has length 2"),
        ({"meta": np.array("[]")}, "meta is the JSON of a list"),
    ],
)
def test_a_wrong_npz_is_told_in_one_line(
    tmp_path: pathlib.Path, arrays: dict[str, np.ndarray], message: str
) -> None:
    np.savez(tmp_path / "music.npz", **{"music_emb": ROWS, "music_ids": IDS} | arrays)
    with pytest.raises(UserError, match=message):
        open_collection(tmp_path / "music.npz")


def test_an_npz_that_cannot_be_written_whole_leaves_the_earlier_one(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "music.npz"
    write_npz(path, "music", PARTS, IDS, {})
    before = path.read_bytes()
    for ids, message in ((IDS[:6], "7 rows for 6 ids"), (list("aabcdef"), "'a' comes twice")):
        with pytest.raises(UserError, match=message):
            write_npz(path, "music", PARTS, ids, {})
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(UserError, match="does not exist"):
        open_collection(tmp_path / "absent")
