"""The losses in JAX as they are usually written: N × N matrices held whole, autodiff."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from tools.paired import Prepared
from tools.peers.compiled import differentiated, prepared
from tools.peers.problem import TEMPERATURE, Problem, random_batch
from vmr.losses.pairs import Pairs

Array = jax.Array


def infonce(pairs: Pairs) -> Array:
    """One score matrix, a log-sum-exp in each direction."""
    scores = pairs.video @ pairs.music.T / TEMPERATURE
    of_rows, of_columns = (jax.nn.logsumexp(scores, axis=axis) for axis in (1, 0))
    return jnp.mean(0.5 * (of_rows + of_columns) - jnp.diagonal(scores))


def optax_softmax(pairs: Pairs) -> Array:
    """Optax's softmax cross-entropy in each direction of one score matrix."""
    scores, own = pairs.video @ pairs.music.T / TEMPERATURE, jnp.arange(pairs.track.size)
    cross_entropy = optax.softmax_cross_entropy_with_integer_labels
    return 0.5 * jnp.mean(cross_entropy(scores, own) + cross_entropy(scores.T, own))


def optax_ntxent(pairs: Pairs) -> Array:
    """Optax's NT-Xent of 2N items: negatives of the anchor's own modality as well."""
    embeddings = jnp.concatenate([pairs.video, pairs.music])
    return optax.losses.ntxent(embeddings, jnp.tile(pairs.track, 2), TEMPERATURE)


def structure(pairs: Pairs) -> Array:
    """Every triplet of videos, from the formula."""
    items = pairs.track.size
    i, j, k = jnp.ogrid[:items, :items, :items]
    before = pairs.video_inputs @ pairs.video_inputs.T
    after = pairs.video @ pairs.video.T
    gaps = after[:, :, None] - after[:, None, :]
    flips = jnp.sign(gaps) - jnp.sign(before[:, :, None] - before[:, None, :])
    terms = jnp.where((i != j) & (i != k), jax.lax.stop_gradient(flips) * gaps, 0)
    return jnp.sum(terms) / (items * (items - 1) * (items - 2))


def structure_sort(pairs: Pairs) -> Array:
    """The same from ranks, by `lax.sort` with the places carried along."""
    items = pairs.track.size
    before = pairs.video_inputs @ pairs.video_inputs.T
    after = pairs.video @ pairs.video.T
    flips = _sorted_ranks(jax.lax.stop_gradient(after)) - _sorted_ranks(before)
    scale = 2 / (items * (items - 1) * (items - 2))
    return scale * jnp.sum(after * flips.astype(after.dtype))


def _sorted_ranks(values: Array) -> Array:
    """Of each entry among its row's, the own left out: #smaller − #larger, (N,N) -> (N,N) int."""
    items = len(values)
    own = jnp.eye(items, dtype=bool)
    anchors, places = (jax.lax.broadcasted_iota(jnp.int32, own.shape, axis) for axis in (0, 1))
    values = jnp.where(own, -jnp.inf, values)
    ascending, order = jax.lax.sort((values, places), num_keys=1)
    starts = jnp.pad(ascending[:, 1:] != ascending[:, :-1], ((0, 0), (1, 0)))
    ends = jnp.pad(ascending[:, 1:] != ascending[:, :-1], ((0, 0), (0, 1)))
    first = jax.lax.cummax(jnp.where(starts, places, 0), axis=1)
    last = jax.lax.cummin(jnp.where(ends, places, items - 1), axis=1, reverse=True)
    signed = jnp.zeros_like(order).at[anchors, order].set(first + last - items)
    return jnp.where(own, 0, signed)


def ii_mse(pairs: Pairs) -> Array:
    """The cosines of the videos before and after the encoder, as two matrices."""
    items, inputs = pairs.track.size, pairs.video_inputs
    unit = inputs / jnp.linalg.norm(inputs, axis=1, keepdims=True)
    change = pairs.video @ pairs.video.T - unit @ unit.T
    change = jnp.where(jnp.eye(items, dtype=bool), 0.0, change)
    return jnp.sum(change * change) / (items * (items - 1))


_BOTH, _VIDEO = ("video", "music"), ("video",)
# Each form, and the modalities whose embeddings it has a gradient at.
FORMS: dict[str, tuple[Callable[[Pairs], Array], tuple[str, ...]]] = {
    "infonce": (infonce, _BOTH),
    "optax_softmax": (optax_softmax, _BOTH),
    "optax_ntxent": (optax_ntxent, _BOTH),
    "structure": (structure, _VIDEO),
    "structure_sort": (structure_sort, _VIDEO),
    "ii_mse": (ii_mse, _VIDEO),
}


def prepare(form: str, problem: Problem) -> Prepared:
    """The form and its gradient, compiled."""
    pairs = jax.device_put(Pairs(*random_batch(problem)))
    return prepared(jax.jit(differentiated(*FORMS[form])), pairs)
