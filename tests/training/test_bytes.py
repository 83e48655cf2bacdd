"""Quantised sequences go to the devices as bytes, and train as the floats that they stand for."""

import functools
import pathlib

import jax
import made_datasets
import numpy as np
import optax
from runs import config_of

from vmr.data.pipeline import train_batches
from vmr.data.schema import Schema
from vmr.training.build import build_model, build_objective, build_state, build_weights
from vmr.training.reading import batch_spec_of, dataset_of, standardization_of, step_inputs
from vmr.training.step import train_step


def one_step(data_dir: str) -> tuple:
    """The first batch as the devices are given it, the state after a step on it, its scalars."""
    config = config_of("ii_clvm:vmnet,runlocal", data_dir)
    config.model.video.hidden, config.model.music.hidden = (16,), (16,)
    dataset = dataset_of(config)
    spec = batch_spec_of(config, dataset)
    batch = step_inputs(next(train_batches(dataset, "train", 32, 0, spec=spec)))
    step = functools.partial(
        train_step,
        model=build_model(config),
        objective=build_objective(config),
        optimizer=optax.sgd(0.1),
    )
    state = build_state(config, standardization_of(dataset, spec))
    state = state.replace(opt_state=optax.sgd(0.1).init(state.params))
    return batch, *jax.jit(step)(state, batch, build_weights(config))


def test_bytes_train_as_the_floats_they_stand_for(rich_dir: str, tmp_path: pathlib.Path) -> None:
    floats = Schema(*made_datasets.FLOATS, has_labels=True)
    floats_dir = made_datasets.write(tmp_path / "floats", floats, made_datasets.rich_in_floats)
    batch, state, scalars = one_step(rich_dir)
    batch_of_floats, state_of_floats, scalars_of_floats = one_step(floats_dir)
    for side in ("video", "music"):
        assert batch[side].dtype == np.uint8
        assert batch_of_floats[side].dtype == np.float32
        assert batch[f"{side}_mask"].dtype == bool
        np.testing.assert_array_equal(batch[f"{side}_mask"], batch_of_floats[f"{side}_mask"])
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5),
        (state.standardization, state.params, scalars),
        (state_of_floats.standardization, state_of_floats.params, scalars_of_floats),
    )
