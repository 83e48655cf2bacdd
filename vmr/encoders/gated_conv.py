"""A lighter sequence encoder: gated convolutions over neighbouring clips."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from vmr.encoders.dense import Dense
from vmr.encoders.dropout import RowDropout
from vmr.encoders.encoder import Clips, Encoder, require_one_of, zero_absent
from vmr.encoders.pooling import Pooling

Array = jax.Array


class GatedConv(Encoder):
    """Dense, residual blocks of convolution and gate, LayerNorm, pooling, Dense.

    Clips that are not there count as zeros, as those before the first and after the last. Text is
    left aside; `vmr.encoders.text.GatedText` adds it.

    Attributes:
      width: D, of the embedding.
      model_width: M, of the clips within.
      layers: blocks.
      kernel: clips that a convolution sees at once, odd.
      pooling: `mean` or `attention`.
      dropout: rate on what each block adds.
      input_dropout: rate on the features of the clips.
    """

    width: int = 512
    model_width: int = 256
    layers: int = 4
    kernel: int = 5
    pooling: str = "mean"
    dropout: float = 0.1
    input_dropout: float = 0.0

    def __post_init__(self) -> None:
        """Refuses settings that do not fit together."""
        require_one_of("pooling", self.pooling, ("mean", "attention"))
        if self.kernel % 2 == 0:
            raise ValueError(f"a kernel has its clip in the middle: {self.kernel} is even")
        super().__post_init__()

    @nn.compact
    def trunk(self, inputs: Clips, places: Array, *, train: bool) -> Array:
        """(b, N, P), (b,) -> (b, D)."""
        x = zero_absent(inputs.features, inputs.mask)
        x = RowDropout(self.input_dropout, name="input_dropout")(x, places, train=train)
        x = Dense(self.model_width, name="project")(x)
        for number in range(self.layers):
            block = GatedBlock(self.kernel, self.dropout, name=f"block_{number}")
            x = block(x, inputs.mask, places, train=train)
        x = Pooling(self.pooling, name="pooling")(nn.LayerNorm(name="norm")(x), inputs.mask)
        return Dense(self.width, name="out")(x)


class GatedBlock(nn.Module):
    """x + GLU(convolution(LayerNorm(x))): (b, N, M) -> (b, N, M).

    The gated linear unit a ⊙ σ(b): Dauphin et al. 2017 (arXiv 1612.08083). The convolution is one
    along the clips for each channel, then a Dense across the channels.

    Attributes:
      kernel: clips at once.
      dropout: rate on what is added.
    """

    kernel: int
    dropout: float

    @nn.compact
    def __call__(self, x: Array, mask: Array, places: Array, *, train: bool) -> Array:
        """(b, N, M), (b, N), (b,) -> (b, N, M)."""
        width = x.shape[-1]
        # After the normalisation, whose bias would make something of nothing.
        seen = zero_absent(nn.LayerNorm(name="norm")(x), mask)
        kernel = self.param("kernel", nn.initializers.lecun_normal(), (self.kernel, width))
        added = nn.glu(Dense(2 * width, name="mix")(channel_convolution(seen, kernel)))
        return x + RowDropout(self.dropout, name="dropout")(added, places, train=train)


def channel_convolution(x: Array, kernel: Array) -> Array:
    """(b, N, M), (K, M) -> (b, N, M): Σ_k kernel[k] x[n + k - K//2], zeros beyond the ends.

    As a sum of shifted copies, whose gradient is fast on CPU, where that of XLA's grouped
    convolution is not.
    """
    clips, reach = x.shape[1], kernel.shape[0] // 2
    padded = jnp.pad(x, ((0, 0), (reach, reach), (0, 0)))
    shifted = (
        padded[:, place : place + clips] * kernel[None, None, place]
        for place in range(kernel.shape[0])
    )
    return sum(shifted, start=jnp.zeros_like(x))
