"""Mixed pairs and noisy inputs: by hand, on any number of devices, and off by default."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from vmr.encoders.branch import Branch
from vmr.encoders.encoder import Clips
from vmr.encoders.two_tower import TwoTower
from vmr.losses import inter, intra
from vmr.losses.objective import Objective
from vmr.training import devices as on_devices
from vmr.training.augment import mixed_pairs, noisy_pairs
from vmr.training.state import initial_state, placeholder_standardization
from vmr.training.step import train_step

KEY = jax.random.PRNGKey(3)
ROWS = jnp.arange(16)
WEIGHTS = dict.fromkeys(("m2v", "v2m", "music", "video"), 1.0)


def sequences(width: int, clips: int = 3) -> Clips:
    """Sixteen sequences, the first half of them without their last clip."""
    features = jax.random.normal(jax.random.PRNGKey(width), (16, clips, width))
    mask = jnp.ones((16, clips), bool).at[:8, -1].set(False)
    return Clips(features, mask)


def mixed(video: Clips, music: Clips, alpha: float = 1.0, key: jax.Array = KEY) -> Any:
    return mixed_pairs(video, music, ROWS, alpha=alpha, key=key, axis_name=None)


def identities() -> Clips:
    """Items that tell in their mixture who went into it: rows of the identity."""
    return Clips(jnp.eye(16)[:, None], jnp.ones((16, 1), bool))


def test_both_modalities_are_mixed_alike_and_keep_the_larger_share() -> None:
    video, music = (np.asarray(clips.features)[:, 0] for clips in mixed(identities(), identities()))
    np.testing.assert_array_equal(video, music)
    np.testing.assert_allclose(video.sum(axis=1), 1.0, rtol=1e-6)
    assert (np.diag(video) >= 0.5).all()
    assert (np.count_nonzero(video, axis=1) <= 2).all()
    assert len(np.unique(np.diag(video))) > 8  # a coefficient a pair
    partners = np.argmax(video - np.diag(np.diag(video)), axis=1)
    mixes = np.diag(video) < 1  # the others are their own partners
    assert len(np.unique(partners[mixes])) == mixes.sum()


def test_alpha_decides_how_much_is_mixed() -> None:
    shares = [
        np.diag(mixed(identities(), identities(), alpha)[0].features[:, 0]).mean()
        for alpha in (0.01, 1.0, 100.0)
    ]
    assert shares[0] > 0.95 > shares[1] > 0.6 > shares[2] >= 0.5


def test_a_pair_keeps_its_clips_and_is_mixed_where_its_partner_has_one_too() -> None:
    video, music = sequences(5), sequences(4)
    found, _ = mixed(video, music)
    partners = np.argmax(
        mixed(identities(), identities())[0].features[:, 0] - 2 * jnp.eye(16), axis=1
    )
    np.testing.assert_array_equal(found.mask, video.mask)
    changed = np.any(found.features != video.features, axis=2)
    both = np.asarray(video.mask & video.mask[partners])
    is_mixed = np.any(mixed(identities(), identities())[0].features[:, 0] != jnp.eye(16), axis=1)
    np.testing.assert_array_equal(changed, both & is_mixed[:, None])


def test_noise_is_of_its_standard_deviation_and_of_its_row() -> None:
    video, music = Clips(jnp.zeros((16, 3, 400)), jnp.ones((16, 3), bool)), sequences(4)
    found, _ = noisy_pairs(video, music, ROWS, std=0.3, key=KEY)
    np.testing.assert_allclose(found.features.std(), 0.3, rtol=0.02)
    np.testing.assert_allclose(found.features.mean(), 0.0, atol=0.01)
    part = [Clips(clips.features[5:9], clips.mask[5:9]) for clips in (video, music)]
    few, _ = noisy_pairs(*part, ROWS[5:9], std=0.3, key=KEY)
    np.testing.assert_array_equal(few.features, found.features[5:9])
    others, _ = noisy_pairs(video, music, ROWS, std=0.3, key=jax.random.PRNGKey(4))
    assert not np.any(others.features == found.features)


def towers(axis_name: str | None) -> TwoTower:
    return TwoTower(
        Branch((12,), width=6, dropout=0.3, residual=True, axis_name=axis_name),
        Branch((12, 8), width=6, dropout=0.3, axis_name=axis_name),
    )


def batch() -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    return {
        "video": random.normal(size=(16, 4, 10)).astype(np.float32),
        "video_mask": random.random((16, 4)) < 0.7,
        "music": random.normal(size=(16, 7)).astype(np.float32),
        "track": random.integers(0, 12, 16).astype(np.int32),
    }


@functools.cache
def stepped(noise: float, mixup: float, count: int = 1, microbatch: int | None = None) -> Any:
    """Parameters and scalars after two steps."""
    devices = jax.devices()[:count]
    optimizer = optax.sgd(0.5)
    step = functools.partial(
        train_step,
        model=towers(on_devices.AXIS),
        objective=Objective(inter.infonce, intra.ii_mse),
        optimizer=optimizer,
        noise=noise,
        mixup=mixup,
        microbatch=microbatch,
    )
    take = on_devices.pmapped_train_step(step, devices)
    widths = placeholder_standardization({"video": 10, "music": 7})
    state = on_devices.replicated(initial_state(towers(None), optimizer, widths, seed=0), devices)
    weights = on_devices.replicated(WEIGHTS, devices)
    for _ in range(2):
        shards = on_devices.sharded(on_devices.split(batch(), count), devices)
        state, scalars = take(state, shards, weights)
    return jax.device_get((state.params, state.batch_stats, scalars))


@pytest.mark.parametrize(("count", "microbatch"), [(1, 5), (2, None), (8, 1)])
def test_any_devices_and_microbatches_take_the_same_step(
    count: int, microbatch: int | None
) -> None:
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=2e-5, atol=2e-5),
        stepped(0.2, 0.4, count, microbatch),
        stepped(0.2, 0.4),
    )


def test_each_changes_the_step() -> None:
    options = ((0.0, 0.0), (0.2, 0.0), (0.0, 0.4), (0.2, 0.4))
    assert len({float(stepped(*which)[2]["loss"]) for which in options}) == 4
