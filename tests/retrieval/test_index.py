"""Indices of faiss: each kind built, measured, read back and opened by faiss; what goes wrong."""

import json
import pathlib
import resource
import signal
import sys
from collections.abc import Callable

import naive_search as naive
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vmr.collection import Collection
from vmr.disk import locked
from vmr.errors import UserError
from vmr.retrieval import index as indices
from vmr.retrieval import recall
from vmr.retrieval.index import KINDS, build_index, describe, open_index
from vmr.retrieval.search import search

faiss = pytest.importorskip("faiss")

ROWS = naive.made_rows(0, 800)
QUERIES = naive.made_rows(1, 60)
COLUMNS = {"path": np.array([f"m/{n}.wav" for n in range(800)], object)}


def collection(rows: np.ndarray = ROWS, side: str = "music", model: str | None = "a" * 64):  # type: ignore[no-untyped-def]
    columns = {name: values[: len(rows)] for name, values in COLUMNS.items()}
    ids = np.array([f"{side}_{n}" for n in range(len(rows))])
    parts = (rows[:300], rows[300:]) if len(rows) > 300 else (rows,)
    return Collection(pathlib.Path(f"{side}.npz"), side, parts, ids, columns, {"model": model})


def queries(rows: np.ndarray = QUERIES, **changes: str | None) -> Collection:
    return collection(rows, **({"side": "video"} | changes))


