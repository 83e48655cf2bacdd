"""This package's losses, as training takes them: `Objective.value_and_gradient`."""

import functools
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp

from tools.paired import Prepared
from tools.peers.compiled import ValueAndGradient, errors, prepared
from tools.peers.problem import TOP_K, WEIGHTS, Problem, random_batch
from vmr.losses import inter, intra
from vmr.losses.objective import Objective
from vmr.losses.pairs import SIDES, Pairs

Array = jax.Array


@dataclass(frozen=True)
class Weighed:
    """An objective, and the weights of the terms that are timed."""

    objective: Objective
    weights: dict[str, float]

    @property
    def sides(self) -> tuple[str, ...]:
        """The modalities whose embeddings these terms have a gradient at."""
        return tuple(sorted({side for term in self.weights for side in SIDES[term]}))


def _nothing(anchors: Array, gallery: Array, positives: Array) -> Array:
    """An inter-modal loss that costs nothing: what is timed is the intra-modal one."""
    del gallery, positives
    return jnp.zeros_like(anchors[:, 0])


BOTH = {"m2v": 0.5, "v2m": 0.5}
VIDEO = {"video": 1.0}  # of two modalities that are alike, one
WEIGHED = {
    "infonce": Weighed(Objective(inter.infonce), BOTH),
    "infonce_bfloat16": Weighed(Objective(inter.infonce, similarity_dtype=jnp.bfloat16), BOTH),
    "siglip": Weighed(Objective(inter.siglip), BOTH),
    "crossclr": Weighed(Objective(inter.crossclr), BOTH),
    "vmnet": Weighed(
        Objective(
            functools.partial(inter.ranking, top_k=TOP_K),
            functools.partial(intra.structure_adjacent, top_k=TOP_K),
        ),
        WEIGHTS,
    ),
    "structure": Weighed(Objective(_nothing, intra.structure), VIDEO),
    "ii_mse": Weighed(Objective(_nothing, intra.ii_mse), VIDEO),
    "ii_kl": Weighed(Objective(_nothing, intra.ii_kl), VIDEO),
    "js": Weighed(Objective(_nothing, intra.js), VIDEO),
    "gram": Weighed(Objective(_nothing, intra.gram), VIDEO),
    "rkd_distance": Weighed(Objective(_nothing, intra.rkd_distance), VIDEO),
}


def value_and_gradient(weighed: Weighed) -> ValueAndGradient:
    """Of the weighted terms; XLA drops the work for a modality that is not returned."""

    def found(pairs: Pairs) -> tuple[Array, dict[str, Array]]:
        weights = {term: jnp.float32(weighed.weights.get(term, 0.0)) for term in SIDES}
        outcome = weighed.objective.value_and_gradient(pairs, weights)
        value = sum(weight * outcome.terms[term] for term, weight in weighed.weights.items())
        return jnp.asarray(value), {side: outcome.gradient[side] for side in weighed.sides}

    return found


def prepare(form: str, problem: Problem) -> Prepared:
    """The objective, compiled; in a narrower type, its errors against float32 beside it."""
    weighed, pairs = WEIGHED[form], jax.device_put(Pairs(*random_batch(problem)))
    ready = prepared(jax.jit(value_and_gradient(weighed)), pairs)
    if weighed.objective.similarity_dtype is None:
        return ready
    exact = replace(weighed, objective=replace(weighed.objective, similarity_dtype=None))
    off = errors(ready.step(), jax.jit(value_and_gradient(exact))(pairs))
    return Prepared(ready.step, {**ready.facts, **off})
