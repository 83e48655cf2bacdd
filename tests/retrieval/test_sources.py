"""Items to embed: what a folder, an npz, a folder of parts and a dataset give, and their faults."""

import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vmr.data.building.write import write_dataset
from vmr.data.modality import Modality
from vmr.data.schema import Pair, Schema, Text
from vmr.data.sources.source import Source as Pairs
from vmr.errors import UserError
from vmr.quantization import dequantize
from vmr.retrieval.sources import Source, open_source, with_text

ROWS = np.random.default_rng(0).normal(size=(7, 5)).astype(np.float32)
IDS = ["a", "album/a", "album/b", "b", "ü", "ｗ", "🎵"]  # as code points are sorted


def files(folder: pathlib.Path) -> pathlib.Path:
    for item, row in zip(IDS, ROWS, strict=True):
        path = folder / f"{item}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, row)
    return folder


def shards(folder: pathlib.Path, name: str = "features", **columns: list) -> pathlib.Path:
    (folder / name).mkdir(parents=True)
    (folder / "metadata").mkdir()
    columns = {"id": IDS} | columns
    for number, rows in enumerate((slice(0, 2), slice(2, 6), slice(6, 7))):
        np.save(folder / f"{name}/{name}_{number:04d}.npy", ROWS[rows])
        table = pa.table({name: of[rows] for name, of in columns.items()})
        pq.write_table(table, folder / f"metadata/metadata_{number:04d}.parquet")
    return folder


def npz(folder: pathlib.Path, **arrays: np.ndarray) -> pathlib.Path:
    folder.mkdir()
    np.savez(folder / "made.npz", **arrays or {"features": ROWS, "ids": np.array(IDS)})
    return folder / "made.npz"


def read(source: Source, start: int = 0, size: int = 3) -> tuple[list[str], list[np.ndarray]]:
    sizes = [min(size, source.total - n) for n in range(start, source.total, size)]
    batches = list(source.read(start, sizes))
    assert [len(batch.ids) for batch in batches] == sizes
    ids = [item for batch in batches for item in batch.ids]
    return ids, [row for batch in batches for row in batch.features]


@pytest.mark.parametrize(
    "make",
    [
        files,
        shards,
        lambda folder: shards(folder, "music_emb"),
        lambda folder: shards(folder, "clap_emb"),
        npz,
        lambda folder: npz(folder, music=ROWS, music_ids=np.array(IDS)),
        lambda folder: npz(folder, features=ROWS.astype(float), video=ROWS, ids=np.array(IDS)),
    ],
)
def test_every_form_gives_the_same_items_from_any_item_on(
    tmp_path: pathlib.Path, make: Callable[[pathlib.Path], pathlib.Path]
) -> None:
    source = open_source(make(tmp_path / "made"), "music")
    assert (source.total, source.side, source.sequences) == (7, "music", False)
    for start in (0, 3, 6):
        ids, rows = read(source, start)
        assert ids == IDS[start:]
        np.testing.assert_array_equal(rows, ROWS[start:])
        assert {row.dtype for row in rows} == {np.dtype(np.float32)}


def test_a_folder_is_read_with_its_links_and_what_is_no_npy_is_counted(
    tmp_path: pathlib.Path,
) -> None:
    files(tmp_path / "large" / "disk")
    (tmp_path / "music").mkdir()
    (tmp_path / "music" / "x").symlink_to(tmp_path / "large" / "disk")
    (tmp_path / "music" / "notes.txt").write_text("hello")
    source = open_source(tmp_path / "music", "music")
    assert source.ids == [f"x/{item}" for item in IDS]
    assert source.note == "1 files that are not npy are left out"
    batch = next(source.read(1, [1]))
    assert batch.metadata["path"].to_pylist() == [f"{tmp_path}/music/x/album/a.npy"]
    (tmp_path / "large" / "disk" / "album" / "round").symlink_to(tmp_path / "large")
    with pytest.raises(UserError, match="album/round is a link to a folder that it is in"):
        open_source(tmp_path / "music", "music")


def test_sequences_of_a_folder_are_whole(tmp_path: pathlib.Path) -> None:
    for n in range(1, 4):
        np.save(tmp_path / f"{n}.npy", np.full((n, 5), n, np.float16))
    source = open_source(tmp_path, "video")
    assert source.sequences
    _, rows = read(source)
    assert [row.shape for row in rows] == [(1, 5), (2, 5), (3, 5)]
    np.save(tmp_path / "2.npy", ROWS[0])
    with pytest.raises(UserError, match=r"2.npy: has shape \(5,\), expected \(T, width\) like"):
        read(source)


