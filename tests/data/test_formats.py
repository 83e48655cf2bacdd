"""Datasets on disk stay byte for byte: features.json, shards, fingerprint, card, report.

Results name their dataset by its fingerprint, so none of this may drift. The numbers come from no
generator: they are the same under every version of NumPy.
"""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from made_records import frame_level, shard

from vmr.data.building.build import build, source_of
from vmr.data.dataset import open_dataset
from vmr.data.sources.planted import planted
from vmr.data.sources.source import Source
from vmr.data.validation.report import validate

FOLDER = Path(__file__).parent / "formats"


def quantized(folder):
    """YouTube-8M frames, names of labels as text: bytes on disk."""
    records = [frame_level(b"v%d" % i, frames=i + 1, labels=(i, 7))[0] for i in range(3)]
    for list_of in records:  # numbers that need no generator
        for name, features in list_of.feature_lists.feature_list.items():
            for second, frame in enumerate(features.feature):
                width = len(frame.bytes_list.value[0])
                numbers = np.arange(width) * (second + 3) + len(name)
                frame.bytes_list.value[0] = (numbers % 256).astype(np.uint8).tobytes()
    names = folder / "names.csv"
    names.write_text("Index,Name\n0,Game\n1,\n2,Guitar\n7,Music\n")
    options = {"train": [shard(folder / "train.tfrecord", *records)], "vocabulary": str(names)}
    options |= dict.fromkeys(("validation", "test", "labels"))
    return source_of("youtube8m", options)


def feature_folder(folder):
    """Vectors of videos and tracks, two videos to the first track, text of one of them."""
    for name in ("video", "music"):
        (folder / name).mkdir()
    for i in range(3):
        np.save(folder / "video" / f"v{i}.npy", np.arange(4) * (i + 1) / 2)
    for i in range(2):
        np.save(folder / "music" / f"m{i}.npy", np.arange(3) - i)
    (folder / "train.csv").write_text("video_id,music_id\nv0,m0\nv1,m0\n")
    (folder / "test.csv").write_text("video_id,music_id\nv2,m1\n")
    (folder / "text.csv").write_text('video_id,text\nv0,"a café, at night"\n', encoding="utf-8")
    return source_of("feature_files", {"input": str(folder)})


MADE = {"quantized": quantized, "vectors": feature_folder}


@pytest.fixture(scope="module", params=MADE)
def made(request, tmp_path_factory):
    inputs = tmp_path_factory.mktemp("inputs")
    source: Source = MADE[request.param](inputs)
    # The name of a folder of feature files stands in its description.
    description = source.description.replace(inputs.resolve().name, "features")
    source = Source(**{**vars(source), "description": description})
    output = inputs / "out"
    build(source, output, "the command")
    return request.param, output


FINGERPRINTS = {
    "quantized": "14af7f87e6aacd384c4f26f7efff78035ebdfbf65295bba16cb883b45acb4412",
    "vectors": "85c31af115af943f5b3e227426c95c1f6b54177807ba06eb7c99f4cda9452c4a",
}
SHARDS = {
    "quantized": "96fa5952b87d7009110c1e94f95cfef471f51e97fbd8dffc5b8bcd9847eace71",
    "vectors": "59f42bfa69768653e90317204a30f13afcea43cba7ca218be219fa142f0a60e6",
}


def test_fingerprint_and_shards(made):
    name, folder = made
    dataset = open_dataset(folder)
    assert dataset.fingerprint == FINGERPRINTS[name]
    (file,) = (part.path for part in dataset.shards["train"])
    assert hashlib.sha256(file.read_bytes()).hexdigest() == SHARDS[name]


@pytest.mark.parametrize("file", ["features.json", "dataset.json", "README.md"])
def test_text_files(made, file):
    name, folder = made
    text = (folder / file).read_text(encoding="utf-8")
    assert text == (FOLDER / f"{name}.{file}").read_text(encoding="utf-8")


def test_report(made):
    """All of validation.json but sizes and times of files."""
    name, folder = made
    validate(folder)
    report = json.loads((folder / "validation.json").read_text(encoding="utf-8"))
    assert sorted(report.pop("files")) == sorted(
        path.name for path in folder.iterdir() if "tfrecord" in path.name or path.stem == "features"
    )
    assert report == json.loads((FOLDER / f"{name}.validation.json").read_text(encoding="utf-8"))


def test_fields_of_planted_pairs(tmp_path):
    """Clips and text; their numbers depend on NumPy's generators, their fields do not."""
    source = planted(videos=90, tracks=80, clips=12, text=True)
    source.schema.features().save_config(str(tmp_path))
    expected = FOLDER / "planted.features.json"
    assert (tmp_path / "features.json").read_text() == expected.read_text()
