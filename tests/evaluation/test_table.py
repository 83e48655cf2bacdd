import numpy as np
import pytest
from naive_ranking import unit_rows

from vmr.errors import UserError
from vmr.evaluation import evaluate, render, render_markdown


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
