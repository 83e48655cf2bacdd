"""InfoNCE in both directions from one score matrix.

A first pass over blocks of videos leaves the log-sum-exp of the negatives of every row and every
column; a second takes each block's gradient. A small matrix is kept for the second, 6 N²D
operations; a larger one is formed again, 8 N²D and O(block · N) memory; two row losses need 12 N²D.
Where the temperature is a number and not too low, exponentials of the scores of unit rows neither
overflow nor vanish, and a single one of each score serves rows, columns and both passes.
Over several devices each holds its own videos against all music: one tower is gathered, and columns
are joined by a maximum and a sum of N numbers.

Letters: n videos of this device, b of a block, N pairs of the global batch, D width.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from vmr.losses.blockwise import in_blocks
from vmr.losses.checks import check_scalars
from vmr.losses.learnable import as_options
from vmr.losses.pairs import Execution, Outcome, Pairs, Weights, global_rows, weighted_sum
from vmr.losses.similarity import transposed_product

Array = jax.Array


class Softmax(NamedTuple):
    """Statistics of each row (n,) or of each column (N,) that the gradient needs.

    The gap of a positive is the log-sum-exp of the negatives minus the positive's score.
    """

    log_sum: Array  # log Σ exp over the negatives; −inf if there is none
    share: Array  # weight of a positive in the mean: 1 / number of positives
    slope: Array  # mean over the positives of sigmoid(gap), the negatives' share of the softmax
    smoothing: Array  # label-smoothing mass per candidate


class Scores(NamedTuple):
    """Factors of the score matrix of this device: its videos against all music."""

    video: Array  # (n, D) unit rows
    music: Array  # (N, D) unit rows
    scale: Array  # () 1 / temperature
    ids: Array  # (n,) positive ids of the videos
    all_ids: Array  # (N,) positive ids of the music
    rows: Array  # (n,) index of each video among the N
    as_exponentials: bool  # True forms exp(score) in place of each score
    dtype: Any  # of the factors of every product; None leaves them in theirs

    def of(self, videos: "Videos", music: Array) -> Array:
        """Scores, or their exponentials, of a block and all music: (b,D), (D,N) -> (b,N)."""
        found = self.scale * self.product(_cast(videos.video, self.dtype), music)
        return jnp.exp(found) if self.as_exponentials else found

    def odds(self, found: Array, log_sum: Array) -> Array:
        """Exponential of each score over a sum of exponentials; `found` as of `of`."""
        if self.as_exponentials:
            return found * jnp.exp(-log_sum)
        return jnp.exp(found - log_sum)

    def product(self, x: Array, y: Array) -> Array:
        """Product, added up in the dtype of the embeddings."""
        return jnp.matmul(x, y, preferred_element_type=self.video.dtype)


class Positives(NamedTuple):
    """Sums or means over the positives of each row (n,), or of each column (N,)."""

    loss: Array
    slope: Array
    score: Array


class Videos(NamedTuple):
    """Block of videos; the last one is filled up with zeros, videos that are not real."""

    video: Array  # (b, D) unit rows
    ids: Array  # (b,) positive ids
    is_real: Array  # (b,) bool
    side: Softmax | None  # statistics of their rows

    def are_negatives(self, all_ids: Array) -> Array:
        """Mask of the negatives among the music, (N,) -> (b,N); none in a row that is not real."""
        return (self.ids[:, None] != all_ids[None, :]) & self.is_real[:, None]


class IdOrder(NamedTuple):
    """Batch sorted by positive id, which lists positives without an N × N matrix.

    A group is the items of one id.
    """

    order: Array  # (N,) items, group by group
    starts: Array  # (N,) start of the item's group in `order`
    sizes: Array  # (N,) number of items of its group
    offsets: Array  # (N,) position of the item within its group

    def positives(self, turn: Array) -> Array:
        """Positive (N,) of each item in a turn: itself in turn 0, all its group in `size` turns."""
        # Items of a group rotate: no two of them have the same positive in one turn.
        return self.order[self.starts + (self.offsets + turn) % self.sizes]


def infonce_both(
    options: Mapping[str, Any],
    weights: Weights,
    pairs: Pairs,
    learnt: Mapping[str, Array],
    execution: Execution,
) -> Outcome | None:
    """Means of `inter.infonce` in both directions, and the gradient of their weighted sum.

    None where negatives are weighted by their hardness: that goes by rows.
    """
    merged: dict[str, Any] = {**options, **as_options(learnt)}
    if merged.pop("hardness", 0.0):
        return None
    terms, gradient, to_log_temperature = _both(weights, pairs, execution, **merged)
    to_learnt = dict.fromkeys(learnt, to_log_temperature)
    return Outcome(weighted_sum(terms, weights), terms, gradient, to_learnt, {})


def _both(
    weights: Weights,
    pairs: Pairs,
    execution: Execution,
    *,
    temperature: Array | float = 0.07,
    label_smoothing: float = 0.0,
) -> tuple[dict[str, Array], dict[str, Array], Array]:
    """Means, gradients at this device's embeddings, and gradient at log τ ()."""
    check_scalars(temperature=temperature, label_smoothing=label_smoothing)
    video, music, ids = map(jnp.asarray, (pairs.video, pairs.music, pairs.positive_ids))
    axis_name, block = execution.axis_name, min(execution.block_rows or ids.size, ids.size)
    scores = _scores(video, music, ids, temperature, execution)
    rows, columns, kept = _log_sums(scores, block, execution)
    terms, sides = _terms(scores, (rows, columns), label_smoothing, axis_name)
    to_video, to_music = _gradients(scores, kept, sides, weights, label_smoothing, block)
    # A score is scale · video · music, so ∂L/∂log scale = Σ video · ∂L/∂video; log τ = −log scale.
    to_log_scale = execution.total(jnp.sum(video * to_video))
    # Every device has a part of the gradient at all music; it keeps the sum at its own.
    to_music = execution.own_rows_of_total(to_music)
    return terms, {"video": to_video, "music": to_music}, -to_log_scale


