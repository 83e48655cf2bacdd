"""Gated convolutions over neighbouring clips: a sequence encoder lighter than the Transformer."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from vmr.encoders.encoder import Clips, Encoder, require_one_of, zero_absent
from vmr.encoders.layers import Dense, RowDropout
from vmr.encoders.pooling import Pooling

Array = jax.Array


class GatedConv(Encoder):
    """Dense, residual blocks of convolution and gate, LayerNorm, pooling, Dense.

    Padding counts as zeros, like clips before the first and after the last. Text is ignored;
    `vmr.encoders.text.GatedText` adds it.

    Attributes:
      width: D, width of the embedding.
      model_width: M, width of a clip inside the encoder.
      layers: number of blocks.
      kernel: number of clips that a convolution covers, odd.
      pooling: `mean` or `attention`.
      dropout: dropout rate of each block's residual.
      input_dropout: dropout rate of the features of the clips.
    """

    width: int = 512
    model_width: int = 256
    layers: int = 4
    kernel: int = 5
    pooling: str = "mean"
    dropout: float = 0.1
    input_dropout: float = 0.0

    def __post_init__(self) -> None:
        """Raises ValueError for settings that do not fit together."""
        require_one_of("pooling", self.pooling, ("mean", "attention"))
        if self.kernel % 2 == 0:
            raise ValueError(f"a kernel has its clip in the middle: {self.kernel} is even")
        super().__post_init__()

    @nn.compact
    def trunk(self, inputs: Clips, rows: Array, *, train: bool) -> Array:
        """Everything up to unit length: (b, N, P), (b,) -> (b, D)."""
        x = zero_absent(inputs.features, inputs.mask)
        x = RowDropout(self.input_dropout, name="input_dropout")(x, rows, train=train)
        x = Dense(self.model_width, name="project")(x)
        for number in range(self.layers):
            block = GatedBlock(self.kernel, self.dropout, name=f"block_{number}")
            x = block(x, inputs.mask, rows, train=train)
        x = Pooling(self.pooling, name="pooling")(nn.LayerNorm(name="norm")(x), inputs.mask)
        return Dense(self.width, name="out")(x)


class GatedBlock(nn.Module):
    """Residual block x + GLU(convolution(LayerNorm(x))): (b, N, M) -> (b, N, M).

    The gated linear unit a ⊙ σ(b) is that of Dauphin et al. 2017 (arXiv 1612.08083). The
    convolution is depthwise separable: along the clips channel by channel, then across channels.

    Attributes:
      kernel: number of clips that the convolution covers.
      dropout: dropout rate of the residual.
    """

    kernel: int
    dropout: float

    @nn.compact
    def __call__(self, x: Array, mask: Array, rows: Array, *, train: bool) -> Array:
        """Convolves the clips of items at `rows`: (b, N, M), (b, N), (b,) -> (b, N, M)."""
        width = x.shape[-1]
        # Padding is zeroed after the normalisation, whose bias makes zeros something else.
        normalized = zero_absent(nn.LayerNorm(name="norm")(x), mask)
        kernel = self.param("kernel", nn.initializers.lecun_normal(), (self.kernel, width))
        residual = nn.glu(Dense(2 * width, name="mix")(channel_convolution(normalized, kernel)))
        return x + RowDropout(self.dropout, name="dropout")(residual, rows, train=train)


def channel_convolution(x: Array, kernel: Array) -> Array:
    """Depthwise convolution along the clips, zeros beyond the ends: (b, N, M), (K, M) -> (b, N, M).

    ``y[n] = Σ_k kernel[k] x[n + k − K//2]``.
    """
    clips, reach = x.shape[1], kernel.shape[0] // 2
    padded = jnp.pad(x, ((0, 0), (reach, reach), (0, 0)))
    # A sum of shifted copies has a fast gradient on CPU; XLA's grouped convolution has not.
    shifted = (
        padded[:, offset : offset + clips] * kernel[None, None, offset]
        for offset in range(kernel.shape[0])
    )
    return sum(shifted, start=jnp.zeros_like(x))
