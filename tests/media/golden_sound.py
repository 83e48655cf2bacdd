"""The sound whose features are known: rising harmonics, a click each half second and noise."""

import functools

import numpy as np

from vmr.media.librosa1140 import CROP, RATE


@functools.cache
def golden() -> np.ndarray:
    """29.12 s at 12 kHz: (349440,) float32."""
    t = np.arange(CROP) / RATE
    phase = 2 * np.pi * (110 * t + 4 * t**2)
    tones = 0.4 * np.sin(phase) + 0.2 * np.sin(2 * phase) + 0.1 * np.sin(3 * phase)
    noise = np.random.Generator(np.random.PCG64(0)).uniform(-1, 1, CROP)
    return (tones + 0.6 * np.exp(-200 * (t % 0.5)) + 0.05 * noise).astype(np.float32)
