"""Input of the training loop: the batches of every seed, on the devices ahead of their step.

    none    shards on disk ─ vmr.data.pipeline ─┐
    host    numbers of records ─ rows on host ──┼─ rows of this process ─ devices
    device  numbers of records ─────────────────┴─ devices ─ rows on each device

All three give the same batches in the same order. Numbers of records are those of the pipeline, a
seed and an epoch at a time; what is held in memory is read once, for all seeds of a grid.
"""

import functools
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any, TypeVar

import jax
import ml_collections
import numpy as np

from vmr.data.batch_spec import BatchSpec
from vmr.data.cached import CachedBatch, CachedSplit, cached, cached_bytes
from vmr.data.dataset import Dataset
from vmr.data.pipeline import train_batches, train_numbers
from vmr.training import devices as on_devices
from vmr.training.cache import cache_of, fits_host
from vmr.training.inputs import FIELDS
from vmr.training.reading import (
    evaluation_batches,
    standardization_of,
    step_inputs,
    with_relevance,
)
from vmr.training.teacher import TeacherRows

Batch = Mapping[str, np.ndarray]
Shards = dict[str, jax.Array]  # arrays of the seeds' batches, (devices, S, n, ...)
T = TypeVar("T")

_AHEAD = 2  # batches on the devices before they are asked for
_RECORD = "record"  # numbers of a batch's records
_POSITIVES = ("track", "label")
_FEATURES = tuple(name for name in FIELDS if name != "track" and "teacher" not in name)


