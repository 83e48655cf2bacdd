"""Small planted datasets in every form that a run may meet."""

import pathlib
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from vmr.data.building.write import write_dataset
from vmr.data.modality import Modality
from vmr.data.schema import Pair, Schema, Text
from vmr.data.sources.planted import planted
from vmr.data.sources.source import Source
from vmr.quantization import OFFSET, SCALE, dequantize

BYTES = Modality(192, sequence=True, quantized=True), Modality(96, sequence=True, quantized=True)
FLOATS = Modality(192, sequence=True), Modality(96, sequence=True)
VECTORS = Modality(192), Modality(96)
LABELS = 5
# Bytes, words, labels and planted truth: what any config asks for is there.
RICH = Schema(*BYTES, text=Text(), has_labels=True, has_groups=True)

Change = Callable[[Pair], Pair]


def write(folder: pathlib.Path, schema: Schema, change: Change, clips: int = 12) -> str:
    """Writes 76 training pairs, 12 of validation and of test, each changed; returns the folder."""
    source = planted(videos=100, tracks=90, clips=clips, text=True)

    def of(split: str) -> Callable[[], Iterator[Pair]]:
        return lambda: map(change, source.splits[split]())

    splits = {name: of(name) for name in source.splits}
    write_dataset(Source("made", "by a test", "none", schema, splits), folder, "a test")
    return str(folder)


def rich(pair: Pair) -> Pair:
    """Clips as bytes, one to four of them in a third of the items, and a label."""
    return replace(
        pair,
        video=quantized(shortened(pair.video, pair.video_id)),
        music=quantized(shortened(pair.music, pair.music_id)),
        labels=(label_of(pair),),
    )


def rich_in_floats(pair: Pair) -> Pair:
    """What the bytes of `rich` stand for."""
    pair = rich(pair)
    return replace(pair, video=dequantize(pair.video), music=dequantize(pair.music))


def speechless(pair: Pair) -> Pair:
    """`rich` without any text."""
    return replace(rich(pair), text="")


def music_alone(pair: Pair) -> Pair:
    """As AudioSet: one id, no video."""
    return replace(rich(pair), music_id=pair.video_id, video=None)


def with_embeddings(pair: Pair) -> Pair:
    """Words as one-hot embeddings of width 6, by their length."""
    lengths = [min(len(word), 6) - 1 for word in str(pair.text).split()]
    return replace(pair, text=np.eye(6, dtype=np.float32)[lengths].reshape(-1, 6))


def label_of(pair: Pair) -> int:
    """The only label of a pair."""
    return pair.group % LABELS


def shortened(clips: np.ndarray, item: str) -> np.ndarray:
    """The first one to four clips of every third item."""
    number = int(item[-6:])
    return clips if number % 3 else clips[: 1 + number // 3 % 4]


def quantized(values: np.ndarray) -> np.ndarray:
    """The nearest bytes."""
    return np.clip(np.round((values - OFFSET) / SCALE), 0, 255).astype(np.uint8)
