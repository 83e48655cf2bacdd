"""One class an item, from the labels that it carries: items of one class are positives.

Items carry several labels, and sharing any of them is no relation of equivalence, which positives
of a loss have to be. So an item's class is the rarest, hence most telling, of its labels that are
common: carried by at least a hundredth of the training items. An item without a common label is in
a class of its own.
"""

import numpy as np
import tensorflow as tf

from vmr.data.dataset import Dataset
from vmr.data.records import records_in_order
from vmr.errors import UserError

_COMMON = 0.01  # share of the training items
_BATCH = 1024


def label_counts(dataset: Dataset) -> np.ndarray:
    """(labels,) int64: training items that carry each label; rarer ones than common count 0.

    Raises:
      UserError: the dataset has no labels.
    """
    if not dataset.schema.has_labels:
        raise UserError(f"{dataset.data_dir}: has no labels, which config.positives=label needs")
    counts = np.zeros(0, np.int64)
    for serialized in records_in_order(dataset.shards["train"]).batch(_BATCH):
        labels = stored_labels(serialized).numpy()
        found = np.bincount(labels[labels >= 0])
        size = max(len(counts), len(found))
        counts = np.pad(counts, (0, size - len(counts))) + np.pad(found, (0, size - len(found)))
    return np.where(counts >= _COMMON * dataset.examples("train"), counts, 0)


def stored_labels(serialized: tf.Tensor) -> tf.Tensor:
    """The labels of serialised examples: (B,) -> (B, K) int64, filled up with -1."""
    spec = {"labels": tf.io.RaggedFeature(tf.int64)}
    return tf.io.parse_example(serialized, spec)["labels"].to_tensor(-1)


def classes(labels: np.ndarray, tracks: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The class of each item: (B, K), (B,) -> (B,) int32.

    Args:
      labels: of each item, filled up with -1.
      tracks: index of each item's track, the class of an item without a common label: these
        classes are negative, so that they meet no label.
      counts: see `label_counts`.
    """
    none = len(counts)  # a place for labels that are not common
    frequency = np.append(counts, 0)
    frequency = np.where(frequency > 0, frequency, np.iinfo(np.int64).max)
    places = np.where((labels >= 0) & (labels < none), labels, none)
    # A column more, so that an item without any label has one to look at.
    places = np.pad(places, [(0, 0), (0, 1)], constant_values=none)
    rarest = places[np.arange(len(places)), np.argmin(frequency[places], axis=1)]
    common = np.append(counts > 0, False)[rarest]
    return np.where(common, rarest, -1 - tracks).astype(np.int32)
