"""Clips of frame-level records on the device: our pipeline, and tf.data as one would write it."""

from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import jax
import tensorflow as tf

from tools.generated_frames import WIDTHS
from tools.paired import Prepared
from vmr.data.dataset import open_dataset
from vmr.data.decoding import View
from vmr.data.pipeline import train_batches
from vmr.quantization import OFFSET, SCALE

# Batches until a pipeline has its pace: its buffers filled, its threads tuned.
_WARM_UP = 12


def ours(data_dir: Path, batch_size: int, clips: int) -> Iterator[Any]:
    """`train_batches`, which shuffles: the clips as the bytes that are stored."""
    dataset = open_dataset(data_dir)
    view = View("global_sparse", clips)
    return iter(train_batches(dataset, "train", batch_size, seed=0, view=view))


def straightforward(source: Path, batch_size: int, clips: int) -> Iterator[Any]:
    """tf.data over the source records, not shuffled: all frames to floats, then some of them."""

    def parse(record: tf.Tensor) -> dict[str, tf.Tensor]:
        lists = {name: tf.io.FixedLenSequenceFeature([], tf.string) for name in WIDTHS}
        _, content = tf.io.parse_single_sequence_example(record, sequence_features=lists)
        return {name: tf.io.decode_raw(content[name], tf.uint8) for name in WIDTHS}

    def sampled(frames: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        return {
            name: _global_sparse(tf.cast(frames[source], tf.float32) * SCALE + OFFSET, clips)
            for name, source in (("video", "rgb"), ("music", "audio"))
        }

    records = tf.data.TFRecordDataset(str(source)).repeat().map(parse, tf.data.AUTOTUNE)
    batches = records.map(sampled, tf.data.AUTOTUNE).batch(batch_size)
    return batches.prefetch(tf.data.AUTOTUNE).as_numpy_iterator()


def _global_sparse(frames: tf.Tensor, clips: int) -> tf.Tensor:
    """A random frame of each of so many equal segments."""
    bounds = tf.range(clips + 1) * tf.shape(frames)[0] // clips
    lengths = tf.cast(bounds[1:] - bounds[:-1], tf.float32)
    return tf.gather(frames, bounds[:-1] + tf.cast(tf.random.uniform([clips]) * lengths, tf.int32))


PIPELINES: dict[str, Callable[[Path, int, int], Iterator[Any]]] = {
    "ours": ours,
    "tf.data": straightforward,
}


def prepare(name: str, path: Path, batch_size: int, clips: int, batches: int) -> Prepared:
    """So many batches a turn, each put on the device.

    A turn has a pipeline of its own, which is gone at its end: one that lived on would read ahead
    while others have their turns.
    """
    opened: list[Iterator[Any]] = []

    def warm_up() -> None:
        opened.append(PIPELINES[name](path, batch_size, clips))
        for _ in islice(opened[0], _WARM_UP):
            pass

    def take() -> None:
        for batch in islice(opened.pop(), batches):
            features = [batch[side] for side in ("video", "music")]
            jax.block_until_ready(jax.device_put(features))

    return Prepared(take, before=warm_up)
