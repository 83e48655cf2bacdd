"""Dropout of rows: the rate, a mask for each row, rows of any shape."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vmr.encoders.layers import RowDropout

KEY = jax.random.PRNGKey(0)


def dropped(x: jax.Array, places: jax.Array) -> np.ndarray:
    drop = RowDropout(0.1)
    return np.asarray(drop.apply({}, x, places, train=True, rngs={"dropout": KEY}))


def test_dropout_is_inverted_and_follows_the_rate() -> None:
    found = dropped(jnp.ones((200, 500)), jnp.arange(200))
    np.testing.assert_allclose(np.unique(found), [0.0, 1 / 0.9], rtol=1e-5)
    np.testing.assert_allclose((found == 0).mean(), 0.1, atol=3e-3)
    assert len(np.unique(found, axis=0)) == 200  # each row has its own mask


def test_a_row_of_clips_draws_as_a_row_of_as_many_units() -> None:
    flat = dropped(jnp.ones((8, 15)), jnp.arange(8))
    found = dropped(jnp.ones((8, 5, 3)), jnp.arange(8))
    np.testing.assert_array_equal(found, flat.reshape(8, 5, 3))
    np.testing.assert_array_equal(dropped(jnp.ones((3, 5, 3)), jnp.arange(5, 8)), found[5:])


@pytest.mark.parametrize("rate", [1e-12, 1e-6, 7.6e-6])
def test_a_rate_too_small_for_its_resolution_drops_nothing(rate: float) -> None:
    x = jnp.ones((20, 50))
    found = RowDropout(rate).apply({}, x, jnp.arange(20), train=True, rngs={"dropout": KEY})
    np.testing.assert_array_equal(np.asarray(found), x)


@pytest.mark.parametrize("generator", ["threefry2x32", "rbg", "unsafe_rbg"])
def test_masks_are_drawn_under_any_generator(generator: str) -> None:
    x, key = jnp.ones((100, 300)), jax.random.key(0, impl=generator)

    def drop(places: jax.Array) -> np.ndarray:
        rows = x[: places.size]
        found = RowDropout(0.25).apply({}, rows, places, train=True, rngs={"dropout": key})
        return np.asarray(found)

    found = drop(jnp.arange(100))
    np.testing.assert_allclose((found == 0).mean(), 0.25, atol=0.01)
    assert len(np.unique(found, axis=0)) == 100
    np.testing.assert_array_equal(drop(jnp.arange(40, 100)), found[40:])
