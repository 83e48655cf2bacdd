"""Objective: one inter-modal loss in two directions plus one intra-modal loss in two modalities.

Four terms, four weights. A term is the mean over the global batch of a row loss, which gives one
value per anchor (`vmr.losses.inter`, `intra`); the weights are arrays, so that changing one
compiles nothing. The row losses are the definition; a fused form, where one is faster, gives the
same values and the same gradient.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from vmr.losses import inter, intra
from vmr.losses.blockwise import by_rows, rows_of_term
from vmr.losses.checks import check_pairs, check_scalars
from vmr.losses.fused.ii_mse import ii_mse_by_gram
from vmr.losses.fused.infonce import infonce_both
from vmr.losses.fused.ranking import ranking_both
from vmr.losses.fused.signed_ranks import preferred_block_rows
from vmr.losses.pairs import (
    INTER_TERMS,
    INTRA_TERMS,
    Execution,
    Loss,
    Outcome,
    Pairs,
    Weights,
    weighted_sum,
)

Array = jax.Array


class Fused(NamedTuple):
    """Cheaper ways to compute a loss than by its rows over all pairs at once.

    Attributes:
      form: fused form, (options, weights, pairs, learnt, execution) -> outcome of the terms that
        have a weight, or None where it does not apply or does not pay; None: there is none.
      whole_items: largest N for which all anchors are taken at once; N × N matrices fit the memory
        there, and blocks would only cost time.
      block_rows: anchors at a time for larger N, enough for products at full speed; evenly shared,
        so that no block is nearly empty.
      kept_items: largest N whose N × N scores a form in blocks may hold.
      cpu_block_rows: N -> anchors at a time on CPU, in place of the two above.
      read_pairs: (options, pairs) -> those pairs that the loss reads, on a single device.
    """

    form: Callable[..., Outcome | None] | None = None
    whole_items: int = 2048
    block_rows: int = 256
    kept_items: int = 0
    cpu_block_rows: Callable[[int], int] | None = None
    read_pairs: Callable[[Mapping[str, Any], Pairs], Pairs] | None = None


def _siglip_both(
    options: Mapping[str, Any],
    weights: Weights,
    pairs: Pairs,
    learnt: Mapping[str, Array],
    execution: Execution,
) -> Outcome:
    """SigLIP in both directions from one: it sums over pairs, so both means are the same number."""
    loss = functools.partial(inter.siglip, **options)
    part = by_rows(loss, "v2m", pairs, learnt, execution)
    terms = dict.fromkeys(INTER_TERMS, part.terms["v2m"])
    both = part.times(weights["v2m"] + weights["m2v"])
    return both._replace(loss=weighted_sum(terms, weights), terms=terms)


def _adjacent_pairs(options: Mapping[str, Any], pairs: Pairs) -> Pairs:
    return pairs.first(options.get("top_k", intra.ADJACENT_TOP_K))


# Losses that are absent are computed by their rows. InfoNCE's form holds few matrices of a block
# where JAX's gradient of a row loss holds some ten, so its blocks may be larger.
FUSED: dict[Loss, Fused] = {
    inter.ranking: Fused(ranking_both),
    inter.infonce: Fused(infonce_both, whole_items=1024, block_rows=512, kept_items=4096),
    inter.siglip: Fused(_siglip_both),
    intra.structure: Fused(cpu_block_rows=preferred_block_rows),
    intra.structure_adjacent: Fused(read_pairs=_adjacent_pairs),
    intra.ii_mse: Fused(ii_mse_by_gram),
}


@dataclasses.dataclass(frozen=True)
class Objective:
    """Inter-modal and intra-modal row loss, their options already bound.

    Attributes:
      inter: loss of `vmr.losses.inter`, or a partial of it: (anchors, gallery, positives) -> (n,).
      intra: loss of `vmr.losses.intra`, or a partial of it: (inputs, embeddings, all_inputs,
        all_embeddings, rows) -> (n,); None leaves the two intra-modal terms out.
      block_rows: anchors at a time, for bounded memory; None leaves the choice to each loss.
      similarity_dtype: dtype of the factors of InfoNCE's products, e.g. bfloat16; None leaves the
        factors in theirs.
    """

    inter: Loss
    intra: Loss | None = None
    block_rows: int | None = None
    similarity_dtype: Any = None

    @property
    def terms(self) -> tuple[str, ...]:
        """Names of the terms of this objective."""
        return INTER_TERMS + INTRA_TERMS if self.intra else INTER_TERMS

    def rows(self, pairs: Pairs, learnt: Mapping[str, Array] | None = None) -> dict[str, Array]:
        """Row losses (N,) of each term on one device: the definition of the objective."""
        check_pairs(*pairs)
        return {
            term: rows_of_term(
                self._loss(term), term, pairs, (learnt or {}) if term in INTER_TERMS else {}
            )
            for term in self.terms
        }

    def value_and_gradient(
        self,
        pairs: Pairs,
        weights: Weights,
        learnt: Mapping[str, Array] | None = None,
        axis_name: str | None = None,
    ) -> Outcome:
        """Loss of the global batch, its terms and its gradient.

        The gradient is that of the *global* loss at this device's embeddings, in full: the sum of
        what every device's anchors contribute.

        Args:
          pairs: pairs of this device.
          weights: scalar weight of each term; others are ignored.
          learnt: learnt parameters of the inter-modal loss (`vmr.losses.learnable`), if any.
          axis_name: pmapped axis that shards the global batch.

        Raises:
          AssertionError: an array has another shape or dtype than `Pairs` says, or a weight or a
            learnt parameter is not a scalar.
          KeyError: a term has no weight.
          TypeError: something such as `jax.grad` differentiates the call, which returns the
            gradient itself.
        """
        check_pairs(*pairs)
        self._require_weights(weights)
        check_scalars(**{term: weights[term] for term in self.terms}, **(learnt or {}))
        # Refused rather than wrong: under pmap, `jax.grad` would differentiate the psum of the loss
        # into as many times the gradient as there are devices.
        variables = pairs.video, pairs.music, dict(learnt or {})
        video, music, own_learnt = _not_differentiated(variables)
        pairs = pairs._replace(video=video, music=music)
        execution = Execution(None, _shared_axis(axis_name), self.similarity_dtype)
        by_term = {term: weights[term] for term in INTER_TERMS}
        parts = self._parts(self.inter, by_term, pairs, own_learnt, execution)
        intra_norms = {}
        for term in INTRA_TERMS if self.intra else ():
            # Weight one first, so that the norm to be logged is that of the term alone.
            (part,) = self._parts(self._loss(term), {term: 1.0}, pairs, {}, execution)
            intra_norms[term] = _norm(part.gradient, execution.axis_name)
            parts.append(part.times(weights[term]))

        terms: dict[str, Array] = {}
        gradient = {side: jnp.zeros_like(pairs.embeddings(side)) for side in ("video", "music")}
        to_learnt = jax.tree.map(jnp.zeros_like, own_learnt)
        for part in parts:
            terms |= part.terms
            for side, slopes in part.gradient.items():
                # `structure_adjacent` reads the first pairs only, so it has slopes of these alone.
                gradient[side] = gradient[side].at[: len(slopes)].add(slopes)
            to_learnt |= {name: to_learnt[name] + slope for name, slope in part.to_learnt.items()}
        return Outcome(weighted_sum(terms, weights), terms, gradient, to_learnt, intra_norms)

    def gradient_norms(
        self,
        outcome: Outcome,
        pairs: Pairs,
        learnt: Mapping[str, Array] | None = None,
        axis_name: str | None = None,
    ) -> dict[str, Array]:
        """Norm () of each term's unweighted gradient at the embeddings of the global batch.

        Computes the inter-modal loss once more for each direction.

        Args:
          outcome: outcome of `value_and_gradient` for the same pairs.
          pairs: pairs of this device.
          learnt: learnt parameters of the inter-modal loss, if any.
          axis_name: pmapped axis that shards the global batch.
        """
        alone = dataclasses.replace(self, intra=None)

        def norm(weights: Array) -> Array:
            by_term = dict(zip(INTER_TERMS, weights, strict=True))
            gradient = alone.value_and_gradient(pairs, by_term, learnt, axis_name).gradient
            return _norm(gradient, axis_name)

        # Weights one-hot, one direction after the other: a loop keeps the memory of a single one.
        of_inter = lax.map(norm, jnp.eye(len(INTER_TERMS), dtype=pairs.video.dtype))
        return {**dict(zip(INTER_TERMS, of_inter, strict=True)), **outcome.intra_norms}

    def _require_weights(self, weights: Weights) -> None:
        absent = [term for term in self.terms if term not in weights]
        if absent:
            raise KeyError(
                f"weights has {', '.join(weights) or 'nothing'} and lacks {', '.join(absent)}: "
                f"this objective has the terms {', '.join(self.terms)}"
            )

    def _loss(self, term: str) -> Loss:
        loss = self.inter if term in INTER_TERMS else self.intra
        assert loss is not None
        return loss

    def _parts(
        self,
        loss: Loss,
        weights: Weights,
        pairs: Pairs,
        learnt: Mapping[str, Array],
        execution: Execution,
    ) -> list[Outcome]:
        """Weighted terms of one loss, together in its fused form or one by one from its rows."""
        function, options = _function_and_options(loss)
        fused = FUSED.get(function, Fused())
        if fused.read_pairs is not None and execution.axis_name is None:
            pairs = fused.read_pairs(options, pairs)
        block_rows = self._block_rows(fused, execution.items(pairs))
        if block_rows < pairs.positive_ids.size:
            keeps = not self.block_rows and execution.items(pairs) <= fused.kept_items
            execution = execution._replace(block_rows=block_rows, keeps=keeps)
        outcome = fused.form and fused.form(options, weights, pairs, learnt, execution)
        if outcome is not None:
            return [outcome]
        return [
            by_rows(loss, term, pairs, learnt, execution).times(weight)
            for term, weight in weights.items()
        ]

    def _block_rows(self, fused: Fused, items: int) -> int:
        """Anchors at a time in a global batch of N."""
        if self.block_rows:
            return self.block_rows
        if fused.cpu_block_rows is not None and jax.default_backend() == "cpu":
            return fused.cpu_block_rows(items)
        blocks = 1 if items <= fused.whole_items else math.ceil(items / fused.block_rows)
        return math.ceil(items / blocks)


@jax.custom_jvp
def _not_differentiated(arrays: Any) -> Any:
    """Identity whose derivative raises TypeError."""
    return arrays


@_not_differentiated.defjvp
def _refuse(primals: Any, tangents: Any) -> Any:
    del primals, tangents
    raise TypeError(
        "Objective.value_and_gradient returns the gradient: pass `gradient` and `to_learnt` of its "
        "outcome on to the encoders' vjp, or differentiate the means of Objective.rows"
    )


def _norm(gradient: dict[str, Array], axis_name: str | None) -> Array:
    """Norm of a gradient whose rows lie on the devices of an axis."""
    squares = jnp.asarray(sum(jnp.sum(jnp.square(side)) for side in gradient.values()))
    return jnp.sqrt(squares if axis_name is None else lax.psum(squares, axis_name))


def _shared_axis(axis_name: str | None) -> str | None:
    """Axis name, or None if it has one device: that has the whole batch, so every form applies."""
    return axis_name if axis_name is not None and lax.axis_size(axis_name) > 1 else None


def _function_and_options(
    loss: Loss,
) -> tuple[Loss, dict[str, Any]]:
    """Function inside nested partials, and the options that they bind."""
    options: dict[str, Any] = {}
    while isinstance(loss, functools.partial):
        options = {**loss.keywords, **options}  # an outer partial overrides an inner one
        loss = loss.func
    return loss, options
