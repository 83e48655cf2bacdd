"""Where a clip stands in its sequence, told by a vector."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array

POSITIONS = ("learned", "sinusoidal", "none")


class Positions(nn.Module):
    """Adds to each clip the vector of its place.

    Attributes:
      kind: `learned`, `sinusoidal` or `none`.
      max_clips: places that have a learned vector.
    """

    kind: str
    max_clips: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """(b, N, M) -> (b, N, M)."""
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
    """-> (N, M): sine and cosine of place / 10000^(2i/M), i < M/2.

    Vaswani et al., "Attention Is All You Need", 2017 (arXiv 1706.03762), section 3.5; all sines
    stand before all cosines, which is a fixed permutation of theirs.
    """
    rates = 10000.0 ** (-2.0 * np.arange(width // 2) / width)
    angles = np.arange(clips)[:, None] * rates[None, :]
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=1)
