"""Means and gradients of row losses, a block of anchors at a time: reference of every fused form.

Each block's gradient is taken in the forward pass, right after its value: nothing is kept for a
backward pass and nothing is computed twice, at O(block · N + N · D) memory in all.

A row loss gets more than the arrays of its kind if its signature has a keyword for it: `own`, the
anchors' modality over the global batch, `teacher`, a teacher's embeddings, if the pairs have them,
or `means`, the mean distances of the global batch.

Letters: n anchors of this device, b of a block, N items of the global batch, D width.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from vmr.losses.inter import Own, Teacher
from vmr.losses.intra import mean_distances
from vmr.losses.learnable import as_options
from vmr.losses.pairs import (
    INTER_TERMS,
    SIDES,
    Execution,
    Loss,
    Outcome,
    Pairs,
    global_rows,
)

Array = jax.Array

# (b,D) anchors, arrays shared by all anchors, per-anchor arguments (b,...) -> (b,)
BlockLoss = Callable[[Array, Any, Any], Array]
PerAnchor = tuple[Array, Array]


def rows_of_term(loss: Loss, term: str, pairs: Pairs, learnt: Mapping[str, Array]) -> Array:
    """Row losses (N,) of a term on one device: its definition."""
    anchors = pairs.embeddings(SIDES[term][0])
    per_anchor = _per_anchor(term, pairs, global_rows(pairs.positive_ids.size, None))
    return _block_loss(loss, term, pairs)(anchors, _shared(loss, term, pairs, learnt), per_anchor)


def by_rows(
    loss: Loss, term: str, pairs: Pairs, learnt: Mapping[str, Array], execution: Execution
) -> Outcome:
    """Mean of a row loss over the global batch, and its gradient.

    Args:
      loss: row loss with its options bound.
      term: name of the term, which sets the modalities of anchors and gallery.
      pairs: pairs of this device.
      learnt: learnt parameters of an inter-modal loss.
      execution: block size and axis.
    """
    anchors_side, gallery_side = SIDES[term]
    batch = pairs.gathered(execution.axis_name)
    rows = global_rows(pairs.positive_ids.size, execution.axis_name)
    anchors, shared = pairs.embeddings(anchors_side), _shared(loss, term, batch, learnt)

    def mean_and_gradients(block_loss: BlockLoss, x: Array, shared: Any, per_anchor: Any) -> Any:
        sums = sum_and_gradients(block_loss, x, shared, per_anchor, execution.block_rows)
        value, to_anchors, to_shared = jax.tree.map(
            lambda total: total / batch.positive_ids.size, sums
        )
        return execution.total(value), to_anchors, jax.tree.map(over_devices, to_shared)

    def over_devices(x: Array) -> Array:
        # Every device needs the scalars, but of the rows (N,D) only its own (n,D).
        return execution.own_rows_of_total(x) if x.ndim else execution.total(x)

    if wants(loss, "means"):
        inputs, all_inputs = pairs.inputs(term), batch.inputs(term)
        before, *_ = mean_and_gradients(mean_distances, inputs, all_inputs, rows)
        after, *mean_to_rows = mean_and_gradients(mean_distances, anchors, shared["gallery"], rows)
        shared["means"] = before, after
    value, to_anchors, to_shared = mean_and_gradients(
        _block_loss(loss, term, batch), anchors, shared, _per_anchor(term, pairs, rows)
    )
    if "means" in shared:
        # Chain rule through the mean distance, which moves with every embedding: the gradients of
        # the two uses of an embedding, as anchor and as item of the gallery, are added first.
        to_anchors += to_shared["means"][1] * sum(mean_to_rows)
    gradient = {anchors_side: to_anchors + to_shared.get("own", 0.0)}
    gradient[gallery_side] = gradient.get(gallery_side, 0.0) + to_shared["gallery"]
    return Outcome(value, {term: value}, gradient, to_shared["learnt"], {})


def wants(loss: Loss, keyword: str) -> bool:
    """True if a loss takes this keyword, looked up through partials."""
    return keyword in inspect.signature(loss).parameters


def _shared(loss: Loss, term: str, batch: Pairs, learnt: Mapping[str, Array]) -> dict[str, Any]:
    """Differentiable arguments that all anchors of a term share."""
    anchors, gallery = SIDES[term]
    shared = {"gallery": batch.embeddings(gallery), "learnt": dict(learnt)}
    if wants(loss, "own"):
        shared["own"] = batch.embeddings(anchors)
    return shared


def _per_anchor(term: str, pairs: Pairs, rows: Array) -> PerAnchor:
    """Per-anchor arguments of the row loss: positive ids or inputs, and row indices."""
    return (pairs.positive_ids if term in INTER_TERMS else pairs.inputs(term)), rows


def _block_loss(loss: Loss, term: str, batch: Pairs) -> BlockLoss:
    """Row loss of a term over the global batch: (b,D) anchors, `_shared`, `_per_anchor` -> (b,)."""

    def inter_rows(
        anchors: Array, shared: dict[str, Any], per_anchor: tuple[Array, Array]
    ) -> Array:
        positive_ids, rows = per_anchor
        options: dict[str, Any] = as_options(shared["learnt"])
        if "own" in shared:
            options["own"] = Own(shared["own"], batch.inputs(SIDES[term][0]), rows)
        if wants(loss, "teacher") and batch.video_teacher is not None:
            of_anchors, of_gallery = (batch.teacher(side) for side in SIDES[term])
            options["teacher"] = Teacher(of_anchors[rows], of_gallery)
        positives = positive_ids[:, None] == batch.positive_ids[None, :]
        return loss(anchors, shared["gallery"], positives, **options)

    def intra_rows(
        anchors: Array, shared: dict[str, Any], per_anchor: tuple[Array, Array]
    ) -> Array:
        inputs, rows = per_anchor
        options = {"means": shared["means"]} if "means" in shared else {}
        return loss(inputs, anchors, batch.inputs(term), shared["gallery"], rows, **options)

    return inter_rows if term in INTER_TERMS else intra_rows


def sum_and_gradients(
    block_loss: BlockLoss, anchors: Array, shared: Any, per_anchor: Any, block_rows: int | None
) -> tuple[Array, Array, Any]:
    """Sum of a row loss, and its gradients: (n,D), tree, (n,...) -> (), (n,D), tree.

    Args:
      block_loss: row loss, differentiated with respect to the anchors and to the shared arrays.
      anchors: (n,D) embeddings of the anchors.
      shared: tree of arrays such as the gallery (N,D) and learnt parameters. The anchors' own rows
        of the gallery are another argument here: the caller adds both gradients.
      per_anchor: tree of arrays (n,...), cut into the same blocks as the anchors.
      block_rows: b, anchors at a time; None takes them all at once.
    """
    value_and_gradients = jax.value_and_grad(_sum(block_loss), argnums=(0, 1))
    count = anchors.shape[0]
    if block_rows is None or block_rows >= count:
        value, gradients = value_and_gradients(anchors, shared, per_anchor, None)
        return value, *gradients

    def add_block(
        carry: tuple[Array, Any], block: tuple[Array, Any, Array]
    ) -> tuple[tuple[Array, Any], Array]:
        value, to_shared = carry
        block_value, (to_anchors, more) = value_and_gradients(block[0], shared, *block[1:])
        return (value + block_value, jax.tree.map(jnp.add, to_shared, more)), to_anchors

    start = (jnp.zeros((), anchors.dtype), jax.tree.map(jnp.zeros_like, shared))
    blocks = in_blocks((anchors, per_anchor, jnp.ones(count, bool)), block_rows)
    (value, to_shared), to_anchors = jax.lax.scan(add_block, start, blocks)
    return value, to_anchors.reshape(-1, anchors.shape[1])[:count], to_shared


def in_blocks(tree: Any, block_rows: int) -> Any:
    """Splits (n, ...) into blocks (⌈n / b⌉, b, ...), the last one filled up with zeros."""

    def split(array: Array) -> Array:
        missing = -array.shape[0] % block_rows
        filled = jnp.pad(array, [(0, missing)] + [(0, 0)] * (array.ndim - 1))
        return filled.reshape(-1, block_rows, *array.shape[1:])

    return jax.tree.map(split, tree)


def _sum(block_loss: BlockLoss) -> Callable[[Array, Any, Any, Array | None], Array]:
    """Sum of a row loss over the anchors, without those that fill up the last block."""

    def summed(anchors: Array, shared: Any, per_anchor: Any, is_real: Array | None) -> Array:
        values = block_loss(anchors, shared, per_anchor)
        return jnp.sum(values if is_real is None else jnp.where(is_real, values, 0.0))

    return summed
