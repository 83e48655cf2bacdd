"""Tie-aware signed ranks: all that the exact structure loss and its gradient need."""

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
from jax import lax

from vmr.losses.rank_keys import ordered_keys
from vmr.losses.rank_network import sort_columns
from vmr.losses.rank_search import ranks_among

Method = Literal["count", "network", "sort"]

# Up to here an accelerator counts every comparison in less time than its sort takes.
_COUNTED_ITEMS = 2048


def signed_ranks(values: jax.Array, rows: jax.Array, method: Method | None = None) -> jax.Array:
    """ρ of each value within its row, the anchor's own removed: (n,N), (n,) -> (n,N) int32.

    ``ρ_ij = #{k: v_ik < v_ij} − #{k: v_ik > v_ij}`` over ``k ≠ rows_i``, and 0 at ``j = rows_i``.
    Exact under ties; −0.0 ties with 0.0. No gradient flows.

    Args:
      values: floats of any width.
      rows: where each anchor stands among the N.
      method: "count" all comparisons, O(n·N²) and on CPU as much memory; or sort by a "network" of
        comparisons or the backend's own "sort", O(n·N). None takes the network on CPU, elsewhere
        counts where N is small and sorts where it is large.
    """
    # Anchors on the minor axis: what is done to one row is done to n by contiguous vectors.
    columns = ordered_keys(values).T
    ranks = _ranks(columns, method)
    own = jnp.take_along_axis(columns, rows[None, :], axis=0)
    is_own = jnp.arange(columns.shape[0])[:, None] == rows[None, :]
    # Among all N, the anchor's own entry has still counted against each of the others.
    return jnp.where(is_own, 0, ranks - _order(columns, own)).T


def preferred_block_rows(items: int) -> int:
    """Anchors at a time that are fastest on CPU: fewer do not vectorise, more spill the cache."""
    return 128 if items <= 1024 else 64


def _ranks(columns: jax.Array, method: Method | None) -> jax.Array:
    """ρ within each whole column: (N,n) -> (N,n) int32."""
    methods: dict[Method, Callable[[jax.Array], jax.Array]] = {
        "count": _count,
        "network": lambda columns: ranks_among(sort_columns(_fill_up(columns)), columns),
        "sort": lambda columns: ranks_among(_backend_sort(_fill_up(columns)), columns),
    }
    if method is not None:
        return methods[method](columns)
    elsewhere = methods["count" if columns.shape[0] <= _COUNTED_ITEMS else "sort"]
    return lax.platform_dependent(columns, cpu=methods["network"], default=elsewhere)


def _count(columns: jax.Array) -> jax.Array:
    return jnp.sum(_order(columns[:, None, :], columns[None, :, :]), axis=1, dtype=jnp.int32)


def _backend_sort(columns: jax.Array) -> jax.Array:
    # GPUs have a radix sort for integers along the minor axis; floats and other axes miss it.
    return lax.sort(columns.T, dimension=1, is_stable=False).T


def _fill_up(columns: jax.Array) -> jax.Array:
    """The largest key appended until N is a power of two: (N,n) -> (M,n)."""
    missing = (1 << (columns.shape[0] - 1).bit_length()) - columns.shape[0]
    largest = jnp.iinfo(columns.dtype).max
    return jnp.pad(columns, ((0, missing), (0, 0)), constant_values=largest)


def _order(left: jax.Array, right: jax.Array) -> jax.Array:
    """The sign of left − right, broadcast: int32."""
    return (left > right).astype(jnp.int32) - (left < right).astype(jnp.int32)