def _scores(
    video: Array, music: Array, ids: Array, temperature: Array | float, execution: Execution
) -> Scores:
    scale = 1.0 / jnp.asarray(temperature, video.dtype)
    rows = global_rows(ids.size, execution.axis_name)
    all_music, all_ids = music, ids
    if execution.axis_name is not None:
        all_music, all_ids = lax.all_gather((music, ids), execution.axis_name, tiled=True)
    # Scores of unit rows are within ±scale, so that odds reach exp(2 scale), of positives only.
    most = 0.45 * math.log(jnp.finfo(video.dtype).max)
    fits = isinstance(temperature, float | int) and temperature * most >= 1
    return Scores(video, all_music, scale, ids, all_ids, rows, fits, execution.similarity_dtype)


def _log_sums(
    scores: Scores, block: int, execution: Execution
) -> tuple[Array, Array, Array | None]:
    """Log-sum-exp of the negatives of each row (n,) and of each column (N,); the kept blocks."""
    music = _cast(scores.music.T, scores.dtype)

    def add_block(columns: tuple[Array, Array], videos: Videos) -> tuple[Any, Any]:
        found = scores.of(videos, music)
        kept = found if execution.keeps else None
        negatives = videos.are_negatives(scores.all_ids)
        largest, total = columns
        if scores.as_exponentials:
            found = jnp.where(negatives, found, 0.0)
            total += jnp.sum(found, axis=0)
            return (largest, total), (jnp.log(jnp.sum(found, axis=1)), kept)
        # A streaming log-sum-exp: columns keep their sum relative to the largest score so far.
        found = jnp.where(negatives, found, -jnp.inf)
        larger = jnp.maximum(largest, jnp.max(found, axis=0))
        reference = _finite(larger)
        more = jnp.sum(jnp.exp(found - reference[None, :]), axis=0)
        total = total * jnp.exp(largest - reference) + more
        return (larger, total), (jax.nn.logsumexp(found, axis=1), kept)

    nothing = jnp.zeros(scores.all_ids.shape, scores.video.dtype)
    start = nothing if scores.as_exponentials else nothing - jnp.inf, nothing
    (largest, total), (rows, kept) = lax.scan(add_block, start, _blocks(scores, block))
    if execution.axis_name is not None:
        of_device, largest = largest, lax.pmax(largest, execution.axis_name)
        total *= jnp.exp(of_device - _finite(largest))
        total = lax.psum(total, execution.axis_name)
    return rows.reshape(-1)[: scores.ids.size], _finite(largest) + jnp.log(total), kept


