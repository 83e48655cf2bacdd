"""Signed ranks against the definition, by every method."""

import functools

import hypothesis
import hypothesis.extra.numpy
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vmr.losses.fused.signed_ranks import Method, preferred_block_rows, signed_ranks

METHODS: tuple[Method, ...] = ("count", "network", "sort")
ranks_by = jax.jit(signed_ranks, static_argnums=2)


def definition(values: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """One item at a time, the anchor's own entry left out of the row."""
    ranks = np.zeros(values.shape, int)
    for row, own, out in zip(values, rows, ranks, strict=True):
        others = np.delete(row, own)
        for item in np.delete(np.arange(row.size), own):
            out[item] = np.sum(others < row[item]) - np.sum(others > row[item])
    return ranks


def random_block(items: int, levels: int, anchors: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Values of few levels tie often; rows are anywhere among the items."""
    random = np.random.default_rng(items + levels)
    anchors = min(anchors, items)
    values = random.integers(-levels, levels, (anchors, items)) / np.float32(7)
    return values, random.permutation(items)[:anchors]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("items", [1, 2, 3, 5, 8, 64, 100, 1001])
def test_matches_the_definition_under_ties(items: int, method: Method) -> None:
    for levels in (1, items, 10**6):
        values, rows = random_block(items, levels)
        ranks = ranks_by(values, rows, method)
        assert ranks.dtype == jnp.int32
        np.testing.assert_array_equal(ranks, definition(values, rows))


@pytest.mark.parametrize("method", METHODS)
def test_methods_agree_at_a_training_batch(method: Method) -> None:
    random = np.random.default_rng(0)
    values = random.standard_normal((3, 2048), np.float32)
    values[:, 1024:] = values[:, :1024]
    rows = np.array([7, 1024, 2047])
    np.testing.assert_array_equal(ranks_by(values, rows, method), ranks_by(values, rows, "count"))


@pytest.mark.parametrize("method", METHODS)
def test_signed_zeros_tie(method: Method) -> None:
    values = np.array([[0.0, -0.0, 1.0, -1.0, 0.0]], np.float32)
    ranks = ranks_by(values, np.array([4]), method)
    np.testing.assert_array_equal(ranks, [[0, 0, 3, -3, 0]])


@pytest.mark.parametrize("method", METHODS)
def test_infinities_rank_as_values(method: Method) -> None:
    values = np.array([[np.inf, 1.0, -np.inf, np.inf, 2.0]], np.float32)
    rows = np.array([1])
    np.testing.assert_array_equal(ranks_by(values, rows, method), definition(values, rows))


@pytest.mark.parametrize("method", METHODS)
def test_nan_ends(method: Method) -> None:
    values = np.full((2, 5), np.nan, np.float32)
    assert ranks_by(values, np.arange(2), method).shape == (2, 5)


@pytest.mark.parametrize("method", [None, *METHODS])
def test_float64_tells_apart_what_float32_cannot(method: Method | None) -> None:
    with jax.enable_x64(True):
        values = 1 + np.arange(6.0)[None, ::-1] * 1e-12
        rows = np.array([2])
        ranks = ranks_by(values, rows, method)
        assert ranks.dtype == jnp.int32
        np.testing.assert_array_equal(ranks, definition(values, rows))


def test_bfloat16() -> None:
    values, rows = random_block(40, 30)
    values = jnp.asarray(values, jnp.bfloat16)
    expected = definition(np.asarray(values, np.float32), rows)
    np.testing.assert_array_equal(ranks_by(values, rows, None), expected)


@pytest.mark.parametrize("method", [None, *METHODS])
def test_vmap_and_pmap(method: Method | None) -> None:
    blocks = [random_block(33, levels) for levels in range(1, 9)]
    values, rows = (np.stack(arrays) for arrays in zip(*blocks, strict=True))
    expected = np.stack([definition(*block) for block in blocks])
    ranks = functools.partial(signed_ranks, method=method)
    np.testing.assert_array_equal(jax.jit(jax.vmap(ranks))(values, rows), expected)
    np.testing.assert_array_equal(jax.pmap(ranks)(values, rows), expected)


@pytest.mark.parametrize("method", METHODS)
def test_no_gradient_flows(method: Method) -> None:
    values, rows = random_block(9, 3)

    def weighted(values: jax.Array) -> jax.Array:
        ranks = signed_ranks(values, rows, method)
        return jnp.sum(values * ranks.astype(values.dtype))

    np.testing.assert_array_equal(jax.jit(jax.grad(weighted))(values), definition(values, rows))


def test_a_block_of_anchors_is_the_rows_of_the_whole() -> None:
    values, rows = random_block(50, 20, anchors=50)
    whole = ranks_by(values, rows, None)
    np.testing.assert_array_equal(ranks_by(values[16:32], rows[16:32], None), whole[16:32])


def test_the_network_compiles_in_constant_size() -> None:
    lengths = [
        len(jax.jit(signed_ranks, static_argnums=2).lower(*block, "network").as_text())
        for block in (random_block(64, 9), random_block(4096, 9))
    ]
    assert lengths[1] < 1.5 * lengths[0]


@pytest.mark.parametrize("items", [1, 512, 4096])
def test_preferred_blocks_fill_vectors(items: int) -> None:
    assert preferred_block_rows(items) % 64 == 0


blocks = hypothesis.extra.numpy.arrays(
    np.float32,
    (3, 11),
    # Few values, so that ties are common, and the widest ones, so that no order is a rounded one.
    elements=st.one_of(
        st.sampled_from([-2.0, -0.0, 0.0, 0.5]),
        st.floats(-(2.0**99), 2.0**99, width=32, allow_subnormal=False),
    ),
)
places = st.permutations(range(11)).map(lambda order: np.array(order[:3]))
property_of_ranks = hypothesis.settings(derandomize=True, deadline=None, max_examples=40)


@property_of_ranks
@hypothesis.given(values=blocks, rows=places, method=st.sampled_from(METHODS))
def test_antisymmetric_and_summing_to_zero(
    values: np.ndarray, rows: np.ndarray, method: Method
) -> None:
    ranks = ranks_by(values, rows, method)
    np.testing.assert_array_equal(ranks_by(-values, rows, method), -ranks)
    np.testing.assert_array_equal(jnp.sum(ranks, axis=1), 0)


@property_of_ranks
@hypothesis.given(values=blocks, rows=places, method=st.sampled_from(METHODS))
def test_invariant_under_monotone_maps(
    values: np.ndarray, rows: np.ndarray, method: Method
) -> None:
    # Powers of two, and the dense ranks themselves, keep the order without any rounding.
    dense = np.unique(values, return_inverse=True)[1].reshape(values.shape).astype(np.float32)
    ranks = ranks_by(values, rows, method)
    np.testing.assert_array_equal(ranks_by(values * np.float32(4), rows, method), ranks)
    np.testing.assert_array_equal(ranks_by(dense, rows, method), ranks)


@property_of_ranks
@hypothesis.given(
    values=blocks,
    rows=places,
    order=st.permutations(range(11)).map(np.array),
    method=st.sampled_from(METHODS),
)
def test_equivariant_under_permutation(
    values: np.ndarray, rows: np.ndarray, order: np.ndarray, method: Method
) -> None:
    moved = ranks_by(values[:, order], np.argsort(order)[rows], method)
    np.testing.assert_array_equal(moved, ranks_by(values, rows, method)[:, order])
