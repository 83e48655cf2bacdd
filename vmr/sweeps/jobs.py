"""Jobs of a sweep, grids of runs that one program trains, and the state of runs on disk.

A job is S seeds x W weightings. Its state is in the folders of its runs and nowhere else: their
configs, checkpoints and metrics, and notes: `failure.txt`, `alone.txt`, and `slurm_job.txt` while a
cluster has it. So a sweep may be killed at any moment, and the next call, on any host that sees the
folders, makes new jobs of the runs that have not ended.
"""

import json
import pathlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

import ml_collections

from vmr.disk import read_json, write_json, write_text
from vmr.errors import UserError
from vmr.sweeps.points import SweepPoint
from vmr.training.config import differences, resolved
from vmr.training.grid import Run, shared_fields
from vmr.training.progress import is_finished
from vmr.training.run_dir import latest_step

_T = TypeVar("_T")


class Job(NamedTuple):
    """Grid of runs that one process trains.

    Attributes:
      grid: S rows, each of one seed and W runs.
      id: id that a cluster has given it; empty where it is not submitted.
    """

    grid: list[list[Run]]
    id: str = ""

    @property
    def runs(self) -> list[Run]:
        """Runs of the grid, row by row."""
        return [run for row in self.grid for run in row]

    @property
    def name(self) -> str:
        """`SETTING/seed-0` of the only run, or the number of runs and the first of them."""
        first = name_of(self.runs[0])
        return first if len(self.runs) == 1 else f"{len(self.runs)} runs from {first}"

    @property
    def log(self) -> pathlib.Path:
        """File that its process prints to: `log.txt` in the folder of its first run."""
        return self.runs[0].workdir / "log.txt"


def jobs_of(runs: Sequence[Run], at_most: int) -> list[Job]:
    """Groups runs into jobs, in the order of their first runs.

    Runs share a program if their configs differ in weights, learning rate and seed only and their
    latest checkpoints are of the same step. A run with a note of `note_own_job` has its own job.

    Args:
      runs: runs to train.
      at_most: most runs in a job.
    """
    jobs: list[Job] = []
    for same_program in grouped(runs, _program):
        rows = grouped(same_program, lambda run: run.config.seed)
        # A program compiles anew for another shape: grids of one width rather than fuller ones.
        for same_width in grouped(rows, len):
            jobs += map(Job, _tiles(same_width, at_most))
    return jobs


def _program(run: Run) -> tuple[str, int, str]:
    fields = json.dumps(shared_fields(run.config), sort_keys=True)
    # A program takes one step of all its runs at a time, so they begin at the same one.
    return fields, latest_step(run.workdir), name_of(run) if own_job_reason(run) else ""


def grouped(items: Iterable[_T], key: Callable[[_T], Any]) -> list[list[_T]]:
    """Groups items of equal keys; groups and items keep the order of their first appearance."""
    groups: dict[Any, list[_T]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return list(groups.values())


def _tiles(rows: list[list[Run]], at_most: int) -> Iterator[list[list[Run]]]:
    """Cuts a grid into grids of at most so many runs."""
    width = min(len(rows[0]), at_most)
    height = max(1, at_most // width)
    for top in range(0, len(rows), height):
        for left in range(0, len(rows[0]), width):
            yield [row[left : left + width] for row in rows[top : top + height]]


def claim(workdir: pathlib.Path, config: ml_collections.ConfigDict) -> None:
    """Claims a folder for a sweep over this config; a sweep over the same config goes on there.

    Points may come and go: they are runs with folders of their own.

    Raises:
      UserError: the folder holds a sweep over another config, or a run; it is left as is.
    """
    if (workdir / "checkpoints").exists():
        raise UserError(f"--workdir={workdir} holds a run, expected the folder of a sweep")
    path = workdir / "config.json"
    if path.exists():
        changed = differences(read_json(path), resolved(config))
        if changed:
            raise UserError(f"{workdir} holds a sweep over another config: {'; '.join(changed)}")
        return
    write_json(path, resolved(config))


def run_of(point: SweepPoint, workdir: pathlib.Path) -> Run:
    """Run of a point, in a folder like any other run's."""
    return Run(point.config, workdir / "points" / point.name)


def name_of(run: Run) -> str:
    """Name of the run's point, `SETTING/seed-0`."""
    return "/".join(run.workdir.parts[-2:])


def has_ended(run: Run) -> bool:
    """True if the run finished, stopped early or failed, judged from its files alone."""
    return bool(failure_of(run)) or is_finished(run.workdir)


def note_failure(run: Run, failure: str) -> None:
    """Writes the reason why a run failed into its folder, in one line."""
    _note(run, "failure.txt", failure)


def failure_of(run: Run) -> str:
    """Reason why the run failed at its last try; empty if it did not."""
    return _noted(run, "failure.txt")


def note_own_job(run: Run, reason: str) -> None:
    """Writes into a run's folder why it has a job of its own from now on, in one line."""
    _note(run, "alone.txt", reason)


def own_job_reason(run: Run) -> str:
    """Reason why the run has a job of its own; empty where it may share a program."""
    return _noted(run, "alone.txt")


def note_cluster_job(run: Run, id: str) -> None:
    """Writes the id of the cluster's job that trains a run into its folder; empty takes it back."""
    if id:
        _note(run, _CLUSTER_JOB, id)
    else:
        (run.workdir / _CLUSTER_JOB).unlink(missing_ok=True)


def cluster_job_of(run: Run) -> str:
    """Id of the cluster's job that trains the run, or did when it was last looked at; or empty."""
    return _noted(run, _CLUSTER_JOB)


_CLUSTER_JOB = "slurm_job.txt"


def relative(job: Job, root: pathlib.Path) -> Job:
    """Names the folders of a job's runs from a folder above them, and so holds on any host."""
    return _moved(job, lambda workdir: workdir.absolute().relative_to(root))


def below(job: Job, root: pathlib.Path) -> Job:
    """Names the folders of a job of `relative` in full, below this folder."""
    return _moved(job, lambda workdir: root / workdir)


def _moved(job: Job, move: Callable[[pathlib.Path], pathlib.Path]) -> Job:
    grid = [[run._replace(workdir=move(run.workdir)) for run in row] for row in job.grid]
    return job._replace(grid=grid)


def remove_notes(run: Run) -> None:
    """Removes the notes of an earlier try, before another."""
    for name in ("failure.txt", "alone.txt"):
        (run.workdir / name).unlink(missing_ok=True)


def _note(run: Run, name: str, text: str) -> None:
    write_text(run.workdir / name, " ".join(text.split()) + "\n")


def _noted(run: Run, name: str) -> str:
    path = run.workdir / name
    # Reasons quote other programs, whose bytes need not be text.
    return path.read_text(encoding="utf-8", errors="replace").strip() if path.is_file() else ""
