"""Sequences with gaps to encode, encoders to test, and jitted ways to call them."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from vmr.encoders.branch import Branch
from vmr.encoders.encoder import Clips, Encoder, Tokens
from vmr.encoders.gated_conv import GatedConv
from vmr.encoders.text import GatedText
from vmr.encoders.transformer import Transformer

KEY = jax.random.PRNGKey(0)
VOCABULARY = 11
# All clips, padding, a gap, none; and so for the text.
MASK = np.array([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [1, 0, 1, 1, 0], [0, 0, 0, 0, 0]], bool)
TEXT_MASK = np.array([[1, 1, 1], [1, 0, 0], [0, 0, 0], [0, 1, 1]], bool)
HAS_TEXT = TEXT_MASK.any(1)


def clips(seed: int = 0, ids: bool = False) -> Clips:
    """Four items of five clips, some of them missing, with three tokens of text."""
    generator = np.random.default_rng(seed)
    features = generator.normal(size=(4, 5, 6)).astype(np.float32)
    embeddings = generator.normal(size=(4, 3, 7)).astype(np.float32)
    words = generator.integers(VOCABULARY, size=(4, 3)).astype(np.int32)
    return Clips(features, MASK, Tokens(words if ids else embeddings, TEXT_MASK))


def transformer(**settings: Any) -> Transformer:
    sizes: dict[str, Any] = {"width": 4, "model_width": 8, "heads": 2, "max_clips": 8}
    rates = {"dropout": 0.3, "input_dropout": 0.2}
    return Transformer(**sizes | rates | settings)


def gated_conv(**settings: Any) -> GatedConv:
    sizes: dict[str, Any] = {"width": 4, "model_width": 8, "layers": 2, "kernel": 3}
    return GatedConv(**sizes | {"dropout": 0.3, "input_dropout": 0.2} | settings)


ENCODERS: dict[str, Encoder] = {
    "branch": Branch((8,), width=4, dropout=0.3, input_dropout=0.2),
    "transformer": transformer(layers=1, pooling="attention", text_tokens=True),
    "class token": transformer(pooling="cls", positions="sinusoidal", layers=1),
    "gated convolution": gated_conv(pooling="attention", layers=1),
    "gated text": GatedText(transformer(positions="none", layers=1), model_width=8),
}


@functools.cache
def parameters(encoder: nn.Module, ids: bool = False) -> Any:
    """Variables none of which stands at a special value, such as a bias of zero."""
    shapes = jax.eval_shape(lambda: encoder.init(KEY, clips(ids=ids), train=False))
    generator = np.random.default_rng(1)

    def drawn(path: Any, leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        positive = path[-1].key in ("scale", "var")
        return positive + 0.3 * generator.normal(size=leaf.shape).astype(np.float32)

    return jax.tree.map_with_path(drawn, shapes)


@functools.partial(jax.jit, static_argnames=("encoder", "train"))
def trunk(
    encoder: Encoder, variables: Any, inputs: Clips, places: Any = None, train: bool = False
) -> jax.Array:
    places = jnp.arange(len(inputs.mask)) if places is None else places
    return encoder.apply(
        variables, inputs, places, train=train, rngs={"dropout": KEY}, method="trunk"
    )


@functools.partial(jax.jit, static_argnames="encoder")
def embed(encoder: Encoder, variables: Any, inputs: Clips) -> jax.Array:
    return encoder.apply(variables, inputs, train=False)


@functools.partial(jax.jit, static_argnames="encoder")
def embed_and_gradients(
    encoder: Encoder, variables: Any, inputs: Clips, slopes: Any
) -> tuple[jax.Array, Any]:
    """The embeddings; gradients of their product with the slopes at parameters and features."""

    def total(params: Any, features: jax.Array) -> tuple[jax.Array, jax.Array]:
        embeddings = encoder.apply(
            variables | {"params": params}, inputs._replace(features=features), train=False
        )
        return jnp.sum(embeddings * slopes), embeddings

    gradients, embeddings = jax.grad(total, argnums=(0, 1), has_aux=True)(
        variables["params"], inputs.features
    )
    return embeddings, gradients


SLOPES = np.cos(np.arange(16.0, dtype=np.float32)).reshape(4, 4)
