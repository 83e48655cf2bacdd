"""Arguments and result of an objective: pairs, terms, weights, execution, outcome.

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

# Scalar () weight of each term; a Python number serves as well.
Weights = Mapping[str, Array | float]

# Modality of the anchors and modality of the gallery, per term. An intra-modal term has the name of
# its modality.
SIDES = {
    "m2v": ("music", "video"),
    "v2m": ("video", "music"),
    "music": ("music", "music"),
    "video": ("video", "video"),
}
INTER_TERMS, INTRA_TERMS = ("m2v", "v2m"), ("music", "video")


class Pairs(NamedTuple):
    """Embeddings and inputs of n pairs, those of this device.

    Attributes:
      video: (n, D) unit embeddings.
      music: (n, D) unit embeddings.
      video_inputs: (n, P) inputs of the video encoder.
      music_inputs: (n, Q) inputs of the music encoder.
      positive_ids: (n,) int; pairs of equal id, of one track or of one label, are positives of each
        other.
      video_teacher: (n, T) unit embeddings of the videos by a teacher, for `distillation`; None
        where there is no teacher.
      music_teacher: (n, T) likewise, or None.
    """

    video: Array
    music: Array
    video_inputs: Array
    music_inputs: Array
    positive_ids: Array
    video_teacher: Array | None = None
    music_teacher: Array | None = None

    def embeddings(self, modality: str) -> Array:
        """Embeddings (n, D) of `video` or `music`."""
        return self.video if modality == "video" else self.music

    def inputs(self, modality: str) -> Array:
        """Inputs (n, P or Q) of `video` or `music`."""
        return self.video_inputs if modality == "video" else self.music_inputs

    def teacher(self, modality: str) -> Array:
        """Teacher's embeddings (n, T) of `video` or `music`; there must be a teacher."""
        rows = self.video_teacher if modality == "video" else self.music_teacher
        assert rows is not None
        return rows

    def first(self, count: int) -> "Pairs":
        """First `count` pairs, or all if there are fewer."""
        return jax.tree.map(lambda x: x[:count], self)

    def gathered(self, axis_name: str | None) -> "Pairs":
        """All N pairs of the global batch, gathered over a pmapped axis."""
        if axis_name is None:
            return self
        return jax.tree.map(lambda x: lax.all_gather(x, axis_name, tiled=True), self)


def global_rows(count: int, axis_name: str | None) -> Array:
    """Indices (n,) of this device's rows in a batch that a pmapped axis shards."""
    rows = jnp.arange(count)
    return rows if axis_name is None else rows + lax.axis_index(axis_name) * count


class Execution(NamedTuple):
    """Ways to compute a term; all but the dtype change its cost, never its value.

    Attributes:
      block_rows: anchors at a time, for bounded memory; None takes all of this device at once.
      axis_name: pmapped axis that shards the global batch; None on one device.
      similarity_dtype: dtype of the factors of InfoNCE's products, e.g. bfloat16; products
        accumulate in the dtype of the embeddings. None leaves the factors in theirs.
      keeps: True holds the scores of all blocks, (n, N), where a form needs them twice.
    """

    block_rows: int | None = None
    axis_name: str | None = None
    similarity_dtype: Any = None
    keeps: bool = False

    def items(self, pairs: Pairs) -> int:
        """Number N of items of the global batch."""
        devices = 1 if self.axis_name is None else lax.axis_size(self.axis_name)
        return pairs.positive_ids.size * devices

    def total(self, x: Array) -> Array:
        """Sum over the devices that share the batch."""
        return x if self.axis_name is None else lax.psum(x, self.axis_name)

    def own_rows_of_total(self, x: Array) -> Array:
        """This device's rows (n,...) of the sum (N,...) over the devices."""
        if self.axis_name is None:
            return x
        return lax.psum_scatter(x, self.axis_name, tiled=True)


class Outcome(NamedTuple):
    """Value and gradient of an objective, or of a few of its terms.

    Attributes:
      loss: () weighted sum of the terms.
      terms: value () of each term, unweighted.
      gradient: gradient of the loss at this device's `video` and `music` embeddings, (n, D) each.
        That of a few terms may lack a modality, or its last rows, where it is zero.
      to_learnt: gradient of the loss at the learnt parameters, () each.
      intra_norms: norm () of the unweighted gradient at the embeddings of the global batch, per
        intra-modal term. The inter-modal terms share their work, so their norms cost extra: see
        `Objective.gradient_norms`.
    """

    loss: Array
    terms: dict[str, Array]
    gradient: dict[str, Array]
    to_learnt: dict[str, Array]
    intra_norms: dict[str, Array]

    def times(self, weight: Array | float) -> "Outcome":
        """Outcome of the same terms with their weights multiplied by `weight`."""
        loss, gradient, to_learnt = jax.tree.map(
            lambda x: weight * x, (self.loss, self.gradient, self.to_learnt)
        )
        return self._replace(loss=loss, gradient=gradient, to_learnt=to_learnt)


def weighted_sum(terms: Mapping[str, Array], weights: Weights) -> Array:
    """Sum of the terms times their weights: () each -> ()."""
    return jnp.asarray(sum(weights[term] * value for term, value in terms.items()))