class Feed:
    """Batches of a grid of runs, from disk or from memory by `config.dataset.cache`.

    Args:
      config: config of any run of the grid.
      dataset: dataset of the runs.
      spec: specification of their batches.
      devices: devices of this process.
      teacher: teacher of distilled runs.
      rows: rows of every global batch that this process takes; by default all.

    Raises:
      UserError: see `cache_of`.
    """

    def __init__(
        self,
        config: ml_collections.ConfigDict,
        dataset: Dataset,
        spec: BatchSpec,
        devices: Sequence[jax.Device],
        teacher: TeacherRows | None = None,
        rows: slice = slice(None),
    ) -> None:
        self._config, self._dataset, self._spec = config, dataset, spec
        self._devices, self._teacher, self._rows = devices, teacher, rows
        self._cache = cache_of(config, dataset, spec, devices)
        # Positives by label are those of the whole batch, so they are cut after `step_inputs`.
        self._by_label = spec.label_counts is not None
        self._features: Shards = {}  # (N, ...) of every training pair, on each device
        self._rows_on_devices = on_devices.sharded_rows(devices)

    def standardization(self) -> dict[str, dict[str, np.ndarray]]:
        """Statistics of the training split; to be asked for before any step."""
        return standardization_of(self._dataset, self._spec, self._train)

    def steps(self, seeds: Sequence[int], taken: int) -> Iterator[tuple[Shards, list[Batch]]]:
        """Yields the input of every step that is left.

        Args:
          seeds: seed of each row of the grid; each has the order of a run trained alone.
          taken: number of steps already taken.

        Yields:
          Arrays of the step on the devices, and the rows of this process of the batch of each seed,
          with the ids at least.

        Raises:
          UserError: a record is corrupt.
        """
        if self._cache == "device":
            self._move_to_devices()
        streams = [self._batches(seed, taken) for seed in seeds]
        inputs = (self._put(batches) for batches in zip(*streams, strict=True))
        yield from _ahead(islice(inputs, self._config.steps - taken))

    def validation(self) -> Iterator[Batch]:
        """Yields the batches of the validation split, once and in stored order."""
        size = self._config.batch_size
        if self._validation is None:
            return evaluation_batches(self._dataset, "validation", size, self._spec)
        return map(with_relevance, self._validation.batches(size))

    @functools.cached_property
    def _train(self) -> CachedSplit | None:
        return None if self._cache == "none" else self._held("train")

    @functools.cached_property
    def _validation(self) -> CachedSplit | None:
        if self._cache == "none":
            return None
        fits = fits_host(self._dataset, "validation", self._spec, self._config.dataset.cache)
        return self._held("validation") if fits else None

    def _held(self, split: str) -> CachedSplit:
        size = cached_bytes(self._dataset, split, self._spec)
        where = "each device" if (self._cache, split) == ("device", "train") else "the host"
        print(
            f"holding {split} in memory: {self._dataset.examples(split):,} pairs, "
            f"{size / 1e6:,.1f} MB on {where} (config.dataset.cache)",
            flush=True,
        )
        return cached(self._dataset, split, self._spec)

    def _move_to_devices(self) -> None:
        """Copies the features of the training split to every device; the host drops its own."""
        if self._features:
            return
        held = self._train
        assert held is not None
        features = {name: rows for name, rows in held.arrays.items() if name in _FEATURES}
        self._features = jax.block_until_ready(on_devices.replicated(features, self._devices))
        self._train = held.without(_FEATURES)

    def _batches(self, seed: int, taken: int) -> Iterator[Batch]:
        """Batches of a seed, whole, or this process's rows where those can be read alone."""
        size = self._config.batch_size
        if self._train is None:
            rows = slice(None) if self._by_label else self._rows
            return train_batches(self._dataset, "train", size, seed, taken, self._spec, rows)
        numbers = train_numbers(self._dataset, "train", size, seed, taken)
        return map(self._train.batch, numbers)

    def _put(self, batches: Sequence[Batch]) -> tuple[Shards, list[Batch]]:
        """Puts one batch per seed on the devices."""
        inputs, own = zip(*map(self._inputs, batches), strict=True)
        stacked = _by_seed(inputs, len(self._devices))
        if self._train is not None and not self._features:
            numbers = stacked.pop(_RECORD)
            stacked |= {
                name: self._train.rows(name, numbers)
                for name in _FEATURES
                if name in self._train.arrays
            }
        shards: Shards = on_devices.sharded(stacked, self._devices)
        if self._features:
            shards |= self._rows_on_devices(self._features, shards.pop(_RECORD))
        return shards, list(own)

    def _inputs(self, batch: Batch) -> tuple[dict[str, np.ndarray], Batch]:
        """Arrays of this process's rows of a batch, and those rows; in memory, their numbers."""
        own: Batch
        if isinstance(batch, CachedBatch):
            own = batch.cut(self._rows)
            positives = step_inputs({name: batch[name] for name in _POSITIVES if name in batch})
            arrays = {
                "track": positives["track"][self._rows],
                _RECORD: own.numbers.astype(np.int32),
            }
        elif self._by_label:
            own = {name: rows[self._rows] for name, rows in batch.items()}
            arrays = {name: rows[self._rows] for name, rows in step_inputs(batch).items()}
        else:
            own, arrays = batch, step_inputs(batch)
        return arrays | (self._teacher.of(own) if self._teacher else {}), own


def _by_seed(batches: Sequence[Batch], device_count: int) -> dict[str, np.ndarray]:
    """Stacks the arrays of S seeds, each leaf (devices, S, n, ...)."""
    shards = [on_devices.split(batch, device_count) for batch in batches]
    if len(shards) == 1:  # a view rather than a copy
        return {name: rows[:, None] for name, rows in shards[0].items()}
    stacked: dict[str, Any] = jax.tree.map(lambda *rows: np.stack(rows, axis=1), *shards)
    return stacked


def _ahead(items: Iterator[T]) -> Iterator[T]:
    """Yields the items of an iterator, which a thread takes from it ahead of their time."""
    # One thread, so that the order stays; an error comes in the place of its item.
    thread = ThreadPoolExecutor(1, thread_name_prefix="feed")
    try:
        waiting = deque(thread.submit(next, items, None) for _ in range(_AHEAD))
        while (item := waiting.popleft().result()) is not None:
            waiting.append(thread.submit(next, items, None))
            yield item
    finally:
        thread.shutdown(cancel_futures=True)
