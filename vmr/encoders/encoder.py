"""Encoders and their inputs: a trunk that takes each row by itself, a head over the whole batch."""

import abc
from collections.abc import Sequence
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

Array = jax.Array


class Tokens(NamedTuple):
    """Text that comes with the video.

    Attributes:
      values: (B, L, E) float embeddings of its pieces, or (B, L) int ids of a hashing vocabulary.
      mask: (B, L) bool, true where there is a piece; all false where an item has no text.
    """

    values: Array
    mask: Array


class Clips(NamedTuple):
    """Clips in their order; one clip an item where the features are of the whole item.

    Attributes:
      features: (B, N, P); what stands where there is no clip has no influence on anything.
      mask: (B, N) bool, true where there is a clip.
      text: text of the items, if they have any.
    """

    features: Array
    mask: Array
    text: Tokens | None = None


class Encoder(nn.Module, abc.ABC):
    """Clips (B, N, P) -> (B, D) unit rows."""

    def __call__(self, inputs: Clips, *, train: bool) -> Array:
        """Embeds a whole batch; `train` needs the rng `dropout`."""
        places = jnp.arange(inputs.mask.shape[0])
        return self.head(self.trunk(inputs, places, train=train), train=train)

    @abc.abstractmethod
    def trunk(self, inputs: Clips, places: Array, *, train: bool) -> Array:
        """(b, N, P), (b,) -> (b, D): each row by itself, so a batch may pass in pieces.

        Args:
          inputs: rows of the batch.
          places: where they stand in the global batch.
          train: whether to drop units.
        """

    def head(self, features: Array, *, train: bool) -> Array:
        """(B, D) -> (B, D) unit rows: what needs the whole batch at once."""
        return unit_rows(features)


def masked_mean(features: Array, mask: Array) -> Array:
    """(B, N, P), (B, N) -> (B, P): the mean over the clips that are there; zeros if none is."""
    count = jnp.maximum(mask.sum(axis=1, keepdims=True), 1).astype(features.dtype)
    return zero_absent(features, mask).sum(axis=1) / count


def zero_absent(features: Array, mask: Array) -> Array:
    """(B, N, P), (B, N) -> (B, N, P): zeros, and zero gradients, where there is no clip.

    By choice, not by a product: whatever stands there, NaN included, is gone.
    """
    return jnp.where(mask[:, :, None], features, 0.0)


def unit_rows(x: Array) -> Array:
    """(B, D) -> (B, D): rows of length 1; a zero row stays zero and has a finite gradient."""
    return x / optax.safe_norm(x, 1e-6, axis=-1, keepdims=True)


def require_one_of(name: str, value: str, choices: Sequence[str]) -> None:
    """Raises a ValueError, before anything is traced, unless the value is among the choices."""
    if value not in choices:
        raise ValueError(f"{name} is {value!r}; it must be one of {', '.join(choices)}")
