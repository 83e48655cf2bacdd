"""The training step: the same on 1, 2 and 8 devices, traced once."""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from vmr.encoders.branch import Branch
from vmr.encoders.two_tower import TwoTower
from vmr.losses import inter, intra
from vmr.losses.objective import Objective
from vmr.losses.pairs import Pairs
from vmr.training import devices as on_devices
from vmr.training.inputs import model_inputs
from vmr.training.state import TrainState, initial_state, placeholder_standardization
from vmr.training.step import embed_step, train_step

OPTIMIZER = optax.sgd(0.5)
WEIGHTS = {"m2v": 3.0, "v2m": 1.0, "music": 0.2, "video": 0.7}


def towers(axis_name: str | None) -> TwoTower:
    return TwoTower(
        Branch((12,), width=6, dropout=0.3, axis_name=axis_name),
        Branch((12, 8), width=6, dropout=0.3, axis_name=axis_name),
    )


STRUCTURE = Objective(functools.partial(inter.ranking, top_k=5), intra.structure)
EMBED = jax.jit(functools.partial(embed_step, model=towers(None)))


@functools.cache
def step_of(**options: Any) -> Any:
    """The compiled step of one device: operation by operation it takes many times as long."""
    defaults = {"model": towers(None), "objective": STRUCTURE, "optimizer": OPTIMIZER}
    return jax.jit(functools.partial(train_step, **(defaults | options)))


def start(**options: Any) -> TrainState:
    widths = placeholder_standardization({"video": 10, "music": 7})
    return initial_state(towers(None), OPTIMIZER, widths, seed=0, **options)


def batch(seed: int = 0) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    return {
        "video": random.normal(size=(16, 10)).astype(np.float32),
        "music": random.normal(size=(16, 7)).astype(np.float32),
        "track": random.integers(0, 12, 16).astype(np.int32),
    }


def sharded(number: int, devices: Sequence[jax.Device]) -> dict[str, jax.Array]:
    return on_devices.sharded(on_devices.split(batch(number), len(devices)), devices)


def run(
    which: Objective,
    count: int,
    steps: int,
    learnt: dict[str, float] | None = None,
    microbatch: int | None = None,
) -> tuple[TrainState, dict[str, jax.Array]]:
    devices = jax.devices()[:count]
    step = functools.partial(
        train_step,
        model=towers(on_devices.AXIS),
        objective=which,
        optimizer=OPTIMIZER,
        microbatch=microbatch,
    )
    take = on_devices.pmapped_train_step(step, devices)
    state = on_devices.replicated(start(learnt=jax.tree.map(jnp.float32, learnt or {})), devices)
    weights = on_devices.replicated(WEIGHTS, devices)
    for number in range(steps):
        state, scalars = take(state, sharded(number, devices), weights)
    return state, scalars


def assert_close(found: Any, expected: Any, atol: float = 2e-5) -> None:
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=atol), found, expected
    )


def assert_same_step(found: Any, expected: Any) -> None:
    """Of two pairs of state and scalars."""
    assert_close(
        *((state.params, state.batch_stats, scalars) for state, scalars in (found, expected))
    )


@pytest.mark.parametrize(
    ("inter_name", "intra_name", "learnt", "counts"),
    [
        ("ranking", "structure", {}, (2, 8)),
        ("ranking", "structure_adjacent", {}, (2,)),
        ("infonce", "ii_mse", {"log_temperature": -1.0}, (8,)),
        ("siglip", "ii_kl", {"log_scale": 1.0, "bias": -2.0}, (2,)),
    ],
)
def test_one_two_and_eight_devices_agree(
    inter_name: str, intra_name: str, learnt: dict[str, float], counts: tuple[int, ...]
) -> None:
    """With dropout on: masks follow the row of the global batch, statistics the global batch."""
    which = Objective(getattr(inter, inter_name), getattr(intra, intra_name))
    expected = run(which, 1, 2, learnt)
    for count in counts:
        assert_same_step(run(which, count, 2, learnt), expected)


def test_a_batch_in_pieces_takes_the_step_of_the_whole() -> None:
    """Batch normalisation and dropout included: only rows that are independent are split."""
    which = Objective(inter.infonce, intra.ii_mse)
    expected = run(which, 1, 2)
    for count, microbatch in ((1, 5), (2, 2), (8, 1)):
        assert_same_step(run(which, count, 2, microbatch=microbatch), expected)


def test_a_batch_in_pieces_holds_the_activations_of_one() -> None:
    wide = TwoTower(Branch((2048,), width=6), Branch((2048,), width=6))
    state = initial_state(
        wide, OPTIMIZER, placeholder_standardization({"video": 10, "music": 7}), seed=0
    )
    rows = {name: np.repeat(values, 128, axis=0) for name, values in batch().items()}

    def temporary_bytes(microbatch: int | None) -> int:
        step = functools.partial(
            train_step,
            model=wide,
            objective=Objective(inter.infonce, block_rows=64),
            optimizer=OPTIMIZER,
            microbatch=microbatch,
        )
        return (
            jax.jit(step).lower(state, rows, WEIGHTS).compile().memory_analysis().temp_size_in_bytes
        )

    assert temporary_bytes(64) < 0.2 * temporary_bytes(None)


