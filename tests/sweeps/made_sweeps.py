"""Sweeps whose runs tests write by hand: a folder, the validations of each point, its end."""

import json
import pathlib
from collections.abc import Callable, Generator, Sequence

import ml_collections

from configs import vmnet
from vmr.disk import write_json
from vmr.sweeps import worker
from vmr.sweeps.jobs import Job, note_failure, run_of
from vmr.sweeps.launch import Ended
from vmr.sweeps.points import SweepPoint, checked_points
from vmr.sweeps.results import Results, row_of
from vmr.sweeps.space import Space
from vmr.training import config as checked
from vmr.training.grid import Run

METRIC = "v2m/R@10"
Score = Callable[[SweepPoint], float | None]


def base_config(data_dir: str = "data/made") -> ml_collections.ConfigDict:
    """The smoke variant, locked as the commands lock it."""
    config = vmnet.get_config("runlocal")
    config.dataset.data_dir = data_dir
    config.lock()
    return config


def finish(run: Run, validations: Sequence[float]) -> None:
    """Writes what a run leaves that validated so often, the last time at its last step."""
    steps = run.config.steps
    write_json(run.workdir / "config.json", checked.resolved(run.config))
    (run.workdir / "checkpoints" / str(steps)).mkdir(parents=True)
    lines = [
        {
            "step": steps - len(validations) + number,
            f"val/{METRIC}": score,
            "val/m2v/R@10": score - 1,
            "val/v2m/MRR": score / 100,
        }
        for number, score in enumerate(validations, start=1)
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (run.workdir / "metrics.jsonl").write_text(text)


def made(workdir: pathlib.Path, points: Space, score: Score) -> Results:
    """A sweep whose runs have come to their ends; those without a score have failed."""
    rows = []
    for point in checked_points(points, base_config()):
        run, reached = run_of(point, workdir), score(point)
        if reached is None:
            note_failure(run, "the loss is nan at step 3")
        else:
            finish(run, [reached - 5, reached, reached - 2])
        rows.append(row_of(point, run))
    return Results(tuple(rows), METRIC)


class InProcess:
    """A launcher that trains jobs in this process, one after another."""

    def __init__(self, parallel: int = 1) -> None:
        self.parallel = parallel
        self.jobs: list[list[str]] = []  # that it was given, by their runs' names

    def pending(self, runs: Sequence[Run]) -> list[Job]:
        return []

    def train(self, jobs: Sequence[Job]) -> Generator[Ended, None, None]:
        for job in jobs:
            self.jobs.append(["/".join(run.workdir.parts[-2:]) for run in job.runs])
            worker.train_job(job)
            yield Ended(job)
