"""What an encoder is given: clips of one modality, and the text that may come with them."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

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
      text: of the items, if they have any.
    """

    features: Array
    mask: Array
    text: Tokens | None = None


def masked_mean(features: Array, mask: Array) -> Array:
    """(B, N, P), (B, N) -> (B, P): the mean over the clips that are there; zeros if none is."""
    count = jnp.maximum(mask.sum(axis=1, keepdims=True), 1).astype(features.dtype)
    return zero_absent(features, mask).sum(axis=1) / count


def zero_absent(features: Array, mask: Array) -> Array:
    """(B, N, P), (B, N) -> (B, N, P): zeros, and zero gradients, where there is no clip.

    By choice, not by a product: whatever stands there, NaN included, is gone.
    """
    return jnp.where(mask[:, :, None], features, 0.0)
