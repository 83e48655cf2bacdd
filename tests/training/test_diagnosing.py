"""The diagnosis of a run, from its folder to the report."""

import csv
import json
import pathlib

import made_datasets
import numpy as np
import pytest
from runs import ONE, Trained, config_of

from vmr import embeddings
from vmr.data.pipeline import eval_batches
from vmr.errors import UserError
from vmr.evaluation import pair_ranks
from vmr.quantization import dequantize
from vmr.runs import diagnose, judgements
from vmr.runs.diagnose import _items, diagnose_run
from vmr.runs.evaluate import Beyond, evaluate_run
from vmr.runs.restore import restore_run
from vmr.training import loop

KEYS = {
    *("split", "step", "videos", "tracks", "seed"),
    *("geometry", "hubness", "rule", "false_negatives", "batch"),
}


@pytest.fixture(scope="module")
def vectors(smoke_run: Trained) -> pathlib.Path:
    """A run on planted vectors, whose tracks have several videos."""
    return smoke_run.workdir


@pytest.fixture(scope="module")
def clips(rich_dir: str, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A run on four clips, stored as bytes, of each sequence, with text."""
    config = config_of("vmnet:runlocal", rich_dir)
    config.sampling = {"method": "global_sparse", "clips": 4}
    config.model.text.fusion = "gated_sum"
    workdir = tmp_path_factory.mktemp("clips") / "run"
    loop.train(config, workdir, ONE)
    return workdir


@pytest.fixture(scope="module")
def labelled(rich_dir: str, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A run whose positives are by label."""
    config = config_of("vmnet:runlocal", rich_dir)
    config.positives = "label"
    workdir = tmp_path_factory.mktemp("labelled") / "run"
    loop.train(config, workdir, ONE)
    return workdir


def test_a_diagnosis_holds_everything_and_is_json(vectors: pathlib.Path) -> None:
    found = diagnose_run(vectors, "test", deviations=1.5, examples=3)
    assert found.keys() == KEYS
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found == diagnose_run(vectors, "test", deviations=1.5, examples=3)
    assert found["batch"]["batch_size"] == 32
    assert 0 < found["batch"]["suspected_share"] < 1
    for way in ("v2m", "m2v"):
        truth = found["false_negatives"][way]["truth"]
        assert truth["lift"] == pytest.approx(truth["precision"] / truth["base_rate"])
    printed = diagnose.render(found)
    for expected in ("uniformity", "skew", "truly compatible", "per anchor", "LOOK AT FIRST"):
        assert expected in printed
    assert max(map(len, printed.splitlines())) <= 100


def test_what_is_above_is_what_the_ranks_say(vectors: pathlib.Path) -> None:
    found = diagnose_run(vectors, "validation")["false_negatives"]
    embedded = embeddings.collect(restore_run(vectors).embed("validation"), "validation", {})
    ranks = pair_ranks(embedded.video_emb, embedded.music_emb, embedded.gt_music_index)
    for way, of_way in zip(("v2m", "m2v"), ranks, strict=True):
        assert found[way]["queries"] == len(of_way.query)
        assert found[way]["above"] == of_way.above.sum()


def test_examples_are_named_by_id_with_the_truth_of_the_dataset(vectors: pathlib.Path) -> None:
    run = restore_run(vectors)
    group, partner = {}, {}
    for batch in eval_batches(run.dataset, "test", 100):
        group |= dict(zip(batch["video_id"], batch["group"], strict=True))
        group |= dict(zip(batch["music_id"], batch["group"], strict=True))
        partner |= dict(zip(batch["video_id"], batch["music_id"], strict=True))
    shown = diagnose_run(vectors, "test", deviations=0.5, examples=50)["false_negatives"]
    assert len(shown["examples"]) == 50
    for one in shown["examples"]:
        assert one["partner"] == partner[one["video"]] != one["track"]
        assert one["compatible"] == (group[one["video"]] == group[one["track"]])
    assert {one["compatible"] for one in shown["examples"]} == {True, False}


def test_inputs_are_the_standardised_means_of_the_clips(clips: pathlib.Path) -> None:
    """Of the four clips that the view shows, or of the fewer that there are; text is left out."""
    run = restore_run(clips)
    items = _items(run, embeddings.collect(run.embed("test"), "test", {}))
    (batch,) = eval_batches(run.dataset, "test", 100, run.spec)
    assert not batch["video_mask"].all()
    of_tracks = items.music_inputs[items.gt_music_index]
    for side, found in (("video", items.video_inputs), ("music", of_tracks)):
        statistics = {name: np.asarray(x) for name, x in run.trained.standardization[side].items()}
        for n, (stored, mask) in enumerate(zip(batch[side], batch[f"{side}_mask"], strict=True)):
            shown = (dequantize(stored[mask]) - statistics["mean"]) * statistics["scale"]
            np.testing.assert_allclose(found[n], shown.mean(axis=0), atol=1e-4)


def test_sequences_with_text_are_diagnosed(clips: pathlib.Path) -> None:
    found = diagnose_run(clips, "test")
    assert found.keys() == KEYS
    assert "truth" in found["false_negatives"]["v2m"]
    assert "truth" in found["batch"]


def test_hubs_of_drawn_queries_are_those_beyond_chance() -> None:
    """A large gallery is in few of the lists drawn, so that even random lists have a high skew."""
    way = {"skew": 3.2, "skew_by_chance": 3.1, "antihubs": 0.9, "antihubs_by_chance": 0.9}
    way |= {"largest_hub": 0.01}
    told = diagnose._hubness({"k": 10, "v2m": way, "m2v": way})
    assert "→ Hubs in" in told[-2]
    assert "(skew above 1)" in told[-2]
    drawn = way | {"queries": 20_000, "sampled_from": 2_000_000}
    *_, told_of_drawn = diagnose._hubness({"k": 10, "v2m": drawn, "m2v": drawn})
    assert told_of_drawn == (
        "→ No hubs to speak of: the skew is at most 1 above that of random lists."
    )


def test_where_positives_are_by_label_labels_are_the_truth(labelled: pathlib.Path) -> None:
    found = diagnose_run(labelled, "test", deviations=0.5, examples=1000)
    for batch in eval_batches(restore_run(labelled).dataset, "test", 100):
        label = {pair: int(group) % made_datasets.LABELS for pair, group in _groups(batch)}
    for one in found["false_negatives"]["examples"]:
        assert one["compatible"] == (label[one["video"]] == label[one["track"]])
    assert found["false_negatives"]["v2m"]["truth"]["compatible_above"] > 0
    # Items of one label are no negatives, and nothing tells which others are compatible.
    assert "truth" not in found["batch"]
    assert "truly compatible  " not in diagnose.render(found).split("NEGATIVES of")[1]


def _groups(batch: dict[str, np.ndarray]) -> list[tuple[str, int]]:
    both = zip(batch["video_id"], batch["music_id"], batch["group"], strict=True)
    return [(item, group) for video, track, group in both for item in (video, track)]


def read_queue(path: pathlib.Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def write_rows(path: pathlib.Path, rows: list[dict[str, str]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def test_a_queue_is_judged_kept_and_scored(vectors: pathlib.Path, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "queue.csv"
    found = diagnose_run(vectors, "test", deviations=0.5, examples=20, queue=path)
    assert found.keys() == KEYS | {"queue"}
    rows = read_queue(path)
    assert found["queue"]["to_judge"] == len(rows) == 20
    assert found["queue"]["left_out"] > 0
    assert tuple(rows[0]) == judgements.COLUMNS
    gains = [1 / float(row["rank"]) - 1 / float(row["partner_rank"]) for row in rows]
    assert gains == sorted(gains, reverse=True)
    assert all(float(row["score"]) > float(row["partner_score"]) for row in rows)
    printed = diagnose.render(found)
    assert f"20 pairs to judge in {path}" in printed
    named = printed.split("LOOK AT FIRST")[1].split("\n\n")[0]
    assert len(named.splitlines()) == 11

    # A person who knows the planted truth judges the first five, and notes something.
    (batch,) = eval_batches(restore_run(vectors).dataset, "test", 1000)
    group = dict(_groups(batch))
    for number, row in enumerate(rows):
        truly = group[row["query"]] == group[row["item"]]
        row |= {"compatible": ("yes" if truly else "no") if number < 5 else "", "note": "ü, 1"}
    write_rows(path, rows)
    again = diagnose_run(vectors, "test", deviations=0.5, examples=20, queue=path)["queue"]
    assert again == found["queue"] | {"judged": 5, "left_out": found["queue"]["left_out"] - 5}
    merged = read_queue(path)
    assert merged[20:] == rows[:5]
    pairs = [frozenset((row["query"], row["item"])) for row in merged]
    assert len(set(pairs)) == 25
    assert pairs[:15] == [frozenset((row["query"], row["item"])) for row in rows[5:]]
    assert again["given_way"] == 0
    assert "5 judged before stay" in judgements.queue_in_words(again)

    fewer = diagnose_run(vectors, "test", deviations=0.5, examples=12, queue=path)["queue"]
    assert (fewer["to_judge"], fewer["judged"], fewer["given_way"]) == (12, 5, 8)
    assert "8 that nobody judged gave way" in judgements.queue_in_words(fewer)
    judged = judgements.read(path)
    assert len(judged.compatible) == 5
    scored = evaluate_run(vectors, "test", beyond=Beyond(judgements=judged))
    counts = scored["judged"]["judgements"]
    assert counts["compatible"] == sum(judged.compatible.values())
    assert counts["unused"] == 0
    assert scored["judged"]["v2m"]["MRR"] >= scored["v2m"]["MRR"]


def test_a_file_that_is_no_queue_is_left_as_it_is(
    vectors: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    path = tmp_path / "queue.csv"
    for content, message in (
        ("my notes\n", "queue.csv has no column direction; it has my notes"),
        ("direction,query,item,compatible\nv2m,a,b,perhaps\n", "line 2: compatible is 'perhaps'"),
    ):
        path.write_text(content)
        with pytest.raises(UserError, match=message):
            diagnose_run(vectors, "test", queue=path)
        assert path.read_text() == content


def test_a_run_of_one_modality_is_refused(vectors: pathlib.Path, workdir: pathlib.Path) -> None:
    config = json.loads((vectors / "config.json").read_text())
    config |= {"pairing": "music", "sampling": {"method": "global_sparse", "clips": 4}}
    workdir.mkdir()
    (workdir / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="compares music with itself; a diagnosis is of") as raised:
        diagnose_run(workdir, "test")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("split", ["tset", ""])
def test_a_split_that_is_not_there_is_named(split: str, vectors: pathlib.Path) -> None:
    with pytest.raises(UserError, match=f"'{split}'") as raised:
        diagnose_run(vectors, split)
    assert "\n" not in str(raised.value)


def test_deviations_that_make_no_rule_are_refused(vectors: pathlib.Path) -> None:
    with pytest.raises(UserError, match="deviations: expected a number above 0, found -1"):
        diagnose_run(vectors, "test", deviations=-1)


def test_half_a_run_is_refused(workdir: pathlib.Path, vectors: pathlib.Path) -> None:
    with pytest.raises(UserError, match=r"config\.json is missing"):
        diagnose_run(workdir, "test")
    workdir.mkdir()
    for name in ("config.json", "environment.json"):
        (workdir / name).write_text((vectors / name).read_text())
    with pytest.raises(UserError, match="has no checkpoint yet: train it first"):
        diagnose_run(workdir, "test")
    assert not (workdir / "results").exists()
    (workdir / "config.json").write_text('{"seed": 0')
    with pytest.raises(UserError, match=r"config\.json cannot be read as JSON"):
        diagnose_run(workdir, "test")
