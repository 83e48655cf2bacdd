"""Decoding of serialised examples into the arrays of a batch, a whole batch at a time.

Parsing after batching costs one call per batch instead of one per example, which makes the pipeline
several times as fast as TFDS's own reader.
"""

import unicodedata
from collections.abc import Collection
from functools import partial

import numpy as np

from vmr.data.batch_spec import BatchSpec
from vmr.data.label_classes import classes, stored_labels
from vmr.data.quiet_tensorflow import tf
from vmr.data.sampling import embedded_tokens
from vmr.data.schema import Schema

# A run of characters that are neither letters, marks nor digits of any script.
_BETWEEN_WORDS = r"[^\pL\pM\pN]+"

Fields = dict[str, tf.Tensor]


def parse_stored(
    serialized: tf.Tensor, schema: Schema, modalities: Collection[str] | None = None
) -> Fields:
    """Parses the stored fields of a batch: (B,) serialised examples -> (B,) values.

    `video`, `music` and embedded `text` stay raw bytes; ids and text are UTF-8 bytes; `group`
    and `track`, which is stored as `music_index`, are int64.

    Args:
      serialized: (B,) serialised examples.
      schema: fields of the examples.
      modalities: modalities to parse; by default all.
    """
    text, number = tf.io.FixedLenFeature([], tf.string), tf.io.FixedLenFeature([], tf.int64)
    spec = {"video_id": text, "music_id": text, "music_index": number}
    spec |= dict.fromkeys(schema.modalities if modalities is None else modalities, text)
    if schema.text:
        spec["text"] = text
    if schema.has_groups:
        spec["group"] = number
    fields = tf.io.parse_example(serialized, spec)
    fields["track"] = fields.pop("music_index")
    return fields


def parse_batch(
    serialized: tf.Tensor, schema: Schema, spec: BatchSpec, sequences: Fields
) -> Fields:
    """Parses (B,) serialised examples into the fields of `vmr.data.pipeline.train_batches`.

    Args:
      serialized: (B,) serialised examples, from which the sequences may be missing.
      schema: fields of the examples.
      spec: content of the batch.
      sequences: arrays of the sequences, by name, from `vmr.data.sequences.SequenceReader`.
    """
    vectors = [name for name, modality in schema.modalities.items() if not modality.sequence]
    fields = parse_stored(serialized, schema, vectors)
    batch = {name: fields[name] for name in ("video_id", "music_id", "track")}
    if "group" in fields:
        batch["group"] = fields["group"]
    if spec.label_counts is not None:
        classify = partial(classes, common=spec.label_counts)
        labels = [stored_labels(serialized), fields["track"]]
        batch["label"] = tf.numpy_function(classify, labels, tf.int32, stateful=False)
    if spec.pairing == "video":
        # Each video is an item of its own, even if it shares its track with others. A hash of its
        # id stands in for the track index; two videos collide with probability 2⁻³¹.
        batch["music_id"] = fields["video_id"]
        batch["track"] = tf.strings.to_hash_bucket_fast(fields["video_id"], 2**31 - 1)
    batch |= sequences
    for name, source in spec.sides.items():
        if source in vectors:
            # This or the reshape raises at a record of a wrong size, which `naming_faults` names.
            values = tf.io.decode_raw(fields[source], tf.float32)
            width = schema.modalities[source].width
            batch[name] = tf.reshape(values, [tf.size(fields[source]), width])
    if spec.tokens and schema.text:
        batch["text"], batch["text_mask"] = _text(fields["text"], schema, spec)
    for name in ("track", "group", "label"):
        if name in batch:
            batch[name] = tf.ensure_shape(tf.cast(batch[name], tf.int32), [None])
    return batch


def _text(stored: tf.Tensor, schema: Schema, spec: BatchSpec) -> tuple[tf.Tensor, tf.Tensor]:
    assert schema.text is not None
    if not schema.text.embedded:
        return hashed_words(stored, spec.tokens, spec.vocabulary)
    decode = partial(embedded_tokens, tokens=spec.tokens, width=schema.text.width)
    values, mask = tf.numpy_function(decode, [stored], [tf.float32, tf.bool], stateful=False)
    return (
        tf.ensure_shape(values, [None, spec.tokens, schema.text.width]),
        tf.ensure_shape(mask, [None, spec.tokens]),
    )


def hashed_words(texts: tf.Tensor, tokens: int, vocabulary: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Hashes the words of each text: (B,) strings -> ids (B, L) int32 < vocabulary, mask (B, L).

    The hash (FarmHash fingerprint) is the same on every machine, so no vocabulary has to be stored;
    words that share a bucket are one word to the model. Case and the Unicode form of accented
    letters are ignored, and words beyond the first L are dropped.

    Args:
      texts: (B,) UTF-8 strings; an empty text has a mask of zeros.
      tokens: L, words kept of each text.
      vocabulary: number of buckets.
    """
    characters = tf.strings.length(texts, unit="UTF8_CHAR")
    spelt_alike = tf.cond(
        # As many bytes as characters means ASCII, which has one Unicode form: the call into Python,
        # which holds the interpreter's lock, is saved.
        tf.reduce_all(tf.strings.length(texts) == characters),
        lambda: texts,
        lambda: tf.ensure_shape(tf.numpy_function(_composed, [texts], tf.string), texts.shape),
    )
    lower = tf.strings.lower(spelt_alike, encoding="utf-8")
    words = tf.strings.split(tf.strings.regex_replace(lower, _BETWEEN_WORDS, " "))
    ids = tf.strings.to_hash_bucket_fast(words, vocabulary)[:, :tokens]
    mask = tf.sequence_mask(ids.row_lengths(), tokens)
    return tf.cast(ids.to_tensor(shape=[None, tokens]), tf.int32), mask


def _composed(texts: np.ndarray) -> np.ndarray:
    """Composes the accented letters of each text (NFC): (B,) UTF-8 -> (B,) UTF-8."""
    kept = "surrogateescape"  # bytes that are not UTF-8 pass through unchanged
    each = [
        unicodedata.normalize("NFC", text.decode(errors=kept)).encode(errors=kept)
        for text in texts.flat
    ]
    return np.array(each, object).reshape(texts.shape)
