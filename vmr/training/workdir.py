"""A run's folder: its config, its environment, its results; each file whole or absent."""

import datetime
import importlib.metadata
import json
import os
import pathlib
import platform
import subprocess
from typing import Any

import jax
import ml_collections

from vmr.errors import UserError
from vmr.training.config import differences, require_sound, resolved
from vmr.training.disk import write_text

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "tensorflow-datasets", "numpy")


def claim(workdir: pathlib.Path, config: ml_collections.ConfigDict, fingerprint: str) -> None:
    """Makes the folder this config's, or finds that it already is.

    Raises:
      UserError: the folder holds a run of another config or of another dataset; it is left as is.
    """
    try:
        workdir.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise UserError(f"--workdir={workdir} is a file, expected a folder") from None
    if (workdir / "config.json").exists() and _has_begun(workdir):
        _require_same_run(workdir, config, fingerprint)
        return
    write_json(workdir / "environment.json", environment(fingerprint))
    write_json(workdir / "config.json", resolved(config))


def _has_begun(workdir: pathlib.Path) -> bool:
    """Whether there is a checkpoint: a run that failed before its first one may be mended."""
    return any((workdir / "checkpoints").glob("[0-9]*"))


def _require_same_run(
    workdir: pathlib.Path, config: ml_collections.ConfigDict, fingerprint: str
) -> None:
    changed = differences(read_json(workdir / "config.json"), resolved(config))
    if changed:
        raise UserError(f"{workdir} holds a run of another config: {'; '.join(changed)}")
    require_same_data(workdir, fingerprint)


def require_same_data(workdir: pathlib.Path, fingerprint: str) -> None:
    """Raises UserError where the run in the folder was trained on data of other content."""
    trained_on = read_json(workdir / "environment.json")["dataset_fingerprint"]
    if trained_on != fingerprint:
        raise UserError(
            f"{workdir} was trained on other data: dataset fingerprint {trained_on[:12]} there, "
            f"{fingerprint[:12]} in the dataset folder now"
        )


def saved_config(workdir: pathlib.Path) -> ml_collections.ConfigDict:
    """The config of the run in a folder; UserError where there is none or it is incomplete."""
    path = workdir / "config.json"
    if not path.is_file():
        raise UserError(f"{workdir} holds no run: config.json is missing")
    config = ml_collections.ConfigDict(read_json(path))
    try:
        require_sound(config)
    except UserError as mistake:
        raise UserError(
            f"{path}: {mistake}; was the run trained by another version of this code?"
        ) from None
    return config


def environment(fingerprint: str) -> dict[str, Any]:
    """Where a run took place: versions, devices, revision, the dataset's fingerprint."""
    return {
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "versions": {name: importlib.metadata.version(name) for name in _PACKAGES},
        "devices": [device.device_kind for device in jax.devices()],
        "git_revision": _git_revision(),
        "dataset_fingerprint": fingerprint,
    }


def _git_revision() -> str | None:
    """Of the code, with `-dirty` where it was changed; None outside a checkout."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    code = pathlib.Path(__file__).parent
    try:
        done = subprocess.run(command, cwd=code, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def read_json(path: pathlib.Path) -> dict[str, Any]:
    """The object in a JSON file; UserError where it cannot be read."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read as JSON: {error}") from None


def write_json(path: pathlib.Path, content: dict[str, Any]) -> None:
    """Writes an indented JSON file, the whole of it or nothing; see `write_text`."""
    write_text(path, json.dumps(content, indent=2) + "\n")
