"""Class of each item, derived from its labels; items of one class are positives of the loss.

Items carry several labels, and sharing any label is not transitive, whereas positives of the loss
must form an equivalence relation. So the class of an item is the rarest, hence most specific, of
its common labels: those carried by at least 1 % of the training items. An item without a common
label forms a class of its own track.
"""

from collections import Counter
from dataclasses import dataclass

import numpy as np

from vmr.data.dataset import Dataset
from vmr.data.measured import measured
from vmr.data.quiet_tensorflow import tf
from vmr.data.tfrecords import as_graph, naming_faults, records_in_order
from vmr.errors import UserError

_COMMON = 0.01  # least share of the training items that carry a common label
_BATCH = 1024


@dataclass(frozen=True)
class CommonLabels:
    """Labels common in the training split.

    Attributes:
      labels: (C,) int64, ascending.
      counts: (C,) int64, number of training items that carry each label.
    """

    labels: np.ndarray
    counts: np.ndarray


def label_counts(dataset: Dataset) -> CommonLabels:
    """Counts labels in the training split and keeps the common ones.

    The counts are kept beside the dataset, see `vmr.data.measured`.

    Raises:
      UserError: the dataset has no labels, or a record is corrupt.
    """
    if not dataset.schema.has_labels:
        raise UserError(f"{dataset.data_dir}: has no labels, which config.positives=label needs")
    arrays = measured(
        dataset, "train", "labels", {"common": _COMMON}, lambda: _common_labels(dataset)
    )
    return CommonLabels(arrays["labels"], arrays["counts"])


def _common_labels(dataset: Dataset) -> dict[str, np.ndarray]:
    """The fields of `CommonLabels`."""
    shards = dataset.shards["train"]
    batches = records_in_order(shards).batch(_BATCH).map(stored_labels)
    # Counted in a dictionary: labels may be any integers, too large to index an array.
    counts: Counter[int] = Counter()
    for labels in naming_faults(batches, shards, dataset.schema):
        counts.update(labels[labels >= 0].tolist())
    least = _COMMON * dataset.examples("train")
    common = sorted((label, count) for label, count in counts.items() if count >= least)
    labels, totals = np.array(common, np.int64).reshape(-1, 2).T
    return {"labels": labels, "counts": totals}


@as_graph
def stored_labels(serialized: tf.Tensor) -> tf.Tensor:
    """Parses the labels of serialised examples: (B,) -> (B, K) int64, padded with -1."""
    spec = {"labels": tf.io.RaggedFeature(tf.int64)}
    return tf.io.parse_example(serialized, spec)["labels"].to_tensor(-1)


def classes(labels: np.ndarray, tracks: np.ndarray, common: CommonLabels) -> np.ndarray:
    """Class of each item, an index into the common labels: (B, K), (B,) -> (B,) int32.

    Args:
      labels: (B, K) labels of each item, padded with -1.
      tracks: (B,) track index of each item. An item without a common label has the class
        -1 - track, which is negative and so equals no index of a label.
      common: common labels of the training split, from `label_counts`.
    """
    none = len(common.labels)  # index of labels that are not common
    # Other labels get the highest frequency, so that `argmin` prefers any common label to them.
    frequency = np.append(common.counts, np.iinfo(np.int64).max)
    # `searchsorted` gives an insertion point for any label; it is common if it equals the entry
    # there. A label beyond the last entry is compared with the -1 appended.
    index = np.searchsorted(common.labels, labels)
    index = np.where(np.append(common.labels, -1)[index] == labels, index, none)
    # One more column, since `argmin` over K = 0 columns (a batch without any label) raises.
    index = np.pad(index, [(0, 0), (0, 1)], constant_values=none)
    rarest = index[np.arange(len(index)), np.argmin(frequency[index], axis=1)]
    return np.where(rarest < none, rarest, -1 - tracks).astype(np.int32)
