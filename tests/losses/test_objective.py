"""The objective: one definition on one device, on many, at once and in blocks."""

import dataclasses
import functools
import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import unit

from vmr.losses import inter, intra
from vmr.losses.fused.ii_mse import gram_pays
from vmr.losses.objective import Objective
from vmr.losses.pairs import Outcome, Pairs

pytestmark = pytest.mark.usefixtures("float64")

INTER = {
    "ranking": functools.partial(inter.ranking, top_k=5),
    "infonce": inter.infonce,
    "infonce_smoothed": functools.partial(inter.infonce, label_smoothing=0.2),
    "infonce_hard": functools.partial(inter.infonce, hardness=0.5),
    "siglip": inter.siglip,
    "crossclr": functools.partial(inter.crossclr, temperature=0.2),
}
LEARNT = {
    "ranking": {},
    "infonce": {"log_temperature": -1.5},
    "infonce_smoothed": {"log_temperature": -1.0},
    "infonce_hard": {"log_temperature": -1.0},
    "siglip": {"log_scale": 1.2, "bias": -2.0},
    "crossclr": {"log_temperature": -1.5},
}
INTRA = {
    "none": None,
    "structure": intra.structure,
    "structure_adjacent": functools.partial(intra.structure_adjacent, top_k=11),
    "ii_mse": intra.ii_mse,
    "ii_kl": intra.ii_kl,
    "js": intra.js,
    "gram": intra.gram,
    "rkd_distance": intra.rkd_distance,
}
WEIGHTS = {"m2v": 3.0, "v2m": 1.0, "music": 0.2, "video": 0.7}

# Every loss once, beside the plainest of the other kind.
COMBINATIONS = [(name, "none") for name in INTER] + [("ranking", name) for name in INTRA]


def objective(inter_name: str, intra_name: str, block_rows: int | None = None) -> Objective:
    return Objective(INTER[inter_name], INTRA[intra_name], block_rows)


def sample(count: int = 16, tracks: int = 12, seed: int = 0, width: int = 9) -> Pairs:
    random = np.random.default_rng(seed)
    return Pairs(
        video=jnp.asarray(unit(random.normal(size=(count, 6)))),
        music=jnp.asarray(unit(random.normal(size=(count, 6)))),
        video_inputs=jnp.asarray(random.normal(size=(count, width))),
        music_inputs=jnp.asarray(random.normal(size=(count, 8))),
        positive_ids=jnp.asarray(random.integers(0, tracks, size=count)),
    )


def by_autodiff(
    which: Objective, pairs: Pairs, learnt: dict[str, float], weights: dict[str, float] = WEIGHTS
) -> Outcome:
    """The definition: means of the rows, weighted, differentiated through everything."""
    embeddings = {"video": pairs.video, "music": pairs.music}
    learnt = {name: jnp.asarray(value) for name, value in learnt.items()}
    differentiated = definition(dataclasses.replace(which, block_rows=None))
    (value, terms), gradients = differentiated(embeddings, learnt, pairs, weights)
    return Outcome(value, terms, *gradients, intra_norms={})


@functools.cache
def definition(which: Objective) -> Callable[..., Any]:
    """Compiled once for all block sizes, numbers of devices and weights."""

    def loss(
        embeddings: dict[str, jax.Array],
        learnt: dict[str, jax.Array],
        pairs: Pairs,
        weights: dict[str, jax.Array],
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        rows = which.rows(pairs._replace(**embeddings), learnt)
        terms = {term: values.mean() for term, values in rows.items()}
        return sum(weights[term] * value for term, value in terms.items()), terms

    return jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True))


def assert_same(found: tuple, expected: tuple) -> None:
    found, expected = (
        outcome._replace(intra_norms={}) if isinstance(outcome, Outcome) else outcome
        for outcome in (found, expected)
    )
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-12), found, expected)


@functools.cache
def outcome(inter_name: str, intra_name: str) -> Outcome:
    """Of the plain sample, without learnt parameters."""
    return jax.jit(objective(inter_name, intra_name).value_and_gradient)(sample(), WEIGHTS)


@pytest.mark.parametrize(("inter_name", "intra_name"), COMBINATIONS)
@pytest.mark.parametrize("block_rows", [None, 5, 16])
def test_value_and_gradient_are_those_of_the_rows(
    inter_name: str, intra_name: str, block_rows: int | None
) -> None:
    which, learnt = objective(inter_name, intra_name, block_rows), LEARNT[inter_name]
    found = jax.jit(which.value_and_gradient)(sample(), WEIGHTS, learnt)
    assert_same(found, by_autodiff(which, sample(), learnt))


