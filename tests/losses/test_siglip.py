"""The sigmoid loss against its naive reference, and at the edges."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference

from vmr.losses import inter

pytestmark = pytest.mark.usefixtures("float64")

TRACKS = np.array([0, 0, 1, 2, 3, 1, 1, 4])
SAME_TRACK = TRACKS[:, None] == TRACKS[None, :]


def embeddings(seed: int) -> np.ndarray:
    return reference.unit(np.random.default_rng(seed).normal(size=(8, 4)))


@jax.jit
@functools.partial(jax.grad, argnums=(0, 1))
def gradients(anchors: jax.Array, gallery: jax.Array, positives: jax.Array) -> jax.Array:
    return inter.siglip(anchors, gallery, positives).mean()


@pytest.mark.parametrize("options", [{}, {"scale": 3.0, "bias": 0.5}])
def test_matches_the_reference_with_several_videos_a_track(options: dict[str, float]) -> None:
    anchors, gallery = embeddings(0), embeddings(1)
    found = inter.siglip(jnp.asarray(anchors), gallery, SAME_TRACK, **options)
    expected = reference.siglip(anchors, gallery, SAME_TRACK, **options)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize("moved", [(0,), (1,), (0, 1)])
def test_gradient_matches_finite_differences(moved: tuple[int, ...]) -> None:
    """At the anchors, at the gallery, and at one array that is both."""

    def arguments(z: np.ndarray) -> list[np.ndarray]:
        arrays = [z if place in moved else embeddings(2) for place in range(2)]
        return [*arrays, SAME_TRACK]

    numeric = reference.central_differences(
        lambda z: reference.siglip(*arguments(z)).mean(), embeddings(3)
    )
    found = gradients(*arguments(embeddings(3)))
    np.testing.assert_allclose(sum(found[place] for place in moved), numeric, atol=1e-7)


def test_mean_over_anchors_is_the_published_sum_over_pairs_by_batch_size() -> None:
    """Zhai et al. 2023, algorithm 1: ``-sum(log_sigmoid(labels * logits)) / n``."""
    anchors, gallery = embeddings(4), embeddings(5)
    logits = 10 * anchors @ gallery.T - 10
    labels = 2 * np.eye(8) - 1
    published = -np.sum(jax.nn.log_sigmoid(labels * logits)) / 8
    found = inter.siglip(jnp.asarray(anchors), gallery, np.eye(8, dtype=bool)).mean()
    np.testing.assert_allclose(found, published, rtol=1e-12)


def test_float32_bears_large_logits() -> None:
    """At e^200 float32 has no exponential."""
    anchors = jnp.array([[1.0, 0.0], [1.0, 0.0]], jnp.float32)
    gallery = jnp.array([[1.0, 0.0], [-1.0, 0.0]], jnp.float32)

    def rows(anchors: jax.Array) -> tuple[jax.Array, jax.Array]:
        values = inter.siglip(anchors, gallery, np.eye(2, dtype=bool), scale=200.0, bias=0.0)
        return values.sum(), values

    gradient, values = jax.jit(jax.grad(rows, has_aux=True))(anchors)
    assert values.dtype == gradient.dtype == jnp.float32
    np.testing.assert_allclose(values, [0.0, 400.0], rtol=1e-6)
    assert np.isfinite(gradient).all()
