"""The mean over the clips that are there."""

import jax
import numpy as np

from vmr.encoders.encoder import masked_mean

FEATURES = np.random.default_rng(0).normal(size=(3, 4, 5)).astype(np.float32)
MASK = np.array([[1, 1, 1, 1], [0, 1, 1, 0], [0, 0, 0, 0]], bool)


def test_is_the_mean_of_the_clips_that_are_there() -> None:
    spoilt = np.where(MASK[:, :, None], FEATURES, np.nan)
    found = masked_mean(spoilt, MASK)
    np.testing.assert_allclose(found[0], FEATURES[0].mean(0), atol=1e-6)
    np.testing.assert_allclose(found[1], FEATURES[1, 1:3].mean(0), atol=1e-6)
    np.testing.assert_array_equal(found[2], 0.0)


def test_is_exact_for_one_clip() -> None:
    found = masked_mean(FEATURES[:, :1], np.ones((3, 1), bool))
    np.testing.assert_array_equal(found, FEATURES[:, 0])


def test_gradient_is_shared_by_the_clips_that_are_there() -> None:
    gradient = jax.grad(lambda x: masked_mean(x, MASK).sum())(FEATURES)
    expected = MASK / np.maximum(MASK.sum(1, keepdims=True), 1)
    np.testing.assert_allclose(gradient, np.repeat(expected[:, :, None], 5, 2), atol=1e-7)