@pytest.mark.parametrize("block_rows", [None, 3])
@pytest.mark.parametrize("inter_name", ["infonce", "infonce_smoothed", "siglip", "crossclr"])
def test_any_number_of_videos_may_share_a_track(inter_name: str, block_rows: int | None) -> None:
    which = objective(inter_name, "none", block_rows)
    find = jax.jit(which.value_and_gradient)
    for tracks in (1, 2, 5, 1000):
        pairs = sample(tracks=tracks)
        assert_same(find(pairs, WEIGHTS), by_autodiff(which, pairs, {}))


@pytest.mark.parametrize(
    ("inter_name", "intra_name"),
    [
        *zip(
            itertools.cycle(name for name in INTER if name != "ranking"),
            [name for name in INTRA if name != "none"],
            strict=False,
        )
    ],
)
def test_any_inter_goes_with_any_intra(inter_name: str, intra_name: str) -> None:
    """The parts add up: what each loss gives does not depend on the other."""
    found, *alone = (
        (part.loss, part.gradient)
        for part in (
            outcome(inter_name, intra_name),
            outcome(inter_name, "none"),
            outcome("ranking", intra_name),
            outcome("ranking", "none"),
        )
    )
    assert_same(found, jax.tree.map(lambda x, y, z: x + y - z, *alone))


@pytest.mark.parametrize(
    ("inter_name", "intra_name", "block_rows", "devices"),
    [(*names, None, devices) for names in COMBINATIONS for devices in (2, 8)]
    + [("infonce", "structure", 3, 8), ("crossclr", "rkd_distance", 3, 8)],
)
def test_devices_that_share_a_batch_agree_with_one(
    inter_name: str, intra_name: str, block_rows: int | None, devices: int
) -> None:
    which, learnt = objective(inter_name, intra_name, block_rows), LEARNT[inter_name]
    pairs = sample(count=32 if block_rows else 16)
    shards = jax.tree.map(lambda x: x.reshape(devices, -1, *x.shape[1:]), pairs)
    found = jax.pmap(
        lambda shard: which.value_and_gradient(shard, WEIGHTS, learnt, "batch"),
        axis_name="batch",
        devices=jax.devices()[:devices],
    )(shards)
    expected = by_autodiff(which, pairs, learnt)
    for every_device, one in (
        (found.loss, expected.loss),
        (found.terms, expected.terms),
        (found.to_learnt, expected.to_learnt),
    ):
        copies = jax.tree.map(lambda x: np.full(devices, x), one)
        assert_same(every_device, copies)
    gradient = jax.tree.map(lambda x: x.reshape(-1, x.shape[-1]), found.gradient)
    assert_same(gradient, expected.gradient)


@pytest.mark.parametrize("block_rows", [None, 5])
def test_ii_mse_goes_by_rows_where_the_features_are_wider_than_the_batch(
    block_rows: int | None,
) -> None:
    which, pairs = objective("ranking", "ii_mse", block_rows), sample(width=80)
    assert not gram_pays(16, 80, 6)
    assert gram_pays(16, 9, 6)
    found = jax.jit(which.value_and_gradient)(pairs, WEIGHTS)
    assert_same(found, by_autodiff(which, pairs, {}))


@pytest.mark.parametrize("inter_name", ["ranking", "siglip"])
def test_a_single_device_of_an_axis_takes_what_no_axis_takes(inter_name: str) -> None:
    """Training is always pmapped: the forms for a whole batch must not be lost by that."""
    which = objective(inter_name, "structure_adjacent")
    one = jax.tree.map(lambda x: x[None], sample(64))

    def products(axis_name: str | None) -> int:
        find = jax.vmap if axis_name is None else jax.pmap
        options = {} if axis_name is None else {"devices": jax.devices()[:1]}
        mapped = find(
            lambda pairs: which.value_and_gradient(pairs, WEIGHTS, axis_name=axis_name),
            axis_name="batch",
            **options,
        )
        return jax.jit(mapped).lower(one).as_text().count("stablehlo.dot_general")

    assert products("batch") == products(None)


