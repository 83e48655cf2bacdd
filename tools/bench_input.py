"""How fast examples come in: our pipeline against TFDS's reader, arrays in memory, plain tf.data.

python -m tools.bench_input
python -m tools.bench_input --data_dir=data/youtube8m

Every contender hands out the same batches of numpy arrays and runs once in every round, so drift
of the machine hits all alike: quote the ratios. Frame level is timed on generated records of 300
frames x (1024 + 128) bytes; all contenders test the checksums of the records.
"""

import os
import platform
import shlex
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from pathlib import Path

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds
from absl import flags

from tools.generated_frames import WIDTHS, generate_frames
from vmr.command import run
from vmr.data.building.write import write_dataset
from vmr.data.dataset import Dataset, open_dataset
from vmr.data.pipeline import Batch, eval_batches, train_batches
from vmr.data.schema import Modality, Pair, Schema
from vmr.data.sources.source import Source
from vmr.progress_bar import progress_bar
from vmr.quantization import OFFSET, SCALE

_DATA_DIR = flags.DEFINE_string(
    "data_dir", None, "Dataset to time, its train split. Default: 10,000 generated examples."
)
_BATCH = flags.DEFINE_integer("batch_size", 512, "Examples in a batch.", lower_bound=1)
_ROUNDS = flags.DEFINE_integer("rounds", 5, "Timed runs of each contender.", lower_bound=1)
_EXAMPLES = flags.DEFINE_integer("examples", 10_000, "Video-level examples to generate.")
_FRAME_RECORDS = flags.DEFINE_integer(
    "frame_records", 600, "Frame-level records to generate (345 kB each, twice); 0 skips them."
)

# Enough that filling the shuffle buffer, which our pipeline does once an epoch, weighs as it would.
_EPOCHS = 4
_FRAME_BATCH = 64

Contender = Callable[[], Iterator[Batch]]


def main(argv: list[str]) -> None:
    """Times the contenders and prints rates and ratios."""
    del argv
    print(shlex.join(["python", "-m", "tools.bench_input", *sys.argv[1:]]))
    print(f"{os.cpu_count()} cores, {platform.machine()}, TensorFlow {tf.__version__}")
    with tempfile.TemporaryDirectory(prefix="vmr_bench_") as folder:
        scratch = Path(folder)
        dataset = open_dataset(_DATA_DIR.value or _generate_vectors(scratch / "vectors"))
        batch = min(_BATCH.value, dataset.splits["train"])
        compare(f"{dataset.name}: training batches", _vector_contenders(dataset, batch))
        if _FRAME_RECORDS.value:
            source, stored = generate_frames(scratch, _FRAME_RECORDS.value, "tools.bench_input")
            compare("frame level: mean frames", _frame_contenders(source, stored))


def compare(title: str, contenders: Mapping[str, Contender]) -> None:
    """Runs the contenders in turn; prints medians and, round by round, the ratio of the first.

    Processor time is told beside the rate: on a machine that others use it is the steadier one.
    """
    costs: dict[str, list[tuple[float, float]]] = {name: [] for name in contenders}
    for contender in contenders.values():
        _cost(contender)
    for _ in progress_bar(range(_ROUNDS.value), desc=title, unit=" rounds"):
        for name, contender in contenders.items():
            costs[name].append(_cost(contender))
    print(f"\n{title} ({_ROUNDS.value} rounds)")
    for name, runs in costs.items():
        wall, processor = (statistics.median(run[kind] for run in runs) for kind in (0, 1))
        print(f"  {name:30} {1 / wall:11,.0f} examples/s {1e6 * processor:9,.1f} µs of processor")
    ours, *others = costs
    for other in others:
        ratios = [_ratios(costs[ours], costs[other], kind) for kind in (0, 1)]
        print(f"  {ours} / {other}: rate {ratios[0]}, examples per processor second {ratios[1]}")


def _cost(contender: Contender) -> tuple[float, float]:
    wall, processor = time.perf_counter(), time.process_time()
    count = sum(len(batch["music"]) for batch in contender())
    return (time.perf_counter() - wall) / count, (time.process_time() - processor) / count


