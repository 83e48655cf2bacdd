"""TFRecord shards: written in the same bytes each time, read in order, faults traced to a record.

Reading in bulk says that a record is broken, not which one. So the pipeline reads fast, and only
after a failure `report_first_fault` reads the shards once more, record by record.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest import mock

import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow_datasets.core.example_serializer import ExampleSerializer

from vmr.data.schema import Modality, Schema
from vmr.errors import UserError

# Bytes around each record: its length (8) with a checksum (4), and a checksum (4) of the content.
_HEAD, _FRAME = 12, 16

# First bytes of files that are no TFRecords, and advice.
_OTHER_KINDS = (
    (b"\x1f\x8b", "is compressed with gzip: unpack it first"),
    (b"BZh", "is compressed with bzip2: unpack it first"),
    (b"\xfd7zXZ", "is compressed with xz: unpack it first"),
    (b"PK\x03\x04", "is a zip archive: unpack it first"),
    (b"version https://git-lfs", "is a Git LFS pointer, not the file itself: fetch it first"),
    (b"<", "is HTML or XML, perhaps the answer of a server that had no such file"),
)

# What TensorFlow raises for a record that is truncated, corrupt, missing, not ours to read or no
# example of ours.
_RECORD_FAULTS = (
    tf.errors.DataLossError,
    tf.errors.FailedPreconditionError,
    tf.errors.InvalidArgumentError,
    tf.errors.NotFoundError,
    tf.errors.PermissionDeniedError,
)

# For functions that tf.data maps over records. They hold no Python control flow over tensors, and
# translating them would cost more than reading a small split.
as_graph = tf.autograph.experimental.do_not_convert


@dataclass(frozen=True)
class Shard:
    """A TFRecord file, or the first examples of it.

    Attributes:
      path: path of the file.
      examples: number of examples to read.
      stored: number of examples that the file holds according to dataset_info.json.
    """

    path: Path
    examples: int
    stored: int

    def first(self, examples: int) -> "Shard":
        """Shard that reads its first `examples` alone."""
        return replace(self, examples=examples)


def records_in_order(shards: Sequence[Shard]) -> tf.data.Dataset:
    """Serialised records of shards in stored order; see `counted`."""
    # No interleaving: evaluation promises the order on disk.
    files = tf.data.Dataset.from_tensor_slices(stored_files(shards))
    return counted(files.flat_map(first_records), shards)


def stored_files(shards: Sequence[Shard]) -> tuple[tf.Tensor, tf.Tensor]:
    """Paths of shards, and how many records to read of each: -1 reads a file to its end."""
    counts = [shard.examples if shard.examples < shard.stored else -1 for shard in shards]
    paths = [str(shard.path) for shard in shards]
    return tf.constant(paths), tf.constant(counts, tf.int64)


@as_graph
def first_records(path: tf.Tensor, count: tf.Tensor) -> tf.data.Dataset:
    """Records of one file of `stored_files`."""
    return tf.data.TFRecordDataset(path).take(count)


def counted(records: tf.data.Dataset, shards: Sequence[Shard]) -> tf.data.Dataset:
    """Records, with an error at their end if they are not as many as the shards should hold.

    A shard cut exactly between two records reads without an error; the count gives it away.
    """
    expected = sum(shard.examples for shard in shards)
    return records.apply(tf.data.experimental.assert_cardinality(expected))


def read_records(path: Path) -> Iterator[tuple[int, bytes]]:
    """Records of one file, numbered from 0, their checksums verified.

    Raises:
      UserError: the file cannot be read, holds no record, or something that is no TFRecord, or a
        record is truncated or fails its checksum.
    """
    number = read = 0
    try:
        for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            yield number, record
            number += 1
            read += len(record) + _FRAME
    except tf.errors.DataLossError as error:
        reason = "truncated" if "truncated" in error.message else "corrupt (its checksum differs)"
        raise _broken(path, number, reason) from None
    except tf.errors.NotFoundError:
        raise UserError(f"{path}: does not exist, expected a TFRecord file") from None
    except tf.errors.PermissionDeniedError:
        raise UserError(f"{path}: may not be read: permission denied") from None
    except tf.errors.FailedPreconditionError:
        raise UserError(f"{path}: is a folder, expected a TFRecord file") from None
    # TensorFlow ends quietly where less than the head of a record is left.
    left = path.stat().st_size - read
    if left:
        raise _broken(path, number, f"truncated: {left} of the {_HEAD} bytes of its head are there")
    if not number:
        raise UserError(f"{path}: is empty, expected TFRecords")


def _broken(path: Path, number: int, reason: str) -> UserError:
    """Error that names the broken record, or the kind of file where the first one is none."""
    with path.open("rb") as file:
        start = file.read(64)
    # The length of a record that is damaged may spell "<", but ends in zeros where text has none.
    if 0 not in start[:8]:
        start = start.removeprefix(b"\xef\xbb\xbf").lstrip()
    elif start.startswith(b"<"):
        start = b""
    if number == 0:
        for signature, kind in _OTHER_KINDS:
            if start.startswith(signature):
                return UserError(f"{path}: {kind}; expected TFRecords")
    return UserError(f"{path}: record {number} is {reason}, expected whole TFRecords")


def naming_faults(
    batches: tf.data.Dataset, shards: Sequence[Shard], schema: Schema
) -> Iterator[Any]:
    """Batches of the records of shards, as numpy arrays; one that cannot be read is named.

    Raises:
      UserError: a record is truncated, corrupt or not as the schema says; tells shard and number.
    """
    arrays = batches.as_numpy_iterator()
    while True:
        try:
            batch = next(arrays)
        except StopIteration:
            return
        except _RECORD_FAULTS:
            report_first_fault(shards, schema)
            raise
        yield batch


def report_first_fault(shards: Iterable[Shard], schema: Schema) -> None:
    """Reads shards one by one and names the first record that is not as the schema says.

    It is slow, so it is called only once reading in bulk has failed.

    Raises:
      UserError: names the shard, the record from 0, and what is wrong with it. Nothing is raised
        where every record is as it should be.
    """
    for shard in shards:
        count = 0
        for number, record in read_records(shard.path):
            fault = _fault(record, schema)
            if fault:
                raise UserError(f"{shard.path}: record {number} {fault}")
            count += 1
        if count != shard.stored:
            raise UserError(
                f"{shard.path}: holds {count} records, expected {shard.stored} (dataset_info.json)"
            )


def _fault(record: bytes, schema: Schema) -> str | None:
    try:
        fields = tf.train.Example.FromString(record).features.feature
    except DecodeError:
        return "is no tf.train.Example"
    numbers = ["music_index", *(["group"] if schema.has_groups else [])]
    for name in numbers:
        if len(fields[name].int64_list.value) != 1:
            return f"has no {name}, expected one int64"
    texts = ["text"] if schema.text else []
    for name in ("video_id", "music_id", *schema.modalities, *texts):
        if len(fields[name].bytes_list.value) != 1:
            return f"has no {name}, expected one bytes value"
    stored = dict(schema.modalities)
    if schema.text and schema.text.embedded:
        stored["text"] = schema.text.modality
    for name, modality in stored.items():
        fault = size_fault(len(fields[name].bytes_list.value[0]), modality)
        if fault:
            return f"{name} {fault}"
    return None


def size_fault(stored: int, modality: Modality) -> str | None:
    """Fault of a stored value of this many bytes, in words; None if its size is right."""
    if modality.sequence and stored % modality.row_bytes:
        return f"has {stored} bytes, expected a multiple of {modality.row_bytes}"
    if not modality.sequence and stored != modality.row_bytes:
        width = modality.width
        return f"has {stored} bytes, expected {modality.row_bytes} ({width} float32 numbers)"
    return None


@contextmanager
def fields_in_order() -> Iterator[None]:
    """Makes TFDS write the fields of every record in the order of their names.

    Protocol buffers write a map in an order that each process draws anew, so a rebuild of the same
    content would have other bytes and another fingerprint. TFDS takes no serialiser of ours, so its
    own is exchanged meanwhile.
    """
    with mock.patch.object(ExampleSerializer, "serialize_example", _serialize):
        yield


def _serialize(serializer: ExampleSerializer, example: dict[str, Any]) -> bytes:
    return serializer.get_tf_example(example).SerializeToString(deterministic=True)
