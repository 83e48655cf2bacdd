import tracemalloc

import numpy as np
import pytest

from vmr.errors import UserError
from vmr.evaluation import cca, recalls
from vmr.evaluation.cca import paired_moments


def planted(items=1500, latent=8, seed=0):
    """Both modalities are noisy linear views of one latent vector; one dimension is constant."""
    generator = np.random.default_rng(seed)
    shared = generator.standard_normal((items, latent))
    maps = np.random.default_rng(99)
    video = shared @ maps.standard_normal((latent, 40)) + generator.standard_normal((items, 40))
    music = shared @ maps.standard_normal((latent, 20)) + generator.standard_normal((items, 20))
    video[:, 3] = 0.1
    return video * 5 + 2, music * np.linspace(0.1, 30, 20)


def test_finds_the_shared_factors():
    video, music = planted()
    fitted = cca.fit([(video[:1000], music[:1000])])
    assert np.sum(fitted.correlations > 0.6) == 8
    embedded = fitted.embed_video(video[1000:]), fitted.embed_music(music[1000:])
    assert recalls(*embedded, np.arange(500))["v2m/R@10"] > 60


def test_correlations_are_those_of_the_textbook_without_a_ridge():
    video, music = planted()
    video = np.delete(video, 3, axis=1)
    fitted = cca.fit([(video, music)], video_ridge=0.0, music_ridge=0.0, power=0.0)
    video_basis = np.linalg.qr(video - video.mean(axis=0))[0]
    music_basis = np.linalg.qr(music - music.mean(axis=0))[0]
    expected = np.linalg.svd(video_basis.T @ music_basis, compute_uv=False)
    np.testing.assert_allclose(fitted.correlations, expected, rtol=1e-6)


def inverse_root(features, ridge):
    """(covariance + ridge · mean eigenvalue)^(−1/2) of (N,P), written out."""
    covariance = features.T @ features / len(features)
    extra = ridge * covariance.trace() / len(covariance)
    values, vectors = np.linalg.eigh(covariance + extra * np.eye(len(covariance)))
    return vectors / np.sqrt(values) @ vectors.T


def test_batches_give_what_all_rows_at_once_give():
    """Against the definition, computed from all standardised rows; dimension 3 is constant."""
    video, music = planted()
    fitted = cca.fit(zip(np.array_split(video, 7), np.array_split(music, 7), strict=True))
    deviation = np.where(np.arange(40) == 3, np.inf, video.std(axis=0))
    video = (video - video.mean(axis=0)) / deviation
    music = (music - music.mean(axis=0)) / music.std(axis=0)
    video_root, music_root = inverse_root(video, 0.1), inverse_root(music, 0.05)
    left, correlations, right = np.linalg.svd(video_root @ (video.T @ music / 1500) @ music_root)
    np.testing.assert_allclose(fitted.correlations, correlations, rtol=1e-9)
    video_emb = video @ video_root @ left[:, :20] * correlations
    music_emb = music @ music_root @ right.T * correlations
    scores = video_emb @ music_emb.T
    scores /= np.linalg.norm(video_emb, axis=1)[:, None] * np.linalg.norm(music_emb, axis=1)
    embedded = fitted.embed_video(planted()[0]), fitted.embed_music(planted()[1])
    np.testing.assert_allclose(embedded[0] @ embedded[1].T, scores, atol=1e-5)


def test_embeddings_are_unit_rows_and_ignore_constant_dimensions():
    video, music = planted()
    fitted = cca.fit([(video, music)], components=5, video_ridge=0.0)
    embedded = fitted.embed_video(video)
    assert embedded.shape == (1500, 5)
    assert embedded.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(embedded, axis=1), 1, atol=1e-6)
    moved = video.copy()
    moved[:, 3] += 1000
    np.testing.assert_array_equal(fitted.embed_video(moved), embedded)


def test_selection_takes_the_settings_that_validate_best():
    video, music = planted()
    train, held_out = slice(0, 200), slice(1000, 1500)
    validation = video[held_out], music[held_out], np.arange(500)

    def validated(fitted):
        embedded = fitted.embed_video(validation[0]), fitted.embed_music(validation[1])
        found = recalls(*embedded, validation[2])
        return found["v2m/R@10"] + found["m2v/R@10"]

    settings = {"ridges": (1e-3, 100.0), "components": (2, 8), "powers": (1.0,)}
    pairs = [(video[train], music[train])]
    chosen = cca.select(pairs, validation, **settings)
    others = [
        cca.fit(pairs, video_ridge=a, music_ridge=b, components=c)
        for a in (1e-3, 100.0)
        for b in (1e-3, 100.0)
        for c in (2, 8)
    ]
    assert validated(chosen) == max(map(validated, others))
    assert len(chosen.correlations) == 8


def test_embeddings_of_one_width_only():
    video, music = planted(50)
    with pytest.raises(UserError, match="width 40; found 39"):
        cca.fit([(video, music)]).embed_video(video[:, 1:])


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
    found = paired_moments(zip(np.split(video, cuts), np.split(music, cuts), strict=True))
    assert found.count == 300
    np.testing.assert_allclose(found.video_mean, video.mean(axis=0), atol=1e-14)
    np.testing.assert_allclose(found.music_mean, music.mean(axis=0), atol=1e-14)
    assert_equal(found, video, music, rtol=1e-12, atol=1e-14)


def test_one_large_batch_is_taken_in_blocks(monkeypatch):
    monkeypatch.setattr(cca, "_ROWS", 7)
    video, music = pairs()
    assert_equal(paired_moments([(video, music)]), video, music, rtol=1e-12, atol=1e-14)


def test_features_far_from_zero_keep_their_covariance():
    video, music = pairs()
    found = paired_moments(zip(np.split(video + 1e8, 10), np.split(music - 1e8, 10), strict=True))
    assert_equal(found, video, music, atol=1e-6)


def test_constant_features_have_next_to_no_variance():
    video, music = pairs()
    video[:, 2] = 0.1
    found = paired_moments(zip(np.split(video, 10), np.split(music, 10), strict=True))
    assert found.video_covariance[2, 2] < 1e-28


def test_memory_does_not_grow_with_the_pairs():
    def peak(batches):
        generator = np.random.default_rng(0)
        tracemalloc.start()
        paired_moments(
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
        paired_moments([(video, music[1:])])
    with pytest.raises(UserError, match="width 5 and 3, as in the batches before; found 5 and 2"):
        paired_moments([(video, music), (video, music[:, 1:])])
    with pytest.raises(UserError, match="at least one pair"):
        paired_moments([])
    spoilt = music.copy()
    spoilt[4, 2] = np.nan
    with pytest.raises(UserError, match="music features: row 54 holds NaN"):
        paired_moments([(video, music), (video, spoilt)])
