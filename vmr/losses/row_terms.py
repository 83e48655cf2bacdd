"""A term of the objective by its rows: the definition, and its value and gradient in blocks.

A loss says by its keywords what it must know beyond the pairs: `own`, the anchors' modality over
the global batch, or `means`, the mean distances of the global batch.

Letters: n pairs of this device, N of the global batch, D width of an embedding.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
from jax import lax

from vmr.losses.blocks import RowLoss, sum_and_gradients
from vmr.losses.inter import Own
from vmr.losses.intra import mean_distances
from vmr.losses.learnt import as_options
from vmr.losses.pairs import INTER_TERMS, SIDES, Pairs

Array = jax.Array
Loss = Callable[..., Array]


class Part(NamedTuple):
    """What some terms of an objective give.

    Attributes:
      terms: each term's value ().
      gradient: of their sum at embeddings of this device, (n, D) of `video` and `music`; fewer rows
        where the others' is zero.
      to_learnt: of their sum at learnt parameters, () each.
    """

    terms: dict[str, Array]
    gradient: dict[str, Array]
    to_learnt: dict[str, Array]

    def times(self, weight: Array) -> "Part":
        """The same terms, the gradients of their weighted sum."""
        scaled = jax.tree.map(lambda x: weight * x, (self.gradient, self.to_learnt))
        return Part(self.terms, *scaled)


def rows_of_term(loss: Loss, term: str, pairs: Pairs, learnt: Mapping[str, Array]) -> Array:
    """The definition, on one device: the row losses (N,) of a term."""
    anchors = pairs.embeddings(SIDES[term][0])
    shared = _shared(loss, term, pairs, learnt)
    return _row_loss(loss, term, pairs)(anchors, shared, _facts(term, pairs, pairs.places(None)))


def part_by_rows(
    loss: Loss,
    term: str,
    pairs: Pairs,
    learnt: Mapping[str, Array],
    block_rows: int | None,
    axis_name: str | None,
) -> Part:
    """A term's value and its gradient.

    Args:
      loss: of `vmr.losses.inter` or `vmr.losses.intra`, its options bound.
      term: which anchors and gallery it compares.
      pairs: of this device.
      learnt: parameters of an inter-modal loss.
      block_rows: anchors at a time; None takes all at once.
      axis_name: the pmapped axis over which the global batch is sharded.
    """
    anchors_side, gallery_side = SIDES[term]
    batch, places = pairs.gathered(axis_name), pairs.places(axis_name)
    anchors, shared = pairs.embeddings(anchors_side), _shared(loss, term, batch, learnt)

    def mean_and_gradients(row_loss: RowLoss, x: Array, shared: Any, facts: Any) -> Any:
        found = sum_and_gradients(row_loss, x, shared, facts, block_rows)
        return _joined(jax.tree.map(lambda total: total / batch.track.size, found), axis_name)

    if wants(loss, "means"):
        inputs, all_inputs = pairs.inputs(term), batch.inputs(term)
        before, *_ = mean_and_gradients(_distance_rows, inputs, all_inputs, places)
        after, *mean_to_rows = mean_and_gradients(
            _distance_rows, anchors, shared["gallery"], places
        )
        shared["means"] = before, after
    value, to_anchors, to_shared = mean_and_gradients(
        _row_loss(loss, term, batch), anchors, shared, _facts(term, pairs, places)
    )
    if "means" in shared:
        # The mean distance of the embeddings moves with every embedding.
        to_anchors += to_shared["means"][1] * sum(mean_to_rows)
    gradient = {anchors_side: to_anchors + to_shared.get("own", 0.0)}
    gradient[gallery_side] = gradient.get(gallery_side, 0.0) + to_shared["gallery"]
    return Part({term: value}, gradient, to_shared["learnt"])


def wants(loss: Loss, keyword: str) -> bool:
    """Whether a loss has this keyword, under the partials that bind its options."""
    return keyword in inspect.signature(loss).parameters


def _shared(loss: Loss, term: str, batch: Pairs, learnt: Mapping[str, Array]) -> dict[str, Any]:
    """What every anchor of a term sees, and what has a gradient."""
    anchors, gallery = SIDES[term]
    shared = {"gallery": batch.embeddings(gallery), "learnt": dict(learnt)}
    if wants(loss, "own"):
        shared["own"] = batch.embeddings(anchors)
    return shared


def _facts(term: str, pairs: Pairs, places: Array) -> tuple[Array, Array]:
    """What a term must know of each anchor: its track or its inputs, and where it stands."""
    return (pairs.track if term in INTER_TERMS else pairs.inputs(term)), places


def _row_loss(loss: Loss, term: str, batch: Pairs) -> RowLoss:
    """(b,D) anchors, `_shared`, `_facts` -> (b,): the term over the global batch."""

    def inter_rows(anchors: Array, shared: dict[str, Any], facts: tuple[Array, Array]) -> Array:
        track, places = facts
        options: dict[str, Any] = as_options(shared["learnt"])
        if "own" in shared:
            options["own"] = Own(shared["own"], batch.inputs(SIDES[term][0]), places)
        return loss(anchors, shared["gallery"], track[:, None] == batch.track[None, :], **options)

    def intra_rows(anchors: Array, shared: dict[str, Any], facts: tuple[Array, Array]) -> Array:
        inputs, places = facts
        options = {"means": shared["means"]} if "means" in shared else {}
        return loss(inputs, anchors, batch.inputs(term), shared["gallery"], places, **options)

    return inter_rows if term in INTER_TERMS else intra_rows


def _distance_rows(anchors: Array, gallery: Array, places: Array) -> Array:
    return mean_distances(anchors, gallery, places)


def _joined(found: tuple[Array, Array, Any], axis_name: str | None) -> tuple[Array, Array, Any]:
    """A value and gradients, summed over the devices that share the batch.

    Of the gradients at what is shared, rows (N,D) come back as this device's (n,D).
    """
    if axis_name is None:
        return found
    value, to_anchors, to_shared = found

    def joined(x: Array) -> Array:
        return lax.psum_scatter(x, axis_name, tiled=True) if x.ndim else lax.psum(x, axis_name)

    return lax.psum(value, axis_name), to_anchors, jax.tree.map(joined, to_shared)
