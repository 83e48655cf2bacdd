"""InfoNCE against its naive reference, against optax, and at the edges."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import reference

from vmr.losses import inter
from vmr.losses.fused.infonce import infonce_both
from vmr.losses.pairs import Execution, Pairs

pytestmark = pytest.mark.usefixtures("float64")

TRACKS = np.array([0, 0, 1, 2, 3, 1, 1, 4])
SAME_TRACK = TRACKS[:, None] == TRACKS[None, :]


def embeddings(seed: int, count: int = 8) -> np.ndarray:
    return reference.unit(np.random.default_rng(seed).normal(size=(count, 4)))


infonce = jax.jit(inter.infonce, static_argnames=("temperature", "label_smoothing", "hardness"))


@functools.partial(jax.jit, static_argnames="label_smoothing")
@functools.partial(jax.grad, argnums=(0, 1))
def gradients(
    anchors: jax.Array, gallery: jax.Array, positives: jax.Array, label_smoothing: float
) -> jax.Array:
    return inter.infonce(anchors, gallery, positives, label_smoothing=label_smoothing).mean()


@pytest.mark.parametrize(
    "options",
    [{}, {"temperature": 0.5}, {"label_smoothing": 0.2}, {"hardness": 0.3, "label_smoothing": 0.2}],
)
def test_matches_the_reference_with_several_videos_a_track(options: dict[str, float]) -> None:
    anchors, gallery = embeddings(0), embeddings(1)
    found = infonce(anchors, gallery, SAME_TRACK, **options)
    expected = reference.infonce(anchors, gallery, SAME_TRACK, **options)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("label_smoothing", [0.0, 0.2])
@pytest.mark.parametrize("moved", [(0,), (1,), (0, 1)])
def test_gradient_matches_finite_differences(
    moved: tuple[int, ...], label_smoothing: float
) -> None:
    """At the anchors, at the gallery, and at one array that is both."""

    def arguments(z: np.ndarray) -> list[np.ndarray]:
        arrays = [z if place in moved else embeddings(2) for place in range(2)]
        return [*arrays, SAME_TRACK]

    numeric = reference.central_differences(
        lambda z: reference.infonce(*arguments(z), label_smoothing=label_smoothing).mean(),
        embeddings(3),
    )
    found = gradients(*arguments(embeddings(3)), label_smoothing=label_smoothing)
    np.testing.assert_allclose(sum(found[place] for place in moved), numeric, atol=1e-7)


def test_one_positive_a_row_is_cross_entropy() -> None:
    anchors, gallery = embeddings(4), embeddings(5)
    logits = anchors @ gallery.T / 0.07
    found = infonce(anchors, gallery, np.eye(8, dtype=bool))
    expected = optax.softmax_cross_entropy_with_integer_labels(logits, np.arange(8))
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-14)
    smoothed = infonce(anchors, gallery, np.eye(8, dtype=bool), label_smoothing=0.3)
    expected = optax.softmax_cross_entropy(logits, optax.smooth_labels(jnp.eye(8), 0.3))
    np.testing.assert_allclose(smoothed, expected, rtol=1e-12)


def test_positives_of_one_track_do_not_compete() -> None:
    """Two equal positives cost what one of them costs."""
    anchor = np.array([[1.0, 0.0]])
    gallery = np.array([[0.8, 0.6], [0.8, 0.6], [0.0, 1.0]])
    both = infonce(anchor, gallery, np.array([[True, True, False]]), temperature=0.5)
    np.testing.assert_allclose(both, [np.log1p(np.exp(-1.6))], rtol=1e-12)


@pytest.mark.parametrize("label_smoothing", [0.0, 0.2])
def test_a_row_of_positives_alone_is_exactly_zero(label_smoothing: float) -> None:
    positives = SAME_TRACK.copy()
    positives[2] = True

    @functools.partial(jax.value_and_grad, argnums=(0, 1))
    def row(anchors: jax.Array, gallery: jax.Array) -> jax.Array:
        return inter.infonce(anchors, gallery, positives, label_smoothing=label_smoothing)[2]

    value, gradients = jax.jit(row)(embeddings(6), embeddings(7))
    assert value == 0.0
    jax.tree.map(lambda gradient: np.testing.assert_array_equal(gradient, 0.0), gradients)


@pytest.mark.parametrize("label_smoothing", [0.0, 0.2])
def test_float32_bears_the_smallest_temperature(label_smoothing: float) -> None:
    """At e^(±100) float32 has neither a sum nor a quotient."""
    anchors = jnp.array([[1.0, 0.0], [1.0, 0.0]], jnp.float32)
    gallery = jnp.array([[1.0, 0.0], [-1.0, 0.0]], jnp.float32)

    def rows(anchors: jax.Array) -> tuple[jax.Array, jax.Array]:
        values = inter.infonce(
            anchors,
            gallery,
            np.eye(2, dtype=bool),
            temperature=0.01,
            label_smoothing=label_smoothing,
        )
        return values.sum(), values

    gradient, values = jax.jit(jax.grad(rows, has_aux=True))(anchors)
    assert values.dtype == gradient.dtype == jnp.float32
    smoothing = 100 * label_smoothing
    np.testing.assert_allclose(values, [smoothing, 200 - smoothing], rtol=1e-5)
    assert np.isfinite(gradient).all()


def test_gradient_with_hard_negatives_matches_finite_differences() -> None:
    options = {"temperature": 0.3, "hardness": 0.7}

    def loss(z: jax.Array) -> jax.Array:
        return inter.infonce(z, embeddings(2), SAME_TRACK, **options).mean()

    numeric = reference.central_differences(
        lambda z: reference.infonce(z, embeddings(2), SAME_TRACK, **options).mean(), embeddings(3)
    )
    np.testing.assert_allclose(jax.jit(jax.grad(loss))(embeddings(3)), numeric, atol=1e-7)


def test_hard_negatives_of_a_row_without_any_cost_nothing() -> None:
    everything = np.ones((8, 8), bool)
    value, gradient = jax.jit(
        jax.value_and_grad(lambda z: inter.infonce(z, z, everything, hardness=0.5).sum())
    )(embeddings(4))
    assert value == 0.0
    np.testing.assert_array_equal(gradient, 0.0)


def test_equal_negatives_are_equally_hard() -> None:
    anchors, gallery = embeddings(5), np.tile(embeddings(6)[:1], (8, 1))
    plain, hard = (infonce(anchors, gallery, SAME_TRACK, hardness=h) for h in (0.0, 2.0))
    np.testing.assert_allclose(hard, plain, rtol=1e-12)


@pytest.mark.parametrize("keeps", [False, True])
@pytest.mark.parametrize(
    ("dtype", "temperature"),
    # Exponentials of scores, where they overflow, and where τ is learnt; in float32 at 0.02.
    [(float, 0.07), (float, 0.001), (float, None), (np.float32, 0.07), (np.float32, 0.02)],
)
def test_every_form_in_blocks_is_the_definition(
    dtype: type, temperature: float | None, keeps: bool
) -> None:
    video, music = (jnp.asarray(embeddings(seed), dtype) for seed in (6, 7))
    video = video.at[0].set(-music[3])  # the least and the largest score there are
    video = video.at[1].set(music[4])
    pairs = Pairs(video, music, video, music, jnp.asarray(TRACKS))
    options = {"label_smoothing": 0.2} | ({"temperature": temperature} if temperature else {})
    learnt = {} if temperature else {"log_temperature": jnp.log(0.3)}
    weights, execution = {"m2v": 3.0, "v2m": 0.7}, Execution(block_rows=3, keeps=keeps)

    def definition(video: jax.Array, music: jax.Array) -> jax.Array:
        values = options if temperature else {**options, "temperature": 0.3}
        rows = [
            inter.infonce(*sides, SAME_TRACK, **values)
            for sides in ((music, video), (video, music))
        ]
        return 3.0 * rows[0].mean() + 0.7 * rows[1].mean()

    expected, slopes = jax.value_and_grad(definition, argnums=(0, 1))(video, music)
    found = infonce_both(options, weights, pairs, learnt, execution)
    close = functools.partial(np.testing.assert_allclose, rtol=1e-12 if dtype is float else 2e-5)
    close(found.loss, expected)
    for side, slope in zip(("video", "music"), slopes, strict=True):
        largest = float(jnp.max(jnp.abs(slope)))
        close(
            found.gradient[side] / largest, slope / largest, atol=1e-12 if dtype is float else 2e-5
        )
