"""Evaluation beyond a split: a larger gallery, judged pairs, TREC files, through the commands."""

import json
import pathlib
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from front_doors import run, succeed

from vmr import embeddings
from vmr.collection import write_npz
from vmr.evaluation import evaluate
from vmr.runs import judgements

VIDEOS, TRACKS = 30, 20
META = {"step": 7, "model": "a" * 64}


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def arrays() -> dict[str, np.ndarray]:
    """Embeddings of a split, of which some tracks have no video, and ten tracks of a catalogue."""
    generator = np.random.default_rng(0)
    music = unit(generator.normal(size=(TRACKS, 8)))
    index = generator.integers(TRACKS - 3, size=VIDEOS)
    return {
        "video": unit(music[index] + unit(generator.normal(size=(VIDEOS, 8)))),
        "music": music,
        "index": index,
        "more": unit(generator.normal(size=(10, 8))),
    }


@pytest.fixture
def npz(arrays: dict[str, np.ndarray], tmp_path: pathlib.Path) -> pathlib.Path:
    path = tmp_path / "split.npz"
    save(path, arrays)
    return path


def save(path: pathlib.Path, arrays: dict[str, np.ndarray], **changes: Any) -> None:
    options = {
        "video_ids": [f"v{n}" for n in range(VIDEOS)],
        "music_ids": [f"t{n}" for n in range(TRACKS)],
        "split": "test",
        "meta": META,
    }
    parts = arrays["video"], arrays["music"], arrays["index"]
    embeddings.save(path, *parts, **(options | changes))


def evaluated(npz: pathlib.Path, *flags: str) -> tuple[dict[str, Any], str]:
    """The results and what is printed."""
    output = npz.with_name("results.json")
    output.unlink(missing_ok=True)
    printed = succeed("experiments.evaluate", f"--embeddings={npz}", f"--output={output}", *flags)
    return json.loads(output.read_text()), printed


def refused(module: str, *flags: str) -> str:
    """The one line that answers a mistake."""
    done = run(module, *flags)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    return done.stderr


# A larger gallery


def catalogue(path: pathlib.Path, arrays: dict[str, np.ndarray], **meta: Any) -> pathlib.Path:
    """Ten more tracks, and before them three of the split, one of them embedded otherwise."""
    shared = arrays["music"][[5, 0, 7]].copy()
    shared[1] = -shared[1]
    ids = ["t5", "t0", "t7", *(f"more{n}" for n in range(10))]
    write_npz(path, "music", [shared, arrays["more"]], ids, meta)
    return path


def test_tracks_without_a_video_join_the_gallery(
    npz: pathlib.Path, arrays: dict[str, np.ndarray]
) -> None:
    plain, _ = evaluated(npz)
    more = catalogue(npz.with_name("more.npz"), arrays, **META)
    found, printed = evaluated(npz, f"--gallery={more}")
    larger = found.pop("larger_gallery")
    assert found == plain
    account = larger.pop("account")
    assert account == {
        "catalogue": str(more),
        "added": 10,
        "shared": 3,
        "embedded_otherwise": 1,
        "model": "same",
    }
    both = np.concatenate([arrays["music"], arrays["more"]])
    assert larger == evaluate(arrays["video"], both, arrays["index"], split="test", step=7)
    assert larger.keys() == plain.keys()
    assert (larger["gallery"], larger["chance"]["R@1"]) == (30, pytest.approx(100 / 30))
    for key in ("m2v", "m2v_chance", "m2v_queries", "m2v_gallery"):
        assert larger[key] == plain[key]
    assert larger["ci95"]["m2v"] == plain["ci95"]["m2v"]
    assert "30 videos against 20 unique tracks" in printed
    assert "30 videos against 30 unique tracks" in printed
    assert "10 tracks of" in printed
    assert "3 that both have stand there once, 1 of them embedded otherwise there" in printed
    assert "unknown" not in printed


def test_a_track_whose_id_has_another_unicode_form_is_no_rival_of_itself(
    npz: pathlib.Path, arrays: dict[str, np.ndarray]
) -> None:
    save(npz, arrays, music_ids=["caf\u00e9", *(f"t{n}" for n in range(1, TRACKS))])
    more = npz.with_name("more.npz")
    ids = ["cafe\u0301", *"abcdefghij"]
    write_npz(more, "music", [arrays["music"][[0]], arrays["more"]], ids, META)
    account = evaluated(npz, f"--gallery={more}")[0]["larger_gallery"]["account"]
    assert (account["added"], account["shared"], account["embedded_otherwise"]) == (10, 1, 0)


def test_a_catalogue_that_does_not_name_its_model_is_said_to_be_unknown(
    npz: pathlib.Path, arrays: dict[str, np.ndarray]
) -> None:
    more = catalogue(npz.with_name("more.npz"), arrays)
    found, printed = evaluated(npz, f"--gallery={more}")
    assert found["larger_gallery"]["account"]["model"] == "unknown"
    assert "whether it is of the same model is unknown" in printed


