"""Data of a run: its dataset, the specification of its batches, the arrays of a batch."""

import functools
from collections.abc import Iterator, Mapping
from pathlib import Path

import ml_collections
import numpy as np

from vmr.data.batch_spec import BatchSpec
from vmr.data.cached import CachedSplit
from vmr.data.dataset import Dataset, open_dataset
from vmr.data.label_classes import label_counts
from vmr.data.pipeline import eval_batches, require_stored
from vmr.data.standardization import statistics
from vmr.data.validation.report import require_valid
from vmr.errors import UserError
from vmr.training.inputs import encoder_inputs

Batch = Mapping[str, np.ndarray]


def dataset_of(config: ml_collections.ConfigDict, data_dir: str | None = None) -> Dataset:
    """Opens the dataset of `config.dataset`, its training split cut to `train_share`.

    Args:
      config: config of a run.
      data_dir: folder of the dataset; by default the config's.

    Raises:
      UserError: the folder holds no dataset, or one without the text that the model reads.
    """
    dataset = open_dataset(data_dir or config.dataset.data_dir)
    _require_text(config, dataset)
    return dataset.with_share("train", config.dataset.train_share)


def sound_dataset_of(config: ml_collections.ConfigDict) -> Dataset:
    """Opens the dataset like `dataset_of`, and checks its name, its validity and its size.

    Raises:
      UserError: the dataset is not the one that the config names, or not fit to train on.
    """
    dataset = dataset_of(config)
    if config.dataset.name and config.dataset.name != dataset.name:
        raise UserError(
            f"config.dataset.name is {config.dataset.name!r}, but {config.dataset.data_dir} "
            f"holds {dataset.name!r}"
        )
    splits = ", ".join(f"{count:,} {split}" for split, count in dataset.splits.items())
    print(f"reading {dataset.data_dir}: pairs of {splits}", flush=True)
    if not config.dataset.allow_invalid:
        require_valid(config.dataset.data_dir)
    dataset.examples("validation")  # raises where it is missing
    if config.batch_size > dataset.examples("train"):
        raise UserError(
            f"config.batch_size is {config.batch_size}, expected at most "
            f"{dataset.examples('train')}, the videos of the training split; the configs' variant "
            "`small` is for few pairs"
        )
    return dataset


def _require_text(config: ml_collections.ConfigDict, dataset: Dataset) -> None:
    options = config.model.text
    if options.fusion == "none":
        return
    stored = dataset.schema.text
    if stored is None:
        raise UserError(
            f"{dataset.data_dir}: has no text, which config.model.text.fusion={options.fusion} "
            "reads; none goes without"
        )
    if stored.width != options.embedding_width:
        there = f"embeddings of width {stored.width}" if stored.embedded else "strings"
        raise UserError(
            f"config.model.text.embedding_width is {options.embedding_width}, but the text in "
            f"{dataset.data_dir} is {there}, expected {stored.width}"
        )


def batch_spec_of(config: ml_collections.ConfigDict, dataset: Dataset) -> BatchSpec:
    """Specification of the run's batches; counts the training labels if they define positives.

    Raises:
      UserError: the dataset lacks the modality, or the labels, that the config asks for.
    """
    text = config.model.text
    spec = BatchSpec(
        sampling=config.sampling.method,
        # Under `mean`, `sampling.clips` is not read; equal specs then compare equal.
        clips=1 if config.sampling.method == "mean" else config.sampling.clips,
        pairing=config.pairing,
        tokens=0 if text.fusion == "none" else text.tokens,
        vocabulary=text.vocabulary,
        label_counts=label_counts(dataset) if config.positives == "label" else None,
    )
    require_stored(dataset, spec)
    return spec


def feature_widths(dataset: Dataset, spec: BatchSpec) -> dict[str, int]:
    """Feature width of each modality in a batch."""
    return {name: dataset.schema.modalities[side].width for name, side in spec.sides.items()}


def standardization_of(
    dataset: Dataset, spec: BatchSpec, held: CachedSplit | None = None
) -> dict[str, dict[str, np.ndarray]]:
    """Input statistics of the training split, equal for both sides if one encoder serves both.

    Args:
      dataset: dataset of a run.
      spec: specification of its batches.
      held: its training split as it is held in memory; None reads it.
    """
    found = statistics(dataset, "train", spec, held)
    return found if spec.pairing == "video_music" else dict.fromkeys(found, found["video"])


def step_inputs(batch: Batch) -> dict[str, np.ndarray]:
    """Arrays of a batch that a step reads; if labels define positives, `track` holds the labels."""
    by_label = {"track": _positives(batch["label"], batch["track"])} if "label" in batch else {}
    return encoder_inputs(batch) | by_label


def _positives(labels: np.ndarray, tracks: np.ndarray) -> np.ndarray:
    """Positive ids from labels, one label per track: (B,), (B,) -> (B,).

    Videos of one track are positives of each other whatever their labels, and positives have to be
    an equivalence relation: all videos of a track get the highest of their labels. An item without
    a common label has a negative class, which any common label of its track outranks.
    """
    _, places = np.unique(tracks, return_inverse=True)
    highest = np.full(len(tracks), np.iinfo(labels.dtype).min, labels.dtype)
    np.maximum.at(highest, places, labels)
    return highest[places]


def evaluation_batches(
    dataset: Dataset, split: str, batch_size: int, spec: BatchSpec, segments: int = 1
) -> Iterator[Batch]:
    """Batches of `eval_batches`; if labels define positives, they are the true relevance, `group`.

    Prints how many items are left out, if any.
    """
    left_out = dataset.examples(split)
    for batch in eval_batches(dataset, split, batch_size, spec, segments):
        left_out -= len(batch["track"])
        yield with_relevance(batch)
    if left_out:
        _tell_left_out(dataset.data_dir, split, spec.pairing, left_out, dataset.examples(split))


def with_relevance(batch: Batch) -> Batch:
    """Batch whose `group` says what is truly relevant: labels where they define positives."""
    return {**batch, "group": batch["label"]} if "label" in batch else batch


@functools.cache  # told once, not at every evaluation
def _tell_left_out(data_dir: Path, split: str, side: str, left_out: int, items: int) -> None:
    print(
        f"{data_dir}: {split}: {left_out:,} of {items:,} {side} sequences have a single clip, no "
        "two to compare, and are left out of evaluation",
        flush=True,
    )
