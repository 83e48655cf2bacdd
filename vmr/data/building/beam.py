"""Writer of TFDS folders under Apache Beam: the same bytes, read, parsed and written by workers.

The workers read the source twice. The first reading notes the ids of each part. From them alone
this process gives each pair the number of its track and its place in the shuffled split, and so
holds no more than a build without Beam: the ids. The second reading turns pairs into records and
sends each to the worker that writes its shard.

The folder of the dataset, and the files of the source, lie where all workers reach them. In notes
beside the dataset, which go when it is written, workers find what each part is and leave its ids;
the pipelines carry numbers of parts alone.
"""

import json
import pickle
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, lru_cache, partial
from itertools import islice, zip_longest
from operator import call
from pathlib import Path
from typing import Any
from unittest import mock

import apache_beam as beam
import numpy as np
from tensorflow_datasets.core import writer as tfds_writer
from tensorflow_datasets.core.hashing import Hasher
from tensorflow_datasets.core.utils.shard_utils import get_shard_boundaries

from vmr.beam import as_raised, unpickled
from vmr.data.building.numbers import TrackNumbers
from vmr.data.building.write import PairBuilder, example_of, prepare
from vmr.data.quiet_tensorflow import tfds
from vmr.data.schema import Pair, Schema
from vmr.data.sources.source import InParts, Source
from vmr.data.tfrecords import serialize_in_order
from vmr.disk import read_json, write_bytes, write_text
from vmr.errors import UserError


def prepared_under_beam(options: Any, source: Source, folder: Path) -> PairBuilder:
    """Writes a source as a TFDS folder; for `write_dataset`.

    Args:
      options: of the pipelines, see `vmr.beam.beam_options`.
      source: pairs and their origin.
      folder: folder for the dataset and, beside it, for what workers note.

    Raises:
      UserError: the source has a fault, or changed between the two readings.
    """
    # Absolute, since workers elsewhere have working folders of their own.
    folder = folder.resolve()
    notes = folder.with_name("notes")
    numbers = TrackNumbers()
    splits = {split: _in_parts(pairs) for split, pairs in source.splits.items()}
    counts = {split: len(pairs.parts) for split, pairs in splits.items()}
    with as_raised():
        for split, pairs in splits.items():
            _note_parts(split, pairs, notes)
        _note_ids(counts, notes, options)
        for split, pairs in splits.items():
            _number(split, pairs, notes, numbers)
        builder = PairBuilder(
            source=source,
            examples=partial(_examples, counts, source.schema, notes),
            data_dir=folder,
            file_format="tfrecord",
        )
        with mock.patch.object(tfds_writer, "BeamWriter", _Writer):
            config = tfds.download.DownloadConfig(beam_options=options)
            prepare(builder, download_config=config)
    builder.numbers = numbers
    return builder


def _in_parts(pairs: Callable[[], Iterator[Pair]]) -> InParts:
    # A function that does not tell of parts is the only part, and called by its worker.
    return pairs if isinstance(pairs, InParts) else InParts(call, [pairs], "")


def _note(notes: Path, split: str, number: int, kind: str) -> Path:
    return notes / split / f"{number:06d}.{kind}"


def _note_parts(split: str, pairs: InParts, notes: Path) -> None:
    write_bytes(notes / split / "read.pickle", pickle.dumps(pairs.read))
    for number, part in enumerate(pairs.parts):
        write_bytes(_note(notes, split, number, "pickle"), pickle.dumps(part))


def _pairs(number: int, split: str, notes: Path) -> Iterator[Pair]:
    """Reads a part in a worker."""
    read = _reader(notes / split / "read.pickle")
    return read(unpickled(_note(notes, split, number, "pickle")))


# One for each split: it may hold the texts of all videos.
_reader = lru_cache(maxsize=3)(unpickled)


