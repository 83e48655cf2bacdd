"""The objective: one definition on one device, on many, at once and in blocks."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import unit

from vmr.losses import inter, intra
from vmr.losses.objective import SIDES, Objective, Pairs, weighted

pytestmark = pytest.mark.usefixtures("float64")

INTRA = {
    "none": None,
    "structure": intra.structure,
    "structure_adjacent": functools.partial(intra.structure_adjacent, top_k=11),
}
WEIGHTS = {"m2v": 3.0, "v2m": 1.0, "music": 0.2, "video": 0.7}


def objective(name: str, block_rows: int | None = None) -> Objective:
    return Objective(functools.partial(inter.ranking, top_k=5), INTRA[name], block_rows)


@pytest.fixture
def pairs() -> Pairs:
    random = np.random.default_rng(0)
    return Pairs(
        video=jnp.asarray(unit(random.normal(size=(16, 6)))),
        music=jnp.asarray(unit(random.normal(size=(16, 6)))),
        video_inputs=jnp.asarray(random.normal(size=(16, 9))),
        music_inputs=jnp.asarray(random.normal(size=(16, 8))),
        track=jnp.asarray(random.integers(0, 12, size=16)),
    )


def loss_by_autodiff(which: Objective, pairs: Pairs) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The definition: means of the rows, weighted, differentiated through everything."""

    def loss(embeddings: dict[str, jax.Array]) -> jax.Array:
        rows = which.rows(pairs._replace(**embeddings))
        return sum(WEIGHTS[term] * values.mean() for term, values in rows.items())

    return jax.value_and_grad(loss)({"video": pairs.video, "music": pairs.music})


def assert_same(found: tuple, expected: tuple) -> None:
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-12), found, expected)


@pytest.mark.parametrize("name", INTRA)
@pytest.mark.parametrize("block_rows", [None, 1, 5, 16, 99])
def test_values_and_gradients_are_those_of_the_rows(
    pairs: Pairs, name: str, block_rows: int | None
) -> None:
    which = objective(name, block_rows)
    found = weighted(jax.jit(which.values_and_gradients)(pairs), WEIGHTS)
    assert_same(found, loss_by_autodiff(which, pairs))


@pytest.mark.parametrize("devices", [1, 2, 8])
@pytest.mark.parametrize("name", INTRA)
def test_devices_that_share_a_batch_agree_with_one(pairs: Pairs, name: str, devices: int) -> None:
    which = objective(name)
    shards = jax.tree.map(lambda x: x.reshape(devices, -1, *x.shape[1:]), pairs)
    terms = jax.pmap(
        lambda shard: which.values_and_gradients(shard, "batch"),
        axis_name="batch",
        devices=jax.devices()[:devices],
    )(shards)
    loss, gradient = weighted(terms, WEIGHTS)
    expected_loss, expected_gradient = loss_by_autodiff(which, pairs)
    np.testing.assert_allclose(loss, np.full(devices, expected_loss), atol=1e-12)
    whole = jax.tree.map(lambda x: x.reshape(-1, x.shape[-1]), gradient)
    assert_same(whole, expected_gradient)


def test_trap_5_pairs_of_one_track_are_negatives_in_neither_direction(pairs: Pairs) -> None:
    one_track = pairs._replace(track=jnp.zeros(16, int))
    rows = objective("none").rows(one_track)
    np.testing.assert_array_equal(rows["v2m"], 0.0)
    np.testing.assert_array_equal(rows["m2v"], 0.0)


def test_a_weighting_compiles_nothing(pairs: Pairs) -> None:
    traces = []

    @jax.jit
    def loss(weights: dict[str, jax.Array]) -> jax.Array:
        traces.append(None)
        return weighted(objective("structure").values_and_gradients(pairs), weights)[0]

    values = [loss({term: jnp.asarray(w) for term in SIDES}) for w in (0.0, 1.0, 2.0)]
    assert len(traces) == 1
    np.testing.assert_allclose(values[2], 2 * values[1])
