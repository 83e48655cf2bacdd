"""The ranking loss against its naive reference, and what every loss does with a track."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference

from vmr.losses import inter

pytestmark = pytest.mark.usefixtures("float64")


def embeddings(seed: int, count: int, width: int = 5) -> np.ndarray:
    return reference.unit(np.random.default_rng(seed).normal(size=(count, width)))


@pytest.mark.parametrize("top_k", [1, 3, 7, 12, 100])
def test_matches_the_reference_with_several_videos_a_track(top_k: int) -> None:
    tracks = np.array([0, 0, 1, 2, 3, 1, 1, 4, 5, 6, 7, 8])
    anchors, gallery = embeddings(0, 12), embeddings(1, 12)
    positives = tracks[:, None] == tracks[None, :]
    found = inter.ranking(jnp.asarray(anchors), gallery, positives, margin=0.3, top_k=top_k)
    expected = reference.ranking(anchors, gallery, positives, 0.3, top_k)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-15)


def test_gradient_matches_finite_differences() -> None:
    anchors, gallery, positives = embeddings(2, 6), embeddings(3, 6), np.eye(6, dtype=bool)

    def loss(z: np.ndarray) -> float:
        return reference.ranking(z, gallery, positives, 0.5, 3).mean()

    numeric = reference.central_differences(loss, anchors)
    found = jax.grad(lambda z: inter.ranking(z, gallery, positives, margin=0.5, top_k=3).mean())(
        anchors
    )
    np.testing.assert_allclose(found, numeric, atol=1e-8)


def test_the_farthest_positive_is_the_one_that_counts() -> None:
    anchor = jnp.array([[1.0, 0.0]])
    gallery = jnp.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    near_only = inter.ranking(anchor, gallery, np.array([[True, False, False]]), top_k=1)
    both = inter.ranking(anchor, gallery, np.array([[True, True, False]]), top_k=1, margin=1.5)
    assert near_only[0] == 0.0  # 0.1 - 1 + 0
    assert both[0] == 0.5  # 1.5 - 0 + (-1)


@pytest.mark.parametrize("count", [1, 2])
def test_positives_are_never_negatives(count: int) -> None:
    same_track = np.ones((count, count), bool)
    z = jnp.asarray(embeddings(4, count))
    value, gradient = jax.value_and_grad(lambda z: inter.ranking(z, z, same_track).sum())(z)
    assert value == 0.0
    np.testing.assert_array_equal(gradient, 0.0)


@pytest.mark.parametrize("loss", [inter.infonce, inter.siglip, inter.crossclr, inter.ranking])
def test_positives_pull_and_negatives_push_in_both_directions(loss) -> None:  # type: ignore[no-untyped-def]
    """The anchors are the axes, so that an item's coordinates are its similarities."""
    tracks = np.array([0, 0, 1, 2, 1, 0])
    same_track = tracks[:, None] == tracks[None, :]
    similarity = np.random.default_rng(5).uniform(-1, 1, (6, 6))
    gradient = jax.jit(jax.grad(lambda s: loss(jnp.eye(6), s.T, same_track).sum()))
    for direction in (similarity, similarity.T):
        found = np.asarray(gradient(direction))
        assert (found[same_track] <= 0).all()
        assert (found[~same_track] >= 0).all()
        assert (found != 0).all() or loss is inter.ranking  # which sees the farthest positive only
