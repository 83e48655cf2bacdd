"""Which points of a sweep train together: those that differ in weights, learning rate and seed."""

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from vmr.training.grid import Run, shared_fields
from vmr.training.run_dir import latest_step

Grid = list[list[Run]]  # S seeds with W runs each
_T = TypeVar("_T")


def cohorts(runs: Sequence[Run], at_most: int) -> list[Grid]:
    """Grids of runs for one program each, in the order of their first runs.

    Runs share a program if their configs differ in weights, learning rate and seed alone and they
    stand at the same step. A program compiles anew for another shape, so grids of one shape are
    preferred to fuller ones.

    Args:
      runs: to be trained.
      at_most: runs in a program.
    """
    grids: list[Grid] = []
    for alike in _groups(runs, _program):
        of_seeds = _groups(alike, lambda run: run.config.seed)
        for same_count in _groups(of_seeds, len):
            grids += _tiles(same_count, at_most)
    return grids


def _program(run: Run) -> tuple[str, int]:
    fields = json.dumps(shared_fields(run.config), sort_keys=True)
    return fields, latest_step(run.workdir)


def _groups(items: Sequence[_T], key: Callable[[_T], Any]) -> list[list[_T]]:
    """Items of equal keys, groups and items in the order of their appearance."""
    groups: dict[Any, list[_T]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return list(groups.values())


def _tiles(rows: Grid, at_most: int) -> Iterator[Grid]:
    """A grid of any size cut into grids of at most so many runs."""
    width = min(len(rows[0]), at_most)
    height = max(1, at_most // width)
    for top in range(0, len(rows), height):
        for left in range(0, len(rows[0]), width):
            yield [row[left : left + width] for row in rows[top : top + height]]
