"""Reports of a sweep: JSON, CSV, Markdown and text."""

import csv
import io
import json
import math
import pathlib

import numpy as np
import pytest
from made_sweeps import METRIC, made

from vmr.errors import UserError
from vmr.sweeps.report import (
    EnsembleResult,
    Report,
    as_csv,
    as_json,
    as_markdown,
    as_text,
    interval,
    write_tables,
)
from vmr.sweeps.results import Results
from vmr.sweeps.space import product, seeds, sweep

BOTH = ("loss.weights.music", "loss.weights.video")
VALUES = {"js": (30.0, 31.0, 32.0), "ii_mse": (33.0, 34.0, 35.0)}


@pytest.fixture
def results(tmp_path: pathlib.Path) -> Results:
    """Two losses at two weights with three seeds; at 0.5 the loss `js` fails with seed 1."""
    points = product(
        sweep("loss.intra", ["js", "ii_mse"]), sweep(BOTH, [0.1, 0.5]), sweep("steps", [9]),
        seeds(3),
    )  # fmt: skip

    def score(point) -> float | None:
        loss = point.config.loss
        if (loss.intra, loss.weights.music, point.config.seed) == ("js", 0.5, 1):
            return None
        return VALUES[loss.intra][point.config.seed] - loss.weights.music

    return made(tmp_path, points, score)


def report(results: Results, **more) -> Report:
    return Report("Does it | help?", results, results.choose(), **more)


def test_json_holds_points_settings_and_what_was_chosen(results: Results) -> None:
    found = json.loads(json.dumps(as_json(report(results)), allow_nan=False))
    assert found["selection"] == METRIC
    assert len(found["points"]) == 12
    (name,) = found["chosen"]
    (best,) = [one for one in found["settings"] if one["name"] == name]
    assert best["changes"] == {"loss.intra": "ii_mse", **dict.fromkeys(BOTH, 0.1), "steps": 9}
    assert best["validation"][METRIC]["mean"] == pytest.approx(33.9)
    assert best["validation"][METRIC]["standard_deviation"] == pytest.approx(1.0)
    # t at 97.5 % with two degrees of freedom, by the tables.
    assert best["validation"][METRIC]["half_interval"] == pytest.approx(4.3027 / 3**0.5, abs=1e-3)
    cut = found["settings"][1]
    assert (cut["seeds"], cut["finished_seeds"]) == (3, 2)
    (failed,) = [point for point in found["points"] if point["status"] == "failed"]
    assert failed["failure"] == "the loss is nan at step 3"
    assert failed["validation"] == {}


def test_csv_has_a_row_a_point(results: Results) -> None:
    rows = list(csv.DictReader(io.StringIO(as_csv(report(results)))))
    assert len(rows) == 12
    assert [row["seed"] for row in rows[:3]] == ["0", "1", "2"]
    assert float(rows[0][METRIC]) == pytest.approx(29.9)
    assert rows[0]["loss.weights.video"] == "0.1"
    assert rows[0]["best_step"] == "8"
    assert [row["name"] for row in rows if row["status"] == "failed"] == [rows[4]["name"]]
    assert rows[4][METRIC] == rows[4]["best_step"] == ""
    assert {row["setting"] for row in rows if row["chosen"] == "true"} == {rows[6]["setting"]}


def test_markdown_has_a_row_a_setting(results: Results) -> None:
    text = as_markdown(report(results))
    assert text.startswith("# Does it \\| help?\n")
    assert "| loss.intra | loss.weights.{music,video} | seeds | v2m R@10 | m2v R@10 |  |" in text
    assert "| ii_mse | 0.1 | 3 | 33.9 ± 2.5 | 32.9 ± 2.5 | chosen |" in text
    assert text.count("chosen |") == 1
    assert "| js | 0.5 | 2 of 3 (1 failed) | 30.5 ± 12.7 | 29.5 ± 12.7 |  |" in text
    assert "In every setting `steps` is 9." in text
    assert "seed-1`: the loss is nan at step 3" in text
    assert "## Test" not in text


def result(r10: float) -> dict:
    """As `results/test.json` holds it."""
    way = {"R@1": 5.0, "R@10": r10, "MedR": 20.0}
    return {"v2m": way, "m2v": {**way, "R@10": r10 + 1}}


