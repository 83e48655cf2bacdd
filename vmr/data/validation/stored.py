"""Records of a split, each byte read once: parsed for the checks, hashed for the fingerprint.

Reading, checksums and SHA-256 run in a thread of their own, a batch ahead of the checks.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np

from vmr.data.dataset import Dataset, Fingerprint
from vmr.data.decoding import parse_stored
from vmr.data.framing import BrokenFrameError, framed_records
from vmr.data.pipeline import Batch
from vmr.data.quiet_tensorflow import tf
from vmr.data.tfrecords import (
    FRAME,
    HEAD,
    RECORD_FAULTS,
    Shard,
    as_graph,
    report_first_fault,
)

_BATCH = 64


def stored_batches(dataset: Dataset, split: str, digest: Fingerprint) -> Iterator[Batch]:
    """Yields the fields of `parse_stored` of all records of a split as arrays, in stored order.

    Args:
      dataset: dataset from `open_dataset`.
      split: name of the split.
      digest: fingerprint that all bytes of the shards are added to; incomplete after an error.

    Raises:
      UserError: a record is truncated, corrupt or does not fit the schema; names shard and record.
    """
    shards, schema = dataset.shards[split], dataset.schema
    parse = tf.function(
        as_graph(partial(parse_stored, schema=schema)),
        input_signature=[tf.TensorSpec([None], tf.string)],
    )
    try:
        for records in _one_ahead(_batches(shards, digest)):
            yield {name: values.numpy() for name, values in parse(tf.constant(records)).items()}
    except (BrokenFrameError, OSError, *RECORD_FAULTS):
        report_first_fault(shards, schema)
        # Every record reads well on its own: the fault is not in the data.
        raise


def _batches(shards: Sequence[Shard], digest: Fingerprint) -> Iterator[list[bytes]]:
    """Reads records in batches; BrokenFrameError if one is unsound or their number is another."""
    pieces: list[bytes] = []
    records: list[bytes] = []
    count = 0
    for shard in shards:
        with shard.path.open("rb") as file:
            for framed in framed_records(file):
                if not framed.sound:
                    raise BrokenFrameError
                pieces += framed
                records.append(framed.record)
                if len(records) == _BATCH:
                    digest.update(b"".join(pieces))
                    count += _BATCH
                    yield records
                    pieces, records = [], []
    digest.update(b"".join(pieces))
    if count + len(records) != sum(shard.stored for shard in shards):
        raise BrokenFrameError
    if records:
        yield records


def _one_ahead(batches: Iterator[list[bytes]]) -> Iterator[list[bytes]]:
    """Passes on batches, while a thread already makes the next one."""
    with ThreadPoolExecutor(1) as thread:
        upcoming = thread.submit(next, batches, None)
        while (batch := upcoming.result()) is not None:
            upcoming = thread.submit(next, batches, None)
            yield batch


def ids_at(shards: Sequence[Shard], side: str, numbers: np.ndarray) -> Iterator[str]:
    """Yields the ids of some records; reads nothing else but the heads of those between them.

    Args:
      shards: shards of a split, sound at least up to the last of the records.
      side: `video` or `music`.
      numbers: ascending numbers of records, counted over all shards.
    """
    wanted = iter(numbers.tolist())
    number = next(wanted, None)
    count = 0
    for shard in shards:
        with shard.path.open("rb") as file:
            while number is not None and (head := file.read(HEAD)):
                length = int.from_bytes(head[:8], "little")
                if count == number:
                    features = tf.train.Example.FromString(file.read(length)).features.feature
                    file.seek(FRAME - HEAD, 1)
                    yield features[f"{side}_id"].bytes_list.value[0].decode()
                    number = next(wanted, None)
                else:
                    file.seek(length + FRAME - HEAD, 1)
                count += 1
