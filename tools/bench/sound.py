"""Speed of the music features: librosa's 1140 numbers, ours and by plain calls, and musicnn.

    OMP_NUM_THREADS=1 TF_NUM_INTRAOP_THREADS=1 python -m tools.bench.sound

TensorFlow is faster with TF_ENABLE_ONEDNN_OPTS=1. Contenders take turns, each in a process of its
own, with another track in each round.
"""

import functools
import importlib
from collections.abc import Sequence

import numpy as np
from absl import flags

from tools.bench import paired
from vmr.command import run
from vmr.errors import UserError

SECONDS = 29.12
CONTENDERS = ("librosa1140", "librosa", "musicnn")


def plain_matrices(samples: np.ndarray) -> list[np.ndarray]:
    """Matrices of `vmr.media.librosa1140` by plain calls of librosa: (n,) -> 26 of (r, frames)."""
    import librosa
    from librosa.effects import hpss

    feature, rate, rows = librosa.feature, 12_000, []
    for y in hpss(samples):
        frames = {"y": y, "sr": rate, "n_fft": 512, "hop_length": 256}
        mfcc = feature.mfcc(y=y, sr=rate, n_mfcc=20, hop_length=256)
        rows += [
            feature.chroma_stft(**frames),
            feature.chroma_cens(y=y, sr=rate, hop_length=256),
            feature.melspectrogram(y=y, n_mels=96, n_fft=512, hop_length=256),
            mfcc,
            feature.delta(mfcc),
            feature.delta(mfcc, order=2),
            feature.rms(y=y, frame_length=512, hop_length=256),
            feature.spectral_centroid(**frames),
            feature.spectral_bandwidth(**frames),
            feature.spectral_rolloff(**frames),
            feature.poly_features(**frames, order=1),
            feature.poly_features(**frames, order=2),
            feature.zero_crossing_rate(y, frame_length=512, hop_length=256),
        ]
    return rows


def plain_vector(samples: np.ndarray) -> np.ndarray:
    """Means, variances, maxima of the plain matrices in dB: (n,) -> (1140,) float64."""
    import librosa

    decibels = [
        librosa.power_to_db(np.abs(rows), ref=np.max, amin=1e-10, top_db=80)
        for rows in plain_matrices(samples)
    ]
    rows = np.concatenate([each.astype(np.float64) for each in decibels])
    return np.concatenate([rows.mean(axis=1), rows.var(axis=1), rows.max(axis=1)])


def music(rate: int, seed: int) -> np.ndarray:
    """Chords, a beat and noise, 29.12 s of them: (n,) float32; another tuning for each seed."""
    rng = np.random.default_rng(seed)
    seconds = np.arange(round(SECONDS * rate)) / rate
    notes = rng.choice(36, size=(15, 3)) + rng.uniform(-0.5, 0.5)
    frequencies = 110 * 2 ** (notes / 12)
    phases = 2 * np.pi * frequencies[(seconds // 2).astype(int)].T * seconds
    tones = sum(np.sin(harmonic * phases) / harmonic for harmonic in (1, 2, 3))
    beat = np.exp(-50 * (seconds % 0.5)) * rng.uniform(-1, 1, len(seconds))
    noise = rng.uniform(-0.02, 0.02, len(seconds))
    return (0.1 * np.sum(tones, axis=0) + 0.4 * beat + noise).astype(np.float32)


def prepare(name: str) -> paired.Prepared:
    """Prepares a contender: `librosa1140`, its peer `librosa`, or `musicnn`."""
    if name == "librosa":
        feature, rate = plain_vector, 12_000
    else:
        extractor = importlib.import_module(f"vmr.media.{name}").load("music", "")
        feature, rate = extractor.whole, extractor.rate
    tracks: list[np.ndarray] = []

    def before() -> None:
        tracks.append(music(rate, seed=len(tracks)))

    return paired.Prepared(lambda: feature(tracks[-1]), before=before)


def table(names: Sequence[str], rounds: int) -> str:
    """Medians, seconds of sound a second, ratios of the first to each; per core below.

    Raises:
      UserError: there is no contender of such a name.
    """
    for name in names:
        if name not in CONTENDERS:
            known = ", ".join(CONTENDERS)
            raise UserError(f"--contenders: unknown {name!r}; expected some of {known}")
    contenders = {name: functools.partial(prepare, name) for name in names}
    measured = paired.take_turns(contenders, seconds=0, rounds=rounds)
    lines = [f"a track of {SECONDS} s", paired.lines(measured, "s", SECONDS)]
    for name, result in measured.items():
        cores = float(np.median(result.processor_seconds))
        lines.append(f"  {name:16s} {cores:.2f} s of a core, {SECONDS / cores:.0f} x real time")
    return "\n".join(lines)


def main(argv: list[str]) -> None:
    """Times the contenders in turn and prints the table."""
    del argv
    print(table(flags.FLAGS.contenders, flags.FLAGS.rounds))


def define_flags() -> None:
    """Defines the flags of this command; other modules import its functions without them."""
    flags.DEFINE_integer("rounds", 10, "Times that each contender runs.", lower_bound=1)
    flags.DEFINE_list(
        "contenders",
        list(CONTENDERS),
        "Who runs; ratios are of the first to each.",
    )


if __name__ == "__main__":
    define_flags()
    run(main)
