"""One class an item: the rarest of its common labels, counted over the training items."""

from dataclasses import replace

import numpy as np
import pytest

from vmr.data.batch_spec import BatchSpec
from vmr.data.label_classes import CommonLabels, classes, label_counts
from vmr.data.modality import Modality
from vmr.data.pipeline import eval_batches
from vmr.data.schema import Schema
from vmr.errors import UserError

COMMON = CommonLabels(np.array([0, 1, 3]), np.array([50, 10, 30]))  # label 2 is not common
NONE = CommonLabels(np.zeros(0, int), np.zeros(0, int))


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ([0, 1, 3], 1),
        ([0, 3, -1], 2),  # its place among the common labels
        ([0, -1, -1], 0),
        ([2, 0, -1], 0),
        ([2, -1, -1], -8),  # of its own: -1 - track
        ([9, -1, -1], -8),  # a label that no training item carries
        ([-1, -1, -1], -8),
    ],
)
def test_the_rarest_common_label_is_the_class(labels, expected):
    found = classes(np.array([labels]), np.array([7]), COMMON)
    assert found.tolist() == [expected]
    assert found.dtype == np.int32


def test_items_without_a_common_label_are_alone():
    found = classes(np.full((3, 1), 2), np.array([0, 1, 1]), COMMON)
    assert found.tolist() == [-1, -2, -2]  # two videos of one track stay together
    assert classes(np.zeros((2, 0), int), np.array([4, 5]), COMMON).tolist() == [-5, -6]
    assert classes(np.zeros((1, 1), int), np.array([4]), NONE).tolist() == [-5]


def labelled(pairs, labels):
    return [replace(pair, labels=of) for pair, of in zip(pairs, labels, strict=True)]


@pytest.fixture
def dataset(write, vectors):
    schema = Schema(Modality(4), Modality(3), has_labels=True)
    train = [(0, 1)] * 3 + [(0,)] * 4 + [(4,)] + [()] * 2
    return write(
        schema,
        train=labelled(vectors(10), train),
        validation=labelled(vectors(3, start=50), [(1, 9), (4,), (9,)]),
    )


def counted(dataset):
    common = label_counts(dataset)
    return dict(zip(common.labels.tolist(), common.counts.tolist(), strict=True))


def test_counts_are_those_of_the_training_split(dataset):
    assert counted(dataset) == {0: 7, 1: 3, 4: 1}


def test_labels_may_be_of_any_size(write, vectors):
    """No table is as long as the largest label, and two that agree in 32 bits stay apart."""
    schema = Schema(Modality(4), Modality(3), has_labels=True)
    large = [(2**40,), (2**40,), (2**40 + 2**32,), (2**63 - 1,)]
    dataset = write(schema, train=labelled(vectors(4), large))
    assert counted(dataset) == {2**40: 2, 2**40 + 2**32: 1, 2**63 - 1: 1}
    (batch,) = eval_batches(dataset, "train", 10, BatchSpec(label_counts=label_counts(dataset)))
    found = dict(zip(batch["video_id"], batch["label"].tolist(), strict=True))
    assert found == {"v0": 0, "v1": 0, "v2": 1, "v3": 2}


def test_a_corrupt_record_is_told_by_shard_and_number(dataset):
    (shard,) = dataset.shards["train"]
    content = bytearray(shard.path.read_bytes())
    content[40] ^= 255
    shard.path.write_bytes(content)
    with pytest.raises(UserError, match=r"tfrecord-00000-of-00001: record 0 is corrupt"):
        label_counts(dataset)


def test_labels_of_less_than_a_hundredth_are_not_common(write, vectors):
    schema = Schema(Modality(4), Modality(3), has_labels=True)
    pairs = labelled(vectors(201), [(0,)] * 3 + [(1,)] * 2 + [()] * 196)
    assert counted(write(schema, train=pairs)) == {0: 3}


def test_counts_of_a_share_are_those_of_its_items(dataset):
    half = dataset.with_share("train", 0.5)
    (batch,) = eval_batches(half, "train", 10)
    rows = [int(name[1:]) for name in batch["video_id"]]
    assert counted(half)[0] == sum(row < 7 for row in rows)


def test_batches_carry_the_class(dataset):
    spec = BatchSpec(label_counts=label_counts(dataset))
    (batch,) = eval_batches(dataset, "validation", 10, spec)
    assert batch["label"].dtype == np.int32
    found = dict(zip(batch["video_id"], batch["label"].tolist(), strict=True))
    assert found["v50"] == 1
    assert found["v51"] == 2
    track = batch["track"][batch["video_id"].tolist().index("v52")]
    assert found["v52"] == -1 - track


def test_a_dataset_without_labels_is_refused(small_planted):
    with pytest.raises(UserError, match=r"has no labels, which config\.positives=label needs"):
        label_counts(small_planted)