def _ratios(ours: list[tuple[float, float]], theirs: list[tuple[float, float]], kind: int) -> str:
    ratios = [their[kind] / our[kind] for our, their in zip(ours, theirs, strict=True)]
    return f"{statistics.median(ratios):.2f}x ({min(ratios):.2f}-{max(ratios):.2f})"


def _vector_contenders(dataset: Dataset, batch_size: int) -> dict[str, Contender]:
    steps = dataset.splits["train"] // batch_size
    builder = tfds.builder_from_directory(dataset.data_dir)
    kept = list(eval_batches(dataset, "train", 1024))
    arrays = {name: np.concatenate([batch[name] for batch in kept]) for name in kept[0]}

    def ours() -> Iterator[Batch]:
        return islice(train_batches(dataset, "train", batch_size, seed=0), _EPOCHS * steps)

    def tfds_reader() -> Iterator[Batch]:
        examples = builder.as_dataset(split="train", shuffle_files=True)
        # TFDS hands out labels of differing lengths, which do not batch.
        pairs = examples.map(lambda example: {name: example[name] for name in ("video", "music")})
        shuffled = pairs.shuffle(dataset.splits["train"])
        return tfds.as_numpy(shuffled.batch(batch_size, drop_remainder=True).prefetch(4))

    def in_memory() -> Iterator[Batch]:
        rng = np.random.default_rng(0)
        for _ in range(_EPOCHS):
            order = rng.permutation(len(arrays["track"]))
            for rows in order[: steps * batch_size].reshape(steps, batch_size):
                yield {name: array[rows] for name, array in arrays.items()}

    contenders = {"ours": ours, "arrays in memory": in_memory}
    return contenders if dataset.has_sequences else contenders | {"TFDS as_dataset": tfds_reader}


def _frame_contenders(source: Path, stored: Dataset) -> dict[str, Contender]:
    def ours() -> Iterator[Batch]:
        return eval_batches(stored, "train", _FRAME_BATCH)

    def parse(record: tf.Tensor) -> dict[str, tf.Tensor]:
        lists = {name: tf.io.FixedLenSequenceFeature([], tf.string) for name in WIDTHS}
        _, content = tf.io.parse_single_sequence_example(record, sequence_features=lists)
        return {name: tf.io.decode_raw(content[name], tf.uint8) for name in WIDTHS}

    def pooled(frames: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        means = {
            name: tf.reduce_mean(tf.cast(frames[name], tf.float32) * SCALE + OFFSET, axis=0)
            for name in WIDTHS
        }
        return {"video": means["rgb"], "music": means["audio"]}

    def straightforward() -> Iterator[Batch]:
        records = tf.data.TFRecordDataset(str(source)).map(parse, tf.data.AUTOTUNE)
        batches = records.map(pooled, tf.data.AUTOTUNE).batch(_FRAME_BATCH)
        return batches.prefetch(tf.data.AUTOTUNE).as_numpy_iterator()

    def bytes_only() -> Iterator[Batch]:
        records = tf.data.TFRecordDataset(str(source)).map(parse, tf.data.AUTOTUNE)
        named = records.map(lambda frames: {"video": frames["rgb"], "music": frames["audio"]})
        return named.batch(_FRAME_BATCH).prefetch(tf.data.AUTOTUNE).as_numpy_iterator()

    return {
        "ours": ours,
        "tf.data, mean of floats": straightforward,
        "tf.data, bytes only, no mean": bytes_only,
    }


def _generate_vectors(folder: Path) -> Path:
    rng = np.random.default_rng(0)

    def pairs() -> Iterator[Pair]:
        for row in range(_EXAMPLES.value):
            video, music = rng.normal(size=1024), rng.normal(size=128)
            name = f"{row:08d}"
            yield Pair(name, name, video.astype(np.float32), music.astype(np.float32))

    schema = Schema(Modality(1024), Modality(128))
    source = Source("generated", "Random vectors.", "none", schema, {"train": pairs})
    write_dataset(source, folder, "tools.bench_input")
    return folder


if __name__ == "__main__":
    run(main)
