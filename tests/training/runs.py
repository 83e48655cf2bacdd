"""Runs that tests make, cut short and compare."""

import importlib
import json
import pathlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import jax
import ml_collections
import numpy as np
import pytest

from vmr.data.pipeline import train_batches
from vmr.training import build, grid, loop
from vmr.training.feed import Feed
from vmr.training.reading import batch_spec_of, feature_widths, sound_dataset_of, step_inputs
from vmr.training.state import TrainState, placeholder_standardization

ONE = jax.devices()[:1]


@dataclass
class Trained:
    """A run at its end, and how often each of its programs was traced."""

    config: ml_collections.ConfigDict
    workdir: pathlib.Path
    state: TrainState | None = None
    traces: dict[str, int] = field(default_factory=dict)


def config_of(name: str, data_dir: str) -> ml_collections.ConfigDict:
    """The config of `FILE:VARIANT`, as the commands take it."""
    file, variant = name.split(":")
    config = importlib.import_module(f"configs.{file}").get_config(variant)
    config.dataset.data_dir = data_dir
    if config.loss.inter == "distillation":  # which traced steps do without
        config.loss.teacher = "train.npz"
    return config


def smoke_config(data_dir: str) -> ml_collections.ConfigDict:
    """VM-NET's eight steps, each of them logged: one program, not two, to compile."""
    config = config_of("vmnet:runlocal", data_dir)
    config.log_every = 1
    return config


def trained(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> Trained:
    """Trains on one device."""
    run = Trained(config, workdir)
    with pytest.MonkeyPatch.context() as patch:
        for module, name in ((build, "train_step"), (grid, "embed_step")):
            patch.setattr(module, name, _counted(name, getattr(module, name), run.traces))
        run.state = loop.train(config, workdir, ONE)
    return run


def traced_step(config: ml_collections.ConfigDict) -> tuple[Any, Any, Any]:
    """Shapes and types of the state before and after a step on a batch, and of its scalars."""
    dataset = sound_dataset_of(config)
    spec = batch_spec_of(config, dataset)
    batch = step_inputs(next(train_batches(dataset, "train", config.batch_size, 0, spec=spec)))
    step = build.build_step(config)
    like = placeholder_standardization(feature_widths(dataset, spec))
    before = jax.eval_shape(lambda: build.build_state(config, like))
    after, reported = jax.eval_shape(step, before, batch, build.build_weights(config))
    return jax.tree.map(lambda leaf: (leaf.shape, str(leaf.dtype)), (before, after, reported))


def _counted(name: str, step: Any, traces: dict[str, int]) -> Any:
    traces[name] = 0

    def counted(*arguments: Any, **options: Any) -> Any:
        traces[name] += 1
        return step(*arguments, **options)

    return counted


def scalars(workdir: pathlib.Path) -> list[dict[str, float]]:
    """The logged lines without the speed."""
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if "per_second" not in k} for line in lines]


def assert_identical(one: Any, other: Any) -> None:
    jax.tree.map(np.testing.assert_array_equal, one, other)


def stopping_at(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The batch of this step never comes: what is in memory is lost there."""
    steps = Feed.steps

    def cut(*arguments: Any) -> Iterator[Any]:
        for number, batch in enumerate(steps(*arguments)):
            if number == step:
                raise InterruptedError
            yield batch

    monkeypatch.setattr(Feed, "steps", cut)
