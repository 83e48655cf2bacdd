"""The objective: one inter-modal loss × two directions + one intra-modal loss × two modalities.

Four terms, four weights. A term is the mean of a row loss over the global batch; the weights are
arrays, so that changing one compiles nothing. The rows are the definition; where a fused form is
faster, the objective takes it: the same values and the same gradient.
"""

import dataclasses
import functools
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
    """Cheaper computation of a loss than by its plain rows.

    Attributes:
      form: (options, weights, pairs, learnt, execution) -> the outcome of the terms that have a
        weight, or None where it does not apply or does not pay; None has rows alone.
      whole_items: N up to which all anchors are taken at once: N × N matrices are no burden there,
        and blocks would only cost time.
      block_rows: anchors at a time beyond; products are still at full speed.
      cpu_block_rows: N -> anchors at a time on CPU, whatever N is.
      read_pairs: (options, pairs) -> the pairs that the loss reads, on a single device.
    """

    form: Callable[..., Outcome | None] | None = None
    whole_items: int = 2048
    block_rows: int = 256
    cpu_block_rows: Callable[[int], int] | None = None
    read_pairs: Callable[[Mapping[str, Any], Pairs], Pairs] | None = None


def _siglip_both(
    options: Mapping[str, Any],
    weights: Weights,
    pairs: Pairs,
    learnt: Mapping[str, Array],
    execution: Execution,
) -> Outcome:
    """SigLIP of both directions at once: each pair counts by itself, so their means are one."""
    loss = functools.partial(inter.siglip, **options)
    part = by_rows(loss, "v2m", pairs, learnt, execution)
    terms = dict.fromkeys(INTER_TERMS, part.terms["v2m"])
    both = part.times(weights["v2m"] + weights["m2v"])
    return both._replace(loss=weighted_sum(terms, weights), terms=terms)


def _adjacent_pairs(options: Mapping[str, Any], pairs: Pairs) -> Pairs:
    return pairs.first(options.get("top_k", intra.ADJACENT_TOP_K))


# A loss that is absent goes by its rows. InfoNCE's own form holds few matrices of a block, a row
# loss differentiated by JAX some ten; ranking's many passes over a row want it in the cache.
FUSED: dict[Loss, Fused] = {
    inter.ranking: Fused(ranking_both, whole_items=1024),
    inter.infonce: Fused(infonce_both, block_rows=512),
    inter.siglip: Fused(_siglip_both),
    intra.structure: Fused(cpu_block_rows=preferred_block_rows),
    intra.structure_adjacent: Fused(read_pairs=_adjacent_pairs),
    intra.ii_mse: Fused(ii_mse_by_gram),
}


