"""Grid of runs that differ only in weights, learning rate and seed, trained by one program.

A grid has S seeds, each with W runs that share its batches: a batch is read once per seed, and
whatever a loss computes from the inputs alone is computed once per batch. One run is the 1 × 1
grid, whose axes are squeezed out of its program: it is the step of `vmr.training.step` to the bit.
"""

import pathlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from vmr.encoders.two_tower import TwoTower
from vmr.training import build
from vmr.training.config import resolved
from vmr.training.state import Trained, TrainState
from vmr.training.step import embed_step

Array = jax.Array
Settings = tuple[dict[str, Any], Any]  # weights and learning rates, (S, W) each


class Run(NamedTuple):
    """Config of a run, and its folder."""

    config: ml_collections.ConfigDict
    workdir: pathlib.Path


Grid = Sequence[Sequence[Run]]  # S rows, one per seed, of W runs


def shared_fields(config: ml_collections.ConfigDict) -> dict[str, Any]:
    """Fields in which all runs of a grid must agree, as plain data of `config.json`."""
    fields = resolved(config)
    fields.pop("seed")
    fields["loss"].pop("weights")
    fields["optimizer"].pop("learning_rate")
    return fields


def stacked(grid: Sequence[Sequence[Any]]) -> Any:
    """Stacks S × W trees of equal shapes into one on the host, each leaf (S, W, ...)."""
    trees = [jax.device_get(tree) for row in grid for tree in row]
    shape = len(grid), len(grid[0])
    # In NumPy: JAX would compile a program for every shape among the leaves.
    return jax.tree.map(lambda *rows: np.stack(rows).reshape(*shape, *rows[0].shape), *trees)


def entry(tree: Any, slot: tuple[int, int]) -> Any:
    """Cuts one run's tree out of a grid's, (S, W, ...) -> (...), and copies it to the host."""
    # Cut on the devices, since a whole large grid may not fit the host. `np.array` copies: on CPU
    # `device_get` may give a view of memory that JAX owns.
    return jax.tree.map(np.array, jax.device_get(_entry(tree, jax.device_put(np.array(slot)))))


@jax.jit
def _entry(tree: Any, slot: Array) -> Any:
    return jax.tree.map(lambda leaf: leaf[slot[0], slot[1]], tree)


@jax.jit
def updated(old: Any, new: Any, is_new: Array) -> Any:
    """Entries of the tree `new` where the mask (S, W) is true, of `old` elsewhere."""

    def choose(old: Array, new: Array) -> Array:
        return jnp.where(is_new.reshape(is_new.shape + (1,) * (new.ndim - 2)), new, old)

    return jax.tree.map(choose, old, new)


def settings_of(grid: Grid) -> Settings:
    """Weights and learning rates of a grid's configs, (S, W) each."""
    weights = stacked([[build.build_weights(run.config) for run in row] for row in grid])
    rates = [[run.config.optimizer.learning_rate for run in row] for row in grid]
    return weights, np.asarray(rates, np.float32)


def grid_step(
    state: TrainState,
    batches: dict[str, Array],
    settings: Settings,
    *,
    config: ml_collections.ConfigDict,
    device_count: int = 1,
    at_once: bool = True,
    logs: bool = True,
    axis_name: str | None = None,
) -> tuple[TrainState, dict[str, Array]]:
    """Takes one step of every run: `vmr.training.step.train_step` over two leading axes.

    Args:
      state: states of the runs, each leaf (S, W, ...).
      batches: one batch per seed, each leaf (S, n, ...).
      settings: weights and learning rates of the runs, see `settings_of`.
      config: config of any run: `settings` and the states hold all in which runs differ.
      device_count: number of devices that share the batches.
      at_once: True vmaps the runs; False takes them one after another.
      logs: True adds the scalars of a logged step, see `train_step`.
      axis_name: pmapped axis that shards the batch.

    Returns:
      The state after the step, and scalars (S, W).
    """

    def step_of_seed(state: TrainState, batch: dict[str, Array], settings: Settings) -> Any:
        def step_of_run(state: TrainState, weights: dict[str, Array], rate: Array) -> Any:
            step = build.build_step(config, device_count, axis_name, learning_rate=rate)
            return step(state, batch, weights, logs=logs, axis_name=axis_name)

        return _over_first_axis(step_of_run, at_once)(state, *settings)

    return _over_first_axis(step_of_seed, at_once)(state, batches, settings)


def grid_embed(
    trained: Trained, batch: dict[str, Array], *, model: TwoTower, at_once: bool = True
) -> tuple[Array, Array]:
    """Unit embeddings of n items by all S·W runs side by side: video, music, (n, S·W·D) each.

    With the items on the first axis, `embed_batches` and `embeddings.collect` serve a grid as they
    serve one run; `embeddings_of` takes the runs apart.
    """

    def embed(trained: Trained) -> tuple[Array, Array]:
        return embed_step(trained, batch, model=model)

    embeddings = _over_first_axis(_over_first_axis(embed, at_once), at_once)(trained)
    return jax.tree.map(_side_by_side, embeddings)


def embeddings_of(side_by_side: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Separates the embeddings of `grid_embed` by run: (n, S·W·D) -> (S, W, n, D)."""
    items = len(side_by_side)
    return np.moveaxis(side_by_side.reshape(items, *shape, -1), 0, 2)


def runs_at_once(devices: Sequence[jax.Device]) -> bool:
    """True if the runs of a grid are to be vmapped: on accelerators, which one run leaves idle."""
    # On CPU one run's products occupy all cores, and its activations fill the cache.
    return devices[0].platform != "cpu"


def _side_by_side(rows: Array) -> Array:
    """Moves the runs beside the dimensions: (S, W, n, D) -> (n, S·W·D)."""
    return jnp.moveaxis(rows, 2, 0).reshape(rows.shape[2], -1)


def _over_first_axis(function: Callable[..., Any], at_once: bool) -> Callable[..., Any]:
    """Applies a function to each entry of the first axis of all its arguments."""

    def mapped(*trees: Any) -> Any:
        # Squeezed, so that the program of a single run has neither a batched product nor a loop.
        if jax.tree.leaves(trees)[0].shape[0] == 1:
            result = function(*jax.tree.map(lambda leaf: jnp.squeeze(leaf, 0), trees))
            return jax.tree.map(lambda leaf: leaf[None], result)
        if at_once:
            return jax.vmap(function)(*trees)
        return jax.lax.map(lambda entries: function(*entries), trees)

    return mapped
