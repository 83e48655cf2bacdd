"""1140 numbers of a track by librosa: harmonic and percussive part, 190 rows each, 3 statistics.

Features of the music in Hong, Im, Yang 2018 (arXiv 1704.06761). The numbers are those of plain
calls of librosa, to the last bit, in less than half of their time.
"""

import warnings
from collections.abc import Iterator
from importlib.metadata import version
from itertools import pairwise

import numpy as np
from scipy.ndimage import median_filter

from vmr.errors import UserError
from vmr.media.clips import first_rows
from vmr.media.extractor import package_needed
from vmr.media.samples import finite_samples

try:
    import librosa

    from vmr.media.constant_q import BINS, constant_q
except ModuleNotFoundError as error:
    raise package_needed("librosa", "media") from error

RATE = 12_000
HOP = 256
CROP = 349_440  # samples of a whole track: 29.12 s, 1366 frames
# Matrices of a part and their rows, in this order.
ROWS = {
    "chroma_stft": 12,
    "chroma_cens": 12,
    "melspectrogram": 96,
    "mfcc": 20,
    "mfcc_delta": 20,
    "mfcc_delta2": 20,
    "rms": 1,
    "spectral_centroid": 1,
    "spectral_bandwidth": 1,
    "spectral_rolloff": 1,
    "poly_features_1": 2,
    "poly_features_2": 3,
    "zero_crossing_rate": 1,
}
STATISTICS = ("mean", "variance", "maximum")
NAMES = tuple(
    f"{part} {matrix} {row} {statistic}"
    for statistic in STATISTICS
    for part in ("harmonic", "percussive")
    for matrix, rows in ROWS.items()
    for row in range(rows)
)

# In shorter sound, the longest filters of CENS reach beyond both ends.
_LEAST = 32_768
# Longer sound is analysed in stretches of at most so many frames (about six minutes), which bounds
# the memory. A frame's rows depend on about 100 frames to each side.
_STRETCH, _CONTEXT = 16_384, 128


def load(side: str, file: str) -> "Librosa1140":
    """Loads the extractor and warms it up: numba compiles at first use, and caches on disk.

    The first time takes a minute, which workers of a pool spare themselves if their parent has
    loaded it before. The cache lies beside librosa, or in the folder `NUMBA_CACHE_DIR`.

    Raises:
      UserError: numba cannot write its cache.
    """
    del side, file
    extractor = Librosa1140()
    try:
        extractor.clips(np.zeros(1, np.float32), np.array([[0.0, 1.0]]))
    except RuntimeError as error:
        if "cannot cache" not in str(error):
            raise
        raise UserError(
            "librosa1140: numba has no folder for what it compiles; expected that NUMBA_CACHE_DIR "
            "names one that can be written"
        ) from error
    return extractor


