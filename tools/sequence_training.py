"""Training on a config's own batches, timed beside training on one batch over and over."""

import functools
import time
from collections.abc import Callable, Iterator, Mapping
from itertools import islice, repeat

import jax
import ml_collections
import numpy as np

from tools import paired
from vmr.data.dataset import Dataset
from vmr.data.pipeline import train_batches
from vmr.training import build
from vmr.training import devices as on_devices
from vmr.training.reading import standardization_of, step_inputs, view_of

Batch = Mapping[str, np.ndarray]
Steps = Callable[[Iterator[Batch], int], int]

# More batches than the pipeline reads ahead: let go before its steps are timed.
_READ_AHEAD = 6


def training(config: ml_collections.ConfigDict, dataset: Dataset, steps: int, rounds: int) -> str:
    """Throughput, and the share of time spent waiting for input: median and range of the rounds."""
    view = view_of(config, dataset)
    batches = train_batches(dataset, "train", config.batch_size, config.seed, view=view)
    take = stepper(config, dataset)
    again = repeat(next(batches))
    take(again, 1)  # compiled
    still, fed, clips = [], [], []
    for _ in range(rounds):
        still.append(_seconds_a_step(take, again, steps)[0])
        for _ in islice(batches, _READ_AHEAD):
            pass
        seconds, shown = _seconds_a_step(take, batches, steps)
        fed.append(seconds)
        clips.append(shown)
    times = np.array(fed)
    return (
        f"training, batches of {config.batch_size}, {rounds} rounds of {steps} steps\n"
        f"  items/s            {paired.spread(config.batch_size / times)}\n"
        f"  clips/s            {paired.spread(np.array(clips) / times)}\n"
        f"  waiting for input  {paired.spread(1 - np.array(still) / times)}"
    )


def stepper(config: ml_collections.ConfigDict, dataset: Dataset) -> Steps:
    """Takes steps on so many of the batches, as the loop does, and tells the clips they show."""
    devices = jax.local_devices()
    on_devices.require_divisible(config, devices)
    step = build.build_step(config, len(devices), on_devices.AXIS)
    take_step = on_devices.pmapped_train_step(functools.partial(step, logs=False), devices)
    weights = on_devices.replicated(build.build_weights(config), devices)
    statistics = standardization_of(dataset, view_of(config, dataset))
    state = on_devices.replicated(build.build_state(config, statistics), devices)

    def take(batches: Iterator[Batch], count: int) -> int:
        nonlocal state
        clips, unfinished = 0, None
        for batch in islice(batches, count):
            clips += clips_of(batch)
            shards = on_devices.sharded(on_devices.split(step_inputs(batch), len(devices)), devices)
            state, scalars = take_step(state, shards, weights)
            # As in the loop: while this step runs, the one before is waited for.
            jax.block_until_ready(unfinished)
            unfinished = scalars
        jax.block_until_ready(unfinished)
        return clips

    return take


def clips_of(batch: Batch) -> int:
    """Clips that a batch shows, of both modalities; a vector of a whole item is one."""
    return sum(
        int(batch[f"{side}_mask"].sum()) if f"{side}_mask" in batch else len(batch[side])
        for side in ("video", "music")
    )


def _seconds_a_step(take: Steps, batches: Iterator[Batch], steps: int) -> tuple[float, float]:
    """Seconds, and clips, of a step; one untimed goes ahead."""
    take(batches, 1)
    start = time.perf_counter()
    clips = take(batches, steps)
    return (time.perf_counter() - start) / steps, clips / steps
