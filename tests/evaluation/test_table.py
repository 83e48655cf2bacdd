"""Results and comparisons as tables."""

from typing import Any

import numpy as np
import pytest
from naive_ranking import unit_rows

from vmr.errors import UserError
from vmr.evaluation import evaluate, render, render_comparison, render_markdown
from vmr.evaluation.table import in_words


def result(seed=0, split="test", tracks=1500):
    generator = np.random.default_rng(seed)
    music = unit_rows(generator, tracks)
    index = generator.integers(tracks, size=60)
    video = music[index] + unit_rows(generator, 60)
    return evaluate(video, music, index, split=split, bootstrap_samples=100, not_unit="normalize")


def test_rows_columns_sizes_and_chance():
    found = result()
    text = render([("VM-NET", found), ("CCA", result())])
    v2m, m2v = text.split("\n\n")
    title, header, model, baseline, chance = v2m.splitlines()
    assert title == "video → music (v2m), test: 60 videos against 1,500 unique tracks"
    assert " ".join(header.split()) == "R@1 R@5 R@10 R@25 R@50 R@100 | MedR MeanR MRR"
    low, high = found["ci95"]["v2m"]["R@10"]
    assert f"{found['v2m']['R@10']:.1f} [{low:.1f}, {high:.1f}]" in model
    assert baseline.startswith("CCA")
    shown = f"chance 0.1 0.3 0.7 1.7 3.3 6.7 | 750.5 750.5 {found['chance']['MRR']:.3f}"
    assert " ".join(chance.split()) == shown
    assert len({len(line) for line in (header, model, baseline, chance)}) == 1
    assert f"{found['m2v_queries']} tracks against 60 videos" in m2v


def test_markdown_has_the_same_cells():
    found = result()
    lines = render_markdown([("CCA", found)]).splitlines()
    assert lines[2].startswith("|  | R@1 | R@5 |")
    assert lines[3].count("---:") == 9
    assert lines[4].startswith(f"| CCA | {found['v2m']['R@1']:.1f} |")
    assert {line.count("|") for line in lines if line.startswith("|")} == {11}


def test_results_of_the_bare_contract_render():
    found = result()
    for key in ("m2v_queries", "m2v_gallery", "m2v_chance", "ci95"):
        del found[key]
    assert "[" not in render([("theirs", found)])


def test_different_galleries_do_not_share_a_table():
    with pytest.raises(UserError, match="different galleries"):
        render([("a", result()), ("b", result(tracks=900))])
    with pytest.raises(UserError, match="at least one result"):
        render([])


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