def _terms(
    scores: Scores, log_sums: tuple[Array, Array], label_smoothing: float, axis_name: str | None
) -> tuple[dict[str, Array], tuple[Softmax, Softmax]]:
    """Means of both directions, and the statistics of rows and columns for the gradient."""
    by_id, count = _id_order(scores.all_ids), scores.all_ids.size
    sizes = by_id.sizes[scores.rows], by_id.sizes
    rows, columns = _sums_over_positives(scores, log_sums, by_id)
    if axis_name is not None:
        columns = lax.psum(columns, axis_name)
    means = [
        jax.tree.map(lambda total, size=size: total / size, sums)
        for sums, size in zip((rows, columns), sizes, strict=True)
    ]
    sides = [
        Softmax(log_sum, 1.0 / size, mean.slope, label_smoothing / (1 + count - size))
        for log_sum, size, mean in zip(log_sums, sizes, means, strict=True)
    ]
    of_rows, of_columns = (mean.loss for mean in means)
    if label_smoothing:
        row_scores, column_scores = _candidate_scores(scores, means, sizes, axis_name)
        of_rows += label_smoothing * means[0].score - sides[0].smoothing * row_scores
        of_columns += label_smoothing * means[1].score - sides[1].smoothing * column_scores
    of_rows = jnp.sum(of_rows)
    if axis_name is not None:
        of_rows = lax.psum(of_rows, axis_name)
    return {"v2m": of_rows / count, "m2v": jnp.mean(of_columns)}, (sides[0], sides[1])


def _sums_over_positives(
    scores: Scores, log_sums: tuple[Array, Array], by_id: IdOrder
) -> tuple[Positives, Positives]:
    """Sums over the positives of each row and of each column, the latter over this device's rows.

    Items of a group take turns as each other's positive: as many rounds of O(n D) as the largest
    group of the batch has items.
    """

    def add_round(carry: tuple[Array, Positives, Positives]) -> tuple[Any, Any, Any]:
        turn, rows, columns = carry
        positive = by_id.positives(turn)[scores.rows]
        score = scores.scale * jnp.sum(scores.video * scores.music[positive], axis=1)
        counts = turn < by_id.sizes[scores.rows]

        def of_positive(log_sum: Array) -> Positives:
            gap = log_sum - score
            values = Positives(jax.nn.softplus(gap), jax.nn.sigmoid(gap), score)
            return jax.tree.map(lambda value: jnp.where(counts, value, 0.0), values)

        rows = jax.tree.map(jnp.add, rows, of_positive(log_sums[0]))
        columns = jax.tree.map(
            lambda total, more: total.at[positive].add(more),
            columns,
            of_positive(log_sums[1][positive]),
        )
        return turn + 1, rows, columns

    rows, columns = (Positives(*[jnp.zeros_like(log_sum)] * 3) for log_sum in log_sums)
    rounds = jnp.max(by_id.sizes)
    start = jnp.int32(0), rows, columns
    return lax.while_loop(lambda carry: carry[0] < rounds, add_round, start)[1:]


