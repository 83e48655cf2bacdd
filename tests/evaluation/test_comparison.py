"""Systems compared from arrays: what is corrected over what, and the tables that show it."""

from typing import Any

import numpy as np
import pytest
from naive_ranking import unit_rows

from vmr.errors import UserError
from vmr.evaluation import compare, evaluate, render_comparison
from vmr.evaluation.table import render_narrow

TRACKS, VIDEOS = 40, 60
GENERATOR = np.random.default_rng(0)
MUSIC = unit_rows(GENERATOR, TRACKS)
INDEX = GENERATOR.integers(TRACKS, size=VIDEOS)


def seen(scatter: float, seed: int) -> np.ndarray:
    rows = MUSIC[INDEX] + scatter * unit_rows(np.random.default_rng(seed), VIDEOS)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


SYSTEMS = {
    "far": [(seen(3.0, seed), MUSIC) for seed in (1, 2)],
    "near": [(seen(1.5, seed), MUSIC) for seed in (1, 2)],
    "nearer": [(seen(1.0, seed), MUSIC) for seed in (1, 2)],
}


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    return compare(SYSTEMS, INDEX, split="test", samples=300)


def p_values(found: dict[str, Any], name: str) -> list[float]:
    return [
        one[name]
        for way in ("v2m", "m2v")
        for pair in found[way]["pairs"]
        for one in pair["metrics"].values()
    ]


def test_means_and_chance_are_those_of_evaluate(found: dict[str, Any]) -> None:
    alone = [evaluate(video, music, INDEX, split="test") for video, music in SYSTEMS["near"]]
    for way in ("v2m", "m2v"):
        for metric, reached in found[way]["systems"]["near"].items():
            means = [one[way][metric] for one in alone]
            assert reached["mean"] == pytest.approx(np.mean(means))
            assert reached["seed_sd"] == pytest.approx(np.std(means, ddof=1))
    assert found["v2m"]["chance"]["R@10"] == pytest.approx(alone[0]["chance"]["R@10"])
    assert found["m2v"]["chance"]["R@10"] == pytest.approx(alone[0]["m2v_chance"]["R@10"])
    assert (found["v2m"]["queries"], found["v2m"]["gallery"]) == (VIDEOS, TRACKS)
    assert found["v2m"]["clusters"] == found["m2v"]["queries"] == len(np.unique(INDEX))
    assert found["m2v"]["gallery"] == VIDEOS
    pairs = [(pair["system"], pair["baseline"]) for pair in found["v2m"]["pairs"]]
    assert pairs == [("near", "far"), ("nearer", "far"), ("nearer", "near")]


def test_the_correction_is_over_pairs_or_over_all_tests_and_says_so(found: dict[str, Any]) -> None:
    over_all = compare(SYSTEMS, INDEX, split="test", samples=300, correct_over="all")
    assert p_values(over_all, "p") == p_values(found, "p")
    raw = np.array(p_values(found, "p"))
    assert (np.array(p_values(found, "p_holm")) <= np.minimum(1, 3 * raw) + 1e-12).all()
    corrected = np.array(p_values(over_all, "p_holm"))
    assert corrected.min() == pytest.approx(min(1.0, 30 * raw.min()))
    assert (corrected >= np.array(p_values(found, "p_holm")) - 1e-12).all()
    assert "for each metric and direction by itself, not over metrics" in found["correction"]
    assert "Holm-corrected over 30 tests, of all pairs, metrics and" in over_all["correction"]
    one = compare({name: SYSTEMS[name] for name in ("far", "near")}, INDEX, samples=300)
    assert one["correction"] == "one pair, not corrected, nor over metrics and directions"


@pytest.mark.parametrize("form", ["text", "markdown", "latex"])
def test_a_narrow_table_has_a_row_a_system_and_the_best_in_bold(
    found: dict[str, Any], form: str
) -> None:
    with_baseline = {**found, "baseline": {"name": "CCA", "v2m": found["v2m"]["chance"]}}
    with_baseline["baseline"]["m2v"] = found["m2v"]["chance"]
    text = render_narrow(with_baseline, form)
    names = ("far", "near", "nearer", "CCA", "chance")
    marks = {"text": "", "markdown": r"| ", "latex": "{}"}
    rows = {
        name: line
        for name in names
        for line in text.splitlines()
        if line.startswith(f"{marks[form]}{name} ")
    }
    assert rows.keys() == set(names)
    bold = {"text": " *", "markdown": "**", "latex": r"\textbf"}[form]
    assert bold in rows["nearer"]
    assert bold not in rows["far"] + rows["CCA"] + rows["chance"]
    assert "near 2" in text
    assert "25.0" in rows["chance"]  # 10 of 40 tracks


def test_worse_is_said_and_only_better_is_bold(found: dict[str, Any]) -> None:
    reversed_order = dict(reversed(SYSTEMS.items()))
    worse = compare(reversed_order, INDEX, split="test", samples=300)
    markdown = render_comparison(worse, "markdown")
    rows = [line for line in markdown.splitlines() if line.startswith("| far − nearer")]
    assert len(rows) == 2
    assert all(": worse" in row and "**" not in row for row in rows)
    rows = [
        line
        for line in render_comparison(found, "markdown").splitlines()
        if line.startswith("| nearer − far")
    ]
    assert all("**+" in row and "worse" not in row for row in rows)
    assert "Bold: distinguishably better." in markdown


@pytest.mark.parametrize(
    ("systems", "options", "message"),
    [
        ({"a": SYSTEMS["near"]}, {}, "at least two systems, found 1"),
        ({}, {}, "at least two systems, found 0"),
        ({"a": SYSTEMS["near"], "b": []}, {}, "b has no embeddings"),
        (
            {"a": [(MUSIC[INDEX], MUSIC)], "b": [(MUSIC[INDEX], MUSIC[:-1])]},
            {},
            "and 39 tracks, exp",
        ),
        (SYSTEMS, {"metric_names": ["R@7"]}, "unknown 'R@7'"),
        (SYSTEMS, {"correct_over": "metrics"}, "expected systems or all"),
        (SYSTEMS, {"against": "last"}, "expected all or first"),
        ({**SYSTEMS, "long": [(3 * SYSTEMS["far"][0][0], MUSIC)]}, {}, "has length 3"),
    ],
)
def test_what_cannot_be_compared(
    systems: dict[str, Any], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        compare(systems, INDEX, samples=300, **options)
