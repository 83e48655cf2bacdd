"""First state of a run: fresh parameters, or those of another run or model (`config.init_from`)."""

import functools
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import flax.traverse_util
import jax
import jax.numpy as jnp
import ml_collections

from vmr.errors import UserError
from vmr.training import run_dir
from vmr.training.build import build_state
from vmr.training.state import TrainState
from vmr.training.trained import SavedModel, read_saved


def start_of(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> SavedModel | None:
    """What a run starts from; None if that is nothing, or it has taken steps and goes on from them.

    Raises:
      UserError: `config.init_from` is neither a run with a validated checkpoint nor a model.
    """
    if not config.init_from or run_dir.latest_step(workdir):
        return None
    try:
        return _read_once(pathlib.Path(config.init_from).expanduser())
    except UserError as mistake:
        raise UserError(f"config.init_from={config.init_from}: {mistake}") from None


@functools.lru_cache(maxsize=1)  # the runs of a grid start from the same folder
def _read_once(folder: pathlib.Path) -> SavedModel:
    return read_saved(folder)


def first_state(
    config: ml_collections.ConfigDict,
    start: SavedModel | None,
    widths: Mapping[str, int],
    measured: Callable[[], Mapping[str, Any]],
) -> TrainState:
    """State before the first step.

    What `start` has trained, batch statistics and the standardisation of its inputs included,
    takes the place of a fresh start; what the loss learns, the optimiser and the random key are
    fresh.

    Args:
      config: config of the run.
      start: see `start_of`.
      widths: feature widths of `video` and of `music` in the dataset.
      measured: function that gives statistics of the training split, called where `start` has none.

    Raises:
      UserError: the parameters of `start` are not of the shapes of this config's.
    """
    if start is None:
        return build_state(config, measured())
    trained = start.trained
    for side, statistics in trained.standardization.items():
        if len(statistics["mean"]) != widths[side]:
            raise UserError(
                f"config.init_from={start.folder} reads {side} features of width "
                f"{len(statistics['mean'])}, expected {widths[side]}, those of the dataset"
            )
    state = build_state(config, trained.standardization)
    _require_alike(start, state)
    params = {**state.params, **jax.tree.map(jnp.asarray, dict(trained.params))}
    return state.replace(
        params=params,
        batch_stats=jax.tree.map(jnp.asarray, trained.batch_stats),
        average=jax.tree.map(jnp.copy, params) if state.average else {},
    )


def _require_alike(start: SavedModel, state: TrainState) -> None:
    """Raises UserError that names the first array that differs in shape, or is on one side only."""
    there, here = (
        {
            name: array.shape
            for name, array in flax.traverse_util.flatten_dict(
                {"params": params, "batch_stats": of.batch_stats}, sep="/"
            ).items()
        }
        for of, params in (
            (start.trained, start.trained.params),
            (state, {name: tree for name, tree in state.params.items() if name != "loss"}),
        )
    )
    for name in sorted(there.keys() | here.keys()):
        if there.get(name) != here.get(name):
            raise UserError(
                f"config.init_from={start.folder}: {name} is {_shape(there.get(name))} there and "
                f"{_shape(here.get(name))} in this config: expected the same encoders"
            )


def _shape(shape: tuple[int, ...] | None) -> str:
    return "absent" if shape is None else f"of shape {shape}"