def test_a_folder_of_parts_by_anybody_joins_as_an_npz_does(
    npz: pathlib.Path, arrays: dict[str, np.ndarray]
) -> None:
    """In the layout of clip-retrieval, without a manifest."""
    folder = npz.with_name("shards")
    for part in ("music_emb", "metadata"):
        (folder / part).mkdir(parents=True)
    for number, rows in enumerate(np.split(arrays["more"], 2)):
        np.save(folder / "music_emb" / f"music_emb_{number:04}.npy", rows)
        table = pa.table({"id": [f"more{number}-{row}" for row in range(5)]})
        pq.write_table(table, folder / "metadata" / f"metadata_{number:04}.parquet")
    found, _ = evaluated(npz, f"--gallery={folder}")
    both = np.concatenate([arrays["music"], arrays["more"]])
    expected = evaluate(arrays["video"], both, arrays["index"], split="test", step=7)
    assert found["larger_gallery"] == expected | {"account": found["larger_gallery"]["account"]}
    assert found["larger_gallery"]["account"]["added"] == 10


def test_a_catalogue_of_another_model_or_width_or_of_videos_is_refused(
    npz: pathlib.Path, arrays: dict[str, np.ndarray], tmp_path: pathlib.Path
) -> None:
    flags = f"--embeddings={npz}", f"--gallery={tmp_path}/more.npz"
    catalogue(tmp_path / "more.npz", arrays, model="b" * 64)
    message = refused("experiments.evaluate", *flags)
    assert "more.npz was embedded by another model: bbbbbbbbbbbb there, aaaaaaaaaaaa" in message
    write_npz(tmp_path / "more.npz", "music", [unit(np.ones((2, 3)))], ["a", "b"], META)
    assert "width 3, the split of 8" in refused("experiments.evaluate", *flags)
    write_npz(tmp_path / "more.npz", "video", [arrays["more"]], [*"abcdefghij"], META)
    assert "holds video_emb, expected music_emb" in refused("experiments.evaluate", *flags)
    (tmp_path / "more.npz").unlink()
    assert "more.npz does not exist" in refused("experiments.evaluate", *flags)


# Judgements


def judged(path: pathlib.Path, *rows: str, header: str = "direction,query,item,compatible") -> str:
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return f"--judgements={path}"


def test_judged_pairs_count_in_both_directions_beside_the_strict_results(
    npz: pathlib.Path, arrays: dict[str, np.ndarray]
) -> None:
    plain, _ = evaluated(npz)
    own = int(arrays["index"][2])
    rows = ["v2m,v0,t18,yes", "m2v,t4,v1,1", f"v2m,v2,t{own},no", "v2m,v3,t9,N", "v2m,v4,t9,"]
    rows += ["v2m,v0,t99,yes", "v2m,v99,t0,no", "m2v,t18,v0,Yes"]
    found, printed = evaluated(npz, judged(npz.with_name("q.csv"), *rows))
    result = found.pop("judged")
    assert found == plain
    counts = result.pop("judgements")
    assert counts == {
        "file": str(npz.with_name("q.csv")),
        "judged": 6,
        "compatible": 2,
        "not_compatible": 2,
        "paired": 1,
        "unused": 2,
        "examples": [["v0", "t99"], ["v99", "t0"]],
    }
    pairs = np.array([[0, 18], [1, 4]])
    expected = evaluate(
        arrays["video"], arrays["music"], arrays["index"], split="test", compatible=pairs
    )
    assert result == expected["judged"]
    assert "4 judged pairs used" in printed
    assert "2 compatible, 2 not; 1 are pairs of the data, relevant as before" in printed
    assert "2 unused, of items that are not here: v0 with t99, v99 with t0" in printed
    assert printed.count("strict") == printed.count("chance, judged") == 2


def test_judgements_reach_the_tracks_of_a_larger_gallery(
    npz: pathlib.Path, arrays: dict[str, np.ndarray]
) -> None:
    more = catalogue(npz.with_name("more.npz"), arrays, **META)
    flags = f"--gallery={more}", judged(npz.with_name("q.csv"), "v2m,v0,more3,yes")
    found, printed = evaluated(npz, *flags)
    assert found["judged"]["judgements"]["unused"] == 1
    assert found["judged"]["v2m"] == found["v2m"]
    larger = found["larger_gallery"]
    assert larger["judged"]["judgements"]["compatible"] == 1
    assert larger["judged"]["gallery"] == 30
    both = np.concatenate([arrays["music"], arrays["more"]])
    expected = evaluate(
        arrays["video"], both, arrays["index"], split="test", compatible=np.array([[0, 23]])
    )
    assert larger["judged"]["v2m"] == expected["judged"]["v2m"]
    assert printed.count("chance, judged") == 3  # the larger gallery has no other m2v


