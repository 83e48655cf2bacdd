import tracemalloc

import numpy as np
import pytest

from vmr.errors import UserError
from vmr.evaluation import cca
from vmr.evaluation.cca import PairedMoments


def pairs(items=300, seed=0):
    generator = np.random.default_rng(seed)
    video = generator.standard_normal((items, 5))
    return video, video[:, :3] + generator.standard_normal((items, 3))


def assert_equal(found, video, music, **tolerance):
    """Against means and covariances of all rows at once."""
    covariance = np.cov(np.concatenate([video, music], axis=1), rowvar=False, bias=True)
    width = video.shape[1]
    np.testing.assert_allclose(found.video_covariance, covariance[:width, :width], **tolerance)
    np.testing.assert_allclose(found.cross_covariance, covariance[:width, width:], **tolerance)
    np.testing.assert_allclose(found.music_covariance, covariance[width:, width:], **tolerance)


@pytest.mark.parametrize("cuts", [[], [1], [100, 200], [1, 2, 299]])
def test_equal_to_all_rows_at_once_however_they_are_cut(cuts):
    video, music = pairs()
    found = PairedMoments.of(zip(np.split(video, cuts), np.split(music, cuts), strict=True))
    assert found.count == 300
    np.testing.assert_allclose(found.video_mean, video.mean(axis=0), atol=1e-14)
    np.testing.assert_allclose(found.music_mean, music.mean(axis=0), atol=1e-14)
    assert_equal(found, video, music, rtol=1e-12, atol=1e-14)


def test_one_large_batch_is_taken_in_blocks(monkeypatch):
    monkeypatch.setattr(cca, "_ROWS", 7)
    video, music = pairs()
    assert_equal(PairedMoments.of([(video, music)]), video, music, rtol=1e-12, atol=1e-14)


def test_features_far_from_zero_keep_their_covariance():
    video, music = pairs()
    found = PairedMoments.of(zip(np.split(video + 1e8, 10), np.split(music - 1e8, 10), strict=True))
    assert_equal(found, video, music, atol=1e-6)


def test_constant_features_have_next_to_no_variance():
    video, music = pairs()
    video[:, 2] = 0.1
    found = PairedMoments.of(zip(np.split(video, 10), np.split(music, 10), strict=True))
    assert found.video_covariance[2, 2] < 1e-28


def test_memory_does_not_grow_with_the_pairs():
    def peak(batches):
        generator = np.random.default_rng(0)
        tracemalloc.start()
        PairedMoments.of(
            (generator.random((64, 30)), generator.random((64, 20))) for _ in range(batches)
        )
        reached = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return reached

    peak(2)
    assert peak(200) < 1.2 * peak(10)


def test_bad_input_is_refused():
    video, music = pairs(50)
    with pytest.raises(UserError, match="found 50 videos and 49 tracks"):
        PairedMoments.of([(video, music[1:])])
    with pytest.raises(UserError, match="width 5 and 3, as in the batches before; found 5 and 2"):
        PairedMoments.of([(video, music), (video, music[:, 1:])])
    with pytest.raises(UserError, match="at least one pair"):
        PairedMoments.of([])
    spoilt = music.copy()
    spoilt[4, 2] = np.nan
    with pytest.raises(UserError, match="music features: row 54 holds NaN"):
        PairedMoments.of([(video, music), (video, spoilt)])