def _note_ids(counts: Mapping[str, int], notes: Path, options: Any) -> None:
    """Reads the source, and notes the ids of each part or, if it has one, its first fault."""
    with beam.Pipeline(options=options) as pipeline:
        for split, count in counts.items():
            (
                pipeline
                | f"Parts of {split}" >> beam.Create(range(count))
                | f"Spread {split}" >> beam.Reshuffle()
                | f"Note ids of {split}" >> beam.Map(_note_ids_of_part, split, notes)
            )


def _note_ids_of_part(number: int, split: str, notes: Path) -> None:
    # A fault is noted and not raised: an engine would try the part again, and tell of the fault
    # that it met first instead of the first in the source.
    noted: dict[str, Any]
    pairs = _pairs(number, split, notes)
    try:
        noted = {"pairs": [(pair.video_id, pair.music_id) for pair in pairs]}
    except UserError as fault:
        noted = {"fault": str(fault)}
    write_text(_note(notes, split, number, "json"), json.dumps(noted))


def _number(split: str, pairs: InParts, notes: Path, numbers: TrackNumbers) -> None:
    """Adds to the notes the number of each pair's track, and its place in the shuffled split."""
    files = [_note(notes, split, number, "json") for number in range(len(pairs.parts))]
    sizes, ids = [], []
    for file in files:
        noted = read_json(file)
        if "fault" in noted:
            raise UserError(noted["fault"])
        sizes.append(len(noted["pairs"]))
        ids += noted["pairs"]
    if not ids and pairs.if_empty:
        raise UserError(pairs.if_empty)
    tracks = [numbers.of_pair(split, *pair) for pair in ids]
    numbers.refuse_empty(split)
    rows = zip(ids, tracks, _places(split, [video_id for video_id, _ in ids]), strict=True)
    for file, size in zip(files, sizes, strict=True):
        of_part = [[*pair, track, place] for pair, track, place in islice(rows, size)]
        write_text(file, json.dumps({"pairs": of_part}))


def _places(split: str, video_ids: Sequence[str]) -> list[int]:
    """Place of each video in the order in which TFDS stores a split, by a hash of the keys."""
    hasher = Hasher(split)
    keys = [hasher.hash_key(video_id) for video_id in video_ids]
    order = sorted(range(len(keys)), key=keys.__getitem__)
    places = np.empty(len(order), np.int64)
    places[order] = np.arange(len(order))
    return places.tolist()


def _examples(counts: Mapping[str, int], schema: Schema, notes: Path, split: str) -> Any:
    """Transform whose workers read the parts of a split again and yield its examples."""
    read = beam.FlatMap(_placed_examples, split, schema, notes)
    return beam.Create(range(counts[split])) | beam.Reshuffle() | read


def _placed_examples(
    number: int, split: str, schema: Schema, notes: Path
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yields the place of each pair of a part in the shuffled split, and its example."""
    noted = read_json(_note(notes, split, number, "json"))["pairs"]
    for pair, row in zip_longest(_pairs(number, split, notes), noted):
        if not pair or not row or [pair.video_id, pair.music_id] != row[:2]:
            raise UserError(f"{split}: the source changed while it was read, start again")
        track, place = row[2:]
        yield place, example_of(pair, track, schema)


class _Writer(tfds_writer.BeamWriter):
    """TFDS's writer under Beam, with the order of fields and the shards of the one without.

    Its own shards are stretches of equal length of the hash, of about as many examples each, and
    sometimes more of them. Here the key of an example is its place, from 0.
    """

    def _serialize_example(self, key_example: tuple[int, Any]) -> tuple[int, bytes]:
        place, example = key_example
        # Workers are other processes, which a patch of TFDS in this one does not reach.
        return place, serialize_in_order(self._serializer, example)

    def _number_of_shards(self, num_examples: int, total_size: int) -> int:
        return self._shard_config.get_number_shards(total_size, num_examples)

    def _assign_shard(
        self, placed: tuple[int, bytes], num_shards: int, largest_key: Sequence[int]
    ) -> tuple[int, tuple[int, bytes]]:
        ends = _shard_ends(largest_key[0] + 1, num_shards)
        return bisect_right(ends, placed[0]), placed


_shard_ends = cache(get_shard_boundaries)
