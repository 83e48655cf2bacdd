"""Losses on similarities and distances before and after: references, zeros, invariances."""

import functools
from collections.abc import Callable

import hypothesis
import jax
import numpy as np
import pytest
import reference
import reference_geometry as definition
from hypothesis import strategies

from vmr.losses import intra

pytestmark = pytest.mark.usefixtures("float64")

LOSSES = {
    "ii_mse": (intra.ii_mse, definition.ii_mse),
    "ii_kl": (intra.ii_kl, definition.ii_kl),
    "ii_kl, warm": tuple(functools.partial(m.ii_kl, temperature=0.5) for m in (intra, definition)),
    "gram": (intra.gram, definition.gram),
    "rkd_distance": (intra.rkd_distance, definition.rkd_distance),
    "js": (intra.js, definition.js),
    "js, warm": tuple(functools.partial(m.js, temperature=0.5) for m in (intra, definition)),
}
Measured = tuple[jax.Array, jax.Array]
property_of_geometry = hypothesis.settings(derandomize=True, deadline=None, max_examples=20)
seeds = strategies.integers(0, 2**31)


@functools.cache
def measured(name: str) -> Callable[[np.ndarray, np.ndarray], Measured]:
    """(N,P), (N,D) -> the rows, and the gradient of their mean at the embeddings."""

    def loss(z: jax.Array, inputs: jax.Array) -> Measured:
        rows = LOSSES[name][0](inputs, z, inputs, z, np.arange(len(z)))
        return rows.mean(), rows

    def measure(inputs: jax.Array, z: jax.Array) -> Measured:
        gradient, rows = jax.grad(loss, has_aux=True)(z, inputs)
        return rows, gradient

    return jax.jit(measure)


def sample(seed: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    return random.normal(size=(7, 4)), reference.unit(random.normal(size=(7, 4)))


def tied(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows that coincide before, after, and both."""
    inputs, embeddings = sample(seed)
    inputs[[3, 5]] = inputs[0]
    embeddings[[3, 4]] = embeddings[0]
    return inputs, embeddings


def remote(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """One input far from all others, as much as distances in units of their mean can tell."""
    inputs, embeddings = sample(seed)
    inputs[2] *= 50
    return inputs, embeddings


@pytest.mark.parametrize("arrays", [sample(0), tied(1), remote(2)], ids=["any", "tied", "remote"])
@pytest.mark.parametrize("name", LOSSES)
def test_rows_and_gradient_match_the_reference(
    name: str, arrays: tuple[np.ndarray, np.ndarray]
) -> None:
    inputs, embeddings = arrays
    expected = LOSSES[name][1]
    rows, gradient = measured(name)(inputs, embeddings)
    np.testing.assert_allclose(rows, expected(inputs, embeddings), rtol=1e-12, atol=1e-14)
    numeric = reference.central_differences(lambda z: expected(inputs, z).mean(), embeddings)
    np.testing.assert_allclose(gradient, numeric, atol=1e-7)


def test_mean_over_anchors_of_gram_is_the_frobenius_norm() -> None:
    inputs, z = sample(3)
    after, before = (reference.unit(x @ x.T) for x in (z, reference.unit(inputs)))
    expected = np.linalg.norm(after - before) ** 2 / 7**2
    np.testing.assert_allclose(measured("gram")(inputs, z)[0].mean(), expected, rtol=1e-12)


@pytest.mark.parametrize("name", LOSSES)
@property_of_geometry
@hypothesis.given(seed=seeds)
def test_zero_where_the_geometry_held_and_never_negative(name: str, seed: int) -> None:
    """Cosines leave each row its own length; distances leave all of them one."""
    inputs, z = sample(seed)
    kept = (1,) if name == "rkd_distance" else (7, 1)
    scale = np.exp(np.random.default_rng(seed).normal(size=kept))
    rows, gradient = measured(name)(scale * z, z)
    np.testing.assert_allclose(rows, 0.0, atol=1e-13)
    np.testing.assert_allclose(gradient, 0.0, atol=1e-12)
    assert (np.asarray(rows) >= -1e-15).all()
    assert (np.asarray(measured(name)(inputs, z)[0]) > 0).all()


@property_of_geometry
@hypothesis.given(seed=seeds)
def test_distances_ignore_where_the_inputs_lie_how_turned_and_how_large(seed: int) -> None:
    inputs, z = sample(seed)
    random = np.random.default_rng(seed)
    turn = np.linalg.qr(random.normal(size=(4, 4)))[0]
    expected = measured("rkd_distance")(inputs, z)
    for moved in (3 * inputs, inputs + random.normal(size=(1, 4)), inputs @ turn):
        found = measured("rkd_distance")(moved, z)
        jax.tree.map(functools.partial(np.testing.assert_allclose, atol=1e-12), found, expected)


def test_a_zero_row_has_no_steep_gradient_in_gram() -> None:
    """Its direction is not defined; a slope of 1/‖row‖ would drown every other one."""
    inputs, z = np.random.default_rng(0).normal(size=(2, 9, 4))
    z = reference.unit(z)
    z[3] = 0.0
    gradient = jax.grad(lambda z: intra.gram(inputs, z, inputs, z, np.arange(9)).mean())(z)
    assert np.abs(gradient).max() < 10.0
