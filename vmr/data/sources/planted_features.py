"""Features of planted items: from the qualities of an item to its vector or its clips.

A vector shows all qualities at once. A sequence unfolds them: it has as many equal *acts* as there
are shared qualities, in an order of the item's own. In its act a quality shows at full strength,
elsewhere hardly, so that a short excerpt misses most of what is shared. Genre shows throughout;
polarity and private qualities belong to the item, jitter and noise to the clip.
"""

from typing import NamedTuple

import numpy as np

QUALITIES = 5
GENRES = 4

_GENRE_STRENGTH = 0.8
_PRIVATE = 3
_INPUTS = QUALITIES + GENRES + _PRIVATE
_JITTER = 0.1
_HIDDEN = 192
_CURVATURE = 0.5
_NOISE = 0.3
_ELSEWHERE = 0.15
# Clips computed at a time: bounds the memory beyond the clips themselves.
_BLOCK = 16384


class Shared(NamedTuple):
    """Qualities that the items of a group share, for n groups or items.

    Attributes:
      intensity: (n, 5), not negative.
      genre: (n, 4), one-hot.
    """

    intensity: np.ndarray
    genre: np.ndarray

    def of(self, rows: np.ndarray) -> "Shared":
        """Shared qualities of `rows`, in their order."""
        return Shared(self.intensity[rows], self.genre[rows])


class RandomMap(NamedTuple):
    """Fixed nonlinear map from 12 qualities to D features: sin(x · into + phase) · out."""

    into: np.ndarray
    phase: np.ndarray
    out: np.ndarray


def shared_qualities(rng: np.random.Generator, groups: int) -> Shared:
    """Draws the qualities that each group shares."""
    intensity = np.abs(rng.normal(size=(groups, QUALITIES)))
    genre = np.eye(GENRES)[rng.integers(GENRES, size=groups)]
    return Shared(intensity, genre)


def random_map(rng: np.random.Generator, width: int) -> RandomMap:
    """Draws the map of one modality to D = `width` features."""
    into = rng.normal(size=(_INPUTS, _HIDDEN)) * _CURVATURE * np.sqrt(2 / _INPUTS)
    phase = rng.uniform(-np.pi, np.pi, size=_HIDDEN)
    out = rng.normal(size=(_HIDDEN, width)) * np.sqrt(2 / _HIDDEN)
    return RandomMap(into, phase, out)


def vectors(rng: np.random.Generator, mapping: RandomMap, shared: Shared) -> np.ndarray:
    """Features of n items: (n, D) float32."""
    return _features(rng, mapping, _item_qualities(rng, shared))


def sequences(
    rng: np.random.Generator, mapping: RandomMap, shared: Shared, clips: int
) -> list[np.ndarray]:
    """Clips of n items: n arrays (T, D) float32, T from clips/2 to 2·clips."""
    items = len(shared.genre)
    qualities = _item_qualities(rng, shared)
    lengths = rng.integers(clips // 2, 2 * clips, size=items, endpoint=True)
    order = rng.permuted(np.tile(np.arange(QUALITIES), (items, 1)), axis=1)
    ends = np.cumsum(lengths)
    features = np.empty((ends[-1], mapping.out.shape[1]), np.float32)
    for start in range(0, len(features), _BLOCK):
        clip = np.arange(start, min(start + _BLOCK, len(features)))
        item = np.searchsorted(ends, clip, side="right")
        act = (clip - ends[item] + lengths[item]) * QUALITIES // lengths[item]
        strength = np.ones((len(clip), _INPUTS))
        strength[:, :QUALITIES] = np.where(order[item] == act[:, None], 1.0, _ELSEWHERE)
        features[clip] = _features(rng, mapping, strength * qualities[item])
    return np.split(features, ends[:-1])


def _item_qualities(rng: np.random.Generator, shared: Shared) -> np.ndarray:
    """(n, 12): shared qualities with a polarity of the item's own, genre, private qualities."""
    polarity = rng.choice((-1.0, 1.0), size=shared.intensity.shape)
    private = rng.normal(size=(len(shared.genre), _PRIVATE))
    parts = (polarity * shared.intensity, _GENRE_STRENGTH * shared.genre, private)
    return np.concatenate(parts, axis=1)


def _features(rng: np.random.Generator, mapping: RandomMap, qualities: np.ndarray) -> np.ndarray:
    """(n, 12) -> (n, D) float32, with jitter before the map and noise behind it."""
    qualities = qualities + _JITTER * rng.normal(size=qualities.shape)
    features = np.sin(qualities @ mapping.into + mapping.phase) @ mapping.out
    return (features + _NOISE * rng.normal(size=features.shape)).astype(np.float32)
