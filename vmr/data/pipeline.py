"""Batches of numpy arrays from a dataset's shards: endless for training, in order for evaluation.

    shards ─ shuffle (seed, epoch) ─ skip ─ batch ─ parse (in parallel) ─ prefetch ─ numpy

Records are skipped as bytes, before they are parsed, so a run that continues at step s is soon
there and sees exactly the batches that it would have seen.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import tensorflow as tf

from vmr.data.dataset import Dataset
from vmr.data.parsing import parse_vectors
from vmr.data.records import Shard, report_first_fault
from vmr.errors import UserError

Batch = dict[str, np.ndarray]

# An epoch is shuffled whole where its records fit here; otherwise shards come in a new order each
# epoch, several are read in turn, and records are drawn from a buffer of this size. On disk they
# already lie in the order of a hash of their ids.
SHUFFLE_BYTES = 256 * 1024 * 1024
_MIN_SHUFFLE_RECORDS = 512
_SHARDS_IN_TURN = 8
_PARSERS = 2
_READ_AHEAD = 4
# 345 kB each: few enough to stay in the processor's cache until they are pooled.
_SEQUENCES_AT_ONCE = 8
_SEED_STRIDE = 1_000_003

# What TensorFlow raises for a record that is truncated, corrupt, missing, not ours to read or no
# example of ours.
_RECORD_FAULTS = (
    tf.errors.DataLossError,
    tf.errors.FailedPreconditionError,
    tf.errors.InvalidArgumentError,
    tf.errors.NotFoundError,
    tf.errors.PermissionDeniedError,
)


def train_batches(
    dataset: Dataset, split: str, batch_size: int, seed: int, start_step: int = 0
) -> Iterator[Batch]:
    """Endless shuffled batches; the remainder of an epoch is dropped, another one each epoch.

    Args:
      dataset: see `open_dataset`.
      split: e.g. "train".
      batch_size: B, items in every batch.
      seed: decides the order of every epoch.
      start_step: batches that an earlier run has seen; the first batch is the one that follows.

    Yields:
      `video` (B, Dv) and `music` (B, Dm) float32, `track` (B,) int32 (equal for videos of one
      track, over all splits), `video_id` and `music_id` (B,) str objects, and, where the dataset
      has it, `group` (B,) int32.

    Raises:
      UserError: the split is missing or smaller than a batch, or a record is corrupt.
    """
    examples = dataset.examples(split)
    if not 0 < batch_size <= examples:
        raise UserError(
            f"batch_size={batch_size}: expected 1 to {examples}, the videos of split {split!r} "
            f"in {dataset.data_dir}"
        )
    steps = examples // batch_size
    first_epoch, skipped = divmod(start_step, steps)

    def records_of(epoch: tf.Tensor) -> tf.data.Dataset:
        records = _shuffled_records(dataset, split, seed, epoch).take(steps * batch_size)
        seen = tf.where(epoch == first_epoch, skipped * batch_size, 0)
        return records.skip(tf.cast(seen, tf.int64))

    epochs = tf.data.Dataset.counter(start=first_epoch)
    return _numpy_batches(dataset, split, epochs.flat_map(records_of), batch_size)


def eval_batches(dataset: Dataset, split: str, batch_size: int) -> Iterator[Batch]:
    """Every example of a split once, in stored order; the last batch may be smaller.

    Args:
      dataset: see `open_dataset`.
      split: e.g. "validation".
      batch_size: B, items in every batch but the last.

    Yields:
      batches as `train_batches` does.

    Raises:
      UserError: the split is missing, or a record is corrupt.
    """
    dataset.examples(split)
    shards = dataset.shards[split]
    records = tf.data.TFRecordDataset([str(shard.path) for shard in shards])
    return _numpy_batches(dataset, split, counted(records, shards), batch_size)


def _shuffled_records(dataset: Dataset, split: str, seed: int, epoch: tf.Tensor) -> tf.data.Dataset:
    shards = dataset.shards[split]
    files = tf.constant([str(shard.path) for shard in shards])
    order = tf.random.experimental.stateless_shuffle(
        files, seed=tf.stack([tf.constant(seed, tf.int64), epoch])
    )
    records = tf.data.Dataset.from_tensor_slices(order).interleave(
        tf.data.TFRecordDataset, cycle_length=_SHARDS_IN_TURN, block_length=16
    )
    mean_bytes = max(1, dataset.bytes[split] // dataset.splits[split])
    buffer = min(dataset.splits[split], max(_MIN_SHUFFLE_RECORDS, SHUFFLE_BYTES // mean_bytes))
    return counted(records, shards).shuffle(
        buffer, seed=seed * _SEED_STRIDE + epoch, reshuffle_each_iteration=False
    )


def counted(records: tf.data.Dataset, shards: Sequence[Shard]) -> tf.data.Dataset:
    """The records, and an error at their end if they are not as many as the shards should hold.

    A shard cut exactly between two records reads without an error; the count gives it away.
    """
    expected = sum(shard.examples for shard in shards)
    return records.apply(tf.data.experimental.assert_cardinality(expected))


def _numpy_batches(
    dataset: Dataset, split: str, records: tf.data.Dataset, batch_size: int
) -> Iterator[Batch]:
    parsed_at_once = min(batch_size, _SEQUENCES_AT_ONCE) if dataset.has_sequences else batch_size
    batches = records.batch(parsed_at_once).map(
        lambda serialized: parse_vectors(serialized, dataset.schema),
        num_parallel_calls=_PARSERS,
        deterministic=True,
    )
    if parsed_at_once != batch_size:
        batches = batches.rebatch(batch_size)
    for batch in naming_faults(batches.prefetch(_READ_AHEAD), dataset, split):
        yield {name: _readable(array) for name, array in batch.items()}


def naming_faults(batches: tf.data.Dataset, dataset: Dataset, split: str) -> Iterator[Batch]:
    """The batches as numpy arrays; a record that cannot be read is told by shard and number.

    Raises:
      UserError: a record of `split` is truncated, corrupt or not as the schema says.
    """
    arrays = batches.as_numpy_iterator()
    while True:
        try:
            batch = next(arrays)
        except StopIteration:
            return
        except _RECORD_FAULTS:
            report_first_fault(dataset.shards[split], dataset.schema)
            raise
        yield batch


def _readable(array: np.ndarray) -> np.ndarray:
    if array.dtype != object:
        return array
    return np.array([text.decode() for text in array], object)
