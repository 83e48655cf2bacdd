"""The files of a sweep, byte for byte as they have always been: other programs read them."""

import pathlib

import pytest
from made_sweeps import made

from vmr.sweeps.report import Report, as_text, write_tables
from vmr.sweeps.space import product, seeds, sweep

GOLDEN = pathlib.Path(__file__).parent / "golden"
BOTH = ("loss.weights.music", "loss.weights.video")


def result(recall: float) -> dict:
    """As `results/test.json` holds it."""
    row = {"R@1": recall / 8, "R@10": recall, "MedR": 20.0}
    return {"v2m": row, "m2v": {**row, "R@10": recall + 0.5}}


@pytest.fixture
def report(tmp_path: pathlib.Path) -> Report:
    """Two losses at two weights, two seeds each; one run has failed."""
    points = product(
        sweep("loss.intra", ["js", "ii_mse"]),
        sweep(BOTH, [0.125, 0.5]),
        sweep("steps", [9]),
        seeds(2),
    )

    def score(point) -> float | None:
        if point.name.startswith("loss.intra-js__loss.weights.music-0.5") and point.config.seed:
            return None
        weight = point.config.loss.weights.music
        return 30.0 + 4 * (point.config.loss.intra == "js") + weight + 0.25 * point.config.seed

    results = made(tmp_path / "made", points, score)
    best = results.choose()
    return Report(
        title="made | by hand",
        results=results,
        chosen=best,
        test={best[0].name: [result(32.0), result(33.0)]},
        comparison={"split": "test", "p": float("nan"), "ci95": (0.5, float("inf"))},
        verdicts="R@10 +2.1: not distinguishable\n",
    )


def test_the_files_of_a_sweep_are_as_they_were(report: Report, tmp_path: pathlib.Path) -> None:
    for path in write_tables(tmp_path, report):
        assert path.read_bytes() == (GOLDEN / path.name).read_bytes()
    assert as_text(report) + "\n" == (GOLDEN / "sweep.txt").read_text()
