"""A sweep's folder: what was asked for, the runs, and what became of each."""

import pathlib

import ml_collections

from vmr.errors import UserError
from vmr.sweeps.points import SweepPoint
from vmr.training.config import differences, resolved
from vmr.training.disk import write_text
from vmr.training.grid import Run
from vmr.training.run_dir import read_json, write_json


def claim(workdir: pathlib.Path, config: ml_collections.ConfigDict) -> None:
    """Makes the folder that of a sweep over this config, or finds that it already is.

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
    """The run of a point: a folder as that of any other run."""
    return Run(point.config, workdir / "points" / point.name)


def name_of(run: Run) -> str:
    """Of its point: `SETTING/seed-0`."""
    return "/".join(run.workdir.parts[-2:])


def note_failure(run: Run, failure: str) -> None:
    """Writes what stopped a run into its folder, in one line."""
    write_text(_failure(run), " ".join(failure.split()) + "\n")


def forget_failure(run: Run) -> None:
    """Before another try."""
    _failure(run).unlink(missing_ok=True)


def failure_of(run: Run) -> str:
    """What stopped a run at its last try; empty where nothing did."""
    path = _failure(run)
    return path.read_text(encoding="utf-8", errors="replace").strip() if path.is_file() else ""


def _failure(run: Run) -> pathlib.Path:
    return run.workdir / "failure.txt"
