"""Splits held in memory: read once, then taken row by row, by the numbers of their records.

What is held is what `vmr.data.pipeline` would yield, so a batch taken from here is the batch read
from disk, bit by bit: vectors, means of sequences, text, labels and ids. Sampled clips are drawn
anew for every batch, and cannot be held.
"""

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from vmr.data.batch_spec import BatchSpec
from vmr.data.dataset import Dataset
from vmr.data.pipeline import Batch, eval_batches
from vmr.progress_bar import progress_bar

_BATCH = 1024
# Of ids: an object each would take three times the memory, and an array of fixed width would drop
# zero bytes at their ends.
_STRINGS = np.dtypes.StringDType()
_ALIGNED = 64  # bytes
# Track, group and label, and both ids: within 15 bytes in 16, longer ones beside their 16.
_SMALL_BYTES = 3 * 4 + 2 * (16 + 16)


@dataclass(frozen=True)
class CachedSplit:
    """Fields of all examples of a split, in stored order.

    Attributes:
      arrays: fields of a batch by name, each (N, ...).
    """

    arrays: dict[str, np.ndarray]

    def rows(self, name: str, numbers: np.ndarray) -> np.ndarray:
        """Field of the examples of these numbers: (...) int -> (..., P)."""
        rows = self.arrays[name]
        if rows.ndim == 1:
            return _as_objects(rows[numbers])
        taken = _aligned((*numbers.shape, *rows.shape[1:]), rows.dtype)
        # Numbers are within range; without `clip` NumPy would make a copy of `taken` to be sure.
        return np.take(rows, numbers, axis=0, out=taken, mode="clip")

    def batch(self, numbers: np.ndarray) -> "CachedBatch":
        """Batch of the examples of these numbers (B,)."""
        return CachedBatch(self, numbers)

    def batches(self, batch_size: int) -> Iterator[Batch]:
        """Yields the batches of `eval_batches`, as views."""
        for start in range(0, len(self.arrays["track"]), batch_size):
            within = slice(start, start + batch_size)
            yield {name: _as_objects(rows[within]) for name, rows in self.arrays.items()}

    def without(self, names: Collection[str]) -> "CachedSplit":
        """Split that lacks some fields."""
        kept = {name: rows for name, rows in self.arrays.items() if name not in names}
        return replace(self, arrays=kept)


class CachedBatch(Mapping[str, np.ndarray]):
    """Batch of a split in memory, whose fields (B, ...) are taken when they are asked for.

    Attributes:
      numbers: (B,) numbers of its examples.
    """

    def __init__(self, split: CachedSplit, numbers: np.ndarray) -> None:
        self.numbers = numbers
        self._split = split

    def __getitem__(self, name: str) -> np.ndarray:
        return self._split.rows(name, self.numbers)

    def __contains__(self, name: object) -> bool:
        return name in self._split.arrays

    def __iter__(self) -> Iterator[str]:
        return iter(self._split.arrays)

    def __len__(self) -> int:
        return len(self._split.arrays)

    def cut(self, rows: slice) -> "CachedBatch":
        """Some rows of the batch."""
        return CachedBatch(self._split, self.numbers[rows])


def is_cacheable(dataset: Dataset, spec: BatchSpec) -> bool:
    """True if an example gives the same arrays in every batch: none of its clips are sampled."""
    return spec.samples == 1 and (spec.sampling == "mean" or not dataset.has_sequences)


def cached_bytes(dataset: Dataset, split: str, spec: BatchSpec) -> int:
    """Size in bytes of a split in memory, but for the few bytes of ids that are long."""
    one = sum(4 * dataset.schema.modalities[source].width for source in spec.sides.values())
    if spec.tokens and dataset.schema.text:
        one += spec.tokens * (4 * max(1, dataset.schema.text.width) + 1)  # with its mask
    return dataset.examples(split) * (one + _SMALL_BYTES)


def cached(dataset: Dataset, split: str, spec: BatchSpec) -> CachedSplit:
    """Reads a split into memory, see `is_cacheable`.

    Raises:
      UserError: the split is missing, or a record is corrupt.
    """
    count, start = dataset.examples(split), 0
    arrays: dict[str, np.ndarray] = {}
    with progress_bar(total=count, desc=f"hold {split} in memory", unit=" pairs") as bar:
        for batch in eval_batches(dataset, split, _BATCH, spec):
            stop = start + len(batch["track"])
            for name, rows in batch.items():
                if name not in arrays:
                    dtype = _STRINGS if rows.dtype == object else rows.dtype
                    arrays[name] = np.empty((count, *rows.shape[1:]), dtype)
                arrays[name][start:stop] = rows
            start = stop
            bar.update(len(batch["track"]))
    for rows in arrays.values():
        rows.flags.writeable = False  # batches are views of them
    return CachedSplit(arrays)


def _aligned(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Empty array that JAX takes as it lies, where the device is a CPU, rather than copy it."""
    size = math.prod(shape) * dtype.itemsize
    memory = np.empty(size + _ALIGNED, np.uint8)
    start = -memory.ctypes.data % _ALIGNED
    return memory[start : start + size].view(dtype).reshape(shape)


def _as_objects(rows: np.ndarray) -> np.ndarray:
    """Rows as the pipeline has them, with ids as an array of objects."""
    return rows.astype(object) if rows.dtype == _STRINGS else rows
