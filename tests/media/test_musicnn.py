"""musicnn: the golden patch, patches and clips of odd sound, and its package where it is absent."""

import functools
import importlib.util
import sys
from typing import Any

import numpy as np
import pytest
import soxr
from golden_sound import golden

from vmr.errors import UserError
from vmr.media import musicnn
from vmr.media.extractor import load_extractor
from vmr.media.musicnn import FRAMES, HOP, RATE, Musicnn

PATCH = FRAMES * HOP


@functools.cache
def loaded() -> Musicnn:
    extractor = load_extractor("music", "musicnn")
    assert isinstance(extractor, Musicnn)
    return extractor


@functools.cache
def sound() -> np.ndarray:
    return soxr.resample(golden(), 12_000, RATE, quality="HQ")


@functools.cache
def patches() -> dict[str, np.ndarray]:
    return loaded().patches(sound())


def test_golden_sound_has_the_golden_outputs() -> None:
    assert {name: rows.shape for name, rows in patches().items()} == {
        "max_pool": (9, 753),
        "penultimate": (9, 200),
        "tags": (9, 50),
    }
    tags = [0.03824, 0.01237, 0.0606, 0.11175, 0.37867]
    np.testing.assert_allclose(patches()["tags"][0, :5], tags, rtol=0, atol=1e-3)
    penultimate = [-3.46768, -2.48527, -0.89131, -3.59399, 0.89397]
    np.testing.assert_allclose(patches()["penultimate"][0, :5], penultimate, rtol=0, atol=1e-3)


def test_the_authors_package_is_not_imported() -> None:
    loaded()
    assert "musicnn" not in sys.modules


def test_whole_is_the_mean_of_the_patches() -> None:
    feature = loaded().whole(sound()[: 2 * PATCH])
    assert feature.shape == (loaded().width,)
    assert feature.dtype == np.float32
    mean = patches()["max_pool"][:2].mean(axis=0)
    np.testing.assert_allclose(feature, mean, rtol=1e-4, atol=1e-5)


def test_clips_are_means_of_the_patches_that_begin_in_them() -> None:
    bounds = np.array([[0.0, 1.0], [1.0, 2.0], [2.0, 8.0]])
    rows = patches()["max_pool"]  # of 2.992 s each
    means = [rows[0], rows[0], rows[1:3].mean(axis=0)]
    clips = loaded().clips(sound()[: 3 * PATCH], bounds)
    np.testing.assert_allclose(clips, means, rtol=1e-4, atol=1e-5)


def test_patches_in_several_batches_are_those_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(musicnn, "_BATCH", 2)
    rows = loaded().patches(sound()[: 3 * PATCH])["max_pool"]
    np.testing.assert_allclose(rows, patches()["max_pool"][:3], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("samples", "count"),
    [(1, 1), (PATCH - HOP - 1, 1), (PATCH - HOP, 1), (2 * PATCH - HOP - 1, 1), (2 * PATCH, 2)],
)
def test_sound_of_any_length_has_a_patch(samples: int, count: int) -> None:
    outputs = loaded().patches(sound()[:samples])
    assert len(outputs["max_pool"]) == count


def test_short_sound_has_zeros_at_its_end() -> None:
    short = sound()[:RATE]
    padded = np.pad(short, (0, PATCH - HOP - RATE))
    np.testing.assert_array_equal(loaded().whole(short), loaded().whole(padded))


@pytest.mark.parametrize("gain", [0.0, 1e11])
def test_silence_and_overdriven_sound_have_finite_features(gain: float) -> None:
    assert np.isfinite(loaded().whole(np.float32(gain) * sound()[:PATCH])).all()


def test_samples_that_are_not_finite_are_refused() -> None:
    with pytest.raises(UserError, match="sound of 2 samples, 1 of them NaN, infinite or"):
        loaded().whole(np.array([0.0, np.nan], np.float32))


def test_account_names_the_checkpoint() -> None:
    account: dict[str, Any] = dict(loaded().account)
    assert account.pop("sha256").startswith("8579734ee638")
    assert account == {"name": "musicnn", "version": "0.1.0", "licence": "ISC", "width": 753}


def test_absent_package_is_named_with_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(musicnn, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install --no-deps musicnn==0"):
        musicnn.load("music", "")


def test_package_without_the_checkpoint_is_as_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = importlib.util.find_spec("tests.media")
    monkeypatch.setattr(musicnn, "find_spec", lambda name: spec)
    with pytest.raises(UserError, match="musicnn is not installed"):
        musicnn.load("music", "")
