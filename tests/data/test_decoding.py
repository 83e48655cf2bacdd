"""Text as tokens: which words a text has, the buckets they fall into, embeddings as they are."""

import numpy as np
import pytest
import tensorflow as tf

from vmr.data.decoding import hashed_words
from vmr.data.sampling import embedded_tokens


def tokens(*texts, length=5, vocabulary=1000):
    ids, mask = hashed_words(tf.constant(list(texts)), length, vocabulary)
    return ids.numpy(), mask.numpy()


def test_buckets_never_change():
    """They are part of what a trained model knows."""
    ids, mask = tokens("Rock video", "one two three four five six", "音楽")
    assert ids.tolist() == [[632, 867, 0, 0, 0], [505, 769, 720, 544, 552], [237, 0, 0, 0, 0]]
    assert mask.sum(axis=1).tolist() == [2, 5, 1]
    assert ids.dtype == np.int32


@pytest.mark.parametrize(
    ("one", "same"),
    [
        ("Rock ROLL", "rock roll"),
        ("rock, roll!", " rock\troll\n"),
        ("rock_roll", "rock roll"),
        ("«rock»—roll…", "rock roll"),
        ("ÜNÏCODE", "ünïcode"),
        ("ΜΟΥΣΙΚΉ", "μουσική"),
        ("音楽・の", "音楽 の"),
        ("90s", "90S"),
        ("cafe\u0301", "Café"),
    ],
)
def test_case_and_punctuation_do_not_count(one, same):
    ids, mask = tokens(one, same, vocabulary=2**31 - 1)
    assert ids[0].tolist() == ids[1].tolist()
    assert mask[0].tolist() == mask[1].tolist()


def test_letters_and_order_do_count():
    ids, _ = tokens("rock roll", "roll rock", "röck roll", vocabulary=2**31 - 1)
    assert ids[0, :2].tolist() == ids[1, 1::-1].tolist()
    assert ids[0, 0] != ids[2, 0]


def test_of_a_longer_text_the_first_words_are_kept():
    long, _ = tokens("one two three four five six seven")
    short, _ = tokens("one two three four five")
    assert long.tolist() == short.tolist()


@pytest.mark.parametrize("text", ["", " ", "...!?"])
def test_a_text_without_words_has_a_mask_of_zeros(text):
    for texts in ((text,), (text, "rock")):
        ids, mask = tokens(*texts)
        assert ids.shape == mask.shape == (len(texts), 5)
        assert not mask[0].any()
        assert not ids[0].any()


def test_buckets_are_in_the_vocabulary():
    ids, _ = tokens(" ".join(map(str, range(500))), length=500, vocabulary=7)
    assert set(ids.ravel().tolist()) == set(range(7))


def test_embeddings_are_kept_up_to_the_length():
    sequence = np.arange(8, dtype=np.float32).reshape(4, 2)
    stored = np.array([sequence.tobytes(), b"", sequence[:1].tobytes()], object)
    values, mask = embedded_tokens(stored, tokens=3, width=2)
    assert values.shape == (3, 3, 2)
    assert values.dtype == np.float32
    np.testing.assert_array_equal(values[0], sequence[:3])
    assert mask.astype(int).tolist() == [[1, 1, 1], [0, 0, 0], [1, 0, 0]]
    assert not values[~mask].any()
