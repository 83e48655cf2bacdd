"""The training step: the same on 1, 2 and 8 devices, traced once, importable without TensorFlow."""

import functools
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from vmr.encoders.branch import Branch
from vmr.encoders.two_tower import TwoTower
from vmr.losses import inter, intra
from vmr.losses.objective import Objective, Pairs
from vmr.training import devices as on_devices
from vmr.training.state import TrainState, initial_state, placeholder_standardization
from vmr.training.step import embed_step, train_step

OPTIMIZER = optax.sgd(0.5)
WEIGHTS = {"m2v": 3.0, "v2m": 1.0, "music": 0.2, "video": 0.7}


def towers(axis_name: str | None) -> TwoTower:
    return TwoTower(
        Branch((12,), width=6, dropout=0.3, axis_name=axis_name),
        Branch((12, 8), width=6, dropout=0.3, axis_name=axis_name),
    )


def objective(name: str) -> Objective:
    return Objective(functools.partial(inter.ranking, top_k=5), getattr(intra, name))


def start() -> TrainState:
    return initial_state(towers(None), OPTIMIZER, placeholder_standardization(10, 7), seed=0)


def batch(seed: int = 0) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    return {
        "video": random.normal(size=(16, 10)).astype(np.float32),
        "music": random.normal(size=(16, 7)).astype(np.float32),
        "track": random.integers(0, 12, 16).astype(np.int32),
    }


def run(name: str, count: int, steps: int) -> tuple[TrainState, dict[str, jax.Array]]:
    devices = jax.devices()[:count]
    step = functools.partial(
        train_step,
        model=towers(on_devices.AXIS),
        objective=objective(name),
        optimizer=OPTIMIZER,
    )
    take = on_devices.pmapped_train_step(step, devices)
    state = on_devices.replicated(start(), devices)
    weights = on_devices.replicated(WEIGHTS, devices)
    for number in range(steps):
        state, scalars = take(state, on_devices.sharded(batch(number), count), weights)
    return state, scalars


@pytest.mark.parametrize("name", ["structure", "structure_adjacent"])
def test_one_two_and_eight_devices_agree(name: str) -> None:
    """With dropout on: masks follow the row of the global batch, statistics the global batch."""
    expected_state, expected_scalars = run(name, 1, steps=2)
    for count in (2, 8):
        state, scalars = run(name, count, steps=2)
        jax.tree.map(
            lambda x, y: np.testing.assert_allclose(x, y, atol=2e-5),
            (state.params, state.batch_stats, scalars),
            (expected_state.params, expected_state.batch_stats, expected_scalars),
        )


def test_gradients_are_those_of_the_whole_loss() -> None:
    """One SGD step against autodiff through encoders and losses together."""
    model, which, data, state = towers(None), objective("structure"), batch(), start()

    def loss(params: optax.Params) -> jax.Array:
        (video, music), _ = model.apply(
            {"params": params, "batch_stats": state.batch_stats},
            data["video"],
            data["music"],
            train=True,
            rngs={"dropout": jax.random.fold_in(state.key, 0)},
            mutable=["batch_stats"],
        )
        pairs = Pairs(video, music, data["video"], data["music"], jnp.asarray(data["track"]))
        return sum(WEIGHTS[term] * rows.mean() for term, rows in which.rows(pairs).items())

    expected = jax.tree.map(lambda p, g: p - 0.5 * g, state.params, jax.grad(loss)(state.params))
    found, scalars = train_step(
        state, data, WEIGHTS, model=model, objective=which, optimizer=OPTIMIZER
    )
    np.testing.assert_allclose(scalars["loss"], loss(state.params), rtol=1e-5)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=2e-5), found.params, expected)


def test_logged_norms_are_those_of_each_term() -> None:
    _, one = run("structure", 1, steps=1)
    assert {f"term_gradient_norm/{term}" for term in WEIGHTS} <= one.keys()
    assert {f"term/{term}" for term in WEIGHTS} <= one.keys()
    total = sum(WEIGHTS[term] * one[f"term/{term}"] for term in WEIGHTS)
    np.testing.assert_allclose(one["loss"], total, rtol=1e-5)


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
            objective=objective("structure_adjacent"),
            optimizer=OPTIMIZER,
        ),
        devices,
    )
    state = on_devices.replicated(start(), devices)
    for number in range(4):
        weights = on_devices.replicated(dict.fromkeys(WEIGHTS, 1.0 + number), devices)
        state, _ = take(state, on_devices.sharded(batch(number), 2), weights)
    assert len(traces) == 1


def test_standardization_is_applied() -> None:
    state = start()
    statistics = {
        "video": {"mean": jnp.full(10, 5.0), "scale": jnp.full(10, 0.5)},
        "music": state.standardization["music"],
    }
    data = batch()
    shifted = data | {"video": data["video"] * 2 + 5}
    keywords = {"model": towers(None), "objective": objective("structure"), "optimizer": OPTIMIZER}
    plain, _ = train_step(state, data, WEIGHTS, **keywords)
    standard, _ = train_step(
        state.replace(standardization=statistics), shifted, WEIGHTS, **keywords
    )
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, atol=1e-4), standard.params, plain.params
    )


def test_losses_encoders_and_step_import_where_tensorflow_is_not_installed() -> None:
    blocked = ("tensorflow", "tensorflow_datasets", "tensorboard", "clu", "orbax")
    code = f"""
import sys
for name in {blocked!r}:
    sys.modules[name] = None  # any import of it raises
import vmr.losses.objective, vmr.losses.inter, vmr.losses.intra
import vmr.encoders.two_tower, vmr.encoders.branch, vmr.training.step
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_average_follows_the_parameters_and_is_what_embeds() -> None:
    averaged = initial_state(
        towers(None), OPTIMIZER, placeholder_standardization(10, 7), seed=0, averaged=True
    )
    keywords = {"model": towers(None), "objective": objective("structure"), "optimizer": OPTIMIZER}
    plain, _ = train_step(start(), batch(), WEIGHTS, **keywords)
    found, _ = train_step(averaged, batch(), WEIGHTS, average_decay=0.5, **keywords)
    jax.tree.map(np.testing.assert_array_equal, found.params, plain.params)
    # At step 0 the average moves nine tenths of the way.
    expected = jax.tree.map(lambda old, new: 0.1 * old + 0.9 * new, start().params, plain.params)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-6), found.average, expected)
    embedded = embed_step(found, batch(), model=towers(None))
    by_hand = embed_step(plain.replace(params=expected), batch(), model=towers(None))
    np.testing.assert_allclose(embedded[0], by_hand[0], atol=1e-5)