class Librosa1140:
    """Statistics of spectral rows, a `SoundExtractor`; `NAMES` has the name of each number."""

    rate = RATE
    width = len(NAMES)

    def __init__(self) -> None:
        self.account = {
            "name": "librosa1140",
            "version": version("librosa"),
            "licence": "ISC",
            "sha256": None,
            "width": self.width,
        }

    def whole(self, samples: np.ndarray) -> np.ndarray:
        """Feature of a track: of its middle 29.12 s, with zeros at the end if it is shorter.

        Args:
          samples: (n,) float32 at 12 kHz, n ≥ 1.

        Returns:
          (1140,) float32: 380 means, 380 variances, 380 maxima.

        Raises:
          UserError: there are no samples, or not all are finite.
        """
        samples = finite_samples(samples)
        start = max(0, (len(samples) - CROP) // 2)
        crop = _at_least(CROP, samples[start : start + CROP])
        return _statistics(matrices(crop), np.array([0]))[0]

    def clips(self, samples: np.ndarray, bounds: np.ndarray) -> np.ndarray:
        """Features of the clips of a track: an extension to sequences that VM-NET does not have.

        The rows are computed once over the whole track, without a crop, and are in dB against their
        matrix's maximum over the whole track, so that a quiet clip differs from a loud one. A frame
        belongs to the clip in which its centre lies; a clip without one has the frame before it.
        Of a track longer than about six minutes, each stretch of three to six has its own estimate
        of the tuning and its own floor of the MFCCs' mel spectrogram; an hour takes 1.4 GB.

        Args:
          samples: (n,) float32 at 12 kHz, n ≥ 1.
          bounds: (T, 2) seconds, see `clip_bounds`.

        Returns:
          (T, 1140) float32, as of `whole`.

        Raises:
          UserError: there are no samples, or not all are finite.
        """
        samples = finite_samples(samples)
        frames = 1 + len(samples) // HOP
        centres = np.arange(frames) * (HOP / RATE)
        firsts = first_rows(centres, bounds)
        rows = [np.concatenate(each, axis=1) for each in zip(*_stretches(samples), strict=True)]
        return _statistics(rows, firsts)


def _at_least(count: int, samples: np.ndarray) -> np.ndarray:
    return np.pad(samples, (0, max(0, count - len(samples))))


def _stretches(samples: np.ndarray) -> Iterator[list[np.ndarray]]:
    """Matrices of a sound, (r, frames) each, in stretches one after the other."""
    frames = 1 + len(samples) // HOP
    # Even, because the frames of HPSS are twice as far apart.
    edges = np.linspace(0, frames, 1 + -(-frames // _STRETCH)).astype(int) // 2 * 2
    edges[-1] = frames
    samples = _at_least(_LEAST, samples)
    for first, last in pairwise(edges):
        start = max(0, first - _CONTEXT)
        rows = matrices(samples[start * HOP : (last + _CONTEXT) * HOP])
        yield [each[:, first - start : last - start] for each in rows]


def matrices(samples: np.ndarray) -> list[np.ndarray]:
    """Rows of `ROWS`, harmonic, then percussive: (n,) -> 26 of (r, 1 + n // 256); n ≥ 32,768.

    As VM-NET has it, the mel spectrogram alone takes librosa's default for the sample rate.
    """
    return [rows for part in harmonic_percussive(samples) for rows in _part_matrices(part)]


def _part_matrices(part: np.ndarray) -> list[np.ndarray]:
    feature = librosa.feature
    magnitude = np.abs(librosa.stft(part, n_fft=512, hop_length=HOP))  # shared by seven
    power = magnitude**2
    longer = np.abs(librosa.stft(part, n_fft=2048, hop_length=HOP))
    mel = feature.melspectrogram(S=longer**2, sr=RATE)
    mfcc = feature.mfcc(S=librosa.power_to_db(mel), n_mfcc=20)
    centroid = feature.spectral_centroid(S=magnitude, sr=RATE)
    with warnings.catch_warnings():
        # Silence has no tuning; librosa warns of it, and takes 0.
        warnings.filterwarnings("ignore", "Trying to estimate tuning", UserWarning)
        chroma = feature.chroma_stft(S=power, sr=RATE)
        # Of every other frame, because its own default is a hop of 512.
        tuning = librosa.estimate_tuning(S=longer[:, ::2], sr=RATE, bins_per_octave=BINS)
    return [
        chroma,
        feature.chroma_cens(C=constant_q(part, RATE, HOP, tuning)),
        feature.melspectrogram(S=power, n_mels=96),
        mfcc,
        feature.delta(mfcc),
        feature.delta(mfcc, order=2),
        feature.rms(y=part, frame_length=512, hop_length=HOP),
        centroid,
        feature.spectral_bandwidth(S=magnitude, sr=RATE, centroid=centroid),
        feature.spectral_rolloff(S=magnitude, sr=RATE),
        feature.poly_features(S=magnitude, sr=RATE, order=1),
        feature.poly_features(S=magnitude, sr=RATE, order=2),
        feature.zero_crossing_rate(part, frame_length=512, hop_length=HOP),
    ]


def harmonic_percussive(samples: np.ndarray) -> list[np.ndarray]:
    """Harmonic and percussive part, as `librosa.effects.hpss`: (n,) -> two of (n,).

    Median filtering of a spectrogram along time and along frequency (Fitzgerald, 2010).
    """
    magnitude, phase = librosa.magphase(librosa.stft(samples))
    along_time = _row_medians(magnitude)
    along_frequency = np.ascontiguousarray(_row_medians(magnitude.T).T)
    parts = []
    for ours, other in ((along_time, along_frequency), (along_frequency, along_time)):
        mask = librosa.util.softmask(ours, other, power=2.0, split_zeros=True)
        part = librosa.istft(magnitude * mask * phase, dtype=samples.dtype, length=len(samples))
        parts.append(part)
    return parts


def _row_medians(matrix: np.ndarray) -> np.ndarray:
    """Running medians of 31 along each row, reflected at its ends.

    SciPy's filter is far faster in one dimension than in two, so the rows are laid end to end.
    """
    padded = np.pad(matrix, ((0, 0), (15, 15)), mode="symmetric")
    return median_filter(padded.ravel(), size=31).reshape(padded.shape)[:, 15:-15]


def _statistics(rows: list[np.ndarray], firsts: np.ndarray) -> np.ndarray:
    """Mean, variance, maximum of rows in dB over clips that start at `firsts`: (T, 1140)."""
    lasts = np.append(firsts[1:], rows[0].shape[1])
    clips = [
        slice(first, last) if first < last else slice(max(first - 1, 0), max(first, 1))
        for first, last in zip(firsts, lasts, strict=True)
    ]
    statistics: list[list[np.ndarray]] = [[], [], []]
    for each in rows:
        decibels = librosa.power_to_db(np.abs(each), ref=np.max, amin=1e-10, top_db=80.0)
        parts = [decibels[:, clip] for clip in clips]
        statistics[0].append(np.stack([part.mean(axis=1, dtype=np.float64) for part in parts]))
        statistics[1].append(np.stack([part.var(axis=1, dtype=np.float64) for part in parts]))
        statistics[2].append(np.stack([part.max(axis=1) for part in parts]))
    return np.concatenate(
        [block for kind in statistics for block in kind], axis=1, dtype=np.float32
    )
