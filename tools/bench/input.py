"""Times the input: our pipeline against TFDS's reader, arrays in memory and plain tf.data.

python -m tools.bench.input
python -m tools.bench.input --data_dir=data/youtube8m

Contenders yield the same batches of numpy arrays, each in a process of its own, in turns. Frame
level is timed on generated records of 300 frames x (1024 + 128) bytes: means of their frames, and
clips of them. All contenders check the records' checksums.
"""

import functools
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds
from absl import flags

from tools.bench.frames import (
    BATCH,
    MODALITIES,
    WIDTHS,
    clips_table,
    floats,
    generate_frames,
    parsed,
)
from tools.bench.paired import Prepared, lines, machine, take_turns
from vmr.command import run
from vmr.data.building.write import write_dataset
from vmr.data.dataset import Dataset, open_dataset
from vmr.data.modality import Modality
from vmr.data.pipeline import Batch, eval_batches, train_batches
from vmr.data.schema import Pair, Schema
from vmr.data.sources.source import Source

# Several epochs: our pipeline fills its shuffle buffer once in each, as in training.
_EPOCHS = 4
_CLIPS = 32


def main(argv: list[str]) -> None:
    """Times the contenders and prints rates and ratios."""
    del argv
    print(f"{machine()}, TensorFlow {tf.__version__}")
    with tempfile.TemporaryDirectory(prefix="vmr_bench_") as made:
        folder = Path(made)
        data_dir = Path(
            flags.FLAGS.data_dir or generate_vectors(folder / "vectors", flags.FLAGS.examples)
        )
        dataset = open_dataset(data_dir)
        batch = min(flags.FLAGS.batch_size, dataset.splits["train"])
        readers = list(VECTORS)[: 2 if dataset.has_sequences else None]
        examples = _EPOCHS * (dataset.splits["train"] // batch) * batch
        _table(
            f"{dataset.name}: training batches",
            {name: functools.partial(prepare_vectors, name, data_dir, batch) for name in readers},
            examples,
        )
        if flags.FLAGS.frame_records:
            source, stored = generate_frames(folder, flags.FLAGS.frame_records, "tools.bench.input")
            paths = {name: stored.data_dir if name == "ours" else source for name in MEANS}
            means = {name: functools.partial(prepare_means, name, paths[name]) for name in paths}
            _table("frame level: mean frames", means, flags.FLAGS.frame_records)
            print(clips_table(source, stored.data_dir, _CLIPS, 0, flags.FLAGS.rounds))


def _table(title: str, contenders: Mapping[str, Callable[[], Prepared]], examples: int) -> None:
    measured = take_turns(contenders, 0, flags.FLAGS.rounds)
    print(f"\n{title}\n{lines(measured, 'examples', examples)}", flush=True)


def prepare_vectors(name: str, data_dir: Path, batch_size: int) -> Prepared:
    """Prepares turns of some epochs of training batches."""
    dataset = open_dataset(data_dir)
    batches = _EPOCHS * (dataset.splits["train"] // batch_size)
    return _reading(functools.partial(VECTORS[name], dataset, batch_size, batches))


def _ours(dataset: Dataset, batch_size: int, batches: int) -> Iterator[Batch]:
    return islice(train_batches(dataset, "train", batch_size, seed=0), batches)


def _in_memory(dataset: Dataset, batch_size: int, batches: int) -> Iterator[Batch]:
    arrays, order, rng = _arrays(dataset.data_dir), np.zeros(0, int), np.random.default_rng(0)
    for _ in range(batches):
        if len(order) < batch_size:
            order = rng.permutation(len(arrays["track"]))
        rows, order = order[:batch_size], order[batch_size:]
        yield {name: array[rows] for name, array in arrays.items()}


@functools.lru_cache(1)
def _arrays(data_dir: Path) -> dict[str, np.ndarray]:
    batches = list(eval_batches(open_dataset(data_dir), "train", 1024))
    return {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}


def _tfds_reader(dataset: Dataset, batch_size: int, batches: int) -> Iterator[Batch]:
    builder = tfds.builder_from_directory(dataset.data_dir)
    examples = builder.as_dataset(split="train", shuffle_files=True)
    # Labels differ in length and would not batch.
    pairs = examples.map(lambda example: {name: example[name] for name in MODALITIES})
    shuffled = pairs.shuffle(dataset.splits["train"]).batch(batch_size, drop_remainder=True)
    return islice(tfds.as_numpy(shuffled.repeat().prefetch(4)), batches)


VECTORS: dict[str, Callable[[Dataset, int, int], Iterator[Batch]]] = {
    "ours": _ours,
    "arrays in memory": _in_memory,
    "TFDS as_dataset": _tfds_reader,
}


def prepare_means(name: str, path: Path) -> Prepared:
    """Prepares turns of all records, the mean of the frames of each."""
    return _reading(functools.partial(MEANS[name], path))


def _our_means(data_dir: Path) -> Iterator[Batch]:
    return eval_batches(open_dataset(data_dir), "train", BATCH)


def _means_of_floats(source: Path) -> Iterator[Any]:
    def pooled(frames: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        return {name: tf.reduce_mean(floats(x), axis=0) for name, x in frames.items()}

    return _batches(parsed(source).map(pooled, tf.data.AUTOTUNE))


def _bytes_only(source: Path) -> Iterator[Any]:
    return _batches(parsed(source))


MEANS: dict[str, Callable[[Path], Iterator[Batch]]] = {
    "ours": _our_means,
    "mean of floats": _means_of_floats,
    "bytes, no mean": _bytes_only,
}


def _reading(reader: Callable[[], Iterator[Any]]) -> Prepared:
    return Prepared(lambda: sum(1 for _ in reader()))


def _batches(items: tf.data.Dataset) -> Iterator[Any]:
    return items.batch(BATCH).prefetch(tf.data.AUTOTUNE).as_numpy_iterator()


def generate_vectors(
    folder: Path, examples: int, widths: Sequence[int] = tuple(WIDTHS.values())
) -> Path:
    """Writes a dataset of random vectors of both widths, by default YouTube-8M's."""
    rng = np.random.default_rng(0)

    def pairs() -> Iterator[Pair]:
        for row in range(examples):
            video, music = (rng.normal(size=width).astype(np.float32) for width in widths)
            yield Pair(f"{row:08d}", f"{row:08d}", video, music)

    video, music = map(Modality, widths)
    schema = Schema(video, music)
    source = Source("generated", "Random vectors.", "none", schema, {"train": pairs})
    write_dataset(source, folder, "tools.bench.input")
    return folder


def define_flags() -> None:
    """Defines the flags of this command; other modules import its functions without them."""
    flags.DEFINE_string(
        "data_dir", None, "Dataset to time, its train split. Default: 10,000 generated examples."
    )
    flags.DEFINE_integer("batch_size", 512, "Examples in a batch.", lower_bound=1)
    flags.DEFINE_integer("rounds", 5, "Timed runs of each contender.", lower_bound=1)
    flags.DEFINE_integer("examples", 10_000, "Video-level examples to generate.")
    flags.DEFINE_integer(
        "frame_records", 600, "Frame-level records to generate (345 kB each, twice); 0 skips them."
    )


if __name__ == "__main__":
    define_flags()
    run(main)
