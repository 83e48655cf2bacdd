"""Two encoders beside each other, and one encoder as both."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from sequences import KEY, SLOPES, clips, gated_conv

from vmr.encoders.branch import Branch
from vmr.encoders.two_tower import TwoTower

VIDEO, MUSIC = clips(0), clips(1)
BRANCH = Branch((8,), width=4, dropout=0.3)


def initial(model: TwoTower) -> Any:
    return jax.jit(lambda: model.init(KEY, VIDEO, MUSIC, train=False))()


def test_towers_share_nothing() -> None:
    """Not even where they are equal."""
    params = initial(TwoTower(Branch((8,), width=4), Branch((8,), width=4)))["params"]
    kernels = [params[tower]["Dense_0"]["kernel"] for tower in ("video_encoder", "music_encoder")]
    assert np.abs(kernels[0] - kernels[1]).max() > 1e-3


def test_one_encoder_as_both_shares_its_parameters() -> None:
    encoder = gated_conv(layers=1)
    model = TwoTower(encoder, encoder)
    variables = initial(model)
    assert list(variables["params"]) == ["video_encoder"]

    def total(params: Any, weights: Any) -> jax.Array:
        video, music = model.apply({"params": params}, VIDEO, MUSIC, train=False)
        return jnp.sum(SLOPES * (weights[0] * video + weights[1] * music))

    gradient = jax.jit(jax.grad(total))
    both, video, music = (
        gradient(variables["params"], np.float32(weights)) for weights in ((1, 1), (1, 0), (0, 1))
    )
    summed = jax.tree.map(jnp.add, video, music)
    jax.tree.map(lambda f, e: np.testing.assert_allclose(f, e, atol=1e-6), both, summed)

    embed = jax.jit(
        lambda inputs, method: model.apply(variables, inputs, method=method), static_argnums=1
    )
    np.testing.assert_array_equal(embed(MUSIC, "embed_music"), embed(MUSIC, "embed_video"))


def test_one_encoder_draws_each_sides_dropout_by_itself() -> None:
    model = TwoTower(BRANCH, BRANCH)

    def trunks(variables: Any) -> Any:
        rngs = {"dropout": KEY}
        return model.apply(
            variables, VIDEO, VIDEO, jnp.arange(4), train=True, rngs=rngs, method="trunks"
        )

    video, music = jax.jit(trunks)(initial(model))
    assert np.abs(video - music).max() > 1e-3


def test_running_statistics_of_one_encoder_pass_over_video_then_music() -> None:
    model = TwoTower(BRANCH, BRANCH)
    features = np.random.default_rng(0).normal(size=(2, 6, 4)).astype(np.float32)
    variables = initial(model)
    _, updated = model.apply(
        variables, *features, train=True, method="heads", mutable=["batch_stats"]
    )
    expected = 0.99 * (0.01 * features[0].mean(0)) + 0.01 * features[1].mean(0)
    found = updated["batch_stats"]["video_encoder"]["BatchNorm_0"]["mean"]
    np.testing.assert_allclose(found, expected, atol=1e-6)
