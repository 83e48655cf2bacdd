"""Pipeline from shards to numpy batches: endless for training, in stored order for evaluation.

    shards ─ shuffle (seed, epoch) ─ skip ─ batch ─ parse (in parallel) ─ prefetch ─ numpy

Records are skipped as bytes, before they are parsed, so a run resumed at step s starts quickly and
sees exactly the batches of an uninterrupted run. Of a dataset with sequences, the numbers of the
records take this way, and `vmr.data.sequences` reads the records where they are parsed.
"""

from collections.abc import Callable, Iterator

import numpy as np

from vmr.data.batch_spec import BatchSpec
from vmr.data.dataset import Dataset
from vmr.data.decoding import parse_batch
from vmr.data.quiet_tensorflow import tf
from vmr.data.sequences import SequenceReader
from vmr.data.tfrecords import (
    as_graph,
    counted,
    first_records,
    naming_faults,
    records_in_order,
    stored_files,
)
from vmr.errors import UserError
from vmr.processes import core_count

Batch = dict[str, np.ndarray]

# Size of the shuffle buffer. An epoch whose records fit is shuffled whole. A larger one is mixed by
# a new order of the shards, several of which are read in turn, and by a buffer of this size; on
# disk, records already lie in the order of a hash of their ids.
SHUFFLE_BYTES = 256 * 1024 * 1024
_MIN_SHUFFLE_RECORDS = 512
_SHARDS_IN_TURN = 8
# Each parser holds a batch, and beyond this many they wait for the records.
_MOST_PARSERS = 8
_READ_AHEAD = 4
_NUMBERS_AHEAD = 64  # batches of 8 bytes an item, so that the start of an epoch holds nothing up
# A sequence has up to 345 kB: few are held at once, but enough that a call's own cost is small.
_SEQUENCES_AT_ONCE = 32
_SEED_STRIDE = 1_000_003
_ALL = slice(None)


def train_batches(
    dataset: Dataset,
    split: str,
    batch_size: int,
    seed: int,
    start_step: int = 0,
    spec: BatchSpec | None = None,
    rows: slice = _ALL,
) -> Iterator[Batch]:
    """Yields shuffled batches without end; each epoch drops a remainder of its own.

    Args:
      dataset: dataset to read, from `open_dataset`.
      split: name of the split, e.g. "train".
      batch_size: B, items in every batch.
      seed: seed of the order of every epoch and of the sampled clips.
      start_step: number of batches that an earlier run has seen; the first batch follows them.
      spec: content of the batch; by default one vector per modality.
      rows: rows of every batch to yield, in their order; others are not parsed. By default all.

    Yields:
      `video` (B, P) and `music` (B, Q) float32. If the spec samples clips of a sequence, they are
      (B, N, P), (B, N, Q) of the stored type, float32 or quantised uint8, with zeros after a
      shorter sequence and with `video_mask`, `music_mask` (B, N) bool. `track` (B,) int32, equal
      for all videos of a track over all splits. `video_id` and `music_id`, (B,) str objects.
      `group` (B,) int32 if the dataset has groups. If the spec asks for them, `label` (B,) int32
      and, of a dataset with text, `text` (B, L) int32 or (B, L, E) float32 with `text_mask` (B, L)
      bool.

    Raises:
      UserError: the split is missing or smaller than a batch, a record is corrupt, the spec asks
        for a modality or sequences that the dataset lacks, or a sampled sequence has no clips.
    """
    spec = spec or BatchSpec()
    require_stored(dataset, spec)
    read = _shuffled_numbers if dataset.has_sequences else _shuffled_records
    items = _epochs(read, dataset, split, batch_size, seed, start_step)
    start, stop, _ = rows.indices(batch_size)
    if not dataset.has_sequences:
        return _vector_batches(dataset, split, items, batch_size, spec, slice(start, stop))
    placed = items.enumerate(start_step * batch_size)
    if (start, stop) != (0, batch_size):
        placed = placed.filter(as_graph(lambda place, _: _within(place % batch_size, start, stop)))
    return _sequence_batches(dataset, split, placed, stop - start, spec, seed=seed)


def train_numbers(
    dataset: Dataset, split: str, batch_size: int, seed: int, start_step: int = 0
) -> Iterator[np.ndarray]:
    """Yields, for each of `train_batches`, the numbers (B,) int64 of its records.

    Records are counted in stored order, that of `eval_batches`, so whoever holds a split in memory
    takes the same batches from there. Nothing is read.

    Raises:
      UserError: the split is missing or smaller than a batch.
    """
    numbers = _epochs(_shuffled_numbers, dataset, split, batch_size, seed, start_step)
    return numbers.batch(batch_size).prefetch(_NUMBERS_AHEAD).as_numpy_iterator()


