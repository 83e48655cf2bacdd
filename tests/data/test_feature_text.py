"""Text beside feature files: strings in a table, embeddings in a folder, every mistake told."""

import numpy as np
import pytest

from vmr.data.building.write import write_dataset
from vmr.data.dataset import open_dataset
from vmr.data.schema import Text
from vmr.data.sources.feature_files import feature_files
from vmr.data.validation.report import format_report, validate
from vmr.errors import UserError


@pytest.fixture
def root(tmp_path):
    """Three videos and two tracks of vectors."""
    root = tmp_path / "in"
    for folder, count, width in (("video", 3, 4), ("music", 2, 3)):
        (root / folder).mkdir(parents=True)
        for row in range(count):
            np.save(root / folder / f"{folder[0]}{row}.npy", np.full(width, row + 0.5))
    (root / "train.csv").write_text("video_id,music_id\nv0,m0\nv1,m0\nv2,m1\n")
    return root


def texts(root):
    source = feature_files(root)
    return source.schema.text, {pair.video_id: pair.text for pair in source.splits["train"]()}


def embed(root, **arrays):
    (root / "text").mkdir(exist_ok=True)
    for video_id, array in arrays.items():
        np.save(root / "text" / f"{video_id}.npy", np.asarray(array))


def test_without_text_there_is_none(root):
    assert texts(root) == (None, {"v0": "", "v1": "", "v2": ""})


def test_strings_of_a_table(root):
    table = 'text,video_id,lang\n"Slow, sad",v0,en\n,v1,en\nof another set,v9,en\n'
    (root / "text.csv").write_text("\ufeff" + table, encoding="utf-8")
    assert texts(root) == (Text(), {"v0": "Slow, sad", "v1": "", "v2": ""})


def test_embeddings_of_a_folder(root):
    embed(root, v0=[1.0, 2.0], v2=np.arange(6).reshape(3, 2))
    schema, found = texts(root)
    assert schema == Text(2)
    assert found["v0"].tolist() == [[1, 2]]
    assert found["v1"].shape == (0, 2)
    assert found["v2"].tolist() == [[0, 1], [2, 3], [4, 5]]
    assert found["v2"].dtype == np.float32


def test_text_reaches_dataset_report_and_card(root):
    embed(root, v0=[1.0, 2.0], v2=np.arange(6).reshape(3, 2))
    write_dataset(feature_files(root), root.parent / "out", "a test")
    dataset = open_dataset(root.parent / "out")
    assert dataset.schema.text == Text(2)
    assert "| text | float32 embeddings (L, 2)" in (dataset.data_dir / "README.md").read_text()
    report = validate(dataset.data_dir)
    assert report.ok
    expected = "  text: 2 numbers × 1–3 tokens (median 3); 2 of 3 videos have it"
    assert expected in format_report(report)


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ("id,text\nv0,slow\n", "lacks column video_id"),
        ("video_id,text\nv0,slow\nv0,fast\n", "line 3 repeats video id 'v0'"),
        ("video_id,text\n,slow\n", "line 2 has an empty video_id"),
        ("video_id,text\nv9,slow\nv0,\n", "has no text for any video"),
    ],
)
def test_wrong_tables_are_told_by_line(root, table, expected):
    (root / "text.csv").write_text(table)
    with pytest.raises(UserError, match=rf"text\.csv: {expected}"):
        texts(root)


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (np.zeros(3), r"has embeddings of width 3, expected 2 like .*v0\.npy"),
        (np.zeros((2, 3)), r"has embeddings of width 3, expected 2 like .*v0\.npy"),
        (np.zeros((0, 2)), "has length 0, expected at least one embedding, or no file"),
        (np.zeros((1, 1, 2)), r"has shape \(1, 1, 2\), expected \(E,\) or \(L, E\)"),
        (np.float32(1), r"has shape \(\), expected"),
        (np.array(["slow"]), "holds <U4, expected an array of real numbers"),
    ],
)
def test_wrong_embeddings_are_named(root, array, expected):
    embed(root, v0=[1.0, 2.0], v2=array)
    with pytest.raises(UserError, match=rf"text/v2\.npy: {expected}"):
        texts(root)


def test_a_folder_without_any_text_is_an_error(root):
    embed(root, v9=[1.0, 2.0])
    with pytest.raises(UserError, match=r"text: has no file <video_id>\.npy for any video"):
        texts(root)


def test_table_and_folder_together_are_an_error(root):
    embed(root, v0=[1.0, 2.0])
    (root / "text.csv").write_text("video_id,text\nv0,slow\n")
    with pytest.raises(UserError, match=r"in: has both text\.csv and text/, expected one of them"):
        texts(root)
