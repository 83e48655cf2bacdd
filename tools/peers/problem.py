"""What every contender is given: one random batch of pairs, and the options of the losses."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

TEMPERATURE = 0.07
# Of SigLIP before its first step.
SCALE, BIAS = 10.0, -10.0
# Of VM-NET as published.
MARGIN, TOP_K = 0.1, 100
WEIGHTS = {"m2v": 3.0, "v2m": 1.0, "music": 0.2, "video": 0.2}


@dataclass(frozen=True)
class Problem:
    """The shapes of a batch: N pairs, embeddings (N,D), inputs (N,P), sharded over devices."""

    items: int
    width: int
    input_width: int
    devices: int = 1


class Batch(NamedTuple):
    """N pairs as arrays of any library, the fields of `vmr.losses.pairs.Pairs`."""

    video: Any  # (N, D) unit rows
    music: Any  # (N, D) unit rows
    video_inputs: Any  # (N, P) unit rows
    music_inputs: Any  # (N, P) unit rows
    track: Any  # (N,) int32, all different


def random_batch(problem: Problem) -> Batch:
    """Pairs as encoders might make them, float32.

    A video's embedding is at a cosine of about 0.45 to its inputs, and of 0.2 to its music: that
    leaves some of the hardest negatives within the margin. Made in place, so that the peak of
    memory is the batch itself.
    """
    random = np.random.default_rng(0)
    video_inputs = _unit(random.standard_normal((problem.items, problem.input_width), np.float32))
    video = _near(_projected(video_inputs, problem.width, random), 2, random)
    music = _near(video, 5, random)
    music_inputs = _near(_projected(music, problem.input_width, random), 2, random)
    track = np.arange(problem.items, dtype=np.int32)
    return Batch(video, music, video_inputs, music_inputs, track)


def _near(rows: np.ndarray, noise_length: float, random: np.random.Generator) -> np.ndarray:
    """Unit rows (N,D) -> unit rows, noise of this length added."""
    noise = _unit(random.standard_normal(rows.shape, np.float32))
    noise *= noise_length
    noise += rows
    return _unit(noise)


def _projected(rows: np.ndarray, width: int, random: np.random.Generator) -> np.ndarray:
    """(N,P) -> unit rows (N,D), cosines about kept."""
    return _unit(rows @ random.standard_normal((rows.shape[1], width), np.float32))


def _unit(rows: np.ndarray) -> np.ndarray:
    """The rows, brought to length 1 in place."""
    rows /= np.sqrt(np.einsum("np,np->n", rows, rows))[:, None]
    return rows
