"""Random frame-level records in YouTube-8M's format, and the time of their way to the device."""

import functools
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tools.bench.paired import Prepared, lines, take_turns
from vmr.data.batch_spec import BatchSpec
from vmr.data.building.write import write_dataset
from vmr.data.dataset import Dataset, open_dataset
from vmr.data.pipeline import train_batches
from vmr.data.sources.youtube import youtube8m
from vmr.quantization import OFFSET, SCALE

FRAMES = 300
WIDTHS = {"rgb": 1024, "audio": 128}
MODALITIES = {"video": "rgb", "music": "audio"}
BATCH, _BATCHES = 64, 20
# Batches until a pipeline is steady: its buffers filled, its threads tuned.
_WARM_UP = 12


def generate_frames(folder: Path, records: int, command: str) -> tuple[Path, Dataset]:
    """Writes a file of SequenceExamples, 345 kB each, and a dataset of the same content.

    Args:
      folder: folder for both.
      records: number of records, each of 300 frames × (1024 + 128) bytes.
      command: command that asked for them, for the dataset's card.
    """
    rng = np.random.default_rng(0)
    file = folder / "frames.tfrecord"
    with tf.io.TFRecordWriter(str(file)) as writer:
        for row in range(records):
            record = tf.train.SequenceExample()
            record.context.feature["id"].bytes_list.value.append(b"%08d" % row)
            for name, width in WIDTHS.items():
                for frame in rng.integers(256, size=(FRAMES, width), dtype=np.uint8):
                    feature = record.feature_lists.feature_list[name].feature.add()
                    feature.bytes_list.value.append(frame.tobytes())
            writer.write(record.SerializeToString())
    write_dataset(youtube8m({"train": [str(file)]}), folder / "frames", command)
    return file, open_dataset(folder / "frames")


def parsed(source: Path) -> tf.data.Dataset:
    """Frames of each record, all of them, as bytes."""

    def parse(record: tf.Tensor) -> dict[str, tf.Tensor]:
        lists = {name: tf.io.FixedLenSequenceFeature([], tf.string) for name in WIDTHS}
        _, content = tf.io.parse_single_sequence_example(record, sequence_features=lists)
        frames = {name: tf.io.decode_raw(content[name], tf.uint8) for name in WIDTHS}
        return {modality: frames[name] for modality, name in MODALITIES.items()}

    return tf.data.TFRecordDataset(str(source)).map(parse, tf.data.AUTOTUNE)


def floats(frames: tf.Tensor) -> tf.Tensor:
    """Dequantizes bytes in TensorFlow, as `vmr.quantization.dequantize`."""
    return tf.cast(frames, tf.float32) * SCALE + OFFSET


def clips_table(source: Path, data_dir: Path, clips: int, seconds: float, rounds: int = 3) -> str:
    """Times clips of frame-level records, put on the device: our pipeline and plain tf.data."""
    paths = {"ours": data_dir, "tf.data": source}
    contenders = {
        name: functools.partial(prepare_clips, name, path, BATCH, clips, _BATCHES)
        for name, path in paths.items()
    }
    measured = take_turns(contenders, seconds, rounds)
    title = f"input, {clips} of {FRAMES} frames, global sparse, CRC checked"
    return f"\n{title}\n{lines(measured, 'items', BATCH * _BATCHES)}"


def prepare_clips(name: str, path: Path, batch_size: int, clips: int, batches: int) -> Prepared:
    """Prepares turns of so many batches, each put on the device."""
    import jax

    # A turn has a pipeline of its own: one that lived on would read ahead in others' turns.
    opened: list[Iterator[Any]] = []

    def warm_up() -> None:
        opened.append(CLIPS[name](path, batch_size, clips))
        for _ in islice(opened[0], _WARM_UP):
            pass

    def take() -> None:
        for batch in islice(opened.pop(), batches):
            jax.block_until_ready(jax.device_put([batch[side] for side in MODALITIES]))

    return Prepared(take, before=warm_up)


def our_clips(data_dir: Path, batch_size: int, clips: int) -> Iterator[Any]:
    """Batches of `train_batches`, shuffled, their clips as the stored bytes."""
    spec = BatchSpec("global_sparse", clips)
    return iter(train_batches(open_dataset(data_dir), "train", batch_size, seed=0, spec=spec))


def sampled_floats(source: Path, batch_size: int, clips: int) -> Iterator[Any]:
    """Batches of tf.data, not shuffled: all frames become floats, then some are taken."""

    def sampled(frames: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        return {name: one_a_segment(floats(x)) for name, x in frames.items()}

    def one_a_segment(frames: tf.Tensor) -> tf.Tensor:
        bounds = tf.range(clips + 1) * tf.shape(frames)[0] // clips
        lengths = tf.cast(bounds[1:] - bounds[:-1], tf.float32)
        offsets = tf.cast(tf.random.uniform([clips]) * lengths, tf.int32)
        return tf.gather(frames, bounds[:-1] + offsets)

    batches = parsed(source).repeat().map(sampled, tf.data.AUTOTUNE).batch(batch_size)
    return batches.prefetch(tf.data.AUTOTUNE).as_numpy_iterator()


CLIPS: dict[str, Callable[[Path, int, int], Iterator[Any]]] = {
    "ours": our_clips,
    "tf.data": sampled_floats,
}
