"""Tie-aware signed ranks: all that the exact structure loss and its gradient need.

In the order of the file: floats become integer keys in the same order; the keys are sorted, on CPU
by a bitonic network, where XLA's own sort is slow; every key then looks for its rank among the
sorted ones by bisection. Gathers are cheap and scatters are not, so keys are sorted alone, without
their positions.

Letters: n anchors, N items of a row, M the power of two at or above N.
"""

from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax import lax

Method = Literal["count", "network", "sort"]

# Up to here an accelerator counts every comparison in less time than its sort takes.
_COUNTED_ITEMS = 2048
_SEGMENTS = 32


def signed_ranks(values: jax.Array, rows: jax.Array, method: Method | None = None) -> jax.Array:
    """Signed rank ρ of each value in its row without the anchor's own: (n,N), (n,) -> (n,N) int32.

    ``ρ_ij = #{k: v_ik < v_ij} − #{k: v_ik > v_ij}`` over ``k ≠ rows_i``, and 0 at ``j = rows_i``.
    Exact under ties; −0.0 ties with 0.0. No gradient flows.

    Args:
      values: floats of any width.
      rows: index of each anchor among the N.
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
    """Signed rank ρ within each whole column: (N,n) -> (N,n) int32."""
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
    """Appends the largest key until N is a power of two: (N,n) -> (M,n)."""
    missing = (1 << (columns.shape[0] - 1).bit_length()) - columns.shape[0]
    largest = jnp.iinfo(columns.dtype).max
    return jnp.pad(columns, ((0, missing), (0, 0)), constant_values=largest)


def _order(left: jax.Array, right: jax.Array) -> jax.Array:
    """Sign of left − right, broadcast: int32."""
    # Not the sign of the difference, which could overflow.
    return (left > right).astype(jnp.int32) - (left < right).astype(jnp.int32)


def ordered_keys(values: jax.Array) -> jax.Array:
    """Signed integers that compare as the floats do: any shape, int32 or int64.

    float64 becomes int64, every narrower float int32. −0.0 and 0.0 share a key; NaN sorts beyond
    the infinity of its sign. No gradient flows.
    """
    values = lax.stop_gradient(values)
    wide = values if values.dtype == jnp.float64 else values.astype(jnp.float32)
    integer = jnp.int64 if wide.dtype == jnp.float64 else jnp.int32
    bits = lax.bitcast_convert_type(jnp.where(wide == 0, 0, wide), integer)
    # Floats are sign and magnitude: below zero, the magnitude's order must be turned round.
    return jnp.where(bits < 0, bits ^ jnp.iinfo(integer).max, bits)


def float_of_key(keys: jax.Array) -> jax.Array:
    """Inverse of `ordered_keys`: int32 to float32, int64 to float64; NaN beyond infinity."""
    bits = jnp.where(keys < 0, keys ^ jnp.iinfo(keys.dtype).max, keys)
    return lax.bitcast_convert_type(bits, jnp.float64 if keys.dtype == jnp.int64 else jnp.float32)


def sort_columns(keys: jax.Array) -> jax.Array:
    """Sorts each column in ascending order: (M,n) -> (M,n) integers, M a power of two.

    Batcher, "Sorting networks and their applications" (1968), in the form where every comparison
    points upwards: position i meets ``i ^ mask`` and the lower of the two keeps the smaller key.
    """
    positions = jnp.arange(keys.shape[0], dtype=jnp.int32)

    def meet(keys: jax.Array, at: jax.Array, masks: jax.Array) -> jax.Array:
        # Two comparisons in one pass: the second sees both keys as the first leaves them.
        if not masks.shape[0]:
            return keys.at[at].get(mode="promise_in_bounds", unique_indices=True)
        partner = at ^ masks[-1]
        mine, theirs = meet(keys, at, masks[:-1]), meet(keys, partner, masks[:-1])
        lower = (at < partner)[:, None]
        return jnp.where(lower, jnp.minimum(mine, theirs), jnp.maximum(mine, theirs))

    masks = jnp.array(_masks(keys.shape[0]), jnp.int32).reshape(-1, 2)
    return lax.scan(lambda keys, pair: (meet(keys, positions, pair), None), keys, masks)[0]


def _masks(size: int) -> list[tuple[int, int]]:
    """Masks of the network's comparisons, in pairs that one pass over the keys takes together."""
    # Half the passes over memory for half as many more operations.
    pairs = []
    for level in range(1, size.bit_length()):
        mirror = (1 << level) - 1  # the upper half in reverse makes two sorted runs bitonic
        masks = [mirror, *(1 << stride for stride in reversed(range(level - 1)))]
        masks += [0] * (len(masks) % 2)  # meeting oneself changes nothing
        pairs += list(zip(masks[::2], masks[1::2], strict=True))
    return pairs


def ranks_among(ascending: jax.Array, columns: jax.Array) -> jax.Array:
    """Number of keys below minus number above, per key of a column: (M,n), (N,n) -> (N,n) int32.

    Args:
      ascending: sorted columns, filled up with larger keys to M, a power of two.
      columns: integer keys.
    """
    first = _first_equal(ascending, columns)
    last = _gather(_last_equal(ascending, columns.shape[0]), first)
    return first + last - (columns.shape[0] - 1)


def _first_equal(ascending: jax.Array, columns: jax.Array) -> jax.Array:
    """Start of each key's run of equals: (M,n), (N,n) -> (N,n) int32."""
    size = ascending.shape[0]
    # The first five halvings at once, by comparing with the ends of 32 equal parts of the column:
    # on CPU five gathers take longer than these comparisons.
    segment = size // min(size, _SEGMENTS)
    pivots = ascending[segment - 1 : -1 : segment]
    below = sum((pivot[None, :] < columns for pivot in pivots), jnp.zeros(columns.shape, jnp.int32))

    def halve(step: jax.Array, first: jax.Array) -> jax.Array:
        middle = first + (segment >> 1 >> step)
        return jnp.where(_gather(ascending, middle - 1) < columns, middle, first)

    return lax.fori_loop(0, segment.bit_length() - 1, halve, segment * below)


def _last_equal(ascending: jax.Array, count: int) -> jax.Array:
    """End of the run of equals around each position, among the first `count`: (M,n) -> (M,n)."""
    size = ascending.shape[0]
    positions = jnp.arange(size, dtype=jnp.int32)
    is_end = jnp.pad(ascending[1:] != ascending[:-1], ((0, 1), (0, 0)), constant_values=True)
    ends = jnp.where(is_end, jnp.minimum(positions, count - 1)[:, None], count - 1)

    # Each doubling of the reach sees as far again. A run longer than the reach changes at it, so
    # that the first reach without a change is the last: one or two where equals are rare.
    def look_ahead(state: tuple[jax.Array, jax.Array, jax.Array]) -> Any:
        reach, ends, _ = state
        seen = jnp.minimum(ends, ends[jnp.minimum(positions + reach, size - 1)])
        return 2 * reach, seen, jnp.any(seen != ends)

    start = jnp.int32(1), ends, jnp.bool_(True)
    return lax.while_loop(lambda state: state[2], look_ahead, start)[1]


def _gather(columns: jax.Array, positions: jax.Array) -> jax.Array:
    return jnp.take_along_axis(columns, positions, axis=0, mode="promise_in_bounds")
