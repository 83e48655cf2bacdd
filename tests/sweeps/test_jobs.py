"""Runs in jobs: which share a program, and what their folders say of them."""

import pathlib

import pytest

from configs import vmnet
from vmr.errors import UserError
from vmr.sweeps.jobs import (
    claim,
    failure_of,
    jobs_of,
    note_failure,
    note_own_job,
    own_job_reason,
    remove_notes,
)
from vmr.training.grid import Run


def run(folder: pathlib.Path, seed: int = 0, **weights: float) -> Run:
    config = vmnet.get_config("runlocal")
    config.seed = seed
    config.loss.weights.update(weights)
    return Run(config, folder / f"{seed}_{weights}")


def shapes(runs: list[Run], at_most: int) -> list[tuple[int, int]]:
    """Seeds and runs a seed of each grid; every run is in one, and the rows are of one seed."""
    grids = [job.grid for job in jobs_of(runs, at_most)]
    found = [run.workdir for grid in grids for row in grid for run in row]
    assert sorted(found) == sorted(run.workdir for run in runs)
    for grid in grids:
        assert all(len(row) == len(grid[0]) for row in grid)
        assert all(len({run.config.seed for run in row}) == 1 for row in grid)
    return [(len(grid), len(grid[0])) for grid in grids]


def test_weights_rates_and_seeds_share_a_program(tmp_path: pathlib.Path) -> None:
    runs = [run(tmp_path, seed, music=weight) for weight in (0.1, 1.0) for seed in range(3)]
    for number, each in enumerate(runs):
        each.config.optimizer.learning_rate = 10.0 ** -(number + 1)
    assert shapes(runs, 16) == [(3, 2)]


def test_any_other_field_takes_a_program_of_its_own(tmp_path: pathlib.Path) -> None:
    runs = [run(tmp_path, 0, music=0.1), run(tmp_path, 0, music=0.2), run(tmp_path, 0, music=0.3)]
    runs[1].config.loss.ranking.margin = 0.3
    assert shapes(runs, 16) == [(1, 2), (1, 1)]


@pytest.mark.parametrize(
    ("seeds", "weights", "at_most", "expected"),
    [
        (5, 3, 16, [(5, 3)]),
        (5, 4, 16, [(4, 4), (1, 4)]),
        (1, 20, 16, [(1, 16), (1, 4)]),
        (3, 20, 16, [(1, 16), (1, 4)] * 3),
        (2, 2, 1, [(1, 1)] * 4),
    ],
)
def test_a_program_has_at_most_so_many_runs(
    tmp_path: pathlib.Path, seeds: int, weights: int, at_most: int, expected: list[tuple[int, int]]
) -> None:
    runs = [
        run(tmp_path, seed, music=float(weight))
        for weight in range(weights)
        for seed in range(seeds)
    ]
    assert shapes(runs, at_most) == expected


def test_seeds_with_fewer_points_stand_apart(tmp_path: pathlib.Path) -> None:
    runs = [run(tmp_path, 0, music=1.0), run(tmp_path, 0, music=2.0), run(tmp_path, 1, music=1.0)]
    assert shapes(runs, 16) == [(1, 2), (1, 1)]


def test_runs_at_different_steps_stand_apart(tmp_path: pathlib.Path) -> None:
    runs = [run(tmp_path, 0, music=1.0), run(tmp_path, 0, music=2.0), run(tmp_path, 0, music=3.0)]
    (runs[2].workdir / "checkpoints" / "4").mkdir(parents=True)
    assert shapes(runs, 16) == [(1, 2), (1, 1)]


def test_a_run_whose_folder_says_so_has_a_job_of_its_own(tmp_path: pathlib.Path) -> None:
    runs = [run(tmp_path, 0, music=1.0), run(tmp_path, 0, music=2.0), run(tmp_path, 0, music=3.0)]
    note_own_job(runs[1], "killed by signal 9")
    assert shapes(runs, 16) == [(1, 2), (1, 1)]
    remove_notes(runs[1])
    assert shapes(runs, 16) == [(1, 3)]


def test_notes_are_lines_in_the_folder_of_the_run(tmp_path: pathlib.Path) -> None:
    (one,) = [run(tmp_path, 0)]
    assert (failure_of(one), own_job_reason(one)) == ("", "")
    note_failure(one, "two\nlines")
    assert (one.workdir / "failure.txt").read_text() == "two lines\n"
    note_own_job(one, "no memory")
    assert (failure_of(one), own_job_reason(one)) == ("two lines", "no memory")
    remove_notes(one)
    assert (failure_of(one), own_job_reason(one)) == ("", "")


def test_a_folder_of_another_sweep_or_of_a_run_is_left_alone(tmp_path: pathlib.Path) -> None:
    config = vmnet.get_config("runlocal")
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    with pytest.raises(UserError, match="holds a run, expected the folder of a sweep"):
        claim(tmp_path / "run", config)
    claim(tmp_path / "sweep", config)
    claim(tmp_path / "sweep", config)
    before = (tmp_path / "sweep" / "config.json").read_text()
    config.steps = 9
    with pytest.raises(UserError, match=r"another config: config\.steps is 8 there and 9 here"):
        claim(tmp_path / "sweep", config)
    assert (tmp_path / "sweep" / "config.json").read_text() == before
