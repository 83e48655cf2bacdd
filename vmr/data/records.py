"""TFRecord shards: read one by one, and the place of the first record that is not whole."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import tensorflow as tf
from google.protobuf.message import DecodeError

from vmr.data.schema import Modality, Schema
from vmr.errors import UserError


@dataclass(frozen=True)
class Shard:
    """A TFRecord file and the number of examples that its dataset says it holds."""

    path: Path
    examples: int


def read_records(path: Path) -> Iterator[tuple[int, bytes]]:
    """The records of one file, numbered from 0, their checksums tested.

    Raises:
      UserError: the file cannot be read, or a record is truncated or fails its checksum.
    """
    number = 0
    try:
        for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            yield number, record
            number += 1
    except tf.errors.DataLossError as error:
        reason = "truncated" if "truncated" in error.message else "corrupt (its checksum differs)"
        raise UserError(f"{path}: record {number} is {reason}, expected whole TFRecords") from None
    except tf.errors.NotFoundError:
        raise UserError(f"{path}: does not exist, expected a TFRecord file") from None
    except tf.errors.PermissionDeniedError:
        raise UserError(f"{path}: may not be read: permission denied") from None
    except tf.errors.FailedPreconditionError:
        raise UserError(f"{path}: is a folder, expected a TFRecord file") from None


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
        if count != shard.examples:
            raise UserError(
                f"{shard.path}: holds {count} records, expected {shard.examples} "
                "(dataset_info.json)"
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
    for name in ("video_id", "music_id", "video", "music"):
        if len(fields[name].bytes_list.value) != 1:
            return f"has no {name}, expected one bytes value"
    for name, modality in (("video", schema.video), ("music", schema.music)):
        fault = size_fault(len(fields[name].bytes_list.value[0]), modality)
        if fault:
            return f"{name} {fault}"
    return None


def size_fault(stored: int, modality: Modality) -> str | None:
    """What is wrong with a stored value of so many bytes, or None."""
    if modality.sequence and stored % modality.row_bytes:
        return f"has {stored} bytes, expected a multiple of {modality.row_bytes}"
    if not modality.sequence and stored != modality.row_bytes:
        width = modality.width
        return f"has {stored} bytes, expected {modality.row_bytes} ({width} float32 numbers)"
    return None
