"""Features of planted items: a random nonlinear map from qualities to a vector or to clips.

A vector shows all qualities at once. A sequence shows them in turn: it has as many equal *acts* as
there are shared qualities, in random order. A quality shows at full strength in its own act and at
15 % elsewhere, so that a short excerpt misses most of the shared qualities. Genre shows throughout.
Polarity and private qualities are drawn per item, jitter and noise per clip.
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
# Vectors or clips computed at a time, which bounds the memory of the hidden layer.
_BLOCK = 16384


class Shared(NamedTuple):
    """Shared qualities of n groups or items.

    Attributes:
      intensity: (n, 5) magnitudes, 0 or more.
      genre: (n, 4) one-hot genres.
    """

    intensity: np.ndarray
    genre: np.ndarray

    def of(self, rows: np.ndarray) -> "Shared":
        """Shared qualities of the groups or items at `rows`, in their order."""
        return Shared(self.intensity[rows], self.genre[rows])


class RandomMap(NamedTuple):
    """Fixed nonlinear map from 12 qualities to D features: sin(x · into + phase) · out."""

    into: np.ndarray
    phase: np.ndarray
    out: np.ndarray


def shared_qualities(rng: np.random.Generator, groups: int) -> Shared:
    """Draws the shared qualities of each group."""
    intensity = np.abs(rng.normal(size=(groups, QUALITIES)))
    genre = np.eye(GENRES)[rng.integers(GENRES, size=groups)]
    return Shared(intensity, genre)


def random_map(rng: np.random.Generator, width: int) -> RandomMap:
    """Draws the map of one modality to D = `width` features."""
    # Scaled by the fan-in, so that neither layer changes the size of its inputs much.
    into = rng.normal(size=(_INPUTS, _HIDDEN)) * _CURVATURE * np.sqrt(2 / _INPUTS)
    phase = rng.uniform(-np.pi, np.pi, size=_HIDDEN)
    out = rng.normal(size=(_HIDDEN, width)) * np.sqrt(2 / _HIDDEN)
    return RandomMap(into, phase, out)


def vectors(rng: np.random.Generator, mapping: RandomMap, shared: Shared) -> np.ndarray:
    """Draws the features of n items: (n, D) float32."""
    # Jitter of all items before the noise of any: so the draws do not depend on the blocks.
    qualities = _jittered(rng, _item_qualities(rng, shared))
    features = np.empty((len(qualities), mapping.out.shape[1]), np.float32)
    for start in range(0, len(features), _BLOCK):
        block = slice(start, start + _BLOCK)
        features[block] = _mapped(rng, mapping, qualities[block])
    return features


def sequences(
    rng: np.random.Generator, mapping: RandomMap, shared: Shared, clips: int
) -> list[np.ndarray]:
    """Draws the clips of n items: n arrays (T, D) float32, T uniform in [clips/2, 2·clips]."""
    items = len(shared.genre)
    qualities = _item_qualities(rng, shared)
    lengths = rng.integers(clips // 2, 2 * clips, size=items, endpoint=True)
    # `permuted` shuffles each row by itself; `permutation` would shuffle the rows.
    order = rng.permuted(np.tile(np.arange(QUALITIES), (items, 1)), axis=1)
    # The sequences lie end to end in one array, whose blocks need not respect their bounds.
    ends = np.cumsum(lengths)
    features = np.empty((ends[-1], mapping.out.shape[1]), np.float32)
    for start in range(0, len(features), _BLOCK):
        clip = np.arange(start, min(start + _BLOCK, len(features)))
        item = np.searchsorted(ends, clip, side="right")
        # Position of the clip in its own sequence, scaled to the number of acts.
        act = (clip - ends[item] + lengths[item]) * QUALITIES // lengths[item]
        strength = np.ones((len(clip), _INPUTS))
        strength[:, :QUALITIES] = np.where(order[item] == act[:, None], 1.0, _ELSEWHERE)
        features[clip] = _mapped(rng, mapping, _jittered(rng, strength * qualities[item]))
    return np.split(features, ends[:-1])


def _item_qualities(rng: np.random.Generator, shared: Shared) -> np.ndarray:
    """Qualities of n items, (n, 12): intensities with a random sign, genre, private qualities."""
    polarity = rng.choice((-1.0, 1.0), size=shared.intensity.shape)
    private = rng.normal(size=(len(shared.genre), _PRIVATE))
    parts = (polarity * shared.intensity, _GENRE_STRENGTH * shared.genre, private)
    return np.concatenate(parts, axis=1)


def _jittered(rng: np.random.Generator, qualities: np.ndarray) -> np.ndarray:
    return qualities + _JITTER * rng.normal(size=qualities.shape)


def _mapped(rng: np.random.Generator, mapping: RandomMap, qualities: np.ndarray) -> np.ndarray:
    """Maps qualities (n, 12) to features with noise: (n, D) float32."""
    features = np.sin(qualities @ mapping.into + mapping.phase) @ mapping.out
    return (features + _NOISE * rng.normal(size=features.shape)).astype(np.float32)
