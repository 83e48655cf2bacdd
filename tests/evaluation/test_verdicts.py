"""A comparison in words and tables."""

from typing import Any

import pytest

from vmr.evaluation import render_comparison, significance
from vmr.evaluation.table import in_words


def one(difference: float, ci95: list[float], p: float, verdict: str) -> dict[str, Any]:
    return {"difference": difference, "ci95": ci95, "p": p, "p_holm": p, "verdict": verdict}


@pytest.fixture
def found() -> dict[str, Any]:
    """Two systems of names that Markdown and LaTeX could trip over, and one of one seed."""
    metrics = {
        "R@10": one(2.11, [0.84, 3.38], 0.002, "better"),
        "MedR": one(0.04, [-1.26, 1.3], 0.61, "not distinguishable"),
    }
    reached = {
        "R@10": {"mean": 34.14, "seed_sd": 0.62},
        "MedR": {"mean": 22.5, "seed_sd": 1.0},
    }
    alone = {metric: {**summary, "seed_sd": None} for metric, summary in reached.items()}
    direction = {
        "queries": 1500,
        "gallery": 1441,
        "clusters": 1441,
        "systems": {"a|b_1": reached, "CCA & 5%": alone},
        "pairs": [
            {
                "system": "CCA & 5%",
                "baseline": "a|b_1",
                "scope": "one seed of CCA & 5%: this speaks of that run of it, not of its method",
                "metrics": metrics,
            }
        ],
    }
    return {
        "split": "test",
        "metrics": ["R@10", "MedR"],
        "samples": 10_000,
        "correction": "one pair, not corrected",
        "systems": {"a|b_1": {"seeds": 3}, "CCA & 5%": {"seeds": 1}},
        "v2m": direction,
        "m2v": direction,
    }


@pytest.mark.parametrize(
    ("metric", "difference", "p", "expected"),
    [
        ("R@10", 2.0, 0.049, "better"),
        ("R@10", -2.0, 0.049, "worse"),
        ("MRR", 0.1, 0.01, "better"),
        ("MedR", -3.0, 0.01, "better"),
        ("MeanR", 3.0, 0.01, "worse"),
        ("R@10", 2.0, 0.05, "not distinguishable"),
        ("MedR", 0.0, 0.001, "not distinguishable"),
    ],
)
def test_verdict_is_of_the_first_and_knows_what_is_good(
    metric: str, difference: float, p: float, expected: str
) -> None:
    assert significance.verdict(metric, difference, p) == expected


def test_scope_says_what_one_seed_cannot() -> None:
    assert significance.scope("A", "B", [3, 2]) == ""
    assert "not of the methods" in significance.scope("A", "B", [1, 1])
    assert significance.scope("A", "B", [1, 3]).startswith("one seed of A")
    assert significance.scope("A", "B", [3, 1]).startswith("one seed of B")


def test_in_words(found: dict[str, Any]) -> None:
    metrics = found["v2m"]["pairs"][0]["metrics"]
    told = [in_words(metric, one) for metric, one in metrics.items()]
    assert told == [
        "R@10 +2.1 [0.8, 3.4], p = 0.002: better",
        "MedR 0.0 [-1.3, 1.3], p = 0.61: not distinguishable",
    ]
    tiny = one(0.0123, [0.0101, 0.0149], 0.0001, "better")
    assert in_words("MRR", tiny) == "MRR +0.012 [0.010, 0.015], p < 0.001: better"


def test_text_has_both_directions_and_lines_up(found: dict[str, Any]) -> None:
    text = render_comparison(found)
    assert "video → music (v2m), test: 1,500 videos against 1,441 unique tracks" in text
    assert "music → video (m2v), test: 1,500 tracks against 1,441 videos" in text
    assert text.count("R@10 +2.1 [0.8, 3.4], p = 0.002: better") == 2
    assert text.count("CCA & 5% against a|b_1 (one seed of CCA & 5%:") == 2
    assert "34.1 ± 0.6" in text
    assert "one pair, not corrected" in text
    head, first, second = text.splitlines()[1:4]
    assert len(head) == len(first) == len(second)


def test_markdown_has_whole_rows(found: dict[str, Any]) -> None:
    markdown = render_comparison(found, "markdown")
    assert r"a\|b_1" in markdown
    assert "**+2.1 [0.8, 3.4], p = 0.002**" in markdown
    assert "**0.0" not in markdown
    rows = [line.replace(r"\|", "") for line in markdown.splitlines() if line.startswith("|")]
    assert len(rows) == 2 * (4 + 3)
    assert {row.count("|") for row in rows} == {5, 4}  # systems have a column for their seeds
    assert "| CCA & 5% − a\\|b_1* |" in markdown
    assert "* one seed of CCA & 5%" in markdown


def test_latex_escapes_what_is_typed(found: dict[str, Any]) -> None:
    latex = render_comparison(found, "latex")
    assert latex.count(r"\begin{tabular}") == latex.count(r"\end{tabular}") == 4
    assert r"CCA \& 5\% $-$ a|b\_1*" in latex
    assert r"\textbf{+2.1 [0.8, 3.4], p = 0.002}" in latex
    assert "\0" not in latex
    assert latex.isascii()
    assert latex.count("{") == latex.count("}")
