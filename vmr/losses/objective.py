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
from vmr.losses.checks import check_pairs, check_scalars
from vmr.losses.ii_mse_gram import gram_pays, ii_mse_gram
from vmr.losses.infonce_both import infonce_both
from vmr.losses.learnt import as_options
from vmr.losses.pairs import INTER_TERMS, INTRA_TERMS, Pairs
from vmr.losses.ranks import preferred_block_rows
from vmr.losses.row_terms import Part, part_by_rows, rows_of_term
from vmr.losses.scores_both import scores_both

Array = jax.Array

# Up to here the N × N matrices of a batch are no burden, and blocks would only cost time; beyond,
# so many anchors at a time that products are still at full speed. InfoNCE's own form holds few
# matrices of a block, a row loss differentiated by JAX some ten.
_WHOLE_ITEMS = 2048
_WHOLE_RANKING_ITEMS = 1024  # whose many passes over a row want it in the cache
_BLOCK_ROWS = 256
_INFONCE_BLOCK_ROWS = 512


class Outcome(NamedTuple):
    """What an objective finds.

    Attributes:
      loss: () the weighted sum of the terms.
      terms: each term's value (), unweighted.
      gradient: of the loss at this device's embeddings, {"video": (n, D), "music": (n, D)}.
      to_learnt: of the loss at the learnt parameters, () each.
      intra_norms: per intra-modal term, the norm () of its unweighted gradient at the embeddings of
        the global batch. Those of the inter-modal terms, which share their work, take more: see
        `Objective.gradient_norms`.
    """

    loss: Array
    terms: dict[str, Array]
    gradient: dict[str, Array]
    to_learnt: dict[str, Array]
    intra_norms: dict[str, Array]


