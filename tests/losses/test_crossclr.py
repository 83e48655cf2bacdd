"""CrossCLR against its naive reference, against InfoNCE, and at the edges."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference

from vmr.losses import inter

pytestmark = pytest.mark.usefixtures("float64")

TRACKS = np.array([0, 0, 1, 2, 3, 1, 1, 4, 5])
SAME_TRACK = TRACKS[:, None] == TRACKS[None, :]
# At which 5 and 7 of the 9 inputs below are influential.
THRESHOLDS = (0.9, 0.7)


def embeddings(seed: int) -> np.ndarray:
    return reference.unit(np.random.default_rng(seed).normal(size=(9, 4)))


def inputs(seed: int = 2) -> np.ndarray:
    """Around a common direction, so that every connectivity is positive."""
    return 0.7 + np.random.default_rng(seed).normal(size=(9, 5))


OPTIONS = ("temperature", "negative_weight", "threshold", "weight_temperature")


@functools.partial(jax.jit, static_argnames=OPTIONS)
def crossclr(
    anchors: jax.Array,
    gallery: jax.Array,
    positives: jax.Array,
    own_embeddings: jax.Array,
    own_inputs: jax.Array,
    **options: float,
) -> jax.Array:
    own = inter.Own(own_embeddings, own_inputs, jnp.arange(9))
    return inter.crossclr(anchors, gallery, positives, own=own, **options)


# Weights that leave no anchor without a part in the mean.
EVEN = {"threshold": THRESHOLDS[0], "weight_temperature": 0.05}
gradients = jax.jit(
    jax.grad(lambda *arguments: crossclr(*arguments, **EVEN).mean(), argnums=(0, 1, 3))
)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"temperature": 0.2, "negative_weight": 0.3, "threshold": THRESHOLDS[0]},
        EVEN,
        {"threshold": 1.0},
    ],
)
def test_matches_the_reference_with_several_videos_a_track(options: dict[str, float]) -> None:
    arguments = (embeddings(1), embeddings(2), SAME_TRACK, embeddings(1), inputs())
    found = crossclr(*arguments, **options)
    np.testing.assert_allclose(
        found, reference.crossclr(*arguments, **options), rtol=1e-12, atol=1e-14
    )


def test_matches_the_reference_where_a_connectivity_is_negative() -> None:
    arguments = (embeddings(1), embeddings(2), SAME_TRACK, embeddings(1), inputs(0))
    assert reference.connectivity(inputs(0)).min() < 0
    found = crossclr(*arguments, weight_temperature=0.05)
    expected = reference.crossclr(*arguments, weight_temperature=0.05)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("moved", [(0,), (1,), (2,), (0, 2), (0, 1, 2)])
def test_gradient_matches_finite_differences(moved: tuple[int, ...]) -> None:
    """At the anchors, the gallery, the own embeddings; at anchors that are the own; at all."""

    def arguments(z: np.ndarray) -> list[np.ndarray]:
        anchors, gallery, own = (z if place in moved else embeddings(3) for place in range(3))
        return [anchors, gallery, SAME_TRACK, own, inputs()]

    numeric = reference.central_differences(
        lambda z: reference.crossclr(*arguments(z), **EVEN).mean(), embeddings(4)
    )
    found = gradients(*arguments(embeddings(4)))
    np.testing.assert_allclose(sum(found[place] for place in moved), numeric, atol=1e-7)


def test_without_its_own_modality_it_is_infonce() -> None:
    anchors, gallery = jnp.asarray(embeddings(5)), embeddings(6)
    for options in ({}, {"temperature": 0.2}):
        np.testing.assert_allclose(
            inter.crossclr(anchors, gallery, SAME_TRACK, **options),
            inter.infonce(anchors, gallery, SAME_TRACK, **{"temperature": 0.03, **options}),
            rtol=1e-12,
        )


def test_what_its_own_modality_adds_can_be_turned_off() -> None:
    anchors, gallery = embeddings(5), embeddings(6)
    found = crossclr(
        anchors,
        gallery,
        SAME_TRACK,
        anchors,
        inputs(),
        negative_weight=0.0,
        threshold=1.0,
        weight_temperature=1e15,
    )
    expected = reference.infonce(anchors, gallery, SAME_TRACK, temperature=0.03)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("threshold", THRESHOLDS)
def test_influential_items_and_positives_are_never_negatives(threshold: float) -> None:
    """The anchors are the axes, so that an item's coordinates are its similarities."""
    connectivity = reference.connectivity(inputs())
    influential = connectivity > threshold * connectivity.max()
    assert 0 < influential.sum() < 9
    negatives = ~SAME_TRACK & ~influential

    def loss(similarity: jax.Array, own_similarity: jax.Array) -> jax.Array:
        return crossclr(
            jnp.eye(9),
            similarity.T,
            SAME_TRACK,
            own_similarity.T,
            inputs(),
            temperature=0.5,
            threshold=threshold,
            weight_temperature=0.5,
        ).sum()

    similarity = np.random.default_rng(7).uniform(-1, 1, (2, 9, 9))
    across, within = jax.jit(jax.grad(loss, argnums=(0, 1)))(*similarity)
    np.testing.assert_array_equal(np.sign(within), negatives)
    pulled = SAME_TRACK & negatives.any(axis=1, keepdims=True)
    np.testing.assert_array_equal(np.sign(across), negatives - 1 * pulled)


def test_weights_average_one_over_the_batch() -> None:
    """With one cost for every anchor, the mean over anchors is that cost."""
    constant = np.tile([[1.0, 0.0]], (9, 1))
    rows = crossclr(
        constant,
        constant,
        np.eye(9, dtype=bool),
        constant,
        inputs(),
        negative_weight=0.5,
        threshold=1.0,
        weight_temperature=0.1,
    )
    assert rows.max() > 1.1 * rows.min()
    np.testing.assert_allclose(rows.mean(), np.log(1 + 8 + 0.5 * 8), rtol=1e-12)


@pytest.mark.parametrize("positives", [np.ones((9, 9), bool), np.eye(9, dtype=bool)])
def test_a_row_without_negatives_is_exactly_zero(positives: np.ndarray) -> None:
    """Every item is a positive; or every item is as connected as the most connected."""
    alike = np.ones((9, 5))
    cost = jax.jit(jax.value_and_grad(lambda z: crossclr(z, z, positives, z, alike).sum()))
    value, gradient = cost(embeddings(8))
    assert value == 0.0
    np.testing.assert_array_equal(gradient, 0.0)
