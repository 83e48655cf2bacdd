"""Clips of a sequence: which ones a batch shows, so that a whole video or track has N of them.

Global Sparse (GS) sampling (Chen et al. 2024, arXiv 2407.19415, as far as its abstract tells): the
*whole* sequence is cut into N equal segments, and each segment gives one clip: a random one in
training, the one in its centre in evaluation. `contiguous` takes one excerpt of N clips instead: a
random one in training, the one in the middle in evaluation. Sequences of fewer than N clips are
taken whole.
"""

import numpy as np

METHODS = ("mean", "global_sparse", "contiguous")
_CENTRE = (0.5,)
# Of the two samples of an item that are compared in evaluation: clips of a segment are apart
# wherever it has two, excerpts wherever the sequence is twice as long.
_QUARTERS = (0.25, 0.75)
_ENDS = (0.0, np.nextafter(1.0, 0.0))


def global_sparse(length: int, places: np.ndarray) -> np.ndarray:
    """The clips of N equal segments of a sequence: (N,) -> (min(T, N),) ascending.

    Args:
      length: T, clips of the sequence.
      places: where in its segment each clip lies, in [0, 1).
    """
    if length <= len(places):
        return np.arange(length)
    bounds = np.arange(len(places) + 1) * length // len(places)
    starts = bounds[:-1]
    return starts + (places * (bounds[1:] - starts)).astype(np.int64)


def contiguous(length: int, places: np.ndarray) -> np.ndarray:
    """N clips in a row: (N,) -> (min(T, N),); the first of `places` says where they start."""
    if length <= len(places):
        return np.arange(length)
    start = int(places[0] * (length - len(places) + 1))
    return np.arange(start, start + len(places))


def places_in_segments(
    first: int, count: int, clips: int, seed: int | None, samples: int, method: str
) -> np.ndarray:
    """Where in their segments the clips of items lie: (samples, count, N) in [0, 1).

    Each item draws from a generator of its own, keyed by the seed and its number in the stream of
    items. So a resumed run draws what an uninterrupted one would have drawn, however the items are
    batched.

    Args:
      first: number of the first item in the stream.
      count: items.
      clips: N.
      seed: of the draws; None takes fixed places, for evaluation.
      samples: 1 for a modality of a pair, 2 where an item is compared with itself.
      method: what the places are for.
    """
    if seed is None:
        apart = _ENDS if method == "contiguous" else _QUARTERS
        fixed = _CENTRE if samples == 1 else apart
        return np.broadcast_to(np.array(fixed)[:, None, None], (samples, count, clips))
    drawn = [_generator(seed, first + item).random((samples, clips)) for item in range(count)]
    return np.stack(drawn, axis=1)


def _generator(seed: int, number: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=np.array([seed, number], np.uint64)))
