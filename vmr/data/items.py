"""Items of one modality of a split, each once and whole, in stored order."""

import json
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from vmr.data.dataset import DATASET_FILE, Dataset
from vmr.data.decoding import parse_stored
from vmr.data.modality import Modality
from vmr.data.schema import Text
from vmr.data.tfrecords import as_graph, naming_faults, records_in_order, size_fault
from vmr.errors import UserError
from vmr.quantization import dequantize

_AT_ONCE = 64  # records


@dataclass(frozen=True)
class Item:
    """Video or track of a dataset.

    Attributes:
      id: id of the video or of the track.
      features: (P,) vector or (T, P) sequence, float32.
      text: a video's string or embeddings (L, E), see `Text`; None if the dataset has none.
    """

    id: str
    features: np.ndarray
    text: str | np.ndarray | None = None


def count_of(dataset: Dataset, split: str, side: str) -> int:
    """Number of distinct videos or tracks of a split.

    Raises:
      UserError: the dataset has no such split or modality, or `dataset.json` tells no tracks.
    """
    videos = dataset.examples(split)
    if side not in dataset.schema.modalities:
        there = ", ".join(dataset.schema.modalities)
        raise UserError(f"{dataset.data_dir}: has no {side}, only {there}")
    if side == "video":
        return videos
    file = dataset.data_dir / DATASET_FILE
    try:
        tracks = json.loads(file.read_text(encoding="utf-8"))["splits"][split]["tracks"]
    except (ValueError, KeyError, TypeError):
        tracks = None
    if not isinstance(tracks, int) or tracks < 1:
        raise UserError(f"{file}: expected the number of tracks of split {split!r}")
    return tracks


def pair_ids(dataset: Dataset, split: str) -> Iterator[tuple[str, str]]:
    """Yields the video id and the track id of each pair of a split, in stored order.

    Raises:
      UserError: a record is broken.
    """
    records = records_in_order(dataset.shards[split]).batch(_AT_ONCE)
    parsed = records.map(as_graph(lambda batch: parse_stored(batch, dataset.schema))).prefetch(2)
    for fields in naming_faults(parsed, dataset.shards[split], dataset.schema):
        for video, music in zip(fields["video_id"], fields["music_id"], strict=True):
            yield video.decode(), music.decode()


def items_of(dataset: Dataset, split: str, side: str, start: int = 0) -> Iterator[Item]:
    """Yields the videos, or the tracks, of a split from number `start` on.

    A track of several videos comes once, where the first of them is.

    Raises:
      UserError: a record is broken; names it or its item.
    """
    records = records_in_order(dataset.shards[split]).batch(_AT_ONCE)
    parsed = records.map(as_graph(lambda batch: parse_stored(batch, dataset.schema))).prefetch(2)
    modality = dataset.schema.modalities[side]
    stored_as = dataset.schema.text if side == "video" else None
    seen: set[str] = set()
    for fields in naming_faults(parsed, dataset.shards[split], dataset.schema):
        for row, name in enumerate(fields[f"{side}_id"]):
            item = name.decode()
            if item in seen:
                continue
            seen.add(item)
            if len(seen) <= start:
                continue
            fault = size_fault(len(fields[side][row]), modality)
            if fault:
                raise UserError(f"{dataset.data_dir}: {split}: {side} of {item!r} {fault}")
            text = None if stored_as is None else _text(fields["text"][row], stored_as)
            yield Item(item, _decoded(fields[side][row], modality), text)


def _decoded(stored: bytes, modality: Modality) -> np.ndarray:
    values = np.frombuffer(stored, modality.dtype)
    if not modality.sequence:
        return values
    frames = values.reshape(-1, modality.width)
    return dequantize(frames) if modality.quantized else frames


def _text(stored: bytes, text: Text) -> str | np.ndarray:
    return _decoded(stored, text.modality) if text.embedded else stored.decode()