@pytest.fixture(scope="module", params=KINDS)
def built(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("built") / "deeper" / request.param
    build_index(collection(), request.param, folder, queries())
    return folder


def test_an_index_is_read_back_and_finds_the_nearest(built: pathlib.Path) -> None:
    index = open_index(built)
    assert (len(index), index.width, index.side) == (800, 24, "music")
    assert index.ids[799] == "music_799"
    assert index.columns["path"][799] == "m/799.wav"
    assert index.meta["model"] == "a" * 64
    hits, exact = index.search(QUERIES, 10), search(QUERIES, [ROWS], 10)
    found = [len(set(ours) & set(all_)) for ours, all_ in zip(hits.rows, exact.rows, strict=True)]
    assert np.mean(found) > (9.7 if index.facts["kind"] == "sq8" else 9.85)
    assert np.all(np.diff(hits.scores) <= 0)
    tolerance = {"sq8": 0.01, "ivf": 5e-4}.get(index.facts["kind"], 1e-6)
    expected = np.einsum("qd,qkd->qk", QUERIES, ROWS[hits.rows])
    np.testing.assert_allclose(hits.scores, expected, atol=tolerance)
    np.testing.assert_allclose(index.rows(np.array([5, 701])), ROWS[[5, 701]], atol=tolerance)


def test_the_files_are_what_index_json_says_and_open_elsewhere(built: pathlib.Path) -> None:
    assert sorted(path.name for path in built.glob("[!.]*")) == [
        *("faiss.index", "ids.parquet", "index.json")
    ]
    facts = json.loads((built / "index.json").read_text())
    theirs = faiss.read_index(str(built / "faiss.index"))
    assert (theirs.ntotal, theirs.d) == (facts["items"], facts["dimension"]) == (800, 24)
    assert theirs.metric_type == faiss.METRIC_INNER_PRODUCT
    assert facts["metric"] == "inner product"
    assert facts["embeddings"]["fingerprint"] == collection().fingerprint
    table = pq.read_table(built / "ids.parquet")
    assert table.column_names == ["id", "path"]
    assert table["id"].to_pylist() == collection().ids.tolist()
    factory = {"flat": "Flat", "ivf": "IVF20,SQfp16", "hnsw": "HNSW32,Flat", "sq8": "SQ8"}
    assert facts["factory"] == factory[facts["kind"]]
    if facts["kind"] == "hnsw":
        assert (theirs.hnsw.efConstruction, theirs.hnsw.efSearch) == (100, 128)
    if facts["kind"] == "ivf":
        assert (theirs.nlist, theirs.nprobe) == (20, facts["settings"]["nprobe"])
        assert facts["notes"][0].startswith("20 lists instead of 4·√M = 113")


def test_recall_is_that_against_exact_search(built: pathlib.Path) -> None:
    facts = json.loads((built / "index.json").read_text())
    rows = QUERIES[::2] if facts["kind"] in recall.EFFORTS else QUERIES
    ours, exact = open_index(built).search(rows, 10).rows, search(rows, [ROWS], 10).rows
    common = [len(set(a) & set(b)) for a, b in zip(ours, exact, strict=True)]
    measured = facts["measured"]
    assert measured["recall@10"] == pytest.approx(sum(common) / exact.size)
    assert (measured["queries"], measured["of"]) == (len(rows), "video rows of video.npz")
    assert 0 < measured["ms_per_query"] < 1e4
    assert 0 < measured["exact_ms_per_query"] < 1e4
    text = describe(facts)
    assert f"recall@10 {measured['recall@10']:.4f}" in text
    assert f"by {len(rows)} video rows" in text


def test_what_is_excluded_or_scores_too_low_is_no_hit(built: pathlib.Path) -> None:
    index = open_index(built)
    plain = index.search(QUERIES[:1], 40)
    excluded = np.zeros(800, bool)
    excluded[plain.rows[0, :7]] = True
    least = float(plain.scores[0, 20])
    hits = index.search(QUERIES[:1], 33, min_score=least, excluded=excluded)
    assert hits.rows[0, :14].tolist() == plain.rows[0, 7:21].tolist()
    assert set(hits.rows[0, 14:]) == {-1}
    assert index.search(QUERIES[:1], 5000).rows.shape == (1, 800)


def test_duplicates_count_as_what_they_duplicate(tmp_path: pathlib.Path) -> None:
    """Any of a hundred equal rows is a nearest one, whichever an index finds."""
    rows = np.repeat(ROWS[:8], 100, axis=0)
    facts = build_index(collection(rows), "flat", tmp_path, queries())
    assert facts["measured"]["recall@10"] == 1


@pytest.mark.parametrize("items", [1, 2, 50])
@pytest.mark.parametrize("kind", KINDS)
def test_small_collections(kind: str, items: int, tmp_path: pathlib.Path) -> None:
    facts = build_index(collection(ROWS[:items]), kind, tmp_path, queries())
    assert facts["measured"]["recall@10"] > 0.95
    assert set(open_index(tmp_path).search(QUERIES[:1], 100).rows[0]) == set(range(items))


def test_without_queries_rows_with_noise_are_searched_and_it_is_said(
    tmp_path: pathlib.Path,
) -> None:
    facts = build_index(collection(), "flat", tmp_path)
    assert "its own rows with noise of length 0.5, which flatters" in describe(facts)
    assert facts["measured"]["recall@10"] == 1


def test_ivf_reads_more_lists_until_it_finds_enough(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recall, "EFFORTS", {"ivf": ("nprobe", (1, 2, 3, 20, 99))})
    facts = build_index(collection(), "ivf", tmp_path, queries())
    assert facts["settings"] == {"lists": 20, "nprobe": 20}
    assert facts["notes"][1].startswith("nprobe is 20: recall@10 was 0.")
    assert facts["measured"]["queries"] == 30  # those that had no say in it
    assert open_index(tmp_path).faiss.nprobe == 20


def test_a_single_query_settles_and_measures(tmp_path: pathlib.Path) -> None:
    facts = build_index(collection(), "ivf", tmp_path, queries(QUERIES[:1]))
    assert facts["measured"]["queries"] == 1
    assert facts["measured"]["recall@10"] >= 0.9


def test_progress_and_blocks_add_every_row_once(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(indices, "_ADDED", 7)
    build_index(collection(), "flat", tmp_path, queries())
    np.testing.assert_array_equal(open_index(tmp_path).rows(np.arange(800)), ROWS)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ((collection(), "tree", None), "kind is 'tree', expected one of flat, ivf, hnsw, sq8"),
        ((collection(ROWS[:0]), "flat", None), r"music.npz has no items, expected some to index"),
        ((collection(), "flat", queries(QUERIES[:0])), "video.npz has no items, expected queries"),
        ((collection(), "flat", queries(side="music")), "holds music as .* the other modality"),
        (
            (collection(), "flat", queries(QUERIES[:, :9])),
            "video.npz has width 9, and music.npz 24",
        ),
        ((collection(), "flat", queries(model="b" * 64)), "by model bbbbbbbbbbbb, .* expected one"),
        ((collection(2 * ROWS), "flat", None), r"row 0 \('music_0'\) has length 2, expected 1"),
        ((collection(ROWS * np.nan), "flat", None), r"row 0 \('music_0'\) has length nan"),
    ],
)
def test_what_cannot_be_indexed_leaves_the_earlier_index_whole(
    tmp_path: pathlib.Path, asked: tuple, message: str
) -> None:
    build_index(collection(ROWS[:9]), "flat", tmp_path, queries())
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(UserError, match=message):
        build_index(*asked[:2], tmp_path, asked[2])
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_an_index_replaces_an_earlier_one_and_nothing_else(tmp_path: pathlib.Path) -> None:
    (tmp_path / "mine.txt").write_text("stays")
    (tmp_path / ".unfinished").mkdir()  # of a process that was killed
    (tmp_path / ".unfinished/faiss.index").write_bytes(b"half")
    for items in (9, 20):
        build_index(collection(ROWS[:items]), "flat", tmp_path, queries())
        assert len(open_index(tmp_path)) == items
    names = {".lock", "faiss.index", "ids.parquet", "index.json", "mine.txt"}
    assert {path.name for path in tmp_path.iterdir()} == names


