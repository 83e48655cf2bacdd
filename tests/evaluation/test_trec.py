import json

import numpy as np
import pytest
from naive_ranking import grid, unit_rows

from vmr.errors import UserError
from vmr.evaluation import evaluate, pair_ranks, ranked_lists, tiles, trec

RUN = "a Q0 x 1 0.9 t\na Q0 y 2 0.5 t\nb Q0 x 1 0.7 t\n"


def files(tmp_path, run=RUN, qrels="a 0 y 1\nb 0 z 1\n"):
    paths = tmp_path / "a.run", tmp_path / "a.qrels"
    for path, text in zip(paths, (run, qrels), strict=True):
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return paths


def scored(tmp_path, run, qrels, **options):
    paths = files(tmp_path, run, qrels)
    run, qrels = trec.read_run(paths[0]), trec.read_qrels(paths[1])
    return trec.score_run(run, qrels, bootstrap_samples=0, **options)


@pytest.mark.parametrize("direction", ["v2m", "m2v"])
def test_lists_are_the_best_items_in_order_and_ties_in_the_order_of_the_gallery(
    direction, monkeypatch
):
    monkeypatch.setattr(tiles, "TILE", 8)
    monkeypatch.setattr("vmr.evaluation.lists._COLUMNS", 16)
    generator = np.random.default_rng(0)
    queries, gallery = grid(generator, 19), grid(generator, 45)
    scores = queries @ gallery.T
    expected = np.argsort(-scores, axis=1, kind="stable")
    for depth in (1, 7, 20, 45, 100):
        blocks = list(ranked_lists(queries, gallery, direction, depth))
        rows, found = (np.concatenate(part) for part in zip(*blocks, strict=True))
        np.testing.assert_array_equal(rows, expected[:, :depth])
        np.testing.assert_array_equal(found, np.take_along_axis(scores, rows, axis=1))


@pytest.mark.parametrize("direction", [0, 1])
def test_lists_agree_with_ranks_to_the_last_bit(direction):
    """Duplicates tie in both, and what stands above the partner in one does in the other."""
    generator = np.random.default_rng(1)
    video, music = unit_rows(generator, 60, 300), unit_rows(generator, 40, 300)
    music[20:] = music[:20]
    index = generator.integers(40, size=60)
    ranks = pair_ranks(video, music, index)[direction]
    sides = (video, music) if direction == 0 else (music, video)
    name = ("v2m", "m2v")[direction]
    (rows, scores), *_ = ranked_lists(*sides, name, 100)
    relevant = index[:, None] == np.arange(40)
    relevant = relevant if direction == 0 else relevant.T
    for place, query in enumerate(ranks.query):
        own = relevant[query][rows[query]]
        best = scores[query][own].max()
        assert np.sum(scores[query][~own] > best) == ranks.above[place, 0]
        assert np.sum(scores[query][~own] == best) == ranks.tied[place, 0]


def test_what_is_written_and_read_again_scores_the_same(tmp_path):
    """Both directions, with ties, ids in order and not, and the intervals of the same draws."""
    generator = np.random.default_rng(2)
    video, music = unit_rows(generator, 50), unit_rows(generator, 30)
    music[25:] = music[:5]
    index = generator.integers(28, size=50)
    expected = evaluate(video, music, index, split="test", bootstrap_samples=100)
    videos, tracks = [f"v{n}" for n in range(50)], [f"t{n}" for n in range(30)]
    pairs = list(zip(videos, (tracks[track] for track in index), strict=True))
    run, qrels = tmp_path / "new" / "a.run", tmp_path / "new" / "a.qrels"
    for direction, chance in (("v2m", "chance"), ("m2v", "m2v_chance")):
        ways = (
            (video, music, videos, tracks) if direction == "v2m" else (music, video, tracks, videos)
        )
        trec.write_run(run, ranked_lists(*ways[:2], direction, 1000), *ways[2:])
        ordered = (
            pairs
            if direction == "v2m"
            else [(b, a) for a, b in sorted(pairs, key=lambda p: int(p[1][1:]))]
        )
        trec.write_qrels(qrels, ((query, item, 1) for query, item in ordered))
        found = trec.score_run(trec.read_run(run), trec.read_qrels(qrels), bootstrap_samples=100)
        for name, value in expected[direction].items():
            assert found["values"][name] == pytest.approx(value, rel=1e-12), name
            assert found["chance"][name] == pytest.approx(expected[chance][name], rel=1e-12)
        assert found["unlisted"] == found["without_list"] == 0
        # Clusters are numbered in the order of the queries there, of the tracks in `evaluate`.
        low, high = found["ci95"]["R@10"]
        assert low <= expected[direction]["R@10"] <= high
        assert json.loads(json.dumps(found)) == found
    assert {path.name for path in run.parent.iterdir()} == {"a.run", "a.qrels"}


def test_a_line_has_six_columns_and_a_score_that_reads_back_exactly(tmp_path):
    scores = np.array([[1 / 3, 1 / 3 - 2**-25]], np.float32)
    trec.write_run(tmp_path / "a.run", [(np.array([[1, 0]]), scores)], ["q"], ["x", "y"])
    lines = [line.split() for line in (tmp_path / "a.run").read_text().splitlines()]
    assert [line[:4] + line[5:] for line in lines] == [
        ["q", "Q0", "y", "1", "vmr"],
        ["q", "Q0", "x", "2", "vmr"],
    ]
    assert [np.float32(line[4]) for line in lines] == scores[0].tolist()


