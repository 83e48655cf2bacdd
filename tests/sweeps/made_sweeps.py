"""Sweeps whose runs tests write by hand: a folder, the validations of each point, its end."""

import json
import pathlib
from collections.abc import Callable, Sequence

import ml_collections

from configs import vmnet
from vmr.sweeps.folder import note_failure, run_of
from vmr.sweeps.outcomes import Outcome, Setting, outcome_of, settings_of
from vmr.sweeps.points import SweepPoint, resolved
from vmr.sweeps.space import Space
from vmr.training import config as checked
from vmr.training.run_dir import write_json

METRIC = "v2m/R@10"
Score = Callable[[SweepPoint], float | None]


def base_config() -> ml_collections.ConfigDict:
    """The smoke variant, locked as the commands lock it."""
    config = vmnet.get_config("runlocal")
    config.dataset.data_dir = "data/made"
    config.lock()
    return config


def finish(workdir: pathlib.Path, point: SweepPoint, validations: Sequence[float]) -> None:
    """Writes what a run leaves that validated so often, the last time at its last step."""
    run = run_of(point, workdir)
    steps = point.config.steps
    write_json(run.workdir / "config.json", checked.resolved(point.config))
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


def outcomes_of(workdir: pathlib.Path, points: Space, score: Score) -> list[Outcome]:
    """The points of a sweep that have come to their ends; those without a score have failed."""
    outcomes = []
    for point in resolved(points, base_config()):
        reached = score(point)
        if reached is None:
            note_failure(run_of(point, workdir), "the loss is nan at step 3")
        else:
            finish(workdir, point, [reached - 5, reached, reached - 2])
        outcomes.append(outcome_of(point, run_of(point, workdir)))
    return outcomes


def made(workdir: pathlib.Path, points: Space, score: Score) -> list[Setting]:
    """As `outcomes_of`, by setting."""
    return settings_of(outcomes_of(workdir, points, score))