def test_test_results_are_those_of_the_chosen_alone(results: Results) -> None:
    (best,) = results.choose()
    test = {best.name: [result(30.0), result(31.0), result(32.0)]}
    found = report(results, test=test, verdicts="R@10 +2.1: not distinguishable\n")
    text = as_markdown(found)
    _, table = text.split("## Test, the chosen settings alone")
    row = f"| `{best.name}` | 3 | 5.0 ± 0.0 | 31.0 ± 2.5 | 20.0 ± 0.0 | 5.0 ± 0.0 | 32.0 ± 2.5 |"
    assert row in table
    assert table.count("\n| `") == 1
    assert text.endswith("\n\nR@10 +2.1: not distinguishable\n")
    assert as_json(found)["test"] == test


def test_text_shows_the_best_first_and_no_more_than_fit(tmp_path: pathlib.Path) -> None:
    points = sweep("loss.weights.music", np.linspace(0.01, 1.0, 40))
    results = made(tmp_path, points, lambda p: 30 + p.config.loss.weights.music)
    worst = Report("made", results, results.settings[:1])
    lines = as_text(worst).splitlines()
    assert lines[1].split() == ["1", "1", "31.0", "30.0"]
    assert lines[-2].split() == ["0.01", "1", "30.0", "29.0", "chosen"]
    assert len(lines) == 1 + 15 + 1 + 1
    assert lines[-1] == "… and 24 more settings, all of them in sweep.md"


def test_a_sweep_of_which_nothing_ended_has_tables(tmp_path: pathlib.Path) -> None:
    results = made(tmp_path, sweep("loss.weights.music", [0.1, 0.5]), lambda point: None)
    found = report(results)
    assert "| 0.1 | 0 of 1 (1 failed) | – | – |  |" in as_markdown(found)
    assert len(as_text(found).splitlines()) == 3
    assert as_json(found)["chosen"] == []


def test_what_is_not_known_is_null(results: Results) -> None:
    found = report(results, comparison={"intervals": [(0.5, math.inf)], "p": math.nan})
    assert as_json(found)["comparison"] == {"intervals": [[0.5, None]], "p": None}


def test_mrr_has_digits_enough() -> None:
    assert interval(np.array([0.2, 0.21]), "v2m/MRR") == "0.205 ± 0.064"
    assert interval(np.array([33.0]), METRIC) == "33.0"
    assert interval(np.array([]), METRIC) == "–"


def test_files_are_written_whole_or_not_at_all(results: Results, tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "tables"
    paths = write_tables(folder, report(results))
    assert [path.name for path in paths] == ["sweep.json", "sweep.csv", "sweep.md"]
    before = paths[0].read_text()
    broken = report(results, comparison={"difference": object()})
    with pytest.raises(TypeError, match="JSON"):
        write_tables(folder, broken)
    assert paths[0].read_text() == before
    assert sorted(path.name for path in folder.iterdir()) == sorted(path.name for path in paths)
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        write_tables(blocked, report(results))


def test_an_ensemble_has_a_section_beside_the_chosen_setting(results: Results) -> None:
    way = {"R@1": 5.0, "R@10": 36.0, "MedR": 20.0}
    test = {"v2m": way, "m2v": way}
    (chosen,) = results.choose()
    found = EnsembleResult({"a|b/seed-0": 0.25, "c/seed-1": 0.75}, METRIC, 36.5, test)
    given = report(results, test={chosen.name: [test]}, ensemble=found)
    text = as_markdown(given)
    section = text[text.index("## Ensemble") :]
    assert "| `c/seed-1` | 0.7500 |" in section
    assert "by validation v2m R@10, 36.5, which is" in section
    assert section.count("| 5.0 | 36.0 | 20.0 |") == 2
    assert as_json(given)["ensemble"]["coefficients"] == {"a|b/seed-0": 0.25, "c/seed-1": 0.75}
    assert "ensemble of 2: validation v2m/R@10 36.5" in as_text(given)
    assert "ensemble" not in as_json(report(results))
    none = report(results, ensemble=EnsembleResult(failure="one | run"))
    assert "None: one \\| run" in as_markdown(none)
    assert "no ensemble: one | run" in as_text(none)
    json.dumps(as_json(none), allow_nan=False)
