"""Folder of a run: its config, its environment, its lock; each file whole or absent."""

import contextlib
import datetime
import importlib.metadata
import os
import pathlib
import platform
import subprocess
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import ml_collections

from vmr import distributed
from vmr.disk import locked, read_json, write_json
from vmr.errors import UserError
from vmr.training import determinism
from vmr.training.config import completed, difference, differing, require_restorable, resolved

# Fields that may change when a run goes on: no step's numbers depend on them.
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
        "dataset.cache",
        "loss.teacher",  # a path: the teacher's content may not change, see `_require_same_teacher`
    }
)
_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "tensorflow-datasets", "numpy")


@contextlib.contextmanager
def claimed(
    workdir: pathlib.Path,
    config: ml_collections.ConfigDict,
    data: Mapping[str, Any],
    start: Mapping[str, Any] | None = None,
    teacher: Mapping[str, Any] | None = None,
) -> Iterator[None]:
    """Claims `workdir` for this config, and keeps other processes out; the folder may be new.

    How often a run is logged, validated and saved, its patience, its steps under a constant
    schedule, the path of its data and the memory that holds them may change; `config.json` then has
    the new values.

    Args:
      workdir: folder of the run.
      config: config of the run.
      data: `Dataset.description` of what it trains on.
      start: `SavedModel.account` of what a fresh run starts from.
      teacher: `TeacherRows.account` of what it is distilled from.

    Raises:
      UserError: the folder holds a run of another config, data or teacher, or checkpoints without
        a config, or another process trains there; it is left as it is.
    """
    if not distributed.is_first():  # the first process claims it for all
        yield
        return
    try:
        workdir.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise UserError(f"--workdir={workdir} is a file, expected a folder") from None
    with locked(workdir):
        if latest_step(workdir):
            _take_over(workdir, config, data["fingerprint"], teacher)
        else:  # a run that failed before its first checkpoint may be mended
            origins = {"init_from": dict(start)} if start else {}
            origins |= {"teacher": dict(teacher)} if teacher else {}
            write_json(workdir / "environment.json", environment(data) | origins)
            write_json(workdir / "config.json", resolved(config))
        yield


def latest_step(workdir: pathlib.Path) -> int:
    """Step of the newest whole checkpoint in a run's folder; 0 if there is none."""
    # Orbax gives a checkpoint its number when it is whole.
    numbers = (path.name for path in (workdir / "checkpoints").glob("[0-9]*"))
    return max((int(name) for name in numbers if name.isdigit()), default=0)


def _take_over(
    workdir: pathlib.Path,
    config: ml_collections.ConfigDict,
    fingerprint: str,
    teacher: Mapping[str, Any] | None,
) -> None:
    """Checks that a run may go on under a config, and writes the fields that may change."""
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
    if teacher:
        _require_same_teacher(workdir, teacher)
    determinism.note_resumed(workdir)
    if changed:
        write_json(path, resolved(config))
        told = (
            f"config.{field} was {old!r}, is now {new!r}" for field, (old, new) in changed.items()
        )
        print(f"{path}: {'; '.join(told)}", flush=True)


def _require_steps_may_change(
    workdir: pathlib.Path, config: ml_collections.ConfigDict, before: Any, after: int
) -> None:
    """Raises UserError if another number of steps would have changed steps already taken."""
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
    """Raises UserError if the run in the folder was trained on data of other content."""
    path = workdir / "environment.json"
    trained_on = read_json(path).get("dataset_fingerprint")
    if not isinstance(trained_on, str):
        raise UserError(f"{path}: dataset_fingerprint is {trained_on!r}, expected a string")
    if trained_on != fingerprint:
        raise UserError(
            f"{workdir} was trained on other data: dataset fingerprint {trained_on[:12]} there, "
            f"{fingerprint[:12]} in the dataset folder now"
        )


def _require_same_teacher(workdir: pathlib.Path, teacher: Mapping[str, Any]) -> None:
    """Raises UserError if the run in the folder was distilled from other embeddings."""
    path = workdir / "environment.json"
    before = read_json(path).get("teacher")
    if not isinstance(before, dict) or not isinstance(before.get("content"), str):
        raise UserError(f"{path}: teacher is {before!r}, expected its file, model and content")
    if before["content"] != teacher["content"]:
        raise UserError(
            f"{workdir} was distilled from another teacher: content {before['content'][:12]} of "
            f"{before.get('file')} there, {teacher['content'][:12]} of {teacher['file']} now"
        )


def saved_config(workdir: pathlib.Path) -> ml_collections.ConfigDict:
    """Config of the run in a folder; fields added since have their defaults.

    Raises:
      UserError: the folder holds no run, or its config is not sound.
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
        "processes": jax.process_count(),
        "deterministic": determinism.is_asked(),
        "git_revision": _git_revision(),
        "dataset_fingerprint": data["fingerprint"],
        # For a model's card, since the dataset may be gone by then.
        "dataset": {key: value for key, value in data.items() if key != "fingerprint"},
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
