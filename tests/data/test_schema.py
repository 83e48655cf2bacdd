"""How features lie on disk: golden values of dequantisation, and what TFDS gives back."""

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from vmr.data.schema import Modality, Pair, Schema, dequantize

GOLDEN = {0: -1.9921875, 127: 0.00000000 - 2.0 + 4 / 512 + 127 * 4 / 255, 255: 2.0078125}


def test_dequantized_bytes_are_those_of_the_specification():
    codes = np.array(list(GOLDEN), np.uint8)
    for got in (dequantize(codes), dequantize(tf.constant(codes)).numpy()):
        assert got.dtype == np.float32
        np.testing.assert_allclose(got, list(GOLDEN.values()), rtol=0, atol=1e-6)


def test_schema_survives_features_json(tmp_path):
    schema = Schema(Modality(8, True, True), Modality(4, True), has_labels=True, has_groups=True)
    schema.features().save_config(tmp_path)
    restored = tfds.features.FeaturesDict.from_config(tmp_path)
    assert Schema.of_features(restored) == schema


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
