"""What every encoder is: a trunk that takes each row by itself, a head over the whole batch."""

import abc
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from vmr.encoders.clips import Clips

Array = jax.Array


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


def unit_rows(x: Array) -> Array:
    """(B, D) -> (B, D): rows of length 1; a zero row stays zero and has a finite gradient."""
    return x / optax.safe_norm(x, 1e-6, axis=-1, keepdims=True)


def require_one_of(name: str, value: str, choices: Sequence[str]) -> None:
    """Raises a ValueError, before anything is traced, unless the value is among the choices."""
    if value not in choices:
        raise ValueError(f"{name} is {value!r}; it must be one of {', '.join(choices)}")
