"""How features lie on disk: golden values of dequantisation, and what TFDS gives back."""

import jax.numpy as jnp
import numpy as np
import pytest
import tensorflow_datasets as tfds

from vmr.data.modality import Modality
from vmr.data.schema import Pair, Schema, Text
from vmr.quantization import dequantize

GOLDEN = {0: -1.9921875, 127: 0.00000000 - 2.0 + 4 / 512 + 127 * 4 / 255, 255: 2.0078125}


def test_dequantized_bytes_are_those_of_the_specification():
    codes = np.array(list(GOLDEN), np.uint8)
    for array in (np.asarray, jnp.asarray):
        got = dequantize(array(codes))
        assert got.dtype == np.float32
        np.testing.assert_allclose(got, list(GOLDEN.values()), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "schema",
    [
        Schema(Modality(8, True, True), Modality(4, True), has_labels=True, has_groups=True),
        Schema(Modality(8), Modality(4), text=Text()),
        Schema(Modality(8), Modality(4), text=Text(6)),
        Schema(None, Modality(4, True, True), has_labels=True),
        Schema(Modality(8, True), None, text=Text()),
    ],
)
def test_schema_survives_features_json(tmp_path, schema):
    schema.features().save_config(tmp_path)
    restored = tfds.features.FeaturesDict.from_config(tmp_path)
    assert Schema.of_features(restored) == schema


def test_a_dataset_of_neither_modality_is_none():
    with pytest.raises(KeyError, match="neither video nor music"):
        Schema.of_features(tfds.features.FeaturesDict({"video_id": tfds.features.Text()}))


def test_tfds_reads_quantized_frames_as_floats(write):
    frames = np.arange(24, dtype=np.uint8).reshape(3, 8)
    music = np.arange(8, dtype=np.float32).reshape(2, 4)
    schema = Schema(Modality(8, True, True), Modality(4, True), has_labels=True)
    dataset = write(schema, train=[Pair("a", "b", frames, music, labels=(7, 9))])
    builder = tfds.builder_from_directory(dataset.data_dir)
    (example,) = tfds.as_numpy(builder.as_dataset(split="train"))
    np.testing.assert_array_equal(example["video"], dequantize(frames))
    np.testing.assert_array_equal(example["music"], music)
    assert example["labels"].tolist() == [7, 9]
    assert (example["video_id"], example["music_id"]) == (b"a", b"b")


@pytest.mark.parametrize(
    ("text", "present", "absent"),
    [(Text(), "Slow, sad — 音楽", ""), (Text(2), np.ones((3, 2), "f4"), np.ones((0, 2), "f4"))],
)
def test_tfds_reads_text_and_one_modality(write, text, present, absent):
    music = np.arange(8, dtype=np.float32).reshape(2, 4)
    pairs = [
        Pair(name, name, None, music, text=value) for name, value in (("a", present), ("b", absent))
    ]
    dataset = write(Schema(None, Modality(4, True), text=text), train=pairs)
    assert dataset.schema == Schema(None, Modality(4, True), text=text)
    builder = tfds.builder_from_directory(dataset.data_dir)
    examples = {row["video_id"]: row for row in tfds.as_numpy(builder.as_dataset(split="train"))}
    assert "video" not in examples[b"a"]
    for name, expected in ((b"a", present), (b"b", absent)):
        np.testing.assert_array_equal(examples[name]["music"], music)
        if text.embedded:
            np.testing.assert_array_equal(examples[name]["text"], expected)
        else:
            assert examples[name]["text"].decode() == expected
