"""Groups and extractors of feature files: from the folder into the dataset, its card and a run."""

import dataclasses
import json

import numpy as np
import pytest

from vmr.data.building.write import write_dataset
from vmr.data.dataset import open_dataset
from vmr.data.pipeline import eval_batches
from vmr.data.sources.feature_files import feature_files
from vmr.errors import UserError

VIDEO = {
    "extractor": "onnx:a|b.onnx",
    "version": "1",
    "licence": "",
    "sha256": "0" * 64,
    "width": 4,
    "clip_seconds": None,
    "keyframes": False,
    "per_second": 1.0,
}
MUSIC = {
    "extractor": "librosa1140",
    "version": "0.11.0",
    "licence": "ISC",
    "sha256": None,
    "width": 3,
    "clip_seconds": 2.5,
}
TRAIN = "video_id,music_id,group\nv0,m0,7\nv1,m0,7\nv2,m1,-3\n"


@pytest.fixture
def root(tmp_path):
    """Three videos of shape (4,), two tracks of shape (T, 3), their groups and extractors."""
    root = tmp_path / "in"
    for side, count, shape in (("video", 3, (4,)), ("music", 2, (2, 3))):
        (root / side).mkdir(parents=True)
        for i in range(count):
            np.save(root / side / f"{side[0]}{i}.npy", np.full(shape, i))
    (root / "train.csv").write_text(TRAIN)
    accounts(root)
    return root


def accounts(root, content=None, **changed):
    content = content or {"schema_version": 1, "video": VIDEO, "music": MUSIC} | changed
    (root / "extraction.json").write_text(json.dumps(content))


def test_version_and_licence_may_be_known_to_nobody(root):
    accounts(root, video=VIDEO | {"version": None, "licence": None})
    dataset = build(root)
    assert dataset.extractors["video"]["version"] is None
    card = (dataset.data_dir / "README.md").read_text()
    assert r"| video | onnx:a\|b.onnx | not known | not known | the whole item |" in card


def build(root, name="out"):
    write_dataset(feature_files(root), root.parent / name, "a test")
    return open_dataset(root.parent / name)


def test_extractors_and_groups_go_into_the_dataset_and_its_card(root):
    dataset = build(root)
    assert dataset.extractors == {"video": VIDEO, "music": MUSIC}
    assert dataset.description["extractors"] == {"video": VIDEO, "music": MUSIC}
    assert dataset.row_seconds("video") is None
    assert dataset.row_seconds("music") == 2.5
    assert dataset.licence == "that of the feature files, which is not known here"
    card = (dataset.data_dir / "README.md").read_text()
    assert "| music | librosa1140 | 0.11.0 | ISC | 2.5 s |" in card
    assert r"| video | onnx:a\|b.onnx | 1 | not known | the whole item |" in card
    (batch,) = eval_batches(dataset, "train", 10)
    groups = dict(zip(batch["video_id"], batch["group"].tolist(), strict=True))
    assert groups == {"v0": 7, "v1": 7, "v2": -3}


def test_without_them_a_dataset_is_as_before(root):
    with_accounts = build(root, "with").fingerprint
    (root / "extraction.json").unlink()
    dataset = build(root, "without")
    assert dataset.fingerprint == with_accounts  # of the content alone
    assert "extractors" not in dataset.description
    assert "extractors" not in json.loads((dataset.data_dir / "dataset.json").read_text())
    assert dataset.row_seconds("music") is None
    frames = dataclasses.replace(dataset, name="youtube8m")
    assert frames.row_seconds("music") == 1.0
    assert frames.row_seconds("video") is None  # vectors


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        (TRAIN.replace("-3", ""), "line 4 has group '', expected a whole number"),
        (TRAIN.replace("-3", "1.5"), "line 4 has group '1.5'"),
        (TRAIN.replace("-3", "9" * 19), "line 4 has group '9999999999999999999'"),
        (TRAIN.replace("m0,7\nv2", "m0,8\nv2"), "music id 'm0' in group 8, .*line 2 in group 7"),
        (TRAIN.replace("group\n", "group,group\n").replace("7", "7,7"), "column group twice"),
    ],
)
def test_wrong_groups_are_told_by_line(root, table, expected):
    (root / "train.csv").write_text(table.replace("-3", "-3,-3") if ",7,7" in table else table)
    with pytest.raises(UserError, match=rf"train\.csv.*{expected}"):
        feature_files(root)


def test_groups_are_in_all_tables_or_in_none(root):
    (root / "test.csv").write_text("video_id,music_id\nv2,m1\n")
    with pytest.raises(UserError, match=r"test\.csv: lacks column group, which another CSV"):
        feature_files(root)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("{", "cannot be read as JSON"),
        ('{"a":' + "[" * 200_000, "cannot be read as JSON"),
        ("[]", "is the JSON of a list"),
        ({"video": VIDEO, "music": MUSIC}, "schema_version None, expected 1"),
        ({"schema_version": 1, "video": VIDEO}, "expected an object under 'music'"),
        ({"music": MUSIC | {"clip_seconds": -1}}, "music: clip_seconds is -1, expected seconds"),
        ({"music": MUSIC | {"clip_seconds": float("nan")}}, "music: clip_seconds is nan"),
        ({"music": MUSIC | {"clip_seconds": 1e-9}}, "music: clip_seconds is 1e-09, expected sec"),
        ({"video": VIDEO | {"per_second": 1e9}}, "video: per_second is 1000000000.0, expected p"),
        ({"music": MUSIC | {"clip_seconds": True}}, "music: clip_seconds is True"),
        ({"music": MUSIC | {"width": 0}}, "music: width is 0"),
        ({"video": VIDEO | {"sha256": "abc"}}, "video: sha256 is 'abc', expected 64 hex"),
        ({"video": VIDEO | {"keyframes": 1}}, "video: keyframes is 1, expected true or false"),
        ({"video": MUSIC | {"width": 4}}, "video: keyframes is missing"),
        ({"video": VIDEO | {"extractor": ""}}, "video: extractor is '', expected a name"),
    ],
)
def test_a_damaged_account_is_refused(root, content, expected):
    if isinstance(content, str):
        (root / "extraction.json").write_text(content)
    elif len(content) == 1:
        accounts(root, **content)
    else:
        accounts(root, content)
    with pytest.raises(UserError, match=rf"extraction\.json.*{expected}"):
        feature_files(root)


def test_arrays_are_held_against_their_account(root):
    accounts(root, music=MUSIC | {"clip_seconds": None})
    with pytest.raises(UserError, match=r"m0\.npy: has shape \(2, 3\), expected \(3,\) by extract"):
        feature_files(root)
    accounts(root, video=VIDEO | {"width": 5, "clip_seconds": 1})
    with pytest.raises(UserError, match=r"v0\.npy: has shape \(4,\), expected \(T, 5\) by extract"):
        feature_files(root)


def test_damaged_extractors_of_a_dataset_are_refused(root):
    file = build(root).data_dir / "dataset.json"
    for damaged in ([], {"smell": VIDEO}, {"video": VIDEO | {"width": "4"}}):
        file.write_text(json.dumps(json.loads(file.read_text()) | {"extractors": damaged}))
        with pytest.raises(UserError, match=r"dataset\.json: "):
            open_dataset(file.parent)