def test_further_columns_of_parts_go_with_their_items(tmp_path: pathlib.Path) -> None:
    folder = shards(tmp_path / "made", seconds=list(range(7)), music_id=IDS[::-1])
    batch = next(open_source(folder, "music").read(1, [3]))
    assert batch.ids == IDS[1:4]
    assert batch.metadata["seconds"].to_pylist() == [1, 2, 3]


@pytest.mark.parametrize("make", [files, shards])
def test_a_fingerprint_is_of_the_items_that_it_is_asked_for(
    tmp_path: pathlib.Path, make: Callable[[pathlib.Path], pathlib.Path]
) -> None:
    folder = make(tmp_path / "made")
    before, again = open_source(folder, "music"), open_source(folder, "music")
    assert before.fingerprint(0, 7) == again.fingerprint(0, 7)
    last = folder / ("🎵.npy" if make is files else "features/features_0002.npy")
    np.save(last, np.load(last) + 1)
    after = open_source(folder, "music")
    assert after.fingerprint(0, 6) == before.fingerprint(0, 6)
    assert after.fingerprint(6, 7) != before.fingerprint(0, 7)
    assert len({after.fingerprint(*rows) for rows in ((0, 7), (0, 6), (1, 7), (2, 3))}) == 4


def made(folder: pathlib.Path, schema: Schema, change: Callable[[int], dict[str, Any]]) -> str:
    """Seven videos of three tracks."""

    def pairs() -> Any:
        for n in range(7):
            given = {"video": ROWS[n], "music": ROWS[n % 3, :2], "text": "", **change(n)}
            yield Pair(video_id=f"v{n}", music_id=f"m{n % 3}", **given)

    splits = dict.fromkeys(("train", "test"), pairs)
    write_dataset(Pairs("made", "by a test", "none", schema, splits), folder, "a test")
    return str(folder)


@pytest.fixture(scope="module")
def vectors(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("vectors") / "data"
    schema = Schema(Modality(5), Modality(2), text=Text())
    return made(folder, schema, lambda n: {"text": "word " * n})


def test_a_dataset_gives_each_track_once_and_each_video_with_its_text(vectors: str) -> None:
    tracks = open_source(vectors, "music", "test")
    ids, rows = read(tracks)
    assert sorted(ids) == ["m0", "m1", "m2"]
    for item, row in zip(ids, rows, strict=True):
        np.testing.assert_array_equal(row, ROWS[int(item[1]), :2])
    assert read(tracks, 1)[0] == ids[1:]
    videos = open_source(vectors, "video", "test")
    assert (tracks.total, videos.total) == (3, 7)
    assert (tracks.has_text, videos.has_text) == (False, True)
    (batch,) = videos.read(0, [7])
    assert sorted(batch.ids) == [f"v{n}" for n in range(7)]
    for item, row, text in zip(batch.ids, batch.features, batch.text, strict=True):
        np.testing.assert_array_equal(row, ROWS[int(item[1])])
        assert text.split() == ["word"] * int(item[1])


def test_bytes_of_a_dataset_are_dequantised_and_embedded_text_is_read(
    tmp_path: pathlib.Path,
) -> None:
    frames = [np.arange(n * 5, dtype=np.uint8).reshape(n, 5) for n in range(1, 8)]
    schema = Schema(Modality(5, sequence=True, quantized=True), Modality(2), text=Text(3))
    folder = made(
        tmp_path / "data",
        schema,
        lambda n: {"video": frames[n], "text": np.full((n, 3), n, np.float32)},
    )
    source = open_source(folder, "video", "train")
    assert source.sequences
    (batch,) = source.read(0, [7])
    for item, row, text in zip(batch.ids, batch.features, batch.text, strict=True):
        np.testing.assert_array_equal(row, dequantize(frames[int(item[1])]))
        assert text.shape == (int(item[1]), 3)


def test_a_dataset_of_other_counts_than_it_says_is_told(
    vectors: str, tmp_path: pathlib.Path
) -> None:
    file = pathlib.Path(vectors) / "dataset.json"
    text = file.read_text()
    for count, message in ((2, "holds more than 2"), (4, "holds fewer than 4")):
        try:
            file.write_text(text.replace('"tracks": 3', f'"tracks": {count}'))
            source = open_source(vectors, "music", "test")
            with pytest.raises(UserError, match=f"test {message} distinct music ids"):
                list(source.read(0, [count]))
        finally:
            file.write_text(text)


@pytest.mark.parametrize(
    ("side", "split", "message"),
    [
        ("music", None, "is a dataset: expected --split=, one of train, test"),
        ("music", "tset", "has no split 'tset', expected one of: train"),
    ],
)
def test_a_dataset_is_asked_for_a_split(
    vectors: str, side: str, split: str | None, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        open_source(vectors, side, split)


def test_text_of_a_csv_goes_with_the_videos(vectors: str, tmp_path: pathlib.Path) -> None:
    table = tmp_path / "text.csv"
    table.write_text('video_id,text\nalbum/a,"slow, sad"\n🎵,\nnone,here\n', encoding="utf-8")
    source = open_source(files(tmp_path / "videos"), "video")
    told = with_text(source, table)
    assert told.has_text
    assert told.note == f"1 of 7 videos have text; 1 lines of {table} are of other videos, and " + (
        "left out"
    )
    (batch,) = told.read(0, [3])
    assert batch.text == ["", "slow, sad", ""]
    before = [told.fingerprint(*rows) for rows in ((0, 2), (2, 7))]
    table.write_text('video_id,text\nalbum/a,"slow, sad"\n🎵,glad\n', encoding="utf-8")
    after = with_text(source, table)
    assert after.fingerprint(0, 2) == before[0] != source.fingerprint(0, 2)
    assert after.fingerprint(2, 7) != before[1]
    with pytest.raises(UserError, match="is a dataset, whose own text is read"):
        with_text(open_source(vectors, "video", "test"), table)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("video_id,text\nx,y\n", "has no text for any video"),
        ("video_id,text\na,y\na,z\n", "line 3 repeats video id 'a'"),
        ("video_id,text\nu\u0308,y\n", "in another form of Unicode"),
        ("video,text\na,y\n", "lacks column video_id"),
        (None, "cannot be read as CSV"),
    ],
)
def test_a_wrong_csv_of_text_is_told(
    tmp_path: pathlib.Path, text: str | None, message: str
) -> None:
    table = tmp_path / "text.csv"
    if text:
        table.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=message) as raised:
        with_text(open_source(files(tmp_path / "videos"), "video"), table)
    assert str(table) in str(raised.value)


