"""A Transformer tower, forward and backward: ours, one of Flax's own attention, one of torch's.

All have one shape: dense, learnt positions, pre-LN blocks of attention and MLP, LayerNorm, the mean
over the clips that are there, dense, unit rows. None drops units: what the libraries drop differs.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tools.paired import Prepared


@dataclass(frozen=True)
class Sizes:
    """Of a batch and of the tower."""

    batch: int
    clips: int
    features: int
    width: int
    model_width: int
    layers: int
    heads: int
    mlp_ratio: int


def problem(sizes: Sizes) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Clips (B, N, P), a mask (B, N) of half to all of them, and the gradient (B, D)."""
    random = np.random.default_rng(0)
    shape = sizes.batch, sizes.clips
    lengths = random.integers(max(1, sizes.clips // 2), sizes.clips + 1, size=(sizes.batch, 1))
    clips = random.standard_normal((*shape, sizes.features), np.float32)
    return (
        clips,
        np.arange(sizes.clips)[None, :] < lengths,
        random.standard_normal((sizes.batch, sizes.width), np.float32),
    )


def ours(sizes: Sizes) -> Prepared:
    """`vmr.encoders.transformer`."""
    from vmr.encoders.transformer import Transformer

    model = Transformer(
        width=sizes.width,
        model_width=sizes.model_width,
        layers=sizes.layers,
        heads=sizes.heads,
        mlp_ratio=sizes.mlp_ratio,
        max_clips=sizes.clips,
        dropout=0.0,
    )
    return _in_jax(model, sizes)


def flax(sizes: Sizes) -> Prepared:
    """The same of `nn.MultiHeadDotProductAttention` and plain `nn.Dense`."""
    import flax.linen as nn
    import jax.numpy as jnp

    class Tower(nn.Module):
        @nn.compact
        def __call__(self, clips: Any, train: bool) -> Any:
            x = nn.Dense(sizes.model_width)(clips.features)
            shape = sizes.clips, sizes.model_width
            x = x + self.param("positions", nn.initializers.normal(0.02), shape)[None]
            seen = nn.make_attention_mask(clips.mask, clips.mask)
            for _ in range(sizes.layers):
                x = x + nn.MultiHeadDotProductAttention(sizes.heads)(nn.LayerNorm()(x), mask=seen)
                hidden = nn.Dense(sizes.mlp_ratio * sizes.model_width)(nn.LayerNorm()(x))
                x = x + nn.Dense(sizes.model_width)(nn.gelu(hidden))
            there = clips.mask[:, :, None]
            x = (nn.LayerNorm()(x) * there).sum(1) / there.sum(1)
            x = nn.Dense(sizes.width)(x)
            return x / jnp.linalg.norm(x, axis=1, keepdims=True)

    return _in_jax(Tower(), sizes)


def _in_jax(model: Any, sizes: Sizes) -> Prepared:
    import jax

    from vmr.encoders.encoder import Clips

    features, mask, slope = problem(sizes)
    clips = Clips(jax.device_put(features), jax.device_put(mask))
    params = jax.jit(lambda key: model.init(key, clips, train=False))(jax.random.key(0))

    @jax.jit
    def gradient(params: Any, clips: Clips) -> Any:
        def loss(params: Any) -> Any:
            return (model.apply(params, clips, train=True) * slope).sum()

        return jax.value_and_grad(loss)(params)

    return Prepared(lambda: jax.block_until_ready(gradient(params, clips)))


def torch(sizes: Sizes) -> Prepared:
    """The same of `nn.TransformerEncoder`, eager."""
    import torch
    from torch import nn

    gelu = functools.partial(nn.functional.gelu, approximate="tanh")  # as JAX's
    width = sizes.model_width
    layer = nn.TransformerEncoderLayer(
        width, sizes.heads, sizes.mlp_ratio * width, 0.0, gelu, batch_first=True, norm_first=True
    )
    encoder = nn.TransformerEncoder(
        layer, sizes.layers, nn.LayerNorm(width), enable_nested_tensor=False
    )
    project, out = nn.Linear(sizes.features, width), nn.Linear(width, sizes.width)
    positions = nn.Parameter(0.02 * torch.randn(sizes.clips, width))
    features, mask, slope = (torch.from_numpy(array) for array in problem(sizes))
    parameters = [
        positions,
        *(parameter for part in (encoder, project, out) for parameter in part.parameters()),
    ]

    def step() -> Any:
        x = encoder(project(features) + positions, src_key_padding_mask=~mask)
        there = mask[:, :, None]
        x = out((x * there).sum(1) / there.sum(1))
        loss = (nn.functional.normalize(x) * slope).sum()
        return loss, torch.autograd.grad(loss, parameters)

    return Prepared(step)


TOWERS: dict[str, Callable[[Sizes], Prepared]] = {"ours": ours, "flax": flax, "torch": torch}
