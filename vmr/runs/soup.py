"""Mean of the parameters of runs that were fine-tuned from one start: one model, no wider.

Wortsman et al., "Model soups: averaging weights of multiple fine-tuned models improves accuracy
without increasing inference time", ICML 2022.
"""

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from vmr.errors import UserError
from vmr.runs.model import Model, load
from vmr.training.config import difference, differing, resolved

_DECIDING = ("pairing", "sampling", "model")  # of the config, what decides an embedding


def soup(paths: Sequence[str | pathlib.Path]) -> Model:
    """The uniform soup of several models: the mean of their parameters and batch statistics.

    Its `data` is the first one's, with the account of each under `soup`; its step is the last of
    theirs.

    Args:
      paths: folders of runs, at their best checkpoints, and of models.

    Raises:
      UserError: fewer than two, one twice, or models that did not start from the same one, are not
        built alike or standardise their inputs differently.
    """
    if len(paths) < 2 or not all(map(str, paths)):
        raise UserError("--soup: expected the folders of at least two models, by commas")
    models = [load(path) for path in paths]
    for n, model in enumerate(models):
        for other in models[:n]:
            _require_alike(model, other)
    trained = jax.tree.map(_mean, *(model.trained for model in models))
    accounts = [
        {
            "fingerprint": model.fingerprint,
            "step": model.step,
            "dataset_fingerprint": model.data.get("fingerprint"),
        }
        for model in models
    ]
    return dataclasses.replace(
        Model(pathlib.Path("soup"), models[0].config, 0, trained, {}),
        step=max(model.step for model in models),
        data={**models[0].data, "soup": accounts},
    )


def _mean(*arrays: Any) -> np.ndarray:
    """Mean of arrays of one shape, summed in float64."""
    first = np.asarray(arrays[0])
    return np.mean(np.stack(arrays), axis=0, dtype=np.float64).astype(first.dtype)


def _require_alike(model: Model, other: Model) -> None:
    """Raises UserError where the mean of two models' parameters would mean nothing."""
    if model.fingerprint == other.fingerprint:
        raise UserError(f"--soup: {other.folder} and {model.folder} are the same model")
    starts = [(of.data.get("init_from") or {}).get("fingerprint") for of in (other, model)]
    if None in starts or starts[0] != starts[1]:
        told = [f"from {start[:12]}" if start else "afresh" for start in starts]
        raise UserError(
            f"--soup: {other.folder} started {told[0]} and {model.folder} {told[1]}, expected one "
            "model that all were fine-tuned from (config.init_from)"
        )
    changed = [
        difference(field, *values)
        for field, values in differing(resolved(other.config), resolved(model.config)).items()
        if field.partition(".")[0] in _DECIDING
    ]
    if changed:
        raise UserError(f"--soup: {other.folder} and {model.folder} differ: {'; '.join(changed)}")
    ones, others = (jax.tree.leaves(of.trained.standardization) for of in (model, other))
    if not all(map(np.array_equal, ones, others)):
        raise UserError(
            f"--soup: {other.folder} and {model.folder} standardise their inputs differently, "
            "expected the statistics of the model that they started from"
        )
