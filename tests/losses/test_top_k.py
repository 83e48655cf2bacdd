"""The weights that select the K largest against a sort of each row."""

import hypothesis
import hypothesis.extra.numpy
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vmr.losses.fused.top_k import top_k_weights

weights_of = jax.jit(top_k_weights, static_argnums=2)


def definition(values: np.ndarray, eligible: np.ndarray, k: int) -> np.ndarray:
    """One row at a time, from the sorted eligible entries."""
    weights = np.zeros(values.shape)
    for row, usable, out in zip(values, eligible, weights, strict=True):
        best = np.sort(row[usable])[::-1][:k]
        if best.size:
            out[usable & (row > best[-1])] = 1
            tied = usable & (row == best[-1])
            out[tied] = np.sum(best == best[-1]) / np.sum(tied)
    return weights


def random_rows(items: int, levels: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(items + levels)
    values = random.integers(-levels, levels, (6, items)) / np.float32(3)
    return values, random.random((6, items)) < np.linspace(0, 1, 6)[:, None]


@pytest.mark.parametrize("k", [1, 7, 100])
@pytest.mark.parametrize("items", [1, 3, 64, 1000])
def test_matches_a_sort_under_ties(items: int, k: int) -> None:
    for levels in (1, items, 10**6):
        values, eligible = random_rows(items, levels)
        weights = weights_of(values, eligible, k)
        np.testing.assert_allclose(weights, definition(values, eligible, k), rtol=1e-6)
        total = np.minimum(k, eligible.sum(axis=1))
        np.testing.assert_allclose(weights.sum(axis=1), total, rtol=1e-5)


def test_equals_lax_top_k_where_nothing_ties() -> None:
    random = np.random.default_rng(0)
    values = random.permutation(8 * 500).reshape(8, 500).astype(np.float32) / 8000 - 0.25
    chosen = jax.lax.top_k(values, 100)[1]
    expected = jnp.zeros((8, 500)).at[jnp.arange(8)[:, None], chosen].set(1)
    np.testing.assert_array_equal(weights_of(values, np.ones((8, 500), bool), 100), expected)


def test_by_hand() -> None:
    values = np.array([[3.0, 1.0, 2.0, 2.0, 9.0, -0.0, 0.0]], np.float32)
    eligible = values < 9
    np.testing.assert_allclose(weights_of(values, eligible, 2), [[1, 0, 0.5, 0.5, 0, 0, 0]])
    np.testing.assert_allclose(weights_of(values, eligible, 5), [[1, 1, 1, 1, 0, 0.5, 0.5]])


def test_infinities_are_values() -> None:
    values = np.array([[np.inf, -np.inf, 0.0, -np.inf]], np.float32)
    everything = np.ones((1, 4), bool)
    np.testing.assert_allclose(weights_of(values, everything, 3), [[1, 0.5, 1, 0.5]])
    np.testing.assert_allclose(weights_of(values, values < 1, 9), [[0, 1, 1, 1]])


def test_float64_tells_apart_what_float32_cannot() -> None:
    with jax.enable_x64(True):
        values = 1 + np.arange(6.0)[None] * 1e-12
        weights = weights_of(values, np.ones((1, 6), bool), 2)
        assert weights.dtype == jnp.float64
        np.testing.assert_array_equal(weights, [[0, 0, 0, 0, 1, 1]])


def test_bfloat16() -> None:
    values, eligible = random_rows(40, 9)
    values = jnp.asarray(values, jnp.bfloat16)
    weights = weights_of(values, eligible, 5)
    assert weights.dtype == jnp.bfloat16
    expected = definition(np.asarray(values, np.float32), eligible, 5)
    np.testing.assert_allclose(weights.astype(jnp.float32), expected, rtol=1e-2)


def test_vmap_and_pmap() -> None:
    values, eligible = random_rows(30, 6)

    def one(values: jax.Array, eligible: jax.Array) -> jax.Array:
        return top_k_weights(values[None], eligible[None], 4)[0]

    expected = weights_of(values, eligible, 4)
    np.testing.assert_array_equal(jax.jit(jax.vmap(one))(values, eligible), expected)
    np.testing.assert_array_equal(jax.pmap(one)(values, eligible), expected)


def test_no_gradient_flows() -> None:
    values, eligible = random_rows(12, 5)
    gradient = jax.grad(lambda values: jnp.sum(values * top_k_weights(values, eligible, 3)))
    np.testing.assert_array_equal(gradient(values), weights_of(values, eligible, 3))


def test_a_k_that_selects_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="k = 0"):
        top_k_weights(jnp.ones((1, 2)), jnp.ones((1, 2), bool), 0)


@hypothesis.settings(derandomize=True, deadline=None, max_examples=60)
@hypothesis.given(
    values=hypothesis.extra.numpy.arrays(
        np.float32, (3, 10), elements=st.sampled_from([-1.0, -0.0, 0.0, 0.25, 1e30])
    ),
    eligible=hypothesis.extra.numpy.arrays(bool, (3, 10)),
    k=st.integers(1, 12),
)
def test_any_rows(values: np.ndarray, eligible: np.ndarray, k: int) -> None:
    weights = weights_of(values, eligible, k)
    np.testing.assert_allclose(weights, definition(values, eligible, k), rtol=1e-6)


def test_long_rows_are_counted_in_full() -> None:
    """More entries than a byte counts, in every lane."""
    values = np.tile(np.arange(100, dtype=np.float32), (2, 400))
    weights = weights_of(values, np.ones(values.shape, bool), 30_200)
    np.testing.assert_array_equal(weights, definition(values, np.ones(values.shape, bool), 30_200))
