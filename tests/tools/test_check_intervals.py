"""Intervals and p-values on simulated systems of known difference; the full table is the tool's."""

import numpy as np
import pytest

from tools import simulated_systems
from tools.simulated_systems import Design, alarms, coverage, draw, truth
from vmr.errors import UserError

REPEATS, SAMPLES = 150, 250
SMALL = {"queries": 240, "tracks": 160}


@pytest.mark.parametrize("scatter", [0.0, 0.2])
def test_the_known_difference_is_that_of_many_draws(scatter: float) -> None:
    design = Design((40, 40), scatter, gain=0.2)
    found: dict[str, list[float]] = {name: [] for name in truth(design)}
    for repeat in range(60):
        systems, _ = draw(design, np.random.default_rng(repeat))
        for name, drawn in found.items():
            summary = np.median if name == "MedR" else np.mean
            one, other = (summary(systems[system][name], axis=1).mean() for system in "AB")
            drawn.append(one - other)
    for name, drawn in found.items():
        error = np.std(drawn) / np.sqrt(len(drawn))
        assert np.mean(drawn) == pytest.approx(truth(design)[name], abs=3.5 * error)
        assert abs(truth(design)[name]) > 5 * error  # or nothing would be shown


@pytest.mark.parametrize(("seeds", "scatter"), [((1, 1), 0.0), ((3, 3), 0.1), ((3, 5), 0.3)])
def test_intervals_hold_the_truth_and_alarms_are_rare(
    seeds: tuple[int, int], scatter: float
) -> None:
    gain = Design(seeds, scatter, gain=0.1, **SMALL)
    # 95 and 5 in a hundred, give or take three times the error of so few simulations.
    for name, share in coverage(gain, repeats=REPEATS, samples=SAMPLES).items():
        assert 0.895 <= share <= 0.995, name
    for name, share in alarms(
        Design(seeds, scatter, **SMALL), repeats=REPEATS, samples=SAMPLES
    ).items():
        assert share <= 0.105, name


def test_a_real_difference_raises_the_alarm() -> None:
    gain = Design((3, 3), 0.03, gain=0.4, **SMALL)
    assert min(alarms(gain, repeats=20, samples=SAMPLES).values()) >= 0.9


def test_one_seed_a_side_cannot_speak_of_methods() -> None:
    # What the scope in words is for; it shows too that the simulation can tell a bad interval.
    single = Design((1, 1), 0.3, **SMALL)
    assert max(coverage(single, repeats=40, samples=SAMPLES).values()) < 0.6
    assert min(alarms(single, repeats=40, samples=SAMPLES).values()) > 0.4


def test_the_table_has_a_row_a_design() -> None:
    lines = list(
        simulated_systems.check(
            ["1x1", "2x3"], ["0"], gain=0.1, queries=40, tracks=30, repeats=2, samples=100
        )
    )
    rows = [line for line in lines if line.startswith("| ")]
    assert [row.split("|")[1].strip() for row in rows] == ["seeds", "1x1", "2x3"]
    assert len({row.count("|") for row in rows}) == 1


@pytest.mark.parametrize(
    ("designs", "scatters", "message"),
    [
        (["3"], ["0"], "--designs: '3', expected the seeds of both systems as 3x5"),
        (["0x3"], ["0"], "--designs: '0x3'"),
        (["3x3"], ["wide"], "--scatters: 'wide', expected a number from 0 up"),
        (["3x3"], ["-1"], "--scatters: '-1'"),
    ],
)
def test_what_cannot_be_read_is_refused(
    designs: list[str], scatters: list[str], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        next(
            simulated_systems.check(
                designs, scatters, gain=0.1, queries=9, tracks=9, repeats=1, samples=100
            )
        )
