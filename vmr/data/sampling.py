"""Clips of a sequence: the N of a whole video or track that a batch shows, or their mean.

Global Sparse (GS) sampling (Chen et al. 2024, arXiv 2407.19415, as far as its abstract tells): the
*whole* sequence is cut into N equal segments, and each segment gives one clip: a random one in
training, the one in its centre in evaluation. `contiguous` takes one excerpt of N clips instead: a
random one in training, the one in the middle in evaluation. Sequences of fewer than N clips are
taken whole.

All of it is NumPy on the stored bytes: T differs from item to item, and a loop over views of raw
bytes is faster than ragged tensors.
"""

import numpy as np

from vmr.data.schema import Modality
from vmr.quantization import OFFSET, SCALE

METHODS = ("mean", "global_sparse", "contiguous")

# Evaluation draws nothing. Two samples of one item are as far apart as they can be: their clips
# differ wherever a segment has two, their excerpts wherever the sequence is twice as long.
_CENTRE = (0.5,)
_QUARTERS = (0.25, 0.75)
_ENDS = (0.0, np.nextafter(1.0, 0.0))

# A sum of at most 257 bytes fits 16 bits, and 16-bit sums are the fastest there are.
_BYTES_IN_16_BITS = 256


def global_sparse(length: int, offsets: np.ndarray) -> np.ndarray:
    """Indices of one clip in each of N equal segments: (N,) -> (min(T, N),) ascending.

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
    """Indices of N clips in a row: (N,) -> (min(T, N),); the first offset sets their start."""
    if length <= len(offsets):
        return np.arange(length)
    start = int(offsets[0] * (length - len(offsets) + 1))
    return np.arange(start, start + len(offsets))


def segment_offsets(
    first: int, count: int, clips: int, seed: int | None, samples: int, method: str
) -> np.ndarray:
    """Relative positions of clips in their segments: (samples, count, N) in [0, 1).

    Each item draws from a generator of its own, keyed by the seed and its number in the stream of
    items. So a resumed run draws what an uninterrupted one would have drawn, however the items are
    batched.

    Args:
      first: number of the first item in the stream.
      count: items.
      clips: N.
      seed: of the draws; None takes fixed offsets, for evaluation.
      samples: 1 for a modality of a pair, 2 where an item is compared with itself.
      method: one of `METHODS`.
    """
    if seed is None:
        apart = _ENDS if method == "contiguous" else _QUARTERS
        fixed = _CENTRE if samples == 1 else apart
        return np.broadcast_to(np.array(fixed)[:, None, None], (samples, count, clips))
    drawn = [_generator(seed, first + item).random((samples, clips)) for item in range(count)]
    return np.stack(drawn, axis=1)


def _generator(seed: int, number: int) -> np.random.Generator:
    # Philox is keyed, not seeded: two keys give independent streams without any warm-up.
    return np.random.Generator(np.random.Philox(key=np.array([seed, number], np.uint64)))


def sampled_clips(
    stored: np.ndarray,
    offsets: np.ndarray,
    modality: Modality,
    method: str,
    samples: int = 1,
    segments: int = 1,
) -> tuple[np.ndarray, np.ndarray]:
    """Clips of each sequence as they are stored, and their mask.

    Args:
      stored: (B,) objects, the bytes of (T, D) frames.
      offsets: (B, N), see `segment_offsets`.
      modality: width and type of the frames.
      method: one of `METHODS`; `mean` gives each segment one clip, its mean in float32.
      samples: 2 where an item is compared with itself. Then at most T / 2 clips of it are shown, so
        that two samples of it can differ in all of them.
      segments: S equal parts that a sequence is cut into, each sampled by itself. A sequence of
        fewer clips has fewer parts; with two samples, a part has two clips where the item has.

    Returns:
      clips (B, N, D) of the stored type, zeros where there is none, and the mask (B, N) bool; for
      several segments (B, S, N, D) and (B, S, N).
    """
    choose = contiguous if method == "contiguous" else global_sparse
    count, clips = offsets.shape
    dtype = np.float32 if method == "mean" else modality.dtype
    batch = np.zeros((count, segments, clips, modality.width), dtype)
    mask = np.zeros((count, segments, clips), bool)
    for row, content in enumerate(stored):
        frames = np.frombuffer(content, modality.dtype).reshape(-1, modality.width)
        parts = min(segments, len(frames), max(1, len(frames) // samples))
        for part in range(parts):
            within = frames[part * len(frames) // parts : (part + 1) * len(frames) // parts]
            if method == "mean":
                chosen = mean_frame(within, modality)[None, :]
            else:
                most = clips if samples == 1 else max(1, len(within) // 2)
                chosen = within[choose(len(within), offsets[row, :most])]
            batch[row, part, : len(chosen)] = chosen
            mask[row, part, : len(chosen)] = True
    return (batch[:, 0], mask[:, 0]) if segments == 1 else (batch, mask)


def mean_frames(stored: np.ndarray, modality: Modality) -> np.ndarray:
    """Mean frame of each sequence: (B,) bytes of (T, D) frames -> (B, D) float32.

    A sequence without frames gives zeros; validation reports it.
    """
    means = np.zeros((len(stored), modality.width), np.float32)
    for row, content in enumerate(stored):
        frames = np.frombuffer(content, modality.dtype).reshape(-1, modality.width)
        if len(frames):
            means[row] = mean_frame(frames, modality)
    return means


def mean_frame(frames: np.ndarray, modality: Modality) -> np.ndarray:
    """Mean over time: (T, D) as stored -> (D,) float.

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
