"""Trains the points of a sweep: together where one program can, else in processes of their own."""

import pathlib
from collections.abc import Sequence

from vmr.errors import UserError
from vmr.sweeps.cohorts import Grid, cohorts
from vmr.sweeps.folder import failure_of, forget_failure, name_of, note_failure
from vmr.sweeps.places import Places
from vmr.training.grid import Run
from vmr.training.loop import train_grid
from vmr.training.progress import is_finished


def train_all(runs: Sequence[Run], places: Places, folder: pathlib.Path) -> None:
    """Trains all runs to their ends, or goes on with them; what fails is noted in its folder.

    Args:
      runs: of the sweep.
      places: where.
      folder: of the sweep.
    """
    for run in runs:
        forget_failure(run)
    while waiting := [run for run in runs if not is_finished(run.workdir) and not failure_of(run)]:
        grids = cohorts(waiting, places.together)
        alone = [grid[0][0] for grid in grids if _size(grid) == 1]
        if alone:
            places.train_alone(alone, folder)
            _require_an_end(alone)
        for grid in grids:
            if _size(grid) > 1:
                _train_grid(grid, places, folder)


def _train_grid(grid: Grid, places: Places, folder: pathlib.Path) -> None:
    """Trains runs in one program; where it cannot, each by itself, since one alone may be wrong."""
    runs = [run for row in grid for run in row]
    print(f"{len(runs)} runs together, {name_of(runs[0])} to {name_of(runs[-1])}", flush=True)
    try:
        failures = train_grid(grid)
    except Exception as error:
        if not _smaller_may_cure(error):
            raise
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        print(f"not together, each by itself: {reason}", flush=True)
        places.train_alone(runs, folder)
        _require_an_end(runs)
        return
    for run in runs:
        if run.workdir in failures:
            note_failure(run, failures[run.workdir])
            print(f"{name_of(run)}: failed: {failures[run.workdir]}", flush=True)


def _smaller_may_cure(error: Exception) -> bool:
    """True for a mistake in one of the runs, as a damaged folder, and for too little memory."""
    names = {kind.__name__ for kind in type(error).__mro__}
    told = ("RESOURCE_EXHAUSTED", "OUT_OF_MEMORY")
    out_of_memory = "ResourceExhaustedError" in names or any(each in str(error) for each in told)
    return isinstance(error, UserError | OSError | MemoryError) or out_of_memory


def _require_an_end(runs: Sequence[Run]) -> None:
    """A run that neither ended nor failed would be tried again without end."""
    for run in runs:
        if not is_finished(run.workdir) and not failure_of(run):
            note_failure(run, "it stopped before its end without saying why: see log.txt")


def _size(grid: Grid) -> int:
    return sum(len(row) for row in grid)
