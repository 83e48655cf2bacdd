"""Sampling of N clips from the whole sequence of a video or track, and mean pooling.

Global Sparse (GS) sampling (Chen et al. 2024, arXiv 2407.19415, as far as its abstract tells): the
*whole* sequence is cut into N equal segments, and each segment gives one clip: a random one in
training, the central one in evaluation. `contiguous` takes one excerpt of N clips instead: a random
one in training, the middle one in evaluation. Sequences of fewer than N clips are taken whole.

These N segments are not the S of the argument `segments`: evaluation by segments cuts a sequence
into S parts, and clips are sampled from each part as from a sequence of its own.

Everything is NumPy on the stored bytes: T differs from item to item, and a loop over views of raw
bytes is faster than ragged tensors.
"""

import itertools
from collections.abc import Sequence

import numpy as np

from vmr.data.modality import Modality
from vmr.quantization import OFFSET, SCALE

# `mean` pools; the others have their cases in `segment_offsets` and `sampled_clips`.
METHODS = ("mean", "global_sparse", "contiguous")

# Evaluation uses fixed offsets. Two samples of one item lie as far apart as they can: since neither
# shows more than T / 2 clips, they have no clip in common if T is at least 2. `nextafter` keeps the
# last offset below 1, which would point one clip past the end.
_CENTRE = (0.5,)
_QUARTERS = (0.25, 0.75)
_ENDS = (0.0, np.nextafter(1.0, 0.0))

# Sums of up to 257 bytes fit into 16 bits (257 · 255 = 65535), and NumPy sums 16 bits fastest.
_BYTES_IN_16_BITS = 256


def global_sparse(length: int, offsets: np.ndarray) -> np.ndarray:
    """Indices of one clip in each of N equal segments: offsets (N,) -> (min(T, N),), ascending.

    Args:
      length: T, clips of the sequence.
      offsets: relative position of each clip in its segment, in [0, 1).
    """
    if length <= len(offsets):
        return np.arange(length)
    bounds = np.arange(len(offsets) + 1) * length // len(offsets)
    starts = bounds[:-1]
    return starts + (offsets * (bounds[1:] - starts)).astype(np.int64)


def contiguous(length: int, offsets: np.ndarray) -> np.ndarray:
    """Indices of N consecutive clips: (N,) -> (min(T, N),); the first offset sets the start."""
    if length <= len(offsets):
        return np.arange(length)
    start = int(offsets[0] * (length - len(offsets) + 1))
    return np.arange(start, start + len(offsets))


_CHOOSE = {"global_sparse": global_sparse, "contiguous": contiguous}


def segment_offsets(
    places: Sequence[int] | np.ndarray, clips: int, seed: int | None, samples: int, method: str
) -> np.ndarray:
    """Relative positions of clips in their segments: (samples, count, N) in [0, 1).

    Each item has a generator of its own, keyed by the seed and by its place in the stream of items.
    So a resumed run samples the clips of an uninterrupted one, however items are batched, and
    several processes sample those of one.

    Args:
      places: place of each item in the stream.
      clips: N, clips of each item.
      seed: seed of the draws; None takes fixed offsets, for evaluation.
      samples: 1 for a modality of a pair, 2 if an item is paired with itself.
      method: one of `METHODS`.
    """
    if seed is None:
        apart = _ENDS if method == "contiguous" else _QUARTERS
        fixed = _CENTRE if samples == 1 else apart
        return np.broadcast_to(np.array(fixed)[:, None, None], (samples, len(places), clips))
    drawn = [_generator(seed, place).random((samples, clips)) for place in places]
    return np.stack(drawn, axis=1)


def _generator(seed: int, place: int) -> np.random.Generator:
    # Philox takes a key, not a seed: every key gives an independent stream, without the cost of
    # hashing a seed for each item.
    return np.random.Generator(np.random.Philox(key=np.array([seed, place], np.uint64)))


