"""librosa's 1140 numbers: the golden track, plain calls as the reference, clips, odd sound."""

import functools
import sys

import numpy as np
import pytest
from golden_sound import golden

from tools.bench.sound import plain_matrices, plain_vector
from vmr.errors import UserError
from vmr.media import librosa1140
from vmr.media.extractor import load_extractor
from vmr.media.librosa1140 import CROP, HOP, NAMES, RATE, ROWS, Librosa1140, matrices

SHORT = 40_000  # samples, enough for every filter


@functools.cache
def loaded() -> Librosa1140:
    extractor = load_extractor("music", "librosa1140")
    assert isinstance(extractor, Librosa1140)
    return extractor


@functools.cache
def whole() -> np.ndarray:
    return loaded().whole(golden())


def sounds() -> dict[str, np.ndarray]:
    clicks = np.zeros(SHORT, np.float32)
    clicks[::5000] = 1.0
    noise = np.random.default_rng(1).uniform(-1, 1, SHORT)
    return {
        "golden": golden()[:SHORT],
        "odd length": golden()[: SHORT + 257],
        "noise": noise.astype(np.float32),
        "silence": np.zeros(SHORT, np.float32),
        "clicks": clicks,
        "faint": (1e-20 * noise).astype(np.float32),
        "loud": (1e12 * noise).astype(np.float32),
        "half silent": np.where(np.arange(SHORT) < SHORT // 2, 0, golden()[:SHORT]),
        "one sample": np.pad(np.ones(1, np.float32), (0, SHORT - 1)),
    }


def test_golden_track_has_the_golden_numbers() -> None:
    assert golden().sum(dtype=np.float64) == pytest.approx(2139.01829, abs=1e-5)
    vector = whole().astype(np.float64)
    sums = [block.sum() for block in vector.reshape(3, 380)]
    assert sums == pytest.approx([-11469.6037, 32524.9894, -5942.0991], rel=1e-6)
    assert np.linalg.norm(vector) == pytest.approx(4519.14183, abs=1e-3)
    assert np.count_nonzero(vector[760:] == 0) == 48
    expected = {
        0: [-9.316, -9.63411, -8.93958, -8.99955, -9.93331],
        12: [-55.32937, -56.79833, -55.68348, -53.80024, -53.50783],
        24: [-53.0559, -51.78575, -50.54018, -50.21403, -44.8427],
        190: [-1.97074, -1.79232, -1.70872, -1.55169, -1.403],
        380: [55.78999, 74.62311, 64.8537, 73.85343, 87.35743],
        880: [0, -3.21594, -3.56945, -4.87744, -6.60833],
    }
    for start, values in expected.items():
        np.testing.assert_allclose(vector[start : start + 5], values, rtol=0, atol=1e-3)


def test_golden_vector_is_that_of_plain_calls() -> None:
    np.testing.assert_array_equal(whole(), plain_vector(golden()).astype(np.float32))


@pytest.mark.filterwarnings("ignore:Trying to estimate tuning")  # the plain calls
@pytest.mark.parametrize("name", sounds())
def test_matrices_equal_plain_calls_to_the_last_bit(name: str) -> None:
    for ours, plain in zip(matrices(sounds()[name]), plain_matrices(sounds()[name]), strict=True):
        assert ours.dtype == plain.dtype
        np.testing.assert_array_equal(ours, plain)


@pytest.mark.parametrize("name", ["silence", "clicks", "faint", "loud", "one sample"])
def test_odd_sound_has_finite_features_and_no_warning(name: str) -> None:
    bounds = np.array([[0.0, 1.5], [1.5, SHORT / RATE]])
    features = loaded().clips(sounds()[name], bounds)
    assert features.shape == (2, 1140)
    assert features.dtype == np.float32
    assert np.isfinite(features).all()


def test_longer_track_is_cropped_at_its_centre() -> None:
    longer = np.concatenate([np.ones(1000, np.float32), golden(), np.ones(1001, np.float32)])
    np.testing.assert_array_equal(loaded().whole(longer), whole())


def test_shorter_track_has_zeros_at_its_end() -> None:
    short = golden()[:SHORT]
    padded = np.pad(short, (0, CROP - SHORT))
    np.testing.assert_array_equal(loaded().whole(short), loaded().whole(padded))


def test_one_clip_of_everything_is_the_vector_of_a_track_as_long_as_the_crop() -> None:
    bounds = np.array([[0.0, CROP / RATE]])
    np.testing.assert_array_equal(loaded().clips(golden(), bounds)[0], whole())


def test_clips_are_statistics_of_frames_whose_centres_lie_within() -> None:
    samples = golden()[: 12_000 * 4]
    bounds = np.array([[0.0, 1.0], [1.0, 2.5], [2.5, 4.0]])
    clips = loaded().clips(samples, bounds)
    name = "harmonic rms 0 {}"
    level = matrices(samples)[list(ROWS).index("rms")][0].astype(np.float64)
    decibels = np.maximum(20 * np.log10(level / level.max()) / 2, -80)  # of rms as if a power
    centres = np.arange(len(level)) * HOP / RATE
    for clip, (start, end) in zip(clips, bounds, strict=True):
        inside = decibels[(centres >= start) & ((centres < end) | (end == 4.0))]
        for statistic, value in (
            ("mean", inside.mean()),
            ("variance", inside.var()),
            ("maximum", inside.max()),
        ):
            assert clip[NAMES.index(name.format(statistic))] == pytest.approx(value, abs=1e-4)


def test_clips_too_short_for_a_frame_have_the_frame_before() -> None:
    bounds = np.arange(5)[:, None] * 0.005 + [0.0, 0.005]
    clips = loaded().clips(golden()[:300], bounds)
    assert clips.shape == (5, 1140)
    # Centres at 0 and 21 ms.
    np.testing.assert_array_equal(clips[1:4], np.tile(clips[0], (3, 1)))
    assert (clips[4] != clips[0]).any()
    assert (clips[:, 380:760] == 0).all()


def test_stretches_of_a_long_track_have_the_rows_of_the_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Noise, so that the floor of the MFCCs, which each stretch has of its own, is not reached.
    second = np.arange(RATE) / RATE
    click = np.exp(-200 * second) + 0.2 * np.sin(2 * np.pi * 440 * second)
    noise = np.random.default_rng(2).uniform(-0.05, 0.05, 20 * RATE)
    samples = (np.tile(click, 20) + noise).astype(np.float32)
    at_once = rows_of(samples)
    monkeypatch.setattr(librosa1140, "_STRETCH", 400)
    for name, whole_rows, rows in zip([*ROWS] * 2, at_once, rows_of(samples), strict=True):
        if "chroma" not in name:  # each stretch has its own tuning
            # Not in dB, which has no bound where a row crosses zero.
            bound = 1e-5 * np.abs(whole_rows).max()
            np.testing.assert_allclose(rows, whole_rows, rtol=0, atol=bound)


def rows_of(samples: np.ndarray) -> list[np.ndarray]:
    stretches = librosa1140._stretches(samples)
    return [np.concatenate(each, axis=1) for each in zip(*stretches, strict=True)]


@pytest.mark.parametrize("value", [np.nan, np.inf, -1e20])
def test_samples_that_are_not_finite_are_refused(value: float) -> None:
    samples = np.zeros(100, np.float32)
    samples[3] = value
    with pytest.raises(UserError, match="1 of them NaN, infinite or"):
        loaded().whole(samples)
    with pytest.raises(UserError, match="1 of them NaN, infinite or"):
        loaded().clips(samples, np.array([[0.0, 1.0]]))


def test_no_samples_are_refused() -> None:
    with pytest.raises(UserError, match="expected at least one, and all"):
        loaded().whole(np.zeros(0, np.float32))


def test_every_number_has_a_name_of_its_own() -> None:
    assert len(NAMES) == len(set(NAMES)) == loaded().width == 1140
    assert NAMES[12] == "harmonic chroma_cens 0 mean"
    assert NAMES[570] == "percussive chroma_stft 0 variance"
    found = matrices(golden()[:SHORT])
    assert [len(rows) for rows in found] == [*ROWS.values()] * 2


@pytest.mark.parametrize("name", ["librosa1140", "musicnn"])
def test_absent_librosa_is_named_with_its_extra(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "librosa", None)
    for module in (f"vmr.media.{name}", "vmr.media.constant_q"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    with pytest.raises(UserError, match=r"librosa is not installed: pip install -e '.\[media\]'"):
        load_extractor("music", name)


def test_numba_without_a_folder_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_folder(*_: object) -> None:
        raise RuntimeError("cannot cache function 'f': no locator available for file 'f.py'")

    monkeypatch.setattr(Librosa1140, "clips", no_folder)
    with pytest.raises(UserError, match="expected that NUMBA_CACHE_DIR names one"):
        librosa1140.load("music", "")