def test_a_video_id_of_several_rows_is_judged_in_all_of_them(
    npz: pathlib.Path, arrays: dict[str, np.ndarray]
) -> None:
    save(npz, arrays, video_ids=["v0", "v0", *(f"v{n}" for n in range(2, VIDEOS))])
    found, _ = evaluated(npz, judged(npz.with_name("q.csv"), "v2m,v0,t18,yes"))
    pairs = np.array([[0, 18], [1, 18]])
    expected = evaluate(
        arrays["video"], arrays["music"], arrays["index"], split="test", compatible=pairs
    )
    assert found["judged"]["v2m"] == expected["judged"]["v2m"]
    assert found["judged"]["judgements"]["compatible"] == 1


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["v2m,v0,t1,maybe"], "q.csv, line 2: compatible is 'maybe', expected yes, no, or nothing"),
        (["v2m,v0,t1,yes", "m2v,t1,v0,no"], "line 3: video 'v0' and track 't1' are judged 'no', a"),
        (["music,v0,t1,yes"], "line 2: direction is 'music', expected v2m or m2v"),
        (["v2m,v0,,yes"], "line 2: expected a query and an item, found none"),
        (["v2m,v0,t1"], "line 2: expected 4 columns, found fewer"),
        (["v2m,v0,t1,yes,no"], "line 2: expected 4 columns, found more"),
        (['v2m,"v0,t1,yes'], "line 2: no CSV: unexpected end of data"),
        (["v2m,v0,t1,"], "q.csv has no judgement yet: fill the column compatible"),
        ([], "q.csv has no judgement yet"),
        (["v2m,w,t1,yes"], "none of 1 judged pairs is of these items (w with t1)"),
    ],
)
def test_mistakes_in_judgements_are_named_by_line(
    rows: list[str], message: str, npz: pathlib.Path
) -> None:
    flag = judged(npz.with_name("q.csv"), *rows)
    assert message in refused("experiments.evaluate", f"--embeddings={npz}", flag)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "q.csv has no column direction; it has none"),
        (b"query,item,compatible\n", "no column direction; it has query, item, compatible"),
        (b"direction,query,item,compatible\nv2m,\xff,t,yes\n", "q.csv is no text in UTF-8"),
        (None, "q.csv does not exist"),
    ],
)
def test_files_that_hold_no_judgements_are_refused(
    content: bytes | None, message: str, npz: pathlib.Path
) -> None:
    path = npz.with_name("q.csv")
    if content is not None:
        path.write_bytes(content)
    flags = f"--embeddings={npz}", f"--judgements={path}"
    assert message in refused("experiments.evaluate", *flags)


