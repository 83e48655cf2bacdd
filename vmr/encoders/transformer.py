"""Pre-LN Transformer over the clips of a sequence, and over its text if there is any."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from vmr.encoders.encoder import Clips, Encoder, require_one_of, zero_absent
from vmr.encoders.layers import Dense, RowDropout
from vmr.encoders.pooling import POOLINGS, ClassToken, Pooling
from vmr.encoders.text import TokenDropout, TokenVectors, text_of

Array = jax.Array

POSITIONS = ("learned", "sinusoidal", "none")


class Transformer(Encoder):
    """Dense, positions, blocks of attention and MLP, LayerNorm, pooling, Dense.

    Vaswani et al. 2017 (arXiv 1706.03762), with the normalisation before each part: Xiong et al.
    2020 (arXiv 2002.04745). Padding has no influence. Pooling is over the clips alone: text acts
    through attention, so that absent text leaves the embedding as it is.

    Attributes:
      width: D, width of the embedding.
      model_width: M, width of a token inside the encoder.
      layers: number of blocks.
      heads: number of attention heads, which share M.
      mlp_ratio: hidden width of the MLP, as a multiple of M.
      positions: `learned`, `sinusoidal` or `none`.
      max_clips: largest N, if positions are learned.
      pooling: `mean`, `attention` or `cls`.
      dropout: dropout rate after each attention and each MLP.
      input_dropout: dropout rate of the features of the clips.
      text_tokens: True adds the text as tokens beside the clips; False ignores it.
      vocabulary: number of buckets of the text's int ids; 0 for float embeddings.
      token_dropout: share of the text's tokens hidden in training.
    """

    width: int = 512
    model_width: int = 256
    layers: int = 2
    heads: int = 4
    mlp_ratio: int = 4
    positions: str = "learned"
    max_clips: int = 64
    pooling: str = "mean"
    dropout: float = 0.1
    input_dropout: float = 0.0
    text_tokens: bool = False
    vocabulary: int = 0
    token_dropout: float = 0.0

    def __post_init__(self) -> None:
        """Raises ValueError for settings that do not fit together."""
        require_one_of("positions", self.positions, POSITIONS)
        require_one_of("pooling", self.pooling, POOLINGS)
        if self.model_width % self.heads:
            raise ValueError(f"{self.heads} heads cannot share a width of {self.model_width}")
        if self.positions == "sinusoidal" and self.model_width % 2:
            raise ValueError(f"sinusoidal positions need an even width, not {self.model_width}")
        super().__post_init__()

    @nn.compact
    def trunk(self, inputs: Clips, rows: Array, *, train: bool) -> Array:
        """Everything up to unit length: (b, N, P), (b,) -> (b, D)."""
        x = zero_absent(inputs.features, inputs.mask)
        x = RowDropout(self.input_dropout, name="input_dropout")(x, rows, train=train)
        x = Dense(self.model_width, name="project")(x)
        x = Positions(self.positions, self.max_clips, name="positions")(x)
        x, mask = self._with_more_tokens(x, inputs, rows, train)
        for number in range(self.layers):
            block = Block(self.heads, self.mlp_ratio, self.dropout, name=f"block_{number}")
            x = block(x, mask, rows, train=train)
        if self.pooling != "cls":  # the class token is the last one: see `Pooling`
            x, mask = x[:, : inputs.mask.shape[1]], inputs.mask
        x = Pooling(self.pooling, name="pooling")(nn.LayerNorm(name="norm")(x), mask)
        return Dense(self.width, name="out")(x)

    def _with_more_tokens(
        self, x: Array, inputs: Clips, rows: Array, train: bool
    ) -> tuple[Array, Array]:
        """Clips, then text, then the class token: (b, N, M) -> tokens (b, T, M), mask (b, T)."""
        mask = inputs.mask
        text = text_of(inputs, self) if self.text_tokens else None
        if text is not None:
            # Words have no positions: one learnt vector tells them from clips, their order is lost.
            kind = self.param("text_type", nn.initializers.normal(0.02), (self.model_width,))
            text = TokenDropout(self.token_dropout, name="tokens")(text, rows, train=train)
            vectors = TokenVectors(self.model_width, self.vocabulary, name="text")(text)
            x = jnp.concatenate([x, vectors + kind[None, None, :]], axis=1)
            mask = jnp.concatenate([mask, text.mask], axis=1)
        if self.pooling == "cls":
            x, mask = ClassToken(name="class_token")(x, mask)
        return x, mask


class Block(nn.Module):
    """Residual block x + attention(LayerNorm(x)), then x + MLP(LayerNorm(x)).

    Attributes:
      heads: number of attention heads.
      mlp_ratio: hidden width of the MLP, as a multiple of M.
      dropout: dropout rate of both residuals.
    """

    heads: int
    mlp_ratio: int
    dropout: float

    @nn.compact
    def __call__(self, x: Array, mask: Array, rows: Array, *, train: bool) -> Array:
        """Transforms the tokens of items at `rows`: (b, T, M), (b, T), (b,) -> (b, T, M)."""
        width = x.shape[-1]
        residual = Attention(self.heads, name="attention")(nn.LayerNorm(name="norm_0")(x), mask)
        x = x + RowDropout(self.dropout, name="dropout_0")(residual, rows, train=train)
        hidden = Dense(self.mlp_ratio * width, name="mlp_0")(nn.LayerNorm(name="norm_1")(x))
        residual = Dense(width, name="mlp_1")(nn.gelu(hidden))
        return x + RowDropout(self.dropout, name="dropout_1")(residual, rows, train=train)


class Attention(nn.Module):
    """Self-attention over the tokens that are there: (b, T, M), (b, T) -> (b, T, M).

    In an item without tokens all weights are equal: finite values, which the pooling leaves out.

    Attributes:
      heads: number of heads, which share M.
    """

    heads: int

    @nn.compact
    def __call__(self, x: Array, mask: Array) -> Array:
        """Attends over the tokens; queries, keys and values come from one product."""
        batch, count, width = x.shape
        # One product of 3M columns rather than three of M: fewer, larger products are faster.
        parts = Dense(3 * width, name="queries_keys_values")(x)
        parts = parts.reshape(batch, count, 3, self.heads, width // self.heads)
        attended = jax.nn.dot_product_attention(
            parts[:, :, 0], parts[:, :, 1], parts[:, :, 2], mask=mask[:, None, None, :]
        )
        return Dense(width, name="out")(attended.reshape(batch, count, width))


class Positions(nn.Module):
    """Adds the vector of its position to each clip.

    Attributes:
      kind: `learned`, `sinusoidal` or `none`.
      max_clips: number of positions that have a learned vector.
    """

    kind: str
    max_clips: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Adds the positions: (b, N, M) -> (b, N, M)."""
        clips, width = x.shape[1:]
        if self.kind == "none":
            return x
        if self.kind == "sinusoidal":
            return x + jnp.asarray(sinusoids(clips, width), x.dtype)[None]
        if clips > self.max_clips:
            raise ValueError(f"{clips} clips, but positions are learned for {self.max_clips}")
        table = self.param("table", nn.initializers.normal(0.02), (self.max_clips, width))
        return x + table[None, :clips]


def sinusoids(clips: int, width: int) -> np.ndarray:
    """Sinusoidal positions (N, M): sines, then cosines, of position / 10000^(2i/M), i < M/2.

    Vaswani et al., "Attention Is All You Need", 2017 (arXiv 1706.03762), section 3.5, where sines
    and cosines alternate: a fixed permutation of the dimensions.
    """
    rates = 10000.0 ** (-2.0 * np.arange(width // 2) / width)
    angles = np.arange(clips)[:, None] * rates[None, :]
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=1)
