"""Sequences of records, read where they are pooled or sampled, without TensorFlow's copies.

A record of sequences has up to 345 kB. tf.data copies it twice as it reads, its parser copies the
frames out of it, and one more copy hands them to NumPy; together that takes longer than to read,
check and pool them. So tf.data orders the *numbers* of the records, and a batch of numbers becomes
arrays in one step, whose frames are views of the records as they are stored.
"""

import os
from bisect import bisect_right
from collections.abc import Collection, Iterator, Sequence
from functools import lru_cache
from itertools import accumulate

import google_crc32c
import numpy as np
from google.protobuf.message import DecodeError

from vmr.data.batch_spec import BatchSpec
from vmr.data.quiet_tensorflow import tf
from vmr.data.sampling import mean_frames, sampled_clips, segment_offsets
from vmr.data.schema import Schema
from vmr.data.tfrecords import FRAME, HEAD, Shard

# Shards open at once: those that are read in turn, and as many again that the shuffle still holds.
_OPEN = 16


class SequenceReader:
    """Reader of the records of a split by their numbers, counted in stored order."""

    def __init__(
        self,
        shards: Sequence[Shard],
        schema: Schema,
        spec: BatchSpec,
        seed: int | None,
        segments: int,
    ) -> None:
        self._shards, self._schema, self._spec = shards, schema, spec
        self._seed, self._segments = seed, segments
        self._ends = list(accumulate(shard.examples for shard in shards))
        self._opened = lru_cache(_OPEN)(_OpenShard)
        self._sequences = {n: of for n, of in schema.modalities.items() if of.sequence}

    def signature(self) -> dict[str, tf.TensorSpec]:
        """Types and shapes of what `read` returns: `serialized` and the arrays of each sequence."""
        spec, segments = self._spec, self._segments
        arrays = {"serialized": tf.TensorSpec([None], tf.string)}
        for name, source in spec.sides.items():
            modality = self._schema.modalities[source]
            parts = [None, segments, spec.clips] if segments > 1 else [None, spec.clips]
            dtype = tf.float32 if spec.sampling == "mean" else modality.dtype
            if modality.sequence and spec.sampling == "mean" and segments == 1:
                arrays[name] = tf.TensorSpec([None, modality.width], tf.float32)
            elif modality.sequence:
                arrays[name] = tf.TensorSpec([*parts, modality.width], dtype)
                arrays[f"{name}_mask"] = tf.TensorSpec(parts, tf.bool)
                if segments > 1:
                    arrays[f"{name}_length"] = tf.TensorSpec([None], tf.int32)
        return arrays

    def read(self, numbers: np.ndarray, places: np.ndarray) -> list[np.ndarray]:
        """Reads records, and pools or samples their sequences.

        If items are paired with themselves, those with a single clip are left out of an evaluation.

        Args:
          numbers: (B,) numbers of the records.
          places: (B,) places of the items in the stream, which key the draws of their clips.

        Returns:
          arrays of (B, ...) in the order of `signature`; `serialized` lacks the sequences.

        Raises:
          ValueError: a record is missing, or corrupt, or lacks a sequence.
        """
        items = [self._item(number) for number in numbers.tolist()]
        if self._spec.samples == 2 and self._seed is None:
            one_clip = self._schema.modalities[self._spec.pairing].row_bytes
            items = [item for item in items if len(item[1][self._spec.pairing]) != one_clip]
        # Arrays of objects: NumPy would make one of strings, which lose their last zero bytes.
        serialized = np.empty(len(items), object)
        stored = {name: np.empty(len(items), object) for name in self._sequences}
        for row, (serialized[row], contents) in enumerate(items):
            for name, content in contents.items():
                stored[name][row] = content
        return [serialized, *self._arrays(stored, places)]

    def _item(self, number: int) -> tuple[bytes, dict[str, bytes | memoryview]]:
        """Reads an example: its small fields, serialised, and the content of its sequences."""
        place = bisect_right(self._ends, number)
        shard = self._shards[place]
        try:
            record = self._opened(shard).read(number - self._ends[place] + shard.examples)
            small, contents = split_example(memoryview(record), self._sequences)
        except (DecodeError, IndexError, OSError, ValueError) as error:
            # As a ValueError it passes through tf.data to `naming_faults`.
            raise ValueError(f"{shard.path}: {error}") from None
        for name, modality in self._sequences.items():
            if len(contents.get(name, b"")) % modality.row_bytes or name not in contents:
                raise ValueError(f"{shard.path}: {name} is missing or cut within a frame")
            if not modality.quantized:
                contents[name] = bytes(contents[name])  # a view of floats would not be aligned
        return small, contents

    def _arrays(self, stored: dict[str, np.ndarray], places: np.ndarray) -> Iterator[np.ndarray]:
        spec, segments = self._spec, self._segments
        offsets = None
        for number, source in enumerate(spec.sides.values()):
            modality = self._schema.modalities[source]
            if not modality.sequence:
                continue
            content = stored[source]
            if spec.sampling == "mean" and segments == 1:
                yield mean_frames(content, modality)
                continue
            # Drawn once, so that both modalities of a pair show clips of the same relative times.
            if offsets is None:
                offsets = segment_offsets(
                    places[: len(content)], spec.clips, self._seed, spec.samples, spec.sampling
                )
            of_sample = offsets[number % spec.samples]
            yield from sampled_clips(
                content, of_sample, modality, spec.sampling, spec.samples, segments
            )
            if segments > 1:
                yield np.array([len(each) // modality.row_bytes for each in content], np.int32)


class _OpenShard:
    """Shard with the places of its records.

    Raises:
      ValueError: the shard holds more or fewer records than expected, or is cut.
    """

    def __init__(self, shard: Shard) -> None:
        self._path, self._starts = shard.path, [0]
        with shard.path.open("rb", buffering=0) as opened:
            file = opened.fileno()
            if hasattr(os, "posix_fadvise"):
                # Asked for in shuffled order, the records should come off the disk in stored one.
                os.posix_fadvise(file, 0, 0, os.POSIX_FADV_WILLNEED)
            size = os.fstat(file).st_size
            while self._starts[-1] < size:
                length = int.from_bytes(os.pread(file, 8, self._starts[-1]), "little")
                self._starts.append(self._starts[-1] + FRAME + length)
        if self._starts[-1] != size or len(self._starts) - 1 != shard.stored:
            raise ValueError(f"is cut, or not of {shard.stored} records")

    def read(self, number: int) -> bytes:
        """Record of a number, both checksums verified."""
        start, stop = self._starts[number : number + 2]
        # Opened anew, in microseconds, so that no file stays open when a pipeline is dropped.
        with self._path.open("rb", buffering=0) as file:
            head = os.pread(file.fileno(), HEAD, start)
            record = os.pread(file.fileno(), stop - start - FRAME, start + HEAD)
            foot = os.pread(file.fileno(), 4, stop - 4)
        for content, stored in ((head[:8], head[8:]), (record, foot)):
            if masked_checksum(content) != int.from_bytes(stored, "little"):
                raise ValueError(f"record {number} is corrupt")
        return record


def masked_checksum(content: bytes) -> int:
    """CRC-32C of bytes as TFRecord stores it: rotated and shifted, since it may itself be checked.

    The constant and the rotation are those of tensorflow.org/tutorials/load_data/tfrecord.
    """
    crc = google_crc32c.value(content)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def split_example(
    record: memoryview, sequences: Collection[str]
) -> tuple[bytes, dict[str, bytes | memoryview]]:
    """Splits a tf.train.Example into its other fields, serialised, and views of the sequences.

    Wire format: field 1 of the example is the map of features; an entry has a name and a feature,
    and of a feature of bytes its value lies three messages deep (protobuf.dev, Encoding).

    Raises:
      ValueError: a sequence is not of one value.
      IndexError, DecodeError: this is no example.
    """
    small = []
    contents: dict[str, bytes | memoryview] = {}
    at, end = message_bounds(record, 0)
    while at < end:
        start, (inner, stop) = at, message_bounds(record, at)
        name_at, name_end = message_bounds(record, inner)
        name = str(record[name_at:name_end], "utf-8")
        if name in sequences:
            value_at, value_end = name_end, stop
            for _ in range(3):
                value_at, value_end = message_bounds(record, value_at)
            if value_end != stop:
                raise ValueError(f"{name}: expected one value")
            contents[name] = record[value_at:value_end]
        else:
            small.append(record[start:stop])
        at = stop
    example = tf.train.Example()
    example.features.MergeFromString(b"".join(small))
    return example.SerializeToString(), contents


def message_bounds(record: memoryview, at: int) -> tuple[int, int]:
    """Bounds of the content of the length-delimited field that starts at a byte."""
    if record[at] & 7 != 2:
        raise ValueError("no tf.train.Example")
    length = shift = 0
    while True:
        at += 1
        length |= (record[at] & 127) << shift
        if record[at] < 128:
            return at + 1, at + 1 + length
        shift += 7
