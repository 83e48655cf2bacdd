"""From a config to its data: the dataset that it means, and what a batch shows of it."""

from collections.abc import Iterator, Mapping

import ml_collections
import numpy as np

from vmr.data.dataset import Dataset, open_dataset
from vmr.data.label_classes import label_counts
from vmr.data.pipeline import eval_batches, require_shown
from vmr.data.standardization import statistics
from vmr.data.validation import require_valid
from vmr.data.view import View
from vmr.errors import UserError
from vmr.training.inputs import FIELDS

Batch = Mapping[str, np.ndarray]


def dataset_of(config: ml_collections.ConfigDict, data_dir: str | None = None) -> Dataset:
    """The dataset of `config.dataset`, its training split cut to the share that is asked for.

    Args:
      config: of a run.
      data_dir: where the dataset lies; None where the config says.

    Raises:
      UserError: there is none, or it has not the text that the model reads.
    """
    dataset = open_dataset(data_dir or config.dataset.data_dir)
    _require_text(config, dataset)
    return dataset.with_share("train", config.dataset.train_share)


def sound_dataset_of(config: ml_collections.ConfigDict) -> Dataset:
    """As `dataset_of`, found to be the one the config names, and to be fit to train on."""
    dataset = dataset_of(config)
    if config.dataset.name and config.dataset.name != dataset.name:
        raise UserError(
            f"config.dataset.name is {config.dataset.name!r}, but {config.dataset.data_dir} "
            f"holds {dataset.name!r}"
        )
    if not config.dataset.allow_invalid:
        require_valid(config.dataset.data_dir)
    dataset.examples("validation")  # raises where it is missing
    if config.batch_size > dataset.examples("train"):
        raise UserError(
            f"config.batch_size is {config.batch_size}, expected at most "
            f"{dataset.examples('train')}, the videos of the training split"
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


def view_of(config: ml_collections.ConfigDict, dataset: Dataset) -> View:
    """What a batch of the run shows; reads the labels of the training split where they count.

    Raises:
      UserError: the dataset lacks the modality, or the labels, that the config asks for.
    """
    text = config.model.text
    view = View(
        sampling=config.sampling.method,
        clips=1 if config.sampling.method == "mean" else config.sampling.clips,
        pairing=config.pairing,
        tokens=0 if text.fusion == "none" else text.tokens,
        vocabulary=text.vocabulary,
        label_counts=label_counts(dataset) if config.positives == "label" else None,
    )
    require_shown(dataset, view)
    return view


def shown_widths(dataset: Dataset, view: View) -> dict[str, int]:
    """Of the features under each name of a batch."""
    return {name: dataset.schema.modalities[side].width for name, side in view.sides.items()}


def standardization_of(dataset: Dataset, view: View) -> dict[str, dict[str, np.ndarray]]:
    """Statistics of the training split as the view shows it; one encoder has those of one side."""
    found = statistics(dataset, "train", view)
    return found if view.pairing == "video_music" else dict.fromkeys(found, found["video"])


def on_device(batch: Batch) -> dict[str, np.ndarray]:
    """What the devices are given of a batch; items of one label are positives where it has any."""
    given = {name: batch[name] for name in FIELDS if name in batch}
    return given | ({"track": batch["label"]} if "label" in batch else {})


def evaluation_batches(
    dataset: Dataset, split: str, batch_size: int, view: View, segments: int = 1
) -> Iterator[Batch]:
    """As `eval_batches`; `group`, what is truly relevant, is the label where labels count."""
    for batch in eval_batches(dataset, split, batch_size, view, segments):
        yield {**batch, "group": batch["label"]} if "label" in batch else batch
