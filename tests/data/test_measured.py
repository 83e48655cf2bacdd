"""Measurements kept beside the dataset: read to the bit while they are true, else taken again."""

import json
import os
import stat

import numpy as np
import pytest

from vmr.data import standardization
from vmr.data.batch_spec import BatchSpec
from vmr.data.label_classes import label_counts
from vmr.data.measured import FOLDER
from vmr.data.modality import Modality
from vmr.data.schema import Pair, Schema
from vmr.data.standardization import statistics


@pytest.fixture
def dataset(write):
    rng = np.random.default_rng(0)
    pairs = [
        Pair(f"v{i}", f"m{i}", *rng.normal(size=(2, 5 + i % 3, 3)).astype("f4"), labels=(i % 4,))
        for i in range(40)
    ]
    schema = Schema(Modality(3, sequence=True), Modality(3, sequence=True), has_labels=True)
    return write(schema, train=pairs)


@pytest.fixture
def passes(monkeypatch):
    """List that grows with each pass over a dataset."""
    taken = []
    read = standardization.eval_batches
    monkeypatch.setattr(
        standardization, "eval_batches", lambda *args: taken.append(args) or read(*args)
    )
    return taken


def files(dataset):
    return sorted((dataset.data_dir / FOLDER).iterdir())


def same(one, other):
    for side in ("video", "music"):
        for part in ("mean", "scale"):
            assert one[side][part].dtype == other[side][part].dtype == np.float32
            assert one[side][part].tobytes() == other[side][part].tobytes()


def test_statistics_are_measured_once_and_read_to_the_bit(dataset, passes):
    first = statistics(dataset)
    same(first, statistics(dataset, spec=BatchSpec(tokens=3, vocabulary=10)))
    assert len(passes) == 1
    assert len(files(dataset)) == 1


def test_another_share_or_spec_has_measurements_of_its_own(dataset, passes):
    clips = BatchSpec("global_sparse", clips=2)
    asked = [(dataset, None), (dataset.with_share("train", 0.5), None), (dataset, clips)]
    found = [statistics(of, "train", spec) for of, spec in asked]
    assert len({of["video"]["mean"].tobytes() for of in found}) == len(passes) == 3
    for (of, spec), expected in zip(asked, found, strict=True):
        same(statistics(of, "train", spec), expected)
    assert len(passes) == 3


def test_counts_of_labels_are_kept_too(dataset):
    first = label_counts(dataset)
    (shard,) = dataset.shards["train"]
    known = shard.path.stat()
    # Other content of the same size and time: so what comes back is what was kept.
    shard.path.write_bytes(bytes(known.st_size))
    os.utime(shard.path, ns=(known.st_atime_ns, known.st_mtime_ns))
    again = label_counts(dataset)
    np.testing.assert_array_equal(again.labels, first.labels)
    np.testing.assert_array_equal(again.counts, first.counts)
    assert again.labels.dtype == again.counts.dtype == np.int64


def test_shards_that_changed_are_measured_again(dataset, passes):
    first = statistics(dataset)
    (shard,) = dataset.shards["train"]
    os.utime(shard.path, ns=(0, 10**9))
    same(statistics(dataset), first)
    same(statistics(dataset), first)
    assert len(passes) == 2


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[:-20],
        lambda text: "\x00" * len(text),
        lambda text: "[]",
        lambda text: json.dumps(json.loads(text) | {"arrays": {}}),
        lambda text: text.replace("float32", "float33"),
        lambda text: text.replace('"key"', '"kez"'),
    ],
)
def test_a_damaged_file_is_named_and_measured_again(dataset, passes, capsys, damage):
    first = statistics(dataset)
    (file,) = files(dataset)
    sound = file.read_text()
    file.write_text(damage(sound))
    same(statistics(dataset), first)
    assert capsys.readouterr().err == f"{file}: damaged, so the split is measured again\n"
    assert len(passes) == 2
    assert file.read_text() == sound


def test_a_folder_that_cannot_be_written_to_loses_nothing(dataset, passes, capsys):
    """A file stands where the folder would be, which stops even the superuser."""
    (dataset.data_dir / FOLDER).write_text("")
    same(statistics(dataset), statistics(dataset))
    assert len(passes) == 2
    assert capsys.readouterr().err == ""


def test_others_may_read_what_was_kept(dataset):
    statistics(dataset)
    (file,) = files(dataset)
    assert stat.S_IMODE(file.stat().st_mode) == 0o666 & ~_umask()
    assert json.loads(file.read_text())["key"]["fingerprint"] == dataset.fingerprint


def _umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask
