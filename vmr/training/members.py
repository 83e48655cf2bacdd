"""Runs that differ only in weights, learning rate and seed as the members of one program.

Members stand in a grid: S seeds, each with W members that share its batches. So a batch is read
once a seed, and what an objective takes of the inputs alone is taken once a batch.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from vmr.encoders.two_tower import TwoTower
from vmr.training import build
from vmr.training.config import resolved
from vmr.training.state import TrainState
from vmr.training.step import embed_step

Array = jax.Array
Grid = Sequence[Sequence[ml_collections.ConfigDict]]  # S x W configs


def shared_fields(config: ml_collections.ConfigDict) -> dict[str, Any]:
    """The config without what members may differ in: equal for all members of a program."""
    fields = resolved(config)
    fields.pop("seed")
    fields["loss"].pop("weights")
    fields["optimizer"].pop("learning_rate")
    return fields


def stacked(grid: Sequence[Sequence[Any]]) -> Any:
    """S x W trees of equal shapes -> one, each leaf (S, W, ...)."""
    trees = [tree for row in grid for tree in row]
    shape = len(grid), len(grid[0])
    return jax.tree.map(lambda *rows: jnp.stack(rows).reshape(*shape, *rows[0].shape), *trees)


def member_of(tree: Any, place: tuple[int, int]) -> Any:
    """The tree of one member, on the host: of each leaf (S, W, ...) the entry at (seed, member).

    It is cut out where the tree is, and copied: a view would keep the whole tree's memory.
    """
    return jax.tree.map(np.array, _entry(tree, *place))


@jax.jit
def _entry(tree: Any, row: int, column: int) -> Any:
    return jax.tree.map(lambda leaf: leaf[row, column], tree)


def settings_of(grid: Grid) -> tuple[dict[str, Array], Array]:
    """The weights, (S, W) each, and the learning rates (S, W)."""
    weights = stacked([[build.build_weights(config) for config in row] for row in grid])
    rates = [[config.optimizer.learning_rate for config in row] for row in grid]
    return weights, jnp.asarray(rates, jnp.float32)


def members_step(
    state: TrainState,
    batches: dict[str, Array],
    settings: tuple[dict[str, Array], Array],
    reports: Array | bool = True,
    *,
    config: ml_collections.ConfigDict,
    device_count: int = 1,
    at_once: bool = True,
    axis_name: str | None = None,
) -> tuple[TrainState, dict[str, Array]]:
    """One step of every member: `vmr.training.step.train_step` over two leading axes.

    Args:
      state: of all members, each leaf (S, W, ...).
      batches: one a seed, each leaf (S, n, ...).
      settings: weights and learning rates of the members, see `settings_of`.
      reports: whether the step is logged.
      config: of any member.
      device_count: devices that share the batches.
      at_once: vmaps the members; otherwise they take the step one after another.
      axis_name: of the pmapped axis that shards the batches.

    Returns:
      The state of all members after the step, and scalars (S, W) of each.
    """

    def of_seed(
        state: TrainState, batch: dict[str, Array], settings: tuple[dict[str, Array], Array]
    ) -> Any:
        def of_member(state: TrainState, weights: dict[str, Array], rate: Array) -> Any:
            step = build.build_step(config, device_count, axis_name, learning_rate=rate)
            return step(state, batch, weights, reports, axis_name=axis_name)

        return _each(of_member, at_once)(state, *settings)

    return _each(of_seed, at_once)(state, batches, settings)


def members_embed(
    state: TrainState, batch: dict[str, Array], *, model: TwoTower, at_once: bool = True
) -> tuple[Array, Array]:
    """Unit embeddings of a batch of n items by all M = S·W members: (n, M·D) of video, of music."""

    def of_member(state: TrainState) -> tuple[Array, Array]:
        return embed_step(state, batch, model=model)

    found = _each(_each(of_member, at_once), at_once)(state)
    return jax.tree.map(_side_by_side, found)


def embeddings_of(side_by_side: np.ndarray, grid_shape: tuple[int, int]) -> np.ndarray:
    """(n, M·D) -> (S, W, n, D)."""
    items = len(side_by_side)
    return np.moveaxis(side_by_side.reshape(items, *grid_shape, -1), 0, 2)


def takes_at_once(devices: Sequence[jax.Device]) -> bool:
    """Whether members are vmapped: where one alone does not keep the device busy.

    One member's products keep all cores of a CPU at work, and its activations the cache; several at
    once only displace each other.
    """
    return devices[0].platform != "cpu"


def _side_by_side(rows: Array) -> Array:
    """(S, W, n, D) -> (n, S·W·D)."""
    return jnp.moveaxis(rows, 2, 0).reshape(rows.shape[2], -1)


def _each(function: Callable[..., Any], at_once: bool) -> Callable[..., Any]:
    """The function over the leading axis of all its arguments."""
    if at_once:
        return jax.vmap(function)
    return lambda *rows: jax.lax.map(lambda row: function(*row), rows)
