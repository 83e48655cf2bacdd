"""One class an item, from the labels that it carries: items of one class are positives.

Items carry several labels, and sharing any of them is no relation of equivalence, which positives
of a loss have to be. So an item's class is the rarest, hence most telling, of its labels that are
common: carried by at least a hundredth of the training items. An item without a common label is in
a class of its own.
"""

from collections import Counter
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from vmr.data.dataset import Dataset
from vmr.data.tfrecords import as_graph, naming_faults, records_in_order
from vmr.errors import UserError

_COMMON = 0.01  # share of the training items that must carry a label
_BATCH = 1024


@dataclass(frozen=True)
class CommonLabels:
    """Labels common in the training split.

    Attributes:
      labels: (C,) int64, ascending.
      counts: (C,) int64, training items that carry each label.
    """

    labels: np.ndarray
    counts: np.ndarray


def label_counts(dataset: Dataset) -> CommonLabels:
    """Counts labels in the training split and keeps the common ones.

    Raises:
      UserError: the dataset has no labels, or a record is corrupt.
    """
    if not dataset.schema.has_labels:
        raise UserError(f"{dataset.data_dir}: has no labels, which config.positives=label needs")
    shards = dataset.shards["train"]
    batches = records_in_order(shards).batch(_BATCH).map(stored_labels)
    # Counted by value: labels may be any integers, so there is no table that they all index.
    counts: Counter[int] = Counter()
    for labels in naming_faults(batches, shards, dataset.schema):
        counts.update(labels[labels >= 0].tolist())
    least = _COMMON * dataset.examples("train")
    common = sorted((label, count) for label, count in counts.items() if count >= least)
    labels, totals = np.array(common, np.int64).reshape(-1, 2).T
    return CommonLabels(labels, totals)


@as_graph
def stored_labels(serialized: tf.Tensor) -> tf.Tensor:
    """Labels of serialised examples: (B,) -> (B, K) int64, padded with -1."""
    spec = {"labels": tf.io.RaggedFeature(tf.int64)}
    return tf.io.parse_example(serialized, spec)["labels"].to_tensor(-1)


def classes(labels: np.ndarray, tracks: np.ndarray, common: CommonLabels) -> np.ndarray:
    """Class of each item, an index among the common labels: (B, K), (B,) -> (B,) int32.

    Args:
      labels: labels of each item, padded with -1.
      tracks: track index of each item. An item without a common label has the class
        -1 - track, which is negative so that it meets no label.
      common: see `label_counts`.
    """
    none = len(common.labels)  # index of labels that are not common
    # Labels that are not common count as most frequent, so that `argmin` takes any other first.
    frequency = np.append(common.counts, np.iinfo(np.int64).max)
    index = np.searchsorted(common.labels, labels)
    index = np.where(np.append(common.labels, -1)[index] == labels, index, none)
    # A column more, so that an item without any label has one to look at.
    index = np.pad(index, [(0, 0), (0, 1)], constant_values=none)
    rarest = index[np.arange(len(index)), np.argmin(frequency[index], axis=1)]
    return np.where(rarest < none, rarest, -1 - tracks).astype(np.int32)