def sampled_clips(
    stored: np.ndarray,
    offsets: np.ndarray,
    modality: Modality,
    method: str,
    samples: int = 1,
    segments: int = 1,
) -> tuple[np.ndarray, np.ndarray]:
    """Samples the clips of each sequence, in the stored type, with their mask.

    Args:
      stored: (B,) objects, bytes of (T, P) frames.
      offsets: (B, N) relative positions, see `segment_offsets`.
      modality: width and type of the frames.
      method: one of `METHODS`; `mean` gives each part one clip, its mean in float32.
      samples: 2 if an item is paired with itself. Then at most T / 2 clips are sampled, so that two
        samples of an item can differ in every clip.
      segments: S, equal parts of a sequence, each sampled by itself, see `segment_bounds`.

    Returns:
      clips (B, N, P) of the stored type, zeros after the last one, and the mask (B, N) bool; for
      several segments (B, S, N, P) and (B, S, N).
    """
    count, clips = offsets.shape
    dtype = np.float32 if method == "mean" else modality.dtype
    batch = np.zeros((count, segments, clips, modality.width), dtype)
    mask = np.zeros((count, segments, clips), bool)
    for row, content in enumerate(stored):
        frames = np.frombuffer(content, modality.dtype).reshape(-1, modality.width)
        bounds = segment_bounds(len(frames), segments, samples)
        for part, (start, stop) in enumerate(itertools.pairwise(bounds)):
            within = frames[start:stop]
            if method == "mean":
                chosen = mean_frame(within, modality)[None, :]
            else:
                most = clips if samples == 1 else max(1, len(within) // 2)
                chosen = within[_CHOOSE[method](len(within), offsets[row, :most])]
            batch[row, part, : len(chosen)] = chosen
            mask[row, part, : len(chosen)] = True
    return (batch[:, 0], mask[:, 0]) if segments == 1 else (batch, mask)


def segment_bounds(length: int, segments: int, samples: int = 1) -> np.ndarray:
    """Clips at which equal parts of a sequence begin, and its end: (parts + 1,) ascending integers.

    A sequence of fewer than S clips has fewer parts; with two samples, so few that a part has two
    clips if the item has. An empty one has none.

    Args:
      length: T, clips of the sequence.
      segments: S, parts at most.
      samples: 2 if an item is paired with itself.
    """
    parts = min(segments, length, max(1, length // samples))
    return np.arange(parts + 1) * length // max(1, parts)


def mean_frames(stored: np.ndarray, modality: Modality) -> np.ndarray:
    """Mean frame of each sequence: (B,) bytes of (T, P) frames -> (B, P) float32.

    A sequence without frames gives zeros; validation reports it.
    """
    means = np.zeros((len(stored), modality.width), np.float32)
    for row, content in enumerate(stored):
        frames = np.frombuffer(content, modality.dtype).reshape(-1, modality.width)
        if len(frames):
            means[row] = mean_frame(frames, modality)
    return means


def mean_frame(frames: np.ndarray, modality: Modality) -> np.ndarray:
    """Mean over time: (T, P) as stored -> (P,) float64.

    Bytes are summed as integers, so the sum is exact, and dequantisation, which is affine, is
    applied once, to the mean.
    """
    if modality.quantized:
        return _byte_sum(frames) * (SCALE / len(frames)) + OFFSET
    return frames.mean(axis=0, dtype=np.float64)


def _byte_sum(frames: np.ndarray) -> np.ndarray:
    total = np.zeros(frames.shape[1], np.float64)
    for start in range(0, len(frames), _BYTES_IN_16_BITS):
        total += frames[start : start + _BYTES_IN_16_BITS].sum(axis=0, dtype=np.uint16)
    return total


def embedded_tokens(stored: np.ndarray, tokens: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Decodes the stored embeddings of each text: (B,) bytes -> (B, L, E) float32, mask (B, L).

    Args:
      stored: (B,) bytes of (T, E) float32 arrays; an empty one has a mask of zeros.
      tokens: L, embeddings kept of each text, from the first on.
      width: E, numbers in an embedding.
    """
    values = np.zeros((len(stored), tokens, width), np.float32)
    mask = np.zeros((len(stored), tokens), bool)
    for row, content in enumerate(stored):
        sequence = np.frombuffer(content, np.float32).reshape(-1, width)[:tokens]
        values[row, : len(sequence)] = sequence
        mask[row, : len(sequence)] = True
    return values, mask