def eval_batches(
    dataset: Dataset, split: str, batch_size: int, spec: BatchSpec | None = None, segments: int = 1
) -> Iterator[Batch]:
    """Yields every example of a split once, in stored order; the last batch may be smaller.

    If items are paired with themselves, those with a single clip are left out: both samples would
    be that clip, and any model would retrieve one by the other.

    Args:
      dataset: dataset to read, from `open_dataset`.
      split: name of the split, e.g. "validation".
      batch_size: B, items in every batch but the last.
      spec: content of the batch; by default one vector per modality. Clips lie at fixed offsets;
        nothing is random.
      segments: S, equal parts of each sequence. If not 1, clips come from each part, (B, S, N, P)
        with masks (B, S, N), also if the spec pools; a sequence of fewer than S clips has fewer
        parts. `video_length` and `music_length` (B,) int32 are the clips of the whole sequences.

    Yields:
      batches as `train_batches` does.

    Raises:
      UserError: see `train_batches`; also if every item is left out.
    """
    spec = spec or BatchSpec()
    require_stored(dataset, spec)
    examples = dataset.examples(split)
    if not dataset.has_sequences:
        records = records_in_order(dataset.shards[split])
        return _vector_batches(dataset, split, records, batch_size, spec)
    numbers = tf.data.Dataset.range(examples).enumerate()
    batches = _sequence_batches(dataset, split, numbers, batch_size, spec, segments=segments)
    return batches if spec.samples == 1 else _at_least_one(batches, dataset, split, spec)


def require_stored(dataset: Dataset, spec: BatchSpec) -> None:
    """Refuses, with a UserError, a spec that needs a modality or sequences that are not stored."""
    there = dataset.schema.modalities
    for name in sorted(set(spec.sides.values()) - there.keys()):
        raise UserError(
            f"{dataset.data_dir}: has no {name}, only {', '.join(there)}; "
            f"config.pairing={next(iter(there))} compares that with itself"
        )
    if spec.samples == 2 and not there[spec.pairing].sequence:
        raise UserError(
            f"{dataset.data_dir}: its {spec.pairing} is one vector an item, expected sequences, of "
            f"which config.pairing={spec.pairing} compares two samples"
        )


def _epochs(
    read: Callable[[Dataset, str, int, tf.Tensor], tf.data.Dataset],
    dataset: Dataset,
    split: str,
    batch_size: int,
    seed: int,
    start_step: int,
) -> tf.data.Dataset:
    """Items of all epochs from a step on, each shuffled by `read` and cut to whole batches."""
    examples = dataset.examples(split)
    if not 0 < batch_size <= examples:
        raise UserError(
            f"batch_size={batch_size}: expected 1 to {examples}, the videos of split {split!r} "
            f"in {dataset.data_dir}"
        )
    steps = examples // batch_size
    # The order of an epoch depends on the seed and the number of the epoch alone, so a run can
    # resume inside any epoch without reading those before it.
    first_epoch, skipped = divmod(start_step, steps)

    @as_graph
    def items_of(epoch: tf.Tensor) -> tf.data.Dataset:
        # The remainder is dropped before batching, since one `batch` runs on across epochs.
        items = read(dataset, split, seed, epoch).take(steps * batch_size)
        seen = tf.where(epoch == first_epoch, skipped * batch_size, 0)
        return items.skip(tf.cast(seen, tf.int64))

    return tf.data.Dataset.counter(start=first_epoch).flat_map(items_of)


def _shuffled_records(dataset: Dataset, split: str, seed: int, epoch: tf.Tensor) -> tf.data.Dataset:
    shards = dataset.shards[split]
    order = _shard_order(dataset, split, seed, epoch)
    paths, counts = stored_files(shards)
    files = tf.data.Dataset.from_tensor_slices((tf.gather(paths, order), tf.gather(counts, order)))
    records = files.interleave(first_records, cycle_length=_SHARDS_IN_TURN, block_length=16)
    return _shuffled(counted(records, shards), dataset, split, seed, epoch)


def _shuffled_numbers(dataset: Dataset, split: str, seed: int, epoch: tf.Tensor) -> tf.data.Dataset:
    """Numbers of the records of an epoch, as `SequenceReader` counts them, in shuffled order."""
    order = _shard_order(dataset, split, seed, epoch)
    counts = np.array([shard.examples for shard in dataset.shards[split]])
    ends = np.cumsum(counts)
    bounds = (tf.gather(ends - counts, order), tf.gather(ends, order))
    shards = tf.data.Dataset.from_tensor_slices(bounds)
    numbers = shards.interleave(
        as_graph(tf.data.Dataset.range), cycle_length=_SHARDS_IN_TURN, block_length=16
    )
    return _shuffled(numbers, dataset, split, seed, epoch)


