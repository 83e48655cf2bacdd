import importlib
import json

import numpy as np
import pytest
from naive_ranking import unit_rows

import vmr.evaluation
from vmr.errors import UserError
from vmr.evaluation import evaluate, recalls

TABLE = ["R@1", "R@5", "R@10", "R@25", "R@50", "R@100", "MedR", "MeanR", "MRR"]


def example(seed=0):
    generator = np.random.default_rng(seed)
    index = generator.integers(12, size=40)
    return unit_rows(generator, 40), unit_rows(generator, 12), index


def test_the_schema_of_a_results_file():
    result = evaluate(*example(), split="validation", step=7, bootstrap_samples=50)
    assert (result["split"], result["step"]) == ("validation", 7)
    assert (result["queries"], result["gallery"]) == (40, 12)
    for key in ("v2m", "m2v", "chance", "m2v_chance"):
        assert list(result[key])[:9] == TABLE
    assert json.loads(json.dumps(result)) == result


def test_the_package_gives_the_function_and_not_its_module_of_the_same_name():
    importlib.import_module("vmr.evaluation.evaluate")
    assert vmr.evaluation.evaluate is evaluate
    assert callable(evaluate)


def test_one_seed_one_result():
    first, second = (evaluate(*example(), split="test", seed=3) for _ in range(2))
    assert first == second
    assert evaluate(*example(), split="test", seed=4)["ci95"] != first["ci95"]


def test_logs_and_results_agree():
    result = evaluate(*example(), split="test", bootstrap_samples=0)
    logged = recalls(*example())
    assert list(logged) == [f"{way}/{name}" for way in ("v2m", "m2v") for name in TABLE]
    for way in ("v2m", "m2v"):
        for name in TABLE:
            assert logged[f"{way}/{name}"] == result[way][name]


def test_truth_is_scored_by_groups():
    video, music, index = example()
    music_group = np.arange(12) % 3
    video_group = music_group[index]
    groups = {"video_group": video_group, "music_group": music_group}
    result = evaluate(video, music, index, split="test", bootstrap_samples=50, **groups)
    truth = result["truth"]
    assert truth["v2m"]["R@5"] >= result["v2m"]["R@5"]
    # Four of twelve tracks are relevant: the best of them is first with probability 1/3.
    assert truth["chance"]["R@1"] == pytest.approx(100 / 3)
    assert truth["ci95"]["m2v"].keys() == truth["m2v"].keys()
    by_group = np.eye(3, dtype=np.float32)
    perfect = evaluate(by_group[video_group], by_group[music_group], index, split="test", **groups)[
        "truth"
    ]
    for way in ("v2m", "m2v"):
        for name in ("MRR", "mAP@10", "nDCG@10"):
            assert perfect[way][name] == pytest.approx(1.0)


def test_groups_for_one_side_only_are_refused():
    with pytest.raises(UserError, match="come together"):
        evaluate(*example(), split="test", video_group=np.zeros(40))


def test_rows_of_one_cluster_are_drawn_together():
    video, music, index = example()
    alone = evaluate(video, music, index, split="test", bootstrap_samples=50)
    settings = {"split": "test", "bootstrap_samples": 50}
    named = evaluate(video, music, index, music_cluster=np.array(list("abcdefghijkl")), **settings)
    assert named == alone
    paired = evaluate(video, music, index, music_cluster=np.arange(12) // 2, **settings)
    assert paired["v2m"] == alone["v2m"]
    assert paired["ci95"]["v2m"] != alone["ci95"]["v2m"]
    # All in one cluster: every resample is the whole.
    one = evaluate(video, music, index, music_cluster=np.zeros(12), **settings)
    assert one["ci95"]["m2v"]["R@5"] == pytest.approx([one["m2v"]["R@5"]] * 2)
    with pytest.raises(UserError, match=r"music_cluster: expected shape \(12,\)"):
        evaluate(video, music, index, music_cluster=np.zeros(40), **settings)
