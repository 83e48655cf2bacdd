"""Interface of encoders: a trunk that takes each item by itself, a head over the whole batch."""

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
      values: (B, L, E) float embeddings of tokens, or (B, L) int ids of a hashing vocabulary.
      mask: (B, L) bool, true where there is a token; all false where an item has no text.
    """

    values: Array
    mask: Array


class Clips(NamedTuple):
    """Features of the clips of B items, in temporal order; N = 1 for features of whole items.

    Attributes:
      features: (B, N, P); padding has no influence on anything, whatever its values.
      mask: (B, N) bool, true where there is a clip.
      text: text of the items, if they have any.
    """

    features: Array
    mask: Array
    text: Tokens | None = None


class Encoder(nn.Module, abc.ABC):
    """Base class of the encoders: clips (B, N, P) -> unit embeddings (B, D)."""

    def __call__(self, inputs: Clips, *, train: bool) -> Array:
        """Embeds a whole batch; with `train`, `apply` needs the rng `dropout`."""
        rows = jnp.arange(inputs.mask.shape[0])
        return self.head(self.trunk(inputs, rows, train=train), train=train)

    @abc.abstractmethod
    def trunk(self, inputs: Clips, rows: Array, *, train: bool) -> Array:
        """Features before the head, (b, N, P), (b,) -> (b, D), each item by itself.

        A batch too large for its activations may therefore pass in microbatches.

        Args:
          inputs: clips of b items of the batch.
          rows: indices of the items in the global batch, which key their dropout.
          train: True drops units.
        """

    def head(self, features: Array, *, train: bool) -> Array:
        """Last layers, which may need the whole batch (batch norm): (B, D) -> (B, D) unit rows."""
        return unit_rows(features)


def masked_mean(features: Array, mask: Array) -> Array:
    """Mean over the clips that are there, zeros if there is none: (B, N, P), (B, N) -> (B, P)."""
    count = jnp.maximum(mask.sum(axis=1, keepdims=True), 1).astype(features.dtype)
    return zero_absent(features, mask).sum(axis=1) / count


def zero_absent(features: Array, mask: Array) -> Array:
    """Zeros, with zero gradients, in place of padding: (B, N, P), (B, N) -> (B, N, P)."""
    # Selected rather than multiplied by the mask: 0 · NaN would still be NaN.
    return jnp.where(mask[:, :, None], features, 0.0)


def unit_rows(x: Array) -> Array:
    """Rows scaled to length 1, (B, D) -> (B, D); a zero row stays zero, with a finite gradient."""
    # The gradient of a plain norm at zero is NaN, also where `jnp.where` discards its value.
    return x / optax.safe_norm(x, 1e-6, axis=-1, keepdims=True)


def require_one_of(name: str, value: str, choices: Sequence[str]) -> None:
    """Raises ValueError unless the value is among the choices; called before anything is traced."""
    if value not in choices:
        raise ValueError(f"{name} is {value!r}; it must be one of {', '.join(choices)}")