def test_a_name_that_is_not_utf_8_is_told(tmp_path: pathlib.Path) -> None:
    np.save(tmp_path / "\udcff.npy", ROWS[0])
    with pytest.raises(UserError, match=r"the file name '\\udcff.npy' gives no id"):
        open_source(tmp_path, "music")


def pairs_folder(folder: pathlib.Path) -> pathlib.Path:
    files(folder / "music")
    (folder / "train.csv").write_text("")
    return folder


def emptied(folder: pathlib.Path) -> pathlib.Path:
    folder.mkdir()
    (folder / ".DS_Store").write_text("")
    return folder


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda f: f, "made does not exist, expected a folder or an npz of music features"),
        (emptied, "made has no npy file, expected <id>.npy of music features"),
        (pairs_folder, "made is a folder of pairs: expected .*made/music"),
        (lambda f: npz(f, video=ROWS, video_ids=np.array(IDS)), "has video, video_ids; expected"),
        (lambda f: npz(f, music=ROWS), "has music; expected music or features, and music_ids or"),
        (lambda f: npz(f, music=ROWS[0], ids=np.array(IDS)), r"music has shape \(5,\)"),
        (lambda f: npz(f, music=ROWS.astype(str), ids=np.array(IDS)), "music has .* type <U"),
        (lambda f: npz(f, music=ROWS, ids=np.arange(7)), "ids has shape .* type int64, expected"),
        (lambda f: npz(f, music=ROWS, ids=np.array(IDS[1:])), r"ids has shape \(6,\)"),
        (lambda f: npz(f, music=ROWS, ids=np.array(["a", *IDS[:6]])), "id 'a' comes twice, in"),
        (lambda f: shards(f, "music"), "has metadata and neither, expected one of features and"),
        (lambda f: shards(f, id=["a", *IDS[:6]]), "id 'a' comes twice, in rows 0 and 1"),
    ],
)
def test_what_holds_no_items_is_told_in_one_line(
    tmp_path: pathlib.Path, make: Callable[[pathlib.Path], pathlib.Path], message: str
) -> None:
    with pytest.raises(UserError, match=message) as raised:
        open_source(make(tmp_path / "made"), "music")
    assert str(tmp_path / "made") in str(raised.value)


def test_only_datasets_have_splits(tmp_path: pathlib.Path) -> None:
    with pytest.raises(UserError, match=r"--split=test: .* is no dataset, which alone has splits"):
        open_source(files(tmp_path / "made"), "music", "test")
