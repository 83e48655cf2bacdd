"""Runs that differ only in weights, learning rate and seed, as a grid that one program trains.

S seeds, each with W runs that share its batches: a batch is read once a seed, and what an objective
takes of the inputs alone is taken once a batch. One run is the 1 × 1 grid, whose axes are squeezed
out of its program: it takes the step of `vmr.training.step` to the bit.
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
    """A config, and the folder that the run is kept in."""

    config: ml_collections.ConfigDict
    workdir: pathlib.Path


Grid = Sequence[Sequence[Run]]  # S rows, one a seed, of W runs


def shared_fields(config: ml_collections.ConfigDict) -> dict[str, Any]:
    """Fields of a config in which all runs of a grid are equal, as `config.json` holds them."""
    fields = resolved(config)
    fields.pop("seed")
    fields["loss"].pop("weights")
    fields["optimizer"].pop("learning_rate")
    return fields


def stacked(grid: Sequence[Sequence[Any]]) -> Any:
    """Stacks S x W trees of equal shapes into one on the host, each leaf (S, W, ...)."""
    trees = [jax.device_get(tree) for row in grid for tree in row]
    shape = len(grid), len(grid[0])
    # By NumPy: JAX would compile a program for every shape among the leaves.
    return jax.tree.map(lambda *rows: np.stack(rows).reshape(*shape, *rows[0].shape), *trees)


def entry(tree: Any, place: tuple[int, int]) -> Any:
    """Cuts one run's tree out of a grid's, (S, W, ...) -> (...), and copies it to the host.

    It is cut where the tree is: fetched whole, a large grid would not fit the host. And it is a
    copy, since a view of one run would keep the whole grid's memory.
    """
    return jax.tree.map(np.array, jax.device_get(_entry(tree, jax.device_put(np.array(place)))))


@jax.jit
def _entry(tree: Any, place: Array) -> Any:
    return jax.tree.map(lambda leaf: leaf[place[0], place[1]], tree)


@jax.jit
def updated(tree: Any, news: Any, is_news: Array) -> Any:
    """Takes the entries of `news` where (S, W) `is_news` says so, else those of `tree`."""

    def update(old: Array, new: Array) -> Array:
        return jnp.where(is_news.reshape(is_news.shape + (1,) * (new.ndim - 2)), new, old)

    return jax.tree.map(update, tree, news)


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
      state: each leaf (S, W, ...).
      batches: one a seed, each leaf (S, n, ...).
      settings: see `settings_of`.
      config: any run's.
      device_count: devices that share the batches.
      at_once: vmaps the runs; otherwise they take the step one after another.
      logs: measures also what only a logged step tells.
      axis_name: the pmapped axis that shards the batch.

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
    """Unit embeddings of n items by all S·W runs: (n, S·W·D) of video, (n, S·W·D) of music."""

    def embed(trained: Trained) -> tuple[Array, Array]:
        return embed_step(trained, batch, model=model)

    embeddings = _over_first_axis(_over_first_axis(embed, at_once), at_once)(trained)
    return jax.tree.map(_side_by_side, embeddings)


def embeddings_of(side_by_side: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Parts the embeddings of `grid_embed` by run: (n, S·W·D) -> (S, W, n, D)."""
    items = len(side_by_side)
    return np.moveaxis(side_by_side.reshape(items, *shape, -1), 0, 2)


def runs_at_once(devices: Sequence[jax.Device]) -> bool:
    """True if runs are to be vmapped, because one alone does not keep the device busy.

    One run's products keep all cores of a CPU at work, and its activations the cache; several at
    once only displace each other.
    """
    return devices[0].platform != "cpu"


def _side_by_side(rows: Array) -> Array:
    """(S, W, n, D) -> (n, S·W·D)."""
    return jnp.moveaxis(rows, 2, 0).reshape(rows.shape[2], -1)


def _over_first_axis(function: Callable[..., Any], at_once: bool) -> Callable[..., Any]:
    """Applies a function to each entry of the first axis of all its arguments."""

    def mapped(*trees: Any) -> Any:
        if jax.tree.leaves(trees)[0].shape[0] == 1:  # squeezed: no batched and no looping program
            result = function(*jax.tree.map(lambda leaf: jnp.squeeze(leaf, 0), trees))
            return jax.tree.map(lambda leaf: leaf[None], result)
        if at_once:
            return jax.vmap(function)(*trees)
        return jax.lax.map(lambda entries: function(*entries), trees)

    return mapped
