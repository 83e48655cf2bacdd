"""Serialised examples to arrays, a whole batch at a time.

Parsing after batching costs one call a batch instead of one an example: it is what makes the
pipeline several times as fast as TFDS's own reader.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import tensorflow as tf

from vmr.data import sampling
from vmr.data.label_classes import classes, stored_labels
from vmr.data.schema import Modality, Schema
from vmr.data.text import embedded_tokens, hashed_words
from vmr.data.view import View
from vmr.quantization import OFFSET, SCALE

# A sum of at most 257 bytes fits 16 bits, and 16-bit sums are the fastest there are.
_BYTES_IN_16_BITS = 256

Fields = dict[str, tf.Tensor]


def parse_stored(serialized: tf.Tensor, schema: Schema) -> Fields:
    """Fields of a batch as they are stored: (B,) serialised examples to (B,) values.

    `video`, `music` and embedded `text` stay raw bytes, ids and text are bytes, `track` and `group`
    int64.
    """
    text, number = tf.io.FixedLenFeature([], tf.string), tf.io.FixedLenFeature([], tf.int64)
    spec = {"video_id": text, "music_id": text, "music_index": number}
    spec |= dict.fromkeys(schema.modalities, text)
    if schema.text:
        spec["text"] = text
    if schema.has_groups:
        spec["group"] = number
    fields = tf.io.parse_example(serialized, spec)
    fields["track"] = fields.pop("music_index")
    return fields


def is_one_clip(serialized: tf.Tensor, schema: Schema, source: str) -> tf.Tensor:
    """Whether a serialised example has a single frame of the modality `source`: () bool."""
    spec = {source: tf.io.FixedLenFeature([], tf.string)}
    stored = tf.io.parse_single_example(serialized, spec)[source]
    return tf.equal(tf.strings.length(stored), schema.modalities[source].row_bytes)


def parse_batch(
    serialized: tf.Tensor,
    first: tf.Tensor,
    schema: Schema,
    view: View,
    seed: int | None = None,
    segments: int = 1,
) -> Fields:
    """A batch as a view shows it: see `vmr.data.pipeline.train_batches`.

    Args:
      serialized: (B,) examples.
      first: () int64, the number of the first one in the stream, which decides its clips.
      schema: of the examples.
      view: what to show.
      seed: of the clips that are drawn; None takes those for evaluation.
      segments: S; where it is not 1, clips are (B, S, N, D), N from each of S parts of a sequence.
    """
    fields = parse_stored(serialized, schema)
    batch = {name: fields[name] for name in ("video_id", "music_id", "track")}
    if "group" in fields:
        batch["group"] = fields["group"]
    if view.label_counts is not None:
        classify = partial(classes, common=view.label_counts)
        labels = [stored_labels(serialized), fields["track"]]
        batch["label"] = tf.numpy_function(classify, labels, tf.int32, stateful=False)
    if view.pairing == "video":  # each video by itself, also those that share a track
        batch["music_id"] = fields["video_id"]
        batch["track"] = tf.strings.to_hash_bucket_fast(fields["video_id"], 2**31 - 1)
    batch |= _modalities(fields, first, schema, view, seed, segments)
    if view.tokens and schema.text:
        batch["text"], batch["text_mask"] = _text(fields["text"], schema, view)
    for name in ("track", "group", "label"):
        if name in batch:
            batch[name] = tf.ensure_shape(tf.cast(batch[name], tf.int32), [None])
    return batch


def _modalities(
    fields: Fields,
    first: tf.Tensor,
    schema: Schema,
    view: View,
    seed: int | None,
    segments: int,
) -> Fields:
    """`video` and `music`, vectors (B, D) or clips (B, N, D) with a mask (B, N)."""
    count = tf.size(fields["track"])
    draw = partial(
        sampling.places_in_segments,
        clips=view.clips,
        seed=seed,
        samples=view.samples,
        method=view.sampling,
    )
    places = None
    shown: Fields = {}
    for number, (name, source) in enumerate(view.sides.items()):
        modality = schema.modalities[source]
        if not modality.sequence:
            shown[name] = _vectors(fields[source], modality)
        elif view.sampling == "mean" and segments == 1:
            shown[name] = _pooled(fields[source], modality)
        else:
            if places is None:
                drawn = tf.numpy_function(draw, [first, count], tf.float64, stateful=False)
                places = tf.ensure_shape(drawn, [view.samples, None, view.clips])
            of_side = places[number % view.samples]
            shown[name], shown[f"{name}_mask"] = _clips(
                fields[source], of_side, modality, view, segments
            )
    return shown


def _vectors(stored: tf.Tensor, modality: Modality) -> tf.Tensor:
    vectors = tf.io.decode_raw(stored, tf.float32)
    return tf.reshape(vectors, [tf.size(stored), modality.width])


def _pooled(stored: tf.Tensor, modality: Modality) -> tf.Tensor:
    pool: Callable[[Any], np.ndarray] = partial(mean_frames, modality=modality)
    means = tf.numpy_function(pool, [stored], tf.float32, stateful=False)
    return tf.ensure_shape(means, [None, modality.width])


def _clips(
    stored: tf.Tensor, places: tf.Tensor, modality: Modality, view: View, segments: int
) -> tuple[tf.Tensor, tf.Tensor]:
    choose = partial(sampled_clips, modality=modality, view=view, segments=segments)
    stored_type = tf.float32 if view.sampling == "mean" else modality.dtype
    clips, mask = tf.numpy_function(choose, [stored, places], [stored_type, tf.bool], False)
    shape = [None, segments, view.clips] if segments > 1 else [None, view.clips]
    return tf.ensure_shape(clips, [*shape, modality.width]), tf.ensure_shape(mask, shape)


def _text(stored: tf.Tensor, schema: Schema, view: View) -> tuple[tf.Tensor, tf.Tensor]:
    assert schema.text is not None
    if not schema.text.embedded:
        return hashed_words(stored, view.tokens, view.vocabulary)
    decode = partial(embedded_tokens, tokens=view.tokens, width=schema.text.width)
    values, mask = tf.numpy_function(decode, [stored], [tf.float32, tf.bool], stateful=False)
    return (
        tf.ensure_shape(values, [None, view.tokens, schema.text.width]),
        tf.ensure_shape(mask, [None, view.tokens]),
    )


def sampled_clips(
    stored: np.ndarray, places: np.ndarray, modality: Modality, view: View, segments: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """Clips of each sequence, as they are stored, and where there are any.

    Args:
      stored: (B,) objects, the bytes of (T, D) frames.
      places: (B, N), see `vmr.data.sampling`.
      modality: their width and type.
      view: how to choose them; `mean` gives a segment one clip, its mean in float32. Of an item
        that is compared with itself, at most T / 2 clips are shown, so that two samples of it can
        differ in all of them.
      segments: S, see `parse_batch`; a sequence of fewer clips has fewer segments, and each of an
        item that is compared with itself has two clips where the item has.

    Returns:
      (B, N, D) of the stored type, zeros where there is no clip, and (B, N) bool; (B, S, N, D) and
      (B, S, N) for several segments.
    """
    choose = sampling.contiguous if view.sampling == "contiguous" else sampling.global_sparse
    count, clips = places.shape
    stored_type = np.float32 if view.sampling == "mean" else modality.dtype
    shown = np.zeros((count, segments, clips, modality.width), stored_type)
    mask = np.zeros((count, segments, clips), bool)
    for row, content in enumerate(stored):
        frames = np.frombuffer(content, modality.dtype).reshape(-1, modality.width)
        parts = min(segments, len(frames), max(1, len(frames) // view.samples))
        for part in range(parts):
            of_part = frames[part * len(frames) // parts : (part + 1) * len(frames) // parts]
            if view.sampling == "mean":
                found = mean_frame(of_part, modality)[None, :]
            else:
                most = clips if view.samples == 1 else max(1, len(of_part) // 2)
                found = of_part[choose(len(of_part), places[row, :most])]
            shown[row, part, : len(found)] = found
            mask[row, part, : len(found)] = True
    return (shown[:, 0], mask[:, 0]) if segments == 1 else (shown, mask)


def mean_frames(stored: np.ndarray, modality: Modality) -> np.ndarray:
    """The mean frame of each sequence; zeros for one without frames, which validation reports.

    Args:
      stored: (B,) objects, the bytes of (T, D) frames.
      modality: their width and type.

    Returns:
      (B, D) float32.
    """
    means = np.zeros((len(stored), modality.width), np.float32)
    for row, content in enumerate(stored):
        frames = np.frombuffer(content, modality.dtype).reshape(-1, modality.width)
        if len(frames):
            means[row] = mean_frame(frames, modality)
    return means


def mean_frame(frames: np.ndarray, modality: Modality) -> np.ndarray:
    """(T, D) as stored -> (D,) float.

    Bytes are summed as integers, so the mean is exact and the map to floats is applied once, to
    the mean.
    """
    if modality.quantized:
        return _byte_sum(frames) * (SCALE / len(frames)) + OFFSET
    return frames.mean(axis=0, dtype=np.float64)


def _byte_sum(frames: np.ndarray) -> np.ndarray:
    total = np.zeros(frames.shape[1], np.float64)
    for start in range(0, len(frames), _BYTES_IN_16_BITS):
        total += frames[start : start + _BYTES_IN_16_BITS].sum(axis=0, dtype=np.uint16)
    return total