@pytest.mark.parametrize(("inter_name", "intra_name"), COMBINATIONS)
@pytest.mark.parametrize("count", [1, 3])
def test_degenerate_batches_are_finite(inter_name: str, intra_name: str, count: int) -> None:
    find = jax.jit(objective(inter_name, intra_name).value_and_gradient)
    pairs, tracks = sample(count), jnp.arange(count)
    zeros, ones = (jax.tree.map(lambda x, y=y: jnp.full_like(x, y), pairs) for y in (0, 1))
    for batch in (
        pairs,
        zeros,
        zeros._replace(positive_ids=tracks),
        ones,
        ones._replace(positive_ids=tracks),
    ):
        found = find(batch, WEIGHTS, LEARNT[inter_name])
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(found))


@pytest.mark.parametrize("inter_name", INTER)
def test_trap_5_pairs_of_one_track_are_negatives_in_neither_direction(inter_name: str) -> None:
    """Pulling a same-track item nearer never costs anything, whatever the direction."""
    find = jax.jit(objective(inter_name, "none").value_and_gradient)
    pairs = sample()._replace(positive_ids=jnp.zeros(16, int))
    before, after = (
        find(batch, WEIGHTS).terms for batch in (pairs, pairs._replace(music=pairs.video))
    )
    for term, value in after.items():
        assert value <= before[term] + 1e-15
    if inter_name != "siglip":  # which has an opinion on positives alone
        np.testing.assert_allclose(list(before.values()), 0.0, atol=1e-15)


@pytest.mark.parametrize("intra_name", ["none", "ii_mse", "rkd_distance"])
@pytest.mark.parametrize("inter_name", ["ranking", "infonce"])
def test_gradient_norms_are_those_of_each_term_alone(inter_name: str, intra_name: str) -> None:
    which, pairs = objective(inter_name, intra_name), sample()

    def measured(pairs: Pairs, axis_name: str | None = None) -> dict[str, jax.Array]:
        found = which.value_and_gradient(pairs, WEIGHTS, axis_name=axis_name)
        return which.gradient_norms(found, pairs, axis_name=axis_name)

    norms = jax.jit(measured)(pairs)
    shards = jax.tree.map(lambda x: x.reshape(4, -1, *x.shape[1:]), pairs)
    sharded = jax.pmap(
        lambda shard: measured(shard, "batch"), axis_name="batch", devices=jax.devices()[:4]
    )(shards)
    assert norms.keys() == sharded.keys() == set(which.terms)
    for term, norm in norms.items():
        alone = dict.fromkeys(WEIGHTS, 0.0) | {term: 1.0}
        gradient = by_autodiff(which, pairs, {}, alone).gradient
        expected = np.sqrt(sum(np.sum(np.square(side)) for side in gradient.values()))
        np.testing.assert_allclose(norm, expected, rtol=1e-12)
        np.testing.assert_allclose(sharded[term], np.full(4, expected), rtol=1e-12)


def test_a_weighting_compiles_nothing() -> None:
    traces, pairs = [], sample()

    @jax.jit
    def loss(weights: dict[str, jax.Array]) -> jax.Array:
        traces.append(None)
        return objective("infonce", "structure").value_and_gradient(pairs, weights).loss

    values = [loss({term: jnp.asarray(w) for term in WEIGHTS}) for w in (0.0, 1.0, 2.0)]
    assert len(traces) == 1
    np.testing.assert_allclose(values[2], 2 * values[1])


def test_weightings_train_together_under_vmap() -> None:
    which, pairs = objective("infonce", "ii_mse", 5), sample()
    many = {term: jnp.linspace(0.0, 2.0, 3) * weight for term, weight in WEIGHTS.items()}
    by_weights = jax.jit(lambda weights: which.value_and_gradient(pairs, weights))
    together = jax.vmap(by_weights)(many)
    for member in range(3):
        weights = {term: weight[member] for term, weight in many.items()}
        alone = by_weights(weights)
        assert_same(jax.tree.map(lambda x, member=member: x[member], together), alone)


def test_ranking_in_blocks_of_anchors_is_the_definition() -> None:
    """Two blocks from one score matrix, the last filled up."""
    which, pairs = objective("ranking", "none"), sample(count=301, tracks=250)
    found = jax.jit(which.value_and_gradient)(pairs, WEIGHTS)
    assert_same(found, by_autodiff(which, pairs, {}))