def test_learnt_parameters_are_trained_and_embed_without_them() -> None:
    state, scalars = run(Objective(inter.infonce), 2, 3, {"log_temperature": -1.0})
    assert state.params["loss"]["log_temperature"] != -1.0
    assert scalars["learnt/temperature"] > 0
    without = state.replace(params={n: p for n, p in state.params.items() if n != "loss"})
    for found, expected in zip(*(EMBED(s.trained, batch()) for s in (state, without)), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_a_learnt_temperature_ends_on_its_bound() -> None:
    # Uphill, where colder is worse.
    step = step_of(objective=Objective(inter.infonce), optimizer=optax.sgd(-1e3))
    state = start(learnt={"log_temperature": jnp.float32(np.log(0.011))})
    state, _ = step(state, batch(), WEIGHTS)
    np.testing.assert_allclose(state.params["loss"]["log_temperature"], np.log(0.01), rtol=1e-6)


def test_intra_weights_rise_linearly_from_zero() -> None:
    for step, share in ((0, 0.0), (3, 0.75), (4, 1.0), (9, 1.0)):
        state = start().replace(step=jnp.int32(step))
        warming, scalars = step_of(warmup_steps=4)(state, batch(), WEIGHTS)
        risen = WEIGHTS | {term: share * WEIGHTS[term] for term in ("music", "video")}
        expected, _ = step_of()(state, batch(), risen)
        assert_close(warming.params, expected.params, atol=1e-6)
        total = sum(risen[term] * scalars[f"term/{term}"] for term in risen)
        np.testing.assert_allclose(scalars["loss"], total, rtol=1e-5)


def test_gradients_are_those_of_the_whole_loss() -> None:
    """One SGD step against autodiff through encoders and losses together."""
    model, data, state = towers(None), batch(), start()

    @jax.jit
    @jax.value_and_grad
    def loss(params: optax.Params) -> jax.Array:
        (video, music), _ = model.apply(
            {"params": params, "batch_stats": state.batch_stats},
            *model_inputs(data, state.standardization),
            train=True,
            rngs={"dropout": jax.random.fold_in(state.key, 0)},
            mutable=["batch_stats"],
        )
        pairs = Pairs(video, music, data["video"], data["music"], jnp.asarray(data["track"]))
        return sum(WEIGHTS[term] * rows.mean() for term, rows in STRUCTURE.rows(pairs).items())

    value, gradient = loss(state.params)
    expected = jax.tree.map(lambda p, g: p - 0.5 * g, state.params, gradient)
    found, scalars = step_of()(state, data, WEIGHTS)
    np.testing.assert_allclose(scalars["loss"], value, rtol=1e-5)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=2e-5), found.params, expected)


def test_norms_are_measured_where_the_step_is_logged_and_change_nothing() -> None:
    (logged, scalars), (silent, others) = (
        step_of(**options)(start(), batch(), WEIGHTS) for options in ({}, {"logs": False})
    )
    jax.tree.map(np.testing.assert_array_equal, silent, logged)
    assert all(np.isfinite(value) for value in scalars.values())
    norms = {name for name in scalars if name.startswith(("term_gradient", "parameter"))}
    assert norms == scalars.keys() - others.keys()
    assert norms > {f"term_gradient_norm/{term}" for term in WEIGHTS}
    total = sum(WEIGHTS[term] * scalars[f"term/{term}"] for term in WEIGHTS)
    np.testing.assert_allclose(scalars["loss"], total, rtol=1e-5)


def test_a_step_is_traced_once() -> None:
    traces = []

    def counted(*arguments, **options):  # type: ignore[no-untyped-def]
        traces.append(None)
        return train_step(*arguments, **options)

    devices = jax.devices()[:2]
    take = on_devices.pmapped_train_step(
        functools.partial(
            counted,
            model=towers(on_devices.AXIS),
            objective=STRUCTURE,
            optimizer=OPTIMIZER,
        ),
        devices,
    )
    state = on_devices.replicated(start(), devices)
    shards = [sharded(number, devices) for number in range(4)]
    for number in range(4):
        weights = on_devices.replicated(dict.fromkeys(WEIGHTS, 1.0 + number), devices)
        with jax.transfer_guard("disallow"):  # all that a step needs is on the devices
            state, _ = take(state, shards[number], weights)
    assert len(traces) == 1


def test_standardization_is_applied() -> None:
    state = start()
    statistics = {
        "video": {"mean": jnp.full(10, 5.0), "scale": jnp.full(10, 0.5)},
        "music": state.standardization["music"],
    }
    data = batch()
    shifted = data | {"video": data["video"] * 2 + 5}
    plain, _ = step_of()(state, data, WEIGHTS)
    standard, _ = step_of()(state.replace(standardization=statistics), shifted, WEIGHTS)
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, atol=1e-4), standard.params, plain.params
    )


def test_the_average_follows_the_parameters_and_is_what_embeds() -> None:
    averaged = start(averaged=True)
    plain, _ = step_of()(start(), batch(), WEIGHTS)
    found, _ = step_of(average_decay=0.5)(averaged, batch(), WEIGHTS)
    jax.tree.map(np.testing.assert_array_equal, found.params, plain.params)
    # At step 0 the average moves nine tenths of the way.
    expected = jax.tree.map(lambda old, new: 0.1 * old + 0.9 * new, start().params, plain.params)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-6), found.average, expected)
    embedded = EMBED(found.trained, batch())
    by_hand = EMBED(plain.replace(params=expected).trained, batch())
    np.testing.assert_allclose(embedded[0], by_hand[0], atol=1e-5)
