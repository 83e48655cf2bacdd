"""Planted text: a few words about what the items of a group share.

Each meaning has words of its own, two or three that say the same, so that the text is no key. The
genre is told, and four qualities in five, each as one of four levels; words without meaning stand
between, all in random order. Text therefore helps and does not settle the matter.
"""

import numpy as np

from vmr.data.planted_features import QUALITIES, Shared

# The quartiles of |N(0, 1)|: as many intensities are of each level.
_LEVELS = (0.3186, 0.6745, 1.1503)
_TOLD = 0.8
_MOST_FILLERS = 2

_GENRE_WORDS = (
    ("rock", "guitars", "band"),
    ("electronic", "synthesizer", "club"),
    ("orchestral", "symphonic", "strings"),
    ("folk", "acoustic", "banjo"),
)
# Tempo, energy, tension, brightness, density: two words for each level, ascending.
_QUALITY_WORDS = (
    (("glacial", "lingering"), ("slow", "unhurried"), ("fast", "brisk"), ("racing", "frantic")),
    (("sleepy", "hushed"), ("calm", "gentle"), ("energetic", "lively"), ("vigorous", "explosive")),
    (("carefree", "serene"), ("relaxed", "easy"), ("tense", "uneasy"), ("ominous", "dreadful")),
    (("pitch", "black"), ("dark", "dim"), ("bright", "clear"), ("radiant", "dazzling")),
    (("bare", "empty"), ("sparse", "thin"), ("dense", "busy"), ("crowded", "teeming")),
)
_FILLERS = ("video", "official", "with", "the", "new", "full", "my", "from", "part", "upload")


def texts(rng: np.random.Generator, shared: Shared, absent: float) -> list[str]:
    """One text for each of n videos; "" for a share `absent` of them."""
    items = len(shared.genre)
    genre = shared.genre.argmax(axis=1)
    level = np.digitize(shared.intensity, _LEVELS)
    told = rng.random((items, QUALITIES)) < _TOLD
    missing = rng.random(items) < absent
    # Absent texts are drawn too, so that the share of them does not change the others.
    written = [_text(rng, *of_item) for of_item in zip(genre, level, told, strict=True)]
    return ["" if gone else text for gone, text in zip(missing, written, strict=True)]


def _text(rng: np.random.Generator, genre: int, level: np.ndarray, told: np.ndarray) -> str:
    """The text of one video: its genre, the levels (5,) that are told (5,), and fillers."""
    meanings: list[tuple[str, ...]] = [_GENRE_WORDS[genre]]
    meanings += [_QUALITY_WORDS[quality][level[quality]] for quality in np.flatnonzero(told)]
    words = [str(rng.choice(synonyms)) for synonyms in meanings]
    words += [str(word) for word in rng.choice(_FILLERS, size=rng.integers(_MOST_FILLERS + 1))]
    return " ".join(rng.permutation(words).tolist())
