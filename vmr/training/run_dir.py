"""A run's folder: its config, its environment, its lock; each file whole or absent."""

import contextlib
import datetime
import importlib.metadata
import json
import os
import pathlib
import platform
import subprocess
import sys
from collections.abc import Iterator, Mapping
from typing import IO, Any

import jax
import ml_collections

from vmr.errors import UserError
from vmr.training.config import completed, difference, differing, require_restorable, resolved
from vmr.training.disk import write_text

# What may change while a run goes on: no step's numbers depend on it.
_FREE = frozenset(
    {
        "patience",
        "evals",
        "log_every",
        "eval_every",
        "checkpoint_every",
        "dataset.name",
        "dataset.data_dir",
        "dataset.allow_invalid",
    }
)
_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "tensorflow-datasets", "numpy")


@contextlib.contextmanager
def claimed(
    workdir: pathlib.Path, config: ml_collections.ConfigDict, data: Mapping[str, Any]
) -> Iterator[None]:
    """Makes the folder this config's, or finds that it already is, and keeps other processes out.

    How often a run is logged, validated and saved, its patience, its steps under a constant
    schedule and where its data lie may change: `config.json` then says what holds from now on.

    Args:
      workdir: the run's folder.
      config: the run's.
      data: `Dataset.description` of what it trains on.

    Raises:
      UserError: the folder holds a run of another config or of another dataset, or checkpoints
        alone, or another process trains there; it is left as is.
    """
    try:
        workdir.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise UserError(f"--workdir={workdir} is a file, expected a folder") from None
    with locked(workdir):
        if latest_step(workdir):
            _take_over(workdir, config, data["fingerprint"])
        else:  # a run that failed before its first checkpoint may be mended
            write_json(workdir / "environment.json", environment(data))
            write_json(workdir / "config.json", resolved(config))
        yield


def latest_step(workdir: pathlib.Path) -> int:
    """Step of the newest whole checkpoint in a run's folder; 0 if there is none."""
    # Orbax gives a checkpoint its number when it is whole.
    numbers = (path.name for path in (workdir / "checkpoints").glob("[0-9]*"))
    return max((int(name) for name in numbers if name.isdigit()), default=0)


def _take_over(workdir: pathlib.Path, config: ml_collections.ConfigDict, fingerprint: str) -> None:
    """Goes on with the run in a folder, under what of its config may have changed."""
    path = workdir / "config.json"
    if not path.exists():
        raise UserError(
            f"{workdir} holds checkpoints of an unknown config: config.json is missing, put it "
            "back or take another folder"
        )
    changed = differing(read_json(path), resolved(config))
    refused = [
        difference(field, *values)
        for field, values in changed.items()
        if field not in _FREE and field != "steps"
    ]
    if refused:
        raise UserError(f"{workdir} holds a run of another config: {'; '.join(refused)}")
    if "steps" in changed:
        _require_steps_may_change(workdir, config, *changed["steps"])
    require_same_data(workdir, fingerprint)
    if changed:
        write_json(path, resolved(config))
        told = (
            f"config.{field} was {old!r}, is now {new!r}" for field, (old, new) in changed.items()
        )
        print(f"{path}: {'; '.join(told)}", flush=True)


def _require_steps_may_change(
    workdir: pathlib.Path, config: ml_collections.ConfigDict, before: Any, after: int
) -> None:
    """Raises UserError where the steps that were taken would have been others."""
    phrase = difference("steps", before, after)
    if config.optimizer.schedule != "constant":
        raise UserError(
            f"{workdir} holds a run of another config: {phrase}; only under "
            "config.optimizer.schedule=constant may they change: a "
            f"{config.optimizer.schedule} schedule ends with the last step, so every step before "
            "would have had another learning rate"
        )
    taken = latest_step(workdir)
    if after < taken:
        raise UserError(f"{workdir}: {phrase}, but {taken} steps are taken: expected no fewer")


def require_same_data(workdir: pathlib.Path, fingerprint: str) -> None:
    """Raises UserError where the run in the folder was trained on data of other content."""
    path = workdir / "environment.json"
    trained_on = read_json(path).get("dataset_fingerprint")
    if not isinstance(trained_on, str):
        raise UserError(f"{path}: dataset_fingerprint is {trained_on!r}, expected a string")
    if trained_on != fingerprint:
        raise UserError(
            f"{workdir} was trained on other data: dataset fingerprint {trained_on[:12]} there, "
            f"{fingerprint[:12]} in the dataset folder now"
        )


def saved_config(workdir: pathlib.Path) -> ml_collections.ConfigDict:
    """The config of the run in a folder, fields of after its time at their defaults.

    Raises:
      UserError: there is no run, or its config cannot have been one.
    """
    path = workdir / "config.json"
    if not path.is_file():
        raise UserError(f"{workdir} holds no run: config.json is missing")
    config = ml_collections.ConfigDict(completed(read_json(path)))
    try:
        require_restorable(config)
    except UserError as mistake:
        raise UserError(
            f"{path}: {mistake}; was the run trained by another version of this code?"
        ) from None
    return config


def environment(data: Mapping[str, Any]) -> dict[str, Any]:
    """Environment of a run: versions, devices, git revision, what it trains on."""
    return {
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "versions": {name: importlib.metadata.version(name) for name in _PACKAGES},
        "devices": [device.device_kind for device in jax.devices()],
        "git_revision": _git_revision(),
        "dataset_fingerprint": data["fingerprint"],
        # For a model's card, since the dataset may be gone by then.
        "dataset": {key: data[key] for key in ("name", "licence", "features")},
    }


def _git_revision() -> str | None:
    """Git revision of the code, with `-dirty` if it was changed; None outside a checkout."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    code = pathlib.Path(__file__).parent
    try:
        done = subprocess.run(command, cwd=code, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def read_json(path: pathlib.Path) -> dict[str, Any]:
    """The object in a JSON file; UserError where it cannot be read, or holds anything else."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read as JSON: {error}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} is the JSON of a {type(content).__name__}, expected an object")
    return content


def write_json(path: pathlib.Path, content: dict[str, Any]) -> None:
    """Writes an indented JSON file, the whole of it or nothing; see `write_text`."""
    write_text(path, json.dumps(content, indent=2) + "\n")


if sys.platform != "win32":
    import fcntl


@contextlib.contextmanager
def locked(folder: pathlib.Path) -> Iterator[None]:
    """Keeps others out of a folder; the system lets go of it when the process ends, however.

    A disk that has no locks goes without, as does Windows.

    Raises:
      UserError: another process, or this one elsewhere, has the folder; or it cannot be written in.
    """
    path = folder / ".lock"  # which stays: others may have it open
    try:
        file = path.open("a")
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror or error}") from None
    with file:
        try:
            _lock(file)
        except BlockingIOError:
            raise UserError(
                f"{folder} is in use: another process trains there, expected one at a time"
            ) from None
        yield


def _lock(file: IO[str]) -> None:
    if sys.platform == "win32":
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:
        return  # the disk has no locks