def test_ids_with_blanks_are_encoded_so_that_none_collide():
    assert trec.spelled_ids("music_ids", ["a%20b", "c"]) == ["a%20b", "c"]
    ids = ["a b", "a%20b", "a\u3000b", "a\tb", "é", "\ud800"]
    spelled = trec.spelled_ids("music_ids", ids)
    assert spelled == ["a%20b", "a%2520b", "a%E3%80%80b", "a%09b", "é", "%ED%A0%80"]
    assert not trec.has_blanks(spelled)
    with pytest.raises(UserError, match="video_ids: id 'a' stands twice; a TREC file needs"):
        trec.spelled_ids("video_ids", ["a", "b", "a"])
    with pytest.raises(UserError, match="video_ids: row 1 has an empty id"):
        trec.spelled_ids("video_ids", ["a", ""])


def test_what_a_list_leaves_out_stands_behind_it_in_random_order(tmp_path):
    """By hand: y is second of a's list; z is one of the 4 of 5 items that b's list leaves out."""
    found = scored(tmp_path, RUN, "a 0 y 1\nb 0 z 1\n", gallery=5)
    assert (found["queries"], found["unlisted"], found["without_list"]) == (2, 1, 0)
    assert found["values"]["MeanR"] == (2 + (2 + 5) / 2) / 2
    assert found["values"]["MRR"] == pytest.approx((1 / 2 + np.mean(1 / np.arange(2, 6))) / 2)
    assert found["values"]["R@1"] == 0.0
    # Several relevant items, one of them listed: the other is the last class.
    found = scored(tmp_path, RUN, "a 0 y 1\na 0 z 2\na 0 x 0\n", gallery=4)
    precision = (1 / 2 + (2 / 3 + 2 / 4) / 2) / 2
    assert found["values"]["mAP@10"] == pytest.approx(precision)
    assert (found["queries"], found["not_judged"]) == (1, 1)


def test_a_run_of_nothing_that_is_asked_scores_chance(tmp_path):
    found = scored(tmp_path, "c Q0 x 1 1 t\n", "a 0 y 1\na 0 w 1\nb 0 z 1\n", gallery=50)
    assert found["values"] == pytest.approx(found["chance"])
    assert (found["unlisted"], found["without_list"], found["not_judged"]) == (2, 2, 1)


def test_lists_are_ordered_by_score_and_ties_count_by_their_expectation(tmp_path):
    run = "a Q0 x 1 0.5 t\r\na Q0 y 2 0.9 t\na Q0 z 3 0.5 t\n\n"
    found = scored(tmp_path, b"\xef\xbb\xbf" + run.encode(), "a 0 x 1\n")
    assert found["gallery"] == 3
    assert found["values"]["MeanR"] == 2.5


@pytest.mark.parametrize(
    ("run", "qrels", "message"),
    [
        ("", "a 0 y 1\n", "a.run has no lines, expected some of TREC run: query Q0 item rank"),
        ("a Q0 x 1 0.5\n", "a 0 y 1\n", "a.run, line 1: 5 columns, expected 6 of TREC run"),
        (RUN + "a Q0 z 1 nan t\n", "a 0 y 1\n", "line 4: score 'nan', expected a finite number"),
        (RUN + "a Q0 z 1 high t\n", "a 0 y 1\n", "line 4: score 'high', expected a finite"),
        (RUN + "a Q0 x 9 0.1 t\n", "a 0 y 1\n", "line 4: 'x' stands twice for query 'a'"),
        (b"a Q0 \xff 1 0.5 t\n", "a 0 y 1\n", "a.run is no text in UTF-8"),
        (RUN, "a 0 y\n", "a.qrels, line 1: 3 columns, expected 4 of TREC qrels"),
        (RUN, "a 0 y 1\na 0 y 0\n", "a.qrels, line 2: 'y' stands twice for query 'a'"),
        (RUN, "a 0 y yes\n", "line 1: relevance 'yes', expected an integer"),
        (RUN, "a 0 y 0\n", "a.qrels has nothing relevant"),
        (RUN, "\n \n", "a.qrels has no lines"),
    ],
)
def test_mistakes_in_files_are_named_by_line(tmp_path, run, qrels, message):
    with pytest.raises(UserError) as raised:
        scored(tmp_path, run, qrels)
    assert message in str(raised.value)


def test_files_that_are_not_there_and_galleries_too_small(tmp_path):
    with pytest.raises(UserError, match=r"absent\.run does not exist"):
        trec.read_run(tmp_path / "absent.run")
    with pytest.raises(UserError, match="cannot be read: Is a directory"):
        trec.read_qrels(tmp_path)
    with pytest.raises(UserError, match="gallery of 2 items: run and qrels name 3"):
        scored(tmp_path, RUN, "a 0 y 1\nb 0 z 1\n", gallery=2)


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "a.qrels"
    path.write_text("earlier")

    def broken():
        yield "a", "x", 1
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trec.write_qrels(path, broken())
    assert [path.name for path in tmp_path.iterdir()] == ["a.qrels"]
    assert path.read_text() == "earlier"
    with pytest.raises(UserError, match=r"a\.qrels/b\.run cannot be written"):
        trec.write_run(path / "b.run", [], [], [])
