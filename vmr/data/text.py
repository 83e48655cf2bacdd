"""Text that comes with a video, as tokens: word by word through a hash, or as embeddings."""

import numpy as np
import tensorflow as tf

from vmr.data.spelling import composed

# What is no letter and no digit of any script parts two words.
_BETWEEN_WORDS = r"[^\pL\pM\pN]+"


def hashed_words(texts: tf.Tensor, tokens: int, vocabulary: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Words of each text, hashed: (B,) strings -> (B, L) int32 in [0, vocabulary), (B, L) bool.

    The hash (FarmHash fingerprint) is the same on every machine, so no vocabulary has to be kept;
    words of one bucket are one word to the model. Neither case counts nor the spelling of accented
    letters in Unicode; of a longer text the first L words are kept.

    Args:
      texts: UTF-8; an empty one has a mask of zeros.
      tokens: L.
      vocabulary: buckets.
    """
    characters = tf.strings.length(texts, unit="UTF8_CHAR")
    spelt_alike = tf.cond(
        tf.reduce_all(tf.strings.length(texts) == characters),  # ASCII, whose spelling is one
        lambda: texts,
        lambda: tf.ensure_shape(tf.numpy_function(_composed, [texts], tf.string), texts.shape),
    )
    lower = tf.strings.lower(spelt_alike, encoding="utf-8")
    words = tf.strings.split(tf.strings.regex_replace(lower, _BETWEEN_WORDS, " "))
    ids = tf.strings.to_hash_bucket_fast(words, vocabulary)[:, :tokens]
    mask = tf.sequence_mask(ids.row_lengths(), tokens)
    return tf.cast(ids.to_tensor(shape=[None, tokens]), tf.int32), mask


def _composed(texts: np.ndarray) -> np.ndarray:
    """(B,) UTF-8 -> (B,) in composed form."""
    kept = "surrogateescape"  # bytes that are no UTF-8
    each = [composed(text.decode(errors=kept)).encode(errors=kept) for text in texts.flat]
    return np.array(each, object).reshape(texts.shape)


def embedded_tokens(stored: np.ndarray, tokens: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Stored embeddings of each text: (B,) bytes -> (B, L, E) float32, (B, L) bool.

    Args:
      stored: of (T, E) float32 arrays; an empty one has a mask of zeros.
      tokens: L; of a longer sequence the first L are kept.
      width: E.
    """
    values = np.zeros((len(stored), tokens, width), np.float32)
    mask = np.zeros((len(stored), tokens), bool)
    for row, content in enumerate(stored):
        sequence = np.frombuffer(content, np.float32).reshape(-1, width)[:tokens]
        values[row, : len(sequence)] = sequence
        mask[row, : len(sequence)] = True
    return values, mask