def test_a_file_of_the_users_that_is_named_alike_stays(tmp_path: pathlib.Path) -> None:
    (tmp_path / "index.json").write_text("mine")
    with pytest.raises(UserError, match=r"index.json is there and of no index: it is left as it"):
        build_index(collection(), "flat", tmp_path, queries())
    assert (tmp_path / "index.json").read_text() == "mine"


def test_two_do_not_write_one_index_at_once(tmp_path: pathlib.Path) -> None:
    with locked(tmp_path), pytest.raises(UserError, match="is in use: another process works there"):
        build_index(collection(), "flat", tmp_path, queries())
    build_index(collection(), "flat", tmp_path, queries())
    assert len(open_index(tmp_path)) == len(collection())


def test_a_file_in_place_of_the_folder(tmp_path: pathlib.Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError, match="is a file, expected a folder"):
        build_index(collection(), "flat", tmp_path / "file", queries())
    assert (tmp_path / "file").read_text() == "mine"


def test_a_full_disk_is_told_and_the_earlier_index_stays(tmp_path: pathlib.Path) -> None:
    build_index(collection(ROWS[:9]), "flat", tmp_path, queries())
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a write fails instead
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        with pytest.raises(UserError, match="the index cannot be written: File too large"):
            build_index(collection(), "flat", tmp_path, queries())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    assert len(open_index(tmp_path)) == 9
    assert not (tmp_path / ".unfinished").exists()


def edit(**changes: object) -> Callable[[pathlib.Path], None]:
    def change(folder: pathlib.Path) -> None:
        facts = json.loads((folder / "index.json").read_text()) | changes
        (folder / "index.json").write_text(json.dumps(facts))

    return change


def overwrite(name: str, content: Callable[[bytes], bytes]) -> Callable[[pathlib.Path], None]:
    """Other content of whatever size, which index.json is made to say."""

    def change(folder: pathlib.Path) -> None:
        (folder / name).write_bytes(content((folder / name).read_bytes()))
        facts = json.loads((folder / "index.json").read_text())
        edit(bytes=facts["bytes"] | {name: (folder / name).stat().st_size})(folder)

    return change


def other_ids(column: str, items: int) -> Callable[[pathlib.Path], None]:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({column: [str(n) for n in range(items)]}), sink)
    return overwrite("ids.parquet", lambda _: sink.getvalue().to_pybytes())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: (f / "index.json").unlink(), "holds no finished index: index.json is missing"),
        (lambda f: (f / "index.json").write_text("{"), "index.json cannot be read as JSON"),
        (lambda f: (f / "index.json").write_text("{}"), "dimension is None, expected int"),
        (edit(items="800"), "items is '800', expected int"),
        (edit(side="sound"), "side is 'sound', expected video or music"),
        (edit(model=3), "model is 3, expected a fingerprint or null"),
        (edit(bytes={"faiss.index": "a"}), "bytes is .* expected the size of each file"),
        (edit(items=801), "faiss.index has 800 rows of width 24 .* expected 801 of 24"),
        (lambda f: (f / "faiss.index").unlink(), "faiss.index is missing, expected 76,8"),
        (lambda f: (f / "ids.parquet").unlink(), "ids.parquet is missing"),
        (lambda f: (f / "faiss.index").write_bytes(b"IxFI"), "faiss.index has 4 bytes, expected"),
        (overwrite("faiss.index", lambda content: b""), "faiss.index is no index"),
        (overwrite("faiss.index", lambda content: content[:5000]), "faiss.index is no index"),
        (overwrite("faiss.index", lambda content: b"junk" * 99), "faiss.index is no index"),
        (overwrite("ids.parquet", lambda content: content[:99]), "cannot be read as parquet"),
        (other_ids("id", 799), "ids.parquet 799 ids"),
        (other_ids("name", 800), "ids.parquet has no column 'id'"),
    ],
)
def test_a_damaged_index_is_told_in_one_line(
    tmp_path: pathlib.Path, change: Callable[[pathlib.Path], object], message: str
) -> None:
    build_index(collection(), "flat", tmp_path, queries())
    change(tmp_path)
    with pytest.raises(UserError, match=message) as raised:
        open_index(tmp_path)
    assert str(tmp_path) in str(raised.value)


def test_without_faiss_one_line_says_what_to_install(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(UserError, match=r"pip install 'vmr\[index\]'"):
        build_index(collection(), "flat", tmp_path / "index", queries())
    assert not (tmp_path / "index").exists()