@dataclasses.dataclass(frozen=True)
class Objective:
    """An inter-modal and an intra-modal row loss, their options already bound.

    Attributes:
      inter: (anchors, gallery, positives) -> (n,), of `vmr.losses.inter`, or a partial of it.
      intra: (inputs, embeddings, all_inputs, all_embeddings, rows) -> (n,), of
        `vmr.losses.intra`, or a partial of it; None leaves the two intra-modal terms out.
      block_rows: anchors at a time, for bounded memory; None leaves it to each loss.
      similarity_dtype: dtype of the factors of InfoNCE's products, as bfloat16; None keeps theirs.
    """

    inter: Loss
    intra: Loss | None = None
    block_rows: int | None = None
    similarity_dtype: Any = None

    @property
    def terms(self) -> tuple[str, ...]:
        """The names of the terms that this objective has."""
        return INTER_TERMS + INTRA_TERMS if self.intra else INTER_TERMS

    def rows(self, pairs: Pairs, learnt: Mapping[str, Array] | None = None) -> dict[str, Array]:
        """The definition, on one device: per term, the row losses (N,)."""
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
        """The loss of the global batch, its terms and its gradient.

        The gradient is that of the *global* value, summed over the devices that it reaches.

        Args:
          pairs: pairs of this device.
          weights: one scalar a term; those of absent terms are not read.
          learnt: the inter-modal loss's learnt parameters (`vmr.losses.learnable`), if it has any.
          axis_name: the pmapped axis over which the global batch is sharded.

        Raises:
          AssertionError: an array is of another shape or type than `Pairs` says, or a weight or a
            learnt parameter is not one number.
          KeyError: a term has no weight.
          TypeError: it is differentiated, by `jax.grad` say: it returns the gradient itself.
        """
        check_pairs(*pairs)
        self._require_weights(weights)
        check_scalars(**{term: weights[term] for term in self.terms}, **(learnt or {}))
        given = pairs.video, pairs.music, dict(learnt or {})
        video, music, own_learnt = _not_differentiated(given)
        pairs = pairs._replace(video=video, music=music)
        execution = Execution(None, _shared_axis(axis_name), self.similarity_dtype)
        by_term = {term: weights[term] for term in INTER_TERMS}
        parts = self._parts(self.inter, by_term, pairs, own_learnt, execution)
        intra_norms = {}
        for term in INTRA_TERMS if self.intra else ():
            # At weight one first: the norm that is logged is that of the term alone.
            (part,) = self._parts(self._loss(term), {term: 1.0}, pairs, {}, execution)
            intra_norms[term] = _norm(part.gradient, execution.axis_name)
            parts.append(part.times(weights[term]))

        terms: dict[str, Array] = {}
        gradient = {side: jnp.zeros_like(pairs.embeddings(side)) for side in ("video", "music")}
        to_learnt = jax.tree.map(jnp.zeros_like, own_learnt)
        for part in parts:
            terms |= part.terms
            for side, slopes in part.gradient.items():
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
        """Per term, the norm () of its unweighted gradient at the embeddings of the global batch.

        Takes the inter-modal loss once more for each direction.

        Args:
          outcome: that of `value_and_gradient` for the same pairs.
          pairs: pairs of this device.
          learnt: the inter-modal loss's learnt parameters, if it has any.
          axis_name: the pmapped axis over which the global batch is sharded.
        """
        alone = dataclasses.replace(self, intra=None)

        def norm(weights: Array) -> Array:
            by_term = dict(zip(INTER_TERMS, weights, strict=True))
            gradient = alone.value_and_gradient(pairs, by_term, learnt, axis_name).gradient
            return _norm(gradient, axis_name)

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
        """Weighted terms of one loss: together in its fused form, or each by its rows."""
        function, options = _function_and_options(loss)
        fused = FUSED.get(function, Fused())
        if fused.read_pairs is not None and execution.axis_name is None:
            pairs = fused.read_pairs(options, pairs)
        block_rows = self._block_rows(fused, execution.items(pairs))
        if block_rows < pairs.track.size:
            execution = execution._replace(block_rows=block_rows)
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
        return items if items <= fused.whole_items else fused.block_rows


@jax.custom_jvp
def _not_differentiated(arrays: Any) -> Any:
    """The same arrays, whose derivative is not there to be asked for."""
    return arrays


@_not_differentiated.defjvp
def _refuse(primals: Any, tangents: Any) -> Any:
    del primals, tangents
    raise TypeError(
        "Objective.value_and_gradient returns the gradient: pass `gradient` and `to_learnt` of its "
        "outcome on to the encoders' vjp, or differentiate the means of Objective.rows"
    )


def _norm(gradient: dict[str, Array], axis_name: str | None) -> Array:
    """Norm of a gradient whose rows are shared among the devices of an axis."""
    squares = jnp.asarray(sum(jnp.sum(jnp.square(side)) for side in gradient.values()))
    return jnp.sqrt(squares if axis_name is None else lax.psum(squares, axis_name))


def _shared_axis(axis_name: str | None) -> str | None:
    """None where a single device has the whole batch, which leaves it the forms that need it."""
    return axis_name if axis_name is not None and lax.axis_size(axis_name) > 1 else None


def _function_and_options(
    loss: Loss,
) -> tuple[Loss, dict[str, Any]]:
    """The loss under its partials, and the options that they bind."""
    options: dict[str, Any] = {}
    while isinstance(loss, functools.partial):
        options = {**loss.keywords, **options}
        loss = loss.func
    return loss, options
