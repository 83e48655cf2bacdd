"""Pairs of a batch as the losses see them, the terms of an objective, and its outcome.

Letters: n pairs of this device, N of the global batch, D width of an embedding, P and Q widths of
the encoders' inputs.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

Array = jax.Array
Loss = Callable[..., Array]  # a row loss of `vmr.losses.inter` or `vmr.losses.intra`

# Per term, a weight (); a number serves as well.
Weights = Mapping[str, Array | float]

# Per term, the modality of its anchors and that of its gallery.
SIDES = {
    "m2v": ("music", "video"),
    "v2m": ("video", "music"),
    "music": ("music", "music"),
    "video": ("video", "video"),
}
INTER_TERMS, INTRA_TERMS = ("m2v", "v2m"), ("music", "video")


class Pairs(NamedTuple):
    """n pairs of this device.

    Attributes:
      video: (n, D) unit embeddings.
      music: (n, D) unit embeddings.
      video_inputs: (n, P) what the video encoder was given.
      music_inputs: (n, Q) what the music encoder was given.
      track: (n,) int; pairs of the same track are positives of one another.
    """

    video: Array
    music: Array
    video_inputs: Array
    music_inputs: Array
    track: Array

    def embeddings(self, modality: str) -> Array:
        """(n, D) of `video` or `music`."""
        return self.video if modality == "video" else self.music

    def inputs(self, modality: str) -> Array:
        """(n, P or Q) of `video` or `music`."""
        return self.video_inputs if modality == "video" else self.music_inputs

    def first(self, count: int) -> "Pairs":
        """The first of these pairs, at most so many."""
        return jax.tree.map(lambda x: x[:count], self)

    def gathered(self, axis_name: str | None) -> "Pairs":
        """The N pairs of the global batch, sharded over a pmapped axis."""
        if axis_name is None:
            return self
        return jax.tree.map(lambda x: lax.all_gather(x, axis_name, tiled=True), self)


def global_rows(count: int, axis_name: str | None) -> Array:
    """Indices (n,) of this device's rows in a batch that a pmapped axis shards."""
    rows = jnp.arange(count)
    return rows if axis_name is None else rows + lax.axis_index(axis_name) * count


class Execution(NamedTuple):
    """Execution of a term: it changes the cost, never the value.

    Attributes:
      block_rows: anchors at a time, for bounded memory; None takes all of this device at once.
      axis_name: the pmapped axis over which the global batch is sharded; None on one device.
      similarity_dtype: type of the factors of InfoNCE's products, e.g. bfloat16; they accumulate
        in that of the embeddings. None takes them as they come.
    """

    block_rows: int | None = None
    axis_name: str | None = None
    similarity_dtype: Any = None

    def items(self, pairs: Pairs) -> int:
        """N, from the n pairs of this device."""
        devices = 1 if self.axis_name is None else lax.axis_size(self.axis_name)
        return pairs.track.size * devices

    def total(self, x: Array) -> Array:
        """Sum over the devices that share the batch."""
        return x if self.axis_name is None else lax.psum(x, self.axis_name)

    def own_rows_of_total(self, x: Array) -> Array:
        """Sum (N,...) over the devices, of which this device keeps its rows (n,...)."""
        if self.axis_name is None:
            return x
        return lax.psum_scatter(x, self.axis_name, tiled=True)


class Outcome(NamedTuple):
    """Value and gradient of an objective, or of a few of its terms.

    Attributes:
      loss: () the weighted sum of the terms.
      terms: each term's value (), unweighted.
      gradient: of the loss at this device's embeddings, {"video": (n, D), "music": (n, D)}. That of
        a few terms may lack a modality, or its last rows, where it is zero.
      to_learnt: gradient of the loss at the learnt parameters, () each.
      intra_norms: per intra-modal term, the norm () of its unweighted gradient at the embeddings of
        the global batch. Those of the inter-modal terms, which share their work, take more: see
        `Objective.gradient_norms`.
    """

    loss: Array
    terms: dict[str, Array]
    gradient: dict[str, Array]
    to_learnt: dict[str, Array]
    intra_norms: dict[str, Array]

    def times(self, weight: Array | float) -> "Outcome":
        """The same terms, their sum weighted once more."""
        loss, gradient, to_learnt = jax.tree.map(
            lambda x: weight * x, (self.loss, self.gradient, self.to_learnt)
        )
        return self._replace(loss=loss, gradient=gradient, to_learnt=to_learnt)


def weighted_sum(terms: Mapping[str, Array], weights: Weights) -> Array:
    """Terms () and their weights () -> ()."""
    return jnp.asarray(sum(weights[term] * value for term, value in terms.items()))