def _shard_order(dataset: Dataset, split: str, seed: int, epoch: tf.Tensor) -> tf.Tensor:
    # Stateless: a stateful shuffle would depend on how often it has been called.
    return tf.random.experimental.stateless_shuffle(
        tf.range(len(dataset.shards[split])), seed=tf.stack([tf.constant(seed, tf.int64), epoch])
    )


def _shuffled(
    records: tf.data.Dataset, dataset: Dataset, split: str, seed: int, epoch: tf.Tensor
) -> tf.data.Dataset:
    # The buffer is bounded in bytes, not records: vectors are small and shuffle whole by the
    # hundred thousand, sequences are not.
    mean_bytes = max(1, dataset.bytes[split] // dataset.splits[split])
    buffer = min(dataset.splits[split], max(_MIN_SHUFFLE_RECORDS, SHUFFLE_BYTES // mean_bytes))
    # The stride keeps seeds apart: with seed + epoch, epoch 1 of seed 0 would be epoch 0 of seed 1.
    return records.shuffle(buffer, seed=seed * _SEED_STRIDE + epoch, reshuffle_each_iteration=False)


def _vector_batches(
    dataset: Dataset,
    split: str,
    records: tf.data.Dataset,
    batch_size: int,
    spec: BatchSpec,
    rows: slice = _ALL,
) -> Iterator[Batch]:
    @as_graph
    def parse(serialized: tf.Tensor) -> dict[str, tf.Tensor]:
        return parse_batch(serialized[rows], dataset.schema, spec, sequences={})

    batches = records.batch(batch_size).map(
        parse, num_parallel_calls=_parsers(), deterministic=True
    )
    return _numpy_batches(batches, dataset, split)


def _within(number: tf.Tensor, start: int, stop: int) -> tf.Tensor:
    return tf.logical_and(number >= start, number < stop)


def _sequence_batches(
    dataset: Dataset,
    split: str,
    placed: tf.data.Dataset,
    batch_size: int,
    spec: BatchSpec,
    seed: int | None = None,
    segments: int = 1,
) -> Iterator[Batch]:
    """Batches of records of sequences, from their places in the stream and their numbers."""
    reader = SequenceReader(dataset.shards[split], dataset.schema, spec, seed, segments)
    at_once = min(batch_size, _SEQUENCES_AT_ONCE)
    signature = reader.signature()

    @as_graph
    def parse(places: tf.Tensor, numbers: tf.Tensor) -> dict[str, tf.Tensor]:
        types = [of.dtype for of in signature.values()]
        arrays = tf.numpy_function(reader.read, [numbers, places], types)
        # `numpy_function` loses the static shapes.
        sequences = {
            name: tf.ensure_shape(array, of.shape)
            for (name, of), array in zip(signature.items(), arrays, strict=True)
        }
        serialized = sequences.pop("serialized")
        return parse_batch(serialized, dataset.schema, spec, sequences)

    # The place of an item in the stream decides its clips. The order stays deterministic although
    # parsing runs in parallel.
    batches = placed.batch(at_once).map(parse, num_parallel_calls=_parsers(), deterministic=True)
    for batch in _numpy_batches(batches.rebatch(batch_size), dataset, split):
        _require_clips(batch, dataset, split, spec)
        yield batch


def _parsers() -> int:
    return min(core_count(), _MOST_PARSERS)


def _numpy_batches(batches: tf.data.Dataset, dataset: Dataset, split: str) -> Iterator[Batch]:
    arrays = naming_faults(batches.prefetch(_READ_AHEAD), dataset.shards[split], dataset.schema)
    for batch in arrays:
        yield {name: _readable(array) for name, array in batch.items()}


def _at_least_one(
    batches: Iterator[Batch], dataset: Dataset, split: str, spec: BatchSpec
) -> Iterator[Batch]:
    """Passes on batches of items paired with themselves; raises UserError if there are none."""
    # Known only at the end: the filter reads the records themselves.
    any_left = False
    for batch in batches:
        any_left = True
        yield batch
    if not any_left:
        raise UserError(
            f"{dataset.data_dir}: {split}: every {spec.pairing} sequence has a single clip, "
            f"expected some of two clips, of which config.pairing={spec.pairing} compares one with "
            "the other"
        )


def _require_clips(batch: Batch, dataset: Dataset, split: str, spec: BatchSpec) -> None:
    """Refuses a batch with an empty sequence; the UserError names the first such item."""
    for name, source in spec.sides.items():
        mask = batch.get(f"{name}_mask")
        if mask is None:
            continue
        empty = np.flatnonzero(~mask.reshape(len(mask), -1).any(axis=1))
        if len(empty):
            item = batch[f"{source}_id"][empty[0]]
            raise UserError(
                f"{dataset.data_dir}: {split}: the {source} sequence of {item!r} has length 0, "
                "expected at least one clip"
            )


def _readable(array: np.ndarray) -> np.ndarray:
    if array.dtype != object:
        return array
    return np.array([text.decode() for text in array], object)
