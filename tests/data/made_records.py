"""Records of YouTube-8M and AudioSet, made by hand."""

import numpy as np
import tensorflow as tf


def _bytes(*values):
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=values))


def _floats(values):
    return tf.train.Feature(float_list=tf.train.FloatList(value=values))


def _context(video_id, labels, key="id", **features):
    label_list = tf.train.Feature(int64_list=tf.train.Int64List(value=labels))
    return tf.train.Features(feature={key: _bytes(video_id), "labels": label_list, **features})


def video_level(video_id, labels=(1,), key="id", rgb=1024, audio=128):
    values = {"mean_rgb": _floats(np.arange(rgb) / 7), "mean_audio": _floats(np.arange(audio) / 3)}
    return tf.train.Example(features=_context(video_id, labels, key, **values))


def frame_level(video_id, frames=3, labels=(1,), key="id", width=1024):
    rng = np.random.default_rng(frames)
    content = {
        "rgb": rng.integers(256, size=(frames, width), dtype=np.uint8),
        "audio": rng.integers(256, size=(frames, 128), dtype=np.uint8),
    }
    lists = {
        name: tf.train.FeatureList(feature=[_bytes(row.tobytes()) for row in rows])
        for name, rows in content.items()
    }
    record = tf.train.SequenceExample(
        context=_context(video_id, labels, key),
        feature_lists=tf.train.FeatureLists(feature_list=lists),
    )
    return record, content


def shard(path, *records):
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in records:
            writer.write(record if isinstance(record, bytes) else record.SerializeToString())
    return str(path)


def clip(video_id, frames=10, labels=(137,), width=128):
    """A record of AudioSet, and its embeddings."""
    rng = np.random.default_rng(frames)
    content = rng.integers(256, size=(frames, width), dtype=np.uint8)
    embeddings = tf.train.FeatureList(feature=[_bytes(row.tobytes()) for row in content])
    context = _context(video_id, labels, "video_id", start_time_seconds=_floats([30]))
    lists = tf.train.FeatureLists(feature_list={"audio_embedding": embeddings})
    return tf.train.SequenceExample(context=context, feature_lists=lists), content
