"""The objective: one inter-modal loss × two directions + one intra-modal loss × two modalities.

Four terms, four weights. A term is the mean of a row loss over the global batch; the weights are
arrays, so that changing one compiles nothing. Letters: n pairs of this device, N of the global
batch, D width of an embedding, P and Q widths of the inputs.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp

from vmr.losses.blocks import RowLoss, sum_and_gradients

Array = jax.Array

# Of each term, whose rows are the anchors and whose are the gallery.
SIDES = {
    "m2v": ("music", "video"),
    "v2m": ("video", "music"),
    "music": ("music", "music"),
    "video": ("video", "video"),
}


class Pairs(NamedTuple):
    """n pairs as the losses see them.

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


class Term(NamedTuple):
    """One term of the objective: its value, and its gradient per modality."""

    value: Array  # ()
    gradient: dict[str, Array]  # {"video": (n, D), "music": (n, D)}


@dataclasses.dataclass(frozen=True)
class Objective:
    """An inter-modal and an intra-modal row loss, their options already bound.

    Attributes:
      inter: (anchors, gallery, positives) -> (n,), of `vmr.losses.inter`.
      intra: (inputs, embeddings, all_inputs, all_embeddings, rows) -> (n,), of
        `vmr.losses.intra`; None leaves the two intra-modal terms out.
      block_rows: anchors at a time, for bounded memory; None takes all at once.
    """

    inter: Callable[[Array, Array, Array], Array]
    intra: Callable[[Array, Array, Array, Array, Array], Array] | None = None
    block_rows: int | None = None

    @property
    def terms(self) -> tuple[str, ...]:
        """The names of the terms that this objective has."""
        return tuple(SIDES) if self.intra else ("m2v", "v2m")

    def rows(self, pairs: Pairs, axis_name: str | None = None) -> dict[str, Array]:
        """The definition: per term, the row losses (n,) of this device's anchors."""
        batch, rows = _global_batch(pairs, axis_name)
        return {
            term: self._row_loss(term, batch)(
                getattr(pairs, anchors), getattr(batch, gallery), _facts(term, pairs, rows)
            )
            for term, (anchors, gallery) in SIDES.items()
            if term in self.terms
        }

    def values_and_gradients(self, pairs: Pairs, axis_name: str | None = None) -> dict[str, Term]:
        """Per term, its mean over the global batch and the gradient at this device's embeddings.

        The gradient is that of the *global* value, summed over the devices that it reaches.

        Args:
          pairs: of this device.
          axis_name: the pmapped axis over which the global batch is sharded.
        """
        batch, rows = _global_batch(pairs, axis_name)
        return {term: self._term(term, pairs, batch, rows, axis_name) for term in self.terms}

    def _term(
        self, term: str, pairs: Pairs, batch: Pairs, rows: Array, axis_name: str | None
    ) -> Term:
        anchors, gallery = SIDES[term]
        value, to_anchors, to_gallery = sum_and_gradients(
            self._row_loss(term, batch),
            getattr(pairs, anchors),
            getattr(batch, gallery),
            _facts(term, pairs, rows),
            self.block_rows,
        )
        if axis_name is not None:
            value = jax.lax.psum(value, axis_name)
            to_gallery = jax.lax.psum_scatter(to_gallery, axis_name, tiled=True)
        items = batch.track.shape[0]
        gradient = {"video": jnp.zeros_like(pairs.video), "music": jnp.zeros_like(pairs.music)}
        gradient[anchors] += to_anchors / items
        gradient[gallery] += to_gallery / items
        return Term(value / items, gradient)

    def _row_loss(self, term: str, batch: Pairs) -> RowLoss:
        """(b,D) anchors, (N,D) gallery, their facts -> (b,): the term over the global batch."""

        def inter_rows(anchors: Array, gallery: Array, track: Array) -> Array:
            return self.inter(anchors, gallery, track[:, None] == batch.track[None, :])

        def intra_rows(anchors: Array, gallery: Array, facts: tuple[Array, Array]) -> Array:
            assert self.intra is not None
            inputs, rows = facts
            return self.intra(inputs, anchors, _inputs(term, batch), gallery, rows)

        return inter_rows if term in ("m2v", "v2m") else intra_rows


def _facts(term: str, pairs: Pairs, rows: Array) -> Array | tuple[Array, Array]:
    """What a term must know of each anchor: its track, or its inputs and where it stands."""
    return pairs.track if term in ("m2v", "v2m") else (_inputs(term, pairs), rows)


def _inputs(modality: str, pairs: Pairs) -> Array:
    return pairs.video_inputs if modality == "video" else pairs.music_inputs


def weighted(
    terms: Mapping[str, Term], weights: Mapping[str, Array]
) -> tuple[Array, dict[str, Array]]:
    """The loss and its gradient per modality: the weighted sum of the terms'.

    Args:
      terms: of `Objective.values_and_gradients`.
      weights: one scalar a term; those of absent terms are not read.
    """
    scaled = [
        jax.tree.map(lambda x, name=name: weights[name] * x, tuple(term))
        for name, term in terms.items()
    ]
    return jax.tree.map(lambda *parts: sum(parts), *scaled)


def _global_batch(pairs: Pairs, axis_name: str | None) -> tuple[Pairs, Array]:
    """The global batch (N, ...), and where this device's pairs stand in it (n,)."""
    rows = jnp.arange(pairs.track.shape[0])
    if axis_name is None:
        return pairs, rows
    batch = jax.tree.map(lambda x: jax.lax.all_gather(x, axis_name, tiled=True), pairs)
    return batch, rows + jax.lax.axis_index(axis_name) * rows.shape[0]