@dataclasses.dataclass(frozen=True)
class Objective:
    """An inter-modal and an intra-modal row loss, their options already bound.

    Attributes:
      inter: (anchors, gallery, positives) -> (n,), of `vmr.losses.inter`, or a partial of it.
      intra: (inputs, embeddings, all_inputs, all_embeddings, rows) -> (n,), of
        `vmr.losses.intra`, or a partial of it; None leaves the two intra-modal terms out.
      block_rows: anchors at a time, for bounded memory; None leaves it to each loss.
      similarity_dtype: of the factors of InfoNCE's products, e.g. bfloat16; None: as they come.
    """

    inter: Callable[..., Array]
    intra: Callable[..., Array] | None = None
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
        weights: Mapping[str, Array],
        learnt: Mapping[str, Array] | None = None,
        axis_name: str | None = None,
    ) -> Outcome:
        """The loss of the global batch, its terms and its gradient.

        The gradient is that of the *global* value, summed over the devices that it reaches.

        Args:
          pairs: of this device.
          weights: one scalar a term; those of absent terms are not read.
          learnt: the inter-modal loss's learnt parameters (`vmr.losses.learnt`), if it has any.
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
        axis_name = _shared_axis(axis_name)
        parts = self._inter_parts(pairs, weights, own_learnt, axis_name)
        intra_norms = {}
        for term in INTRA_TERMS if self.intra else ():
            part = self._intra_part(term, pairs, axis_name)
            intra_norms[term] = _norm(part.gradient, axis_name)
            parts.append(part.times(weights[term]))

        terms: dict[str, Array] = {}
        gradient = {side: jnp.zeros_like(pairs.embeddings(side)) for side in ("video", "music")}
        to_learnt = jax.tree.map(jnp.zeros_like, own_learnt)
        for part in parts:
            terms |= part.terms
            for side, found in part.gradient.items():
                gradient[side] = gradient[side].at[: len(found)].add(found)
            to_learnt |= {name: to_learnt[name] + found for name, found in part.to_learnt.items()}
        loss = sum(weights[term] * value for term, value in terms.items())
        return Outcome(jnp.asarray(loss), terms, gradient, to_learnt, intra_norms)

    def gradient_norms(
        self,
        found: Outcome,
        pairs: Pairs,
        learnt: Mapping[str, Array] | None = None,
        axis_name: str | None = None,
    ) -> dict[str, Array]:
        """Per term, the norm () of its unweighted gradient at the embeddings of the global batch.

        Takes the inter-modal loss once more for each direction.

        Args:
          found: by `value_and_gradient` of the same pairs.
          pairs: of this device.
          learnt: the inter-modal loss's learnt parameters, if it has any.
          axis_name: the pmapped axis over which the global batch is sharded.
        """
        alone = dataclasses.replace(self, intra=None)

        def norm(weights: Array) -> Array:
            by_term = dict(zip(INTER_TERMS, weights, strict=True))
            gradient = alone.value_and_gradient(pairs, by_term, learnt, axis_name).gradient
            return _norm(gradient, axis_name)

        of_inter = lax.map(norm, jnp.eye(len(INTER_TERMS), dtype=pairs.video.dtype))
        return {**dict(zip(INTER_TERMS, of_inter, strict=True)), **found.intra_norms}

    def _require_weights(self, weights: Mapping[str, Array]) -> None:
        absent = [term for term in self.terms if term not in weights]
        if absent:
            raise KeyError(
                f"weights has {', '.join(weights) or 'nothing'} and lacks {', '.join(absent)}: "
                f"this objective has the terms {', '.join(self.terms)}"
            )

    def _loss(self, term: str) -> Callable[..., Array]:
        loss = self.inter if term in INTER_TERMS else self.intra
        assert loss is not None
        return loss

    def _inter_parts(
        self,
        pairs: Pairs,
        weights: Mapping[str, Array],
        learnt: dict[str, Array],
        axis_name: str | None,
    ) -> list[Part]:
        """Gradients of the weighted terms, both from one score matrix where that can be."""
        loss, options = _function_and_options(self.inter)
        block_rows = self._block_rows(loss, pairs, axis_name)
        if loss is inter.infonce:
            values, gradient, to_log_temperature = infonce_both(
                pairs.video,
                pairs.music,
                pairs.track,
                weights,
                **options | as_options(learnt),
                block_rows=block_rows,
                dtype=self.similarity_dtype,
                axis_name=axis_name,
            )
            return [Part(values, gradient, dict.fromkeys(learnt, to_log_temperature))]
        if loss is inter.ranking and block_rows is None and axis_name is None:
            of_scores = functools.partial(inter.ranking_of_scores, **options)
            return [Part(*scores_both(of_scores, pairs, weights))]
        if loss is inter.siglip:  # each pair counts by itself: the same mean either way
            part = part_by_rows(self.inter, "v2m", pairs, learnt, block_rows, axis_name)
            both = Part(dict.fromkeys(INTER_TERMS, part.terms["v2m"]), *part[1:])
            return [both.times(weights["v2m"] + weights["m2v"])]
        parts = {
            term: part_by_rows(self.inter, term, pairs, learnt, block_rows, axis_name)
            for term in INTER_TERMS
        }
        return [part.times(weights[term]) for term, part in parts.items()]

    def _intra_part(self, term: str, pairs: Pairs, axis_name: str | None) -> Part:
        """By rows, or in a form of the loss that takes less."""
        loss, options = _function_and_options(self._loss(term))
        inputs, embeddings = pairs.inputs(term), pairs.embeddings(term)
        if loss is intra.ii_mse and gram_pays(
            _items(pairs, axis_name), inputs.shape[1], embeddings.shape[1]
        ):
            value, gradient = ii_mse_gram(inputs, embeddings, axis_name)
            return Part({term: value}, {term: gradient}, {})
        if loss is intra.structure_adjacent and axis_name is None:
            pairs = pairs.first(options.get("top_k", intra.ADJACENT_TOP_K))
        block_rows = self._block_rows(loss, pairs, axis_name)
        return part_by_rows(self._loss(term), term, pairs, {}, block_rows, axis_name)

    def _block_rows(
        self, loss: Callable[..., Array], pairs: Pairs, axis_name: str | None
    ) -> int | None:
        """Anchors at a time; None where all of this device's are taken at once."""
        items = _items(pairs, axis_name)
        if self.block_rows:
            rows = self.block_rows
        elif loss is intra.structure and jax.default_backend() == "cpu":
            rows = preferred_block_rows(items)
        elif items <= (_WHOLE_RANKING_ITEMS if loss is inter.ranking else _WHOLE_ITEMS):
            rows = items
        else:
            rows = _INFONCE_BLOCK_ROWS if loss is inter.infonce else _BLOCK_ROWS
        return rows if rows < pairs.track.size else None


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
    """Of a gradient whose rows the devices of an axis share."""
    squares = jnp.asarray(sum(jnp.sum(jnp.square(side)) for side in gradient.values()))
    return jnp.sqrt(squares if axis_name is None else lax.psum(squares, axis_name))


def _shared_axis(axis_name: str | None) -> str | None:
    """None where a single device has the whole batch, which leaves it the forms that need it."""
    return axis_name if axis_name is not None and lax.axis_size(axis_name) > 1 else None


def _items(pairs: Pairs, axis_name: str | None) -> int:
    """N."""
    devices = 1 if axis_name is None else lax.axis_size(axis_name)
    return pairs.track.size * devices


def _function_and_options(
    loss: Callable[..., Array],
) -> tuple[Callable[..., Array], dict[str, Any]]:
    """The loss under its partials, and the options that they bind."""
    options: dict[str, Any] = {}
    while isinstance(loss, functools.partial):
        options = {**loss.keywords, **options}
        loss = loss.func
    return loss, options
