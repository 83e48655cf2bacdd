"""What every row loss must keep: blocks, permutations, constant inputs, degenerate batches."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from hypothesis import strategies

from vmr.losses import inter, intra

pytestmark = pytest.mark.usefixtures("float64")


class Batch(NamedTuple):
    """N pairs: the anchors' inputs (N,P) and embeddings (N,D), the gallery (N,D), tracks (N,)."""

    inputs: np.ndarray
    anchors: np.ndarray
    gallery: np.ndarray
    track: np.ndarray


Loss = Callable[..., jax.Array]
RowLoss = Callable[[Batch, np.ndarray], jax.Array]


def between(loss: Loss) -> RowLoss:
    return lambda batch, rows: loss(
        batch.anchors[rows], batch.gallery, batch.track[rows][:, None] == batch.track[None, :]
    )


def crossclr(batch: Batch, rows: np.ndarray) -> jax.Array:
    own = inter.Own(batch.anchors, batch.inputs, rows)
    return between(functools.partial(inter.crossclr, own=own))(batch, rows)


def within(loss: Loss) -> RowLoss:
    return lambda batch, rows: loss(
        batch.inputs[rows], batch.anchors[rows], batch.inputs, batch.anchors, rows
    )


def distillation(batch: Batch, rows: np.ndarray) -> jax.Array:
    teacher = inter.Teacher(batch.inputs[rows], batch.gallery[:, ::-1])
    return between(functools.partial(inter.distillation, teacher=teacher))(batch, rows)


LOSSES = {
    "ranking": between(functools.partial(inter.ranking, top_k=2)),
    "infonce": between(functools.partial(inter.infonce, label_smoothing=0.1)),
    "siglip": between(inter.siglip),
    "crossclr": crossclr,
    "distillation": distillation,
    "structure": within(intra.structure),
    "structure_adjacent": within(intra.structure_adjacent),
    "ii_mse": within(intra.ii_mse),
    "ii_kl": within(intra.ii_kl),
    "gram": within(intra.gram),
    "rkd_distance": within(intra.rkd_distance),
    "js": within(intra.js),
}


@functools.cache
def rows_of(name: str) -> RowLoss:
    return jax.jit(LOSSES[name])


@functools.cache
def gradients_of(name: str) -> Callable[[Batch], tuple[jax.Array, Batch]]:
    """The sum of all rows, and its gradient at everything but the tracks."""

    def total(arrays: tuple[jax.Array, ...], track: jax.Array) -> jax.Array:
        return LOSSES[name](Batch(*arrays, track), jnp.arange(len(track))).sum()

    differentiated = jax.jit(jax.value_and_grad(total))

    def measure(batch: Batch) -> tuple[jax.Array, Batch]:
        value, gradients = differentiated(batch[:3], batch.track)
        return value, Batch(*gradients, batch.track)

    return measure


def sample(seed: int, count: int = 6) -> Batch:
    random = np.random.default_rng(seed)
    inputs, anchors, gallery = random.normal(size=(3, count, 4))
    tracks = random.integers(0, count, size=count)
    return Batch(0.7 + inputs, reference.unit(anchors), reference.unit(gallery), tracks)


@pytest.mark.parametrize("name", LOSSES)
def test_a_block_of_rows_gives_the_rows_of_the_whole(name: str) -> None:
    batch, rows = sample(0), np.array([4, 1, 5])
    whole = rows_of(name)(batch, np.arange(6))
    assert whole.shape == (6,)
    np.testing.assert_allclose(rows_of(name)(batch, rows), whole[rows], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", sorted(LOSSES.keys() - {"structure_adjacent"}))
@hypothesis.settings(derandomize=True, deadline=None, max_examples=10)
@hypothesis.given(
    seed=strategies.integers(0, 2**31), order=strategies.permutations(range(6)).map(np.array)
)
def test_a_permuted_batch_gives_permuted_rows(name: str, seed: int, order: np.ndarray) -> None:
    batch = sample(seed)
    moved = Batch(*(array[order] for array in batch))
    rows, found = (rows_of(name)(pairs, np.arange(6)) for pairs in (batch, moved))
    np.testing.assert_allclose(found, rows[order], rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("name", LOSSES)
def test_no_gradient_flows_into_the_inputs(name: str) -> None:
    _, gradients = gradients_of(name)(sample(1))
    np.testing.assert_array_equal(gradients.inputs, 0.0)
    assert np.any(gradients.anchors)


def partly_degenerate(batch: Batch) -> Batch:
    """Rows 0 and 3 coincide in every array; row 1 is zero."""
    batch = Batch(*(array.copy() for array in batch))
    for array in batch[:3]:
        array[3] = array[0]
        array[1] = 0
    return batch


ANY = sample(2)
ZERO, EQUAL = np.zeros((6, 4)), np.full((6, 4), 0.5)
DEGENERATE = {
    "zero": ANY._replace(inputs=ZERO, anchors=ZERO, gallery=ZERO),
    "zero inputs": ANY._replace(inputs=ZERO),
    "zero embeddings": ANY._replace(anchors=ZERO, gallery=ZERO),
    "equal": ANY._replace(inputs=EQUAL, anchors=EQUAL, gallery=EQUAL),
    "equal inputs": ANY._replace(inputs=EQUAL),
    "equal embeddings": ANY._replace(anchors=EQUAL, gallery=EQUAL),
    "opposite": ANY._replace(inputs=-EQUAL, anchors=EQUAL, gallery=-EQUAL),
    "in part": partly_degenerate(ANY),
    "unmoved": ANY._replace(inputs=ANY.anchors, gallery=ANY.anchors),
    "one track": ANY._replace(track=np.zeros(6, int)),
    "of one": sample(3, 1),
    "of two": sample(4, 2),
    "of three": sample(5, 3),
}


@pytest.mark.parametrize("batch", DEGENERATE.values(), ids=DEGENERATE)
@pytest.mark.parametrize("name", LOSSES)
def test_degenerate_batches_have_finite_values_and_gradients(name: str, batch: Batch) -> None:
    value, gradients = gradients_of(name)(batch)
    assert np.isfinite(value)
    assert all(np.isfinite(gradient).all() for gradient in gradients)


@pytest.mark.parametrize("name", sorted(LOSSES.keys() - {"siglip"}))
def test_one_pair_alone_costs_nothing(name: str) -> None:
    value, gradients = gradients_of(name)(sample(3, 1))
    np.testing.assert_allclose(value, 0.0, atol=1e-30)
    np.testing.assert_allclose(gradients.anchors, 0.0, atol=1e-15)
