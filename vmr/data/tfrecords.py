"""TFRecord shards: reproducible bytes, reading in stored order, faults traced to a record.

Reading in bulk reports that a record is broken, but not which one. So the pipeline reads fast, and
only after a failure `report_first_fault` reads the shards once more, record by record.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest import mock

from google.protobuf.message import DecodeError
from tensorflow_datasets.core.example_serializer import ExampleSerializer

from vmr.data.modality import Modality
from vmr.data.quiet_tensorflow import tf
from vmr.data.schema import Schema
from vmr.errors import UserError

# Bytes around each record: its length (8) with a checksum (4), and a checksum (4) of the content.
HEAD, FRAME = 12, 16

CORRUPT = "corrupt (its checksum differs)"

# First bytes of files that are often taken for TFRecords, and advice.
_OTHER_KINDS = (
    (b"\x1f\x8b", "is compressed with gzip: unpack it first"),
    (b"BZh", "is compressed with bzip2: unpack it first"),
    (b"\xfd7zXZ", "is compressed with xz: unpack it first"),
    (b"PK\x03\x04", "is a zip archive: unpack it first"),
    (b"version https://git-lfs", "is a Git LFS pointer, not the file itself: fetch it first"),
    (b"<", "is HTML or XML, perhaps the answer of a server that had no such file"),
)

# Errors of TensorFlow for a shard that is missing or unreadable, and for a record that is
# truncated, corrupt or no example of the schema.
RECORD_FAULTS = (
    tf.errors.DataLossError,
    tf.errors.FailedPreconditionError,
    tf.errors.InvalidArgumentError,
    tf.errors.NotFoundError,
    tf.errors.PermissionDeniedError,
)

# Decorator of functions that tf.data maps over records. They have no Python control flow over
# tensors, and AutoGraph would take longer to translate them than to read a small split.
as_graph = tf.autograph.experimental.do_not_convert


@dataclass(frozen=True)
class Shard:
    """TFRecord file, or its first examples.

    Attributes:
      path: path of the file.
      examples: number of examples to read.
      stored: number of examples that the file holds according to dataset_info.json.
    """

    path: Path
    examples: int
    stored: int

    def first(self, examples: int) -> "Shard":
        """Shard reduced to its first `examples`."""
        return replace(self, examples=examples)


def records_in_order(shards: Sequence[Shard]) -> tf.data.Dataset:
    """Reads the serialised records of shards in stored order; checks their number (`counted`)."""
    # No interleaving: embeddings and ranks of an evaluation follow the order on disk.
    files = tf.data.Dataset.from_tensor_slices(stored_files(shards))
    return counted(files.flat_map(first_records), shards)


def stored_files(shards: Sequence[Shard]) -> tuple[tf.Tensor, tf.Tensor]:
    """Paths of shards, and numbers of records to read of each; -1 reads a file to its end."""
    # -1 rather than the expected number, so that surplus records are noticed by `counted`.
    counts = [shard.examples if shard.examples < shard.stored else -1 for shard in shards]
    paths = [str(shard.path) for shard in shards]
    return tf.constant(paths), tf.constant(counts, tf.int64)


@as_graph
def first_records(path: tf.Tensor, count: tf.Tensor) -> tf.data.Dataset:
    """Reads the first `count` records of a file; all of them if `count` is -1."""
    return tf.data.TFRecordDataset(path).take(count)


def counted(records: tf.data.Dataset, shards: Sequence[Shard]) -> tf.data.Dataset:
    """Passes on records, and raises at their end if their number is not that of the shards.

    A shard truncated exactly between two records reads without an error; only the count shows it.
    """
    expected = sum(shard.examples for shard in shards)
    return records.apply(tf.data.experimental.assert_cardinality(expected))


def read_records(path: Path) -> Iterator[tuple[int, bytes]]:
    """Reads the records of one file, numbered from 0, and verifies their checksums.

    Raises:
      UserError: the file cannot be read, is empty or is not a TFRecord file, or a record is
        truncated or fails its checksum.
    """
    number = read = 0
    try:
        for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            yield number, record
            number += 1
            read += len(record) + FRAME
    except tf.errors.DataLossError as error:
        # One error class for both faults; only the text tells them apart.
        reason = "truncated" if "truncated" in error.message else CORRUPT
        raise broken_record(path, number, reason) from None
    except tf.errors.NotFoundError:
        raise UserError(f"{path}: does not exist, expected a TFRecord file") from None
    except tf.errors.PermissionDeniedError:
        raise UserError(f"{path}: may not be read: permission denied") from None
    except tf.errors.FailedPreconditionError:
        raise UserError(f"{path}: is a folder, expected a TFRecord file") from None
    # TensorFlow takes fewer bytes than the head of a record for the end of the file.
    left = path.stat().st_size - read
    if left:
        raise broken_record(
            path, number, f"truncated: {left} of the {HEAD} bytes of its head are there"
        )
    if not number:
        raise UserError(f"{path}: is empty, expected TFRecords")


def broken_record(path: Path, number: int, reason: str) -> UserError:
    """Error that names the broken record or, if it is the first, the kind of file it may be."""
    with path.open("rb") as file:
        start = file.read(64)
    # A TFRecord begins with its length in 8 bytes, the high ones zero; a length of 60 spells "<".
    # Text has no zero bytes, so only then does "<", perhaps after a byte order mark, mean HTML.
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
    """Yields batches of the records of shards as numpy arrays, and names a record that is broken.

    Raises:
      UserError: a record is truncated, corrupt or does not fit the schema; names shard and record.
    """
    arrays = batches.as_numpy_iterator()
    while True:
        try:
            batch = next(arrays)
        except StopIteration:
            return
        except RECORD_FAULTS:
            report_first_fault(shards, schema)
            # Every record reads well on its own: the fault is not in the data.
            raise
        yield batch


def report_first_fault(shards: Iterable[Shard], schema: Schema) -> None:
    """Reads shards record by record and names the first record that does not fit the schema.

    This is slow, so it is called only after reading in bulk has failed.

    Raises:
      UserError: a record is broken; names the shard, the record, counted from 0, and the fault. If
        all records are sound, nothing is raised.
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
    """Description of the wrong size of a value of `stored` bytes; None if the size is right."""
    if modality.sequence and stored % modality.row_bytes:
        return f"has {stored} bytes, expected a multiple of {modality.row_bytes}"
    if not modality.sequence and stored != modality.row_bytes:
        width = modality.width
        return f"has {stored} bytes, expected {modality.row_bytes} ({width} float32 numbers)"
    return None


@contextmanager
def fields_in_order() -> Iterator[None]:
    """Makes TFDS write the fields of every record in the order of their names.

    Protocol buffers serialise a map in an order that differs between processes, so a rebuild of the
    same content would have other bytes and another fingerprint. TFDS accepts no serialiser from
    outside, so its own is patched inside this context.
    """
    with mock.patch.object(ExampleSerializer, "serialize_example", serialize_in_order):
        yield


def serialize_in_order(serializer: ExampleSerializer, example: dict[str, Any]) -> bytes:
    """Record of an encoded example, its fields in the order of their names."""
    return serializer.get_tf_example(example).SerializeToString(deterministic=True)
