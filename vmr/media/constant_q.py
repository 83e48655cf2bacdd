"""Constant-Q transform, faster than librosa's and the same to the last bit.

`librosa.cqt` makes the filters of each octave, which takes longer than their use. Seen at the rate
of its octave, each filter is that of the octave above, so that those of one octave will do
(Schörkhuber, Klapuri 2010).
"""

import librosa
import numpy as np

BINS, OCTAVES = 36, 7  # bins an octave, from C1


def constant_q(samples: np.ndarray, rate: int, hop: int, tuning: float) -> np.ndarray:
    """Magnitudes as of `librosa.cqt`: (n,) float32 -> (252, 1 + n // hop) float32.

    Args:
      samples: (n,); of fewer than 32,768, the lowest filters reach beyond both ends.
      rate: samples a second, 12,000 to 32,000; librosa lowers higher ones first.
      hop: samples from frame to frame, a multiple of 64.
      tuning: offset from A440 in bins, see `librosa.estimate_tuning`.
    """
    from librosa.filters import wavelet, wavelet_lengths  # numba compiles as it is imported

    lowest = librosa.note_to_hz("C1") * 2.0 ** (tuning / BINS)
    frequencies = librosa.interval_frequencies(
        BINS * OCTAVES, fmin=lowest, intervals="equal", bins_per_octave=BINS, sort=True
    )
    # Of a filter, relative to its frequency, from the distance of its neighbours in octaves.
    ratio = 2.0 ** (2 * np.gradient(np.log2(frequencies)))
    bandwidths = (ratio - 1) / (ratio + 1)
    filters, lengths = wavelet(
        freqs=frequencies[-BINS:], sr=rate, gamma=0, alpha=bandwidths[-BINS:]
    )
    size = filters.shape[1]
    filters *= lengths[:, np.newaxis] / size  # in place, here and below: complex64 stays so
    spectra = librosa.get_fftlib().fft(filters, axis=1)[:, : size // 2 + 1]
    sparse = librosa.util.sparsify_rows(spectra, quantile=0.01, dtype=np.complex64)
    octaves = []
    for octave in range(OCTAVES):
        if octave:
            samples = librosa.resample(samples, orig_sr=2, target_sr=1, scale=True)
            hop //= 2
        frames = librosa.stft(samples, n_fft=size, hop_length=hop, window="ones")
        octaves.append((sparse * np.sqrt(2.0**octave)).astype(np.complex64).dot(frames))
    count = min(each.shape[1] for each in octaves)
    transform = np.concatenate([each[:, :count] for each in octaves[::-1]])
    lengths, _ = wavelet_lengths(freqs=frequencies, sr=rate, gamma=0, alpha=bandwidths)
    transform /= np.sqrt(lengths)[:, np.newaxis]
    return np.abs(transform)
