"""The losses by their definition: every row at once, and the gradient by autodiff."""

import jax
import jax.numpy as jnp

from tools.paired import Prepared
from tools.peers.compiled import ValueAndGradient, differentiated, prepared
from tools.peers.ours import WEIGHED, Weighed
from tools.peers.problem import Problem, random_batch
from vmr.losses.pairs import Pairs


def value_and_gradient(weighed: Weighed) -> ValueAndGradient:
    """Of the weighted terms."""

    def loss(pairs: Pairs) -> jax.Array:
        rows = weighed.objective.rows(pairs)
        terms = weighed.weights.items()
        return jnp.asarray(sum(weight * jnp.mean(rows[term]) for term, weight in terms))

    return differentiated(loss, weighed.sides)


def prepare(form: str, problem: Problem) -> Prepared:
    """The definition, compiled."""
    pairs = jax.device_put(Pairs(*random_batch(problem)))
    return prepared(jax.jit(value_and_gradient(WEIGHED[form])), pairs)