def test_what_spreadsheets_make_of_a_file_is_read(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "q.csv"
    text = 'compatible;direction;item;query;note\r\nTRUE;v2m;"a;b";v0;"two\r\nlines"\r\n'
    path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    found = judgements.read(path)
    assert found.compatible == {("v0", "a;b"): True}
    assert found.rows[0]["note"] == "two\r\nlines"


# TREC


def parsed(path: pathlib.Path) -> list[list[str]]:
    return [line.split(" ") for line in path.read_text(encoding="utf-8").splitlines()]


def test_trec_files_of_both_directions_score_as_the_table_does(
    npz: pathlib.Path, arrays: dict[str, np.ndarray]
) -> None:
    folder = npz.with_name("trec")
    found, printed = evaluated(npz, f"--trec={folder}")
    assert {path.name for path in folder.iterdir()} == {
        f"{way}.{form}" for way in ("v2m", "m2v") for form in ("run", "qrels")
    }
    assert "lists of 20 of 20 tracks and 30 of 30 videos" in printed
    rows = parsed(folder / "v2m.run")
    assert len(rows) == VIDEOS * TRACKS
    scores = arrays["video"] @ arrays["music"].T
    assert [float(row[4]) for row in rows[:TRACKS]] == pytest.approx(sorted(scores[0])[::-1])
    assert parsed(folder / "v2m.qrels")[0] == ["v0", "0", f"t{arrays['index'][0]}", "1"]
    for way, chance in (("v2m", "chance"), ("m2v", "m2v_chance")):
        output = npz.with_name("imported.json")
        flags = f"--trec_run={folder}/{way}.run", f"--trec_qrels={folder}/{way}.qrels"
        printed = succeed("experiments.evaluate", *flags, f"--output={output}")
        imported = json.loads(output.read_text())
        assert imported["values"] == pytest.approx(found[way])
        assert imported["chance"] == pytest.approx(found[chance])
        size = {"v2m": (30, 20), "m2v": (len(set(arrays["index"].tolist())), 30)}[way]
        assert (imported["queries"], imported["gallery"]) == size
        assert f"{way}.run: {size[0]} queries against {size[1]} items" in printed


def test_trec_files_hold_judgements_and_the_larger_gallery(
    npz: pathlib.Path, arrays: dict[str, np.ndarray]
) -> None:
    folder = npz.with_name("trec")
    more = catalogue(npz.with_name("more.npz"), arrays, **META)
    rows = "v2m,v0,more3,yes", "v2m,v1,t19,no", "v2m,v2,t2,yes"
    flags = f"--trec={folder}", "--trec_depth=25", f"--gallery={more}"
    found, printed = evaluated(npz, *flags, judged(npz.with_name("q.csv"), *rows))
    assert "lists of 25 of 30 tracks and 25 of 30 videos" in printed
    values = {tuple(row[::2]): row[3] for row in parsed(folder / "v2m.judged.qrels")}
    assert len(values) == VIDEOS + 3
    assert (values["v0", "more3"], values["v1", "t19"], values["v2", "t2"]) == ("1", "0", "1")
    # Tracks without a video ask for nothing, whatever was judged of them.
    values = {tuple(row[::2]) for row in parsed(folder / "m2v.judged.qrels")}
    assert ("t2", "v2") in values
    assert not {query for query, _ in values} & {"more3", "t19"}
    flags = f"--trec_run={folder}/v2m.run", f"--trec_qrels={folder}/v2m.judged.qrels"
    output = npz.with_name("imported.json")
    succeed("experiments.evaluate", *flags, "--trec_gallery=30", f"--output={output}")
    imported = json.loads(output.read_text())
    for name in ("R@1", "R@10", "R@25", "nDCG@10"):
        expected = found["larger_gallery"]["judged"]["v2m"][name]
        assert imported["values"][name] == pytest.approx(expected)


def test_ids_with_blanks_are_encoded_and_it_is_said(
    npz: pathlib.Path, arrays: dict[str, np.ndarray]
) -> None:
    folder = npz.with_name("trec")
    save(npz, arrays, music_ids=["50% off", *(f"t{n}" for n in range(1, TRACKS))])
    _, printed = evaluated(npz, f"--trec={folder}")
    assert "music_ids have blanks: blanks and % are percent-encoded" in printed
    assert all(len(row) == 6 for row in parsed(folder / "m2v.run"))
    assert "50%25%20off" in {row[2] for row in parsed(folder / "v2m.run")}


def test_ids_that_stand_twice_are_refused_and_nothing_is_written(
    npz: pathlib.Path, arrays: dict[str, np.ndarray]
) -> None:
    save(npz, arrays, video_ids=["v"] * VIDEOS)
    message = refused("experiments.evaluate", f"--embeddings={npz}", f"--trec={npz.parent}/trec")
    assert "video_ids: id 'v' stands twice" in message
    assert not npz.with_name("trec").exists()


def test_what_a_run_leaves_out_is_said(tmp_path: pathlib.Path) -> None:
    (tmp_path / "a.run").write_text("a Q0 x 1 0.9 t\nc Q0 y 1 0.7 t\n")
    (tmp_path / "a.qrels").write_text("a 0 y 1\nb 0 z 1\n")
    flags = f"--trec_run={tmp_path}/a.run", f"--trec_qrels={tmp_path}/a.qrels"
    printed = succeed("experiments.evaluate", *flags)
    assert "a.run: 2 queries against 3 items" in printed
    assert "Of 2 queries no relevant item is listed" in printed
    assert "1 of these have no list at all" in printed
    assert "1 queries of the run are left out" in printed


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--trec_run=a"], "--trec_run=FILE and --trec_qrels=FILE come together"),
        (["--workdir=w", "--trec_qrels=a"], "come together"),
        (["--trec_run=a", "--trec_qrels=b", "--gallery=c"], "--gallery needs --workdir, --ense"),
        (["--trec_run=a", "--trec_qrels=b", "--trec=c"], "--trec needs --workdir, --ensemble or"),
        (["--trec_run=a", "--trec_qrels=b", "--segments=2"], "--segments needs --workdir"),
        (["--trec_run=absent", "--trec_qrels=absent"], "absent does not exist"),
        (["--workdir=w", "--trec="], "--trec= is empty: give it a value or leave it out"),
        (["--workdir=w", "--gallery="], "--gallery= is empty"),
        (["--workdir=w", "--trec_gallery=5"], "--trec_gallery is of --trec_run"),
        (["--workdir=w", "--trec_run=a", "--trec_qrels=b"], "workdir"),
        ([], "give --workdir=DIR, --ensemble=A,B, --embeddings=FILE.npz, or --trec_run=FILE and"),
    ],
)
def test_wrong_combinations_of_flags_are_answered(flags: list[str], message: str) -> None:
    assert message in refused("experiments.evaluate", *flags)
