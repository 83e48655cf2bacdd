"""Trained parameters on disk: those of a run's best checkpoint, and those of a model folder."""

import dataclasses
import functools
import hashlib
import json
import pathlib
from collections.abc import Mapping
from typing import Any

import flax.traverse_util
import ml_collections
import numpy as np
import safetensors

from vmr.disk import read_json
from vmr.errors import UserError, reason_of
from vmr.training.base_config import base_config
from vmr.training.build import abstract_state
from vmr.training.checkpoints import Checkpoints
from vmr.training.config import differing, resolved
from vmr.training.run_dir import saved_config
from vmr.training.state import Trained, TrainState

ARRAYS = "model.safetensors"  # by which a model folder is known
KEY = "vmr"  # of the facts among the metadata of that file


@dataclasses.dataclass(frozen=True)
class SavedModel:
    """What a run's or a model's folder holds of two trained towers, or of one.

    Attributes:
      folder: the run's or the model's folder.
      config: config of the run.
      step: step of the parameters.
      trained: parameters, and the statistics that standardise the inputs.
      data: account of the training data, as `Dataset.description`; without `features` if the run is
        older than that key.
    """

    folder: pathlib.Path
    config: ml_collections.ConfigDict
    step: int
    trained: Trained
    data: Mapping[str, Any]

    @functools.cached_property
    def fingerprint(self) -> str:
        """SHA-256 of all that decides an embedding, see `fingerprint_of`."""
        return fingerprint_of(self.config, self.trained)

    @property
    def account(self) -> dict[str, Any]:
        """Folder, fingerprint and step, for the folder of a run that starts from this."""
        folder = str(self.folder.absolute())
        return {"folder": folder, "fingerprint": self.fingerprint, "step": self.step}


def read_saved(folder: pathlib.Path) -> SavedModel:
    """What was trained, from a run's folder, at its best checkpoint, or from a model folder.

    Raises:
      UserError: neither lies there, it has no validated checkpoint yet, or it is damaged.
    """
    return read_model(folder) if is_model(folder) else read_run(folder)


def is_model(folder: pathlib.Path) -> bool:
    """True if a folder holds a model rather than a run."""
    return (folder / ARRAYS).is_file()


def read_model(folder: pathlib.Path) -> SavedModel:
    """The model in a folder that `vmr.runs.model_folder` wrote, checked by its fingerprint.

    Raises:
      UserError: a file is missing or damaged, or of a model that this code no longer builds.
    """
    path = folder / ARRAYS
    try:
        with safetensors.safe_open(path, "numpy") as opened:
            facts = json.loads((opened.metadata() or {}).get(KEY, "null"))
            arrays = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
        fingerprint, step, data = facts["fingerprint"], int(facts["step"]), dict(facts["data"])
        tree = flax.traverse_util.unflatten_dict(arrays, sep="/")
        trained = Trained(tree["params"], tree.get("batch_stats", {}), tree["standardization"])
    except (safetensors.SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is no model of vmr, or damaged: {reason_of(error)}") from None
    saved = SavedModel(folder, saved_config(folder), step, trained, data)
    if saved.fingerprint != fingerprint:
        raise UserError(
            f"{folder} is damaged: its arrays or its config.json are not those that were written"
        )
    return saved


def read_run(workdir: pathlib.Path) -> SavedModel:
    """What the run in a folder has trained, at its best checkpoint by validation.

    Raises:
      UserError: no run there, none of its checkpoints was validated yet, or the best is damaged.
    """
    if not workdir.is_dir():
        raise UserError(f"{workdir}: no such folder, expected a run's or a model's")
    config = saved_config(workdir)
    step, state = best_state(workdir, config)
    environment = read_json(workdir / "environment.json")
    data = {"fingerprint": environment.get("dataset_fingerprint"), **environment.get("dataset", {})}
    if start := environment.get("init_from"):  # where it lay is nobody else's matter
        data["init_from"] = {key: start[key] for key in ("fingerprint", "step")}
    if teacher := environment.get("teacher"):
        data["teacher"] = {key: teacher.get(key) for key in ("file", "model", "content")}
    return SavedModel(workdir, config, step, state.trained, data)


def best_state(workdir: pathlib.Path, config: ml_collections.ConfigDict) -> tuple[int, TrainState]:
    """Step and state of a run's best checkpoint; the checkpoint itself gives the feature widths.

    The whole state is read, since its checksum is of the whole.

    Raises:
      UserError: there is none that was validated, or it is damaged.
    """
    if not (workdir / "checkpoints").is_dir():
        raise UserError(f"{workdir} has no checkpoint yet: train it first")
    with Checkpoints(workdir, config.selection, read_only=True) as checkpoints:
        step = checkpoints.best_step
        if step is None:
            raise UserError(f"{workdir} has no validated checkpoint yet: train it further")
        like = abstract_state(config, checkpoints.feature_widths(step))
        return step, checkpoints.restore(step, like)


def fingerprint_of(config: ml_collections.ConfigDict, trained: Trained) -> str:
    """SHA-256 of all that decides an embedding; a run and the model made of it have the same."""
    # Only what is not at its default: a field that is added to configs later changes nothing.
    chosen = differing(resolved(base_config()), resolved(config))
    deciding = {
        field: value
        for field, (_, value) in chosen.items()
        if field.split(".")[0] in ("pairing", "sampling", "model")
    }
    digest = hashlib.sha256(json.dumps(deciding, sort_keys=True).encode())
    for name, array in arrays_of(trained).items():
        digest.update(f"\n{name} {array.dtype} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def arrays_of(trained: Trained) -> dict[str, np.ndarray]:
    """All arrays by their path, `params/video_encoder/…`, in the order of the paths."""
    tree = {field.name: getattr(trained, field.name) for field in dataclasses.fields(trained)}
    flat = flax.traverse_util.flatten_dict(tree, sep="/")
    return {name: np.asarray(flat[name]) for name in sorted(flat)}
