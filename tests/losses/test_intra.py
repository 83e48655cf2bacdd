"""The structure losses against their naive references, and what they depend on."""

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from hypothesis import strategies

from vmr.losses import intra

pytestmark = pytest.mark.usefixtures("float64")


def sample(seed: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    return random.normal(size=(count, 7)), reference.unit(random.normal(size=(count, 4)))


@jax.jit
def structure(inputs: np.ndarray, embeddings: np.ndarray) -> jax.Array:
    z = jnp.asarray(embeddings)
    return intra.structure(inputs, z, inputs, z, np.arange(len(z)))


def tied(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Duplicates before, after, and both: signs of zero on either side."""
    inputs, embeddings = sample(seed, 9)
    inputs[[3, 5]] = inputs[0]
    embeddings[[4, 5]] = embeddings[1]
    return inputs, embeddings


@pytest.mark.parametrize("arrays", [sample(0, 9), sample(1, 12), tied(2)])
def test_structure_and_its_gradient_match_all_triplets(
    arrays: tuple[np.ndarray, np.ndarray],
) -> None:
    inputs, embeddings = arrays
    np.testing.assert_allclose(
        structure(inputs, embeddings), reference.structure(inputs, embeddings), atol=1e-13
    )
    found = jax.grad(lambda z: structure(inputs, z).mean())(embeddings)
    expected = reference.structure_gradient(inputs, embeddings)
    np.testing.assert_allclose(found, expected, atol=1e-13)


@pytest.mark.parametrize("top_k", [2, 5, 9, 100])
def test_adjacent_mean_over_anchors_is_the_published_mean(top_k: int) -> None:
    inputs, embeddings = tied(3)
    z = jnp.asarray(embeddings)
    rows = intra.structure_adjacent(inputs, z, inputs, z, np.arange(9), top_k=top_k)
    expected = reference.structure_adjacent(inputs, embeddings, top_k)
    np.testing.assert_allclose(rows.mean(), expected, atol=1e-13)
    np.testing.assert_array_equal(rows[top_k:], 0.0)


@hypothesis.settings(derandomize=True, deadline=None, max_examples=20)
@hypothesis.given(seed=strategies.integers(0, 2**31), power=strategies.floats(0.2, 3.0))
def test_structure_depends_on_the_order_of_input_similarities_alone(
    seed: int, power: float
) -> None:
    """The kernel e^(power (cosine − 1)) rises with the cosine and is the cosine of its factors."""
    inputs, embeddings = sample(seed, 8)
    cosines = reference.unit(inputs) @ reference.unit(inputs).T
    lengths = np.exp(np.random.default_rng(seed).normal(size=(8, 1)))
    factors = np.linalg.cholesky(np.exp(power * (cosines - 1))) * lengths
    rows = structure(inputs, embeddings)
    np.testing.assert_allclose(structure(factors, embeddings), rows, atol=1e-13)
    assert (np.asarray(rows) >= -1e-15).all()


def test_structure_is_zero_where_the_order_held() -> None:
    _, z = sample(6, 8)
    np.testing.assert_allclose(structure(z, z), 0.0, atol=1e-15)
    np.testing.assert_allclose(structure(3.0 * z, z), 0.0, atol=1e-15)