def _id_order(ids: Array) -> IdOrder:
    """Batch sorted by positive id, from the ids (N,) int."""
    order = jnp.argsort(ids)
    ascending = ids[order]
    starts = jnp.searchsorted(ascending, ids, side="left")
    ends = jnp.searchsorted(ascending, ids, side="right")
    positions = jnp.zeros_like(order).at[order].set(jnp.arange(ids.size, dtype=order.dtype))
    return IdOrder(order, starts, ends - starts, positions - starts)


def _candidate_scores(
    scores: Scores,
    means: list[Positives],
    sizes: tuple[Array, Array],
    axis_name: str | None,
) -> list[Array]:
    """Sum of the scores of one positive and of all negatives, per row (n,) and per column (N,)."""
    # The sum over all items, less all positives but their mean: no mask, no N × N matrix.
    all_video, all_music = jnp.sum(scores.video, axis=0), jnp.sum(scores.music, axis=0)
    if axis_name is not None:
        all_video = lax.psum(all_video, axis_name)
    totals = scores.scale * (scores.video @ all_music), scores.scale * (scores.music @ all_video)
    return [
        total - (size - 1) * mean.score
        for total, size, mean in zip(totals, sizes, means, strict=True)
    ]


def _gradients(
    scores: Scores,
    kept: Array | None,
    sides: tuple[Softmax, Softmax],
    weights: Weights,
    label_smoothing: float,
    block: int,
) -> tuple[Array, Array]:
    """Gradients of the weighted sum of the means at this device's videos (n,D), all music (N,D)."""
    rows, columns = sides
    music, music_columns = (_cast(x, scores.dtype) for x in (scores.music, scores.music.T))
    # Statistics of the columns, broadcast over the rows of a block; `down` is the other way round.
    across = jax.tree.map(lambda x: x[None, :], columns)

    def add_block(to_music: Array, of_block: tuple[Videos, Array | None]) -> tuple[Array, Array]:
        videos, kept = of_block
        found = scores.of(videos, music_columns) if kept is None else kept
        negatives = videos.are_negatives(scores.all_ids)
        down = jax.tree.map(lambda x: x[:, None], videos.side)
        slopes = jnp.zeros((), found.dtype)
        for term, side in (("v2m", down), ("m2v", across)):
            odds = scores.odds(found, side.log_sum)
            slopes += weights[term] * _slopes(odds, negatives, side, label_smoothing)
        # Videos that are not real have slopes, but are zero vectors: they add nothing to the music.
        slopes = _cast(slopes, scores.dtype)
        accumulated = scores.video.dtype
        video = _cast(videos.video, scores.dtype)
        to_music += transposed_product(video, slopes, preferred_element_type=accumulated)
        return to_music, scores.product(slopes, music)

    start = jnp.zeros_like(scores.music.T)
    to_music, to_video = lax.scan(add_block, start, (_blocks(scores, block, rows), kept))
    to_video = to_video.reshape(-1, to_video.shape[-1])[: scores.ids.size]
    scale = scores.scale / scores.all_ids.size
    return scale * to_video, scale * to_music.T


def _slopes(odds: Array, negatives: Array, side: Softmax, label_smoothing: float) -> Array:
    """Derivative (b,N) of each row's, or each column's, loss with respect to its scores."""
    # The odds of a positive in a row without negatives are infinite.
    of_positives = side.share * (label_smoothing - side.smoothing - 1.0 / (1.0 + odds))
    return jnp.where(negatives, side.slope * odds - side.smoothing, of_positives)


def _blocks(scores: Scores, block: int, side: Softmax | None = None) -> Videos:
    """Videos in blocks: every field with a leading axis of blocks."""
    is_real = jnp.ones(scores.ids.shape, bool)
    return in_blocks(Videos(scores.video, scores.ids, is_real, side), block)


def _cast(x: Array, dtype: Any) -> Array:
    return x if dtype is None else x.astype(dtype)


def _finite(log_sum: Array) -> Array:
    """Log-sum, or 0 where it is −inf: a reference to subtract, as −inf − −inf would be NaN."""
    return jnp.where(log_sum > -jnp.inf, log_sum, 0.0)
