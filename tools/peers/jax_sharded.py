"""InfoNCE of a batch that a pmapped axis shards: ours, and what open_clip does, in JAX.

Each gives the loss of the global batch, and its gradient at the embeddings of the device.
"""

import jax
import jax.numpy as jnp
from jax import lax

from tools.paired import Prepared
from tools.peers.compiled import ValueAndGradient, differentiated, prepared
from tools.peers.ours import WEIGHED
from tools.peers.problem import TEMPERATURE, Problem, random_batch
from vmr.losses.pairs import Pairs, global_rows

Array = jax.Array

AXIS = "batch"
_BOTH = ("video", "music")


def ours(pairs: Pairs) -> tuple[Array, dict[str, Array]]:
    """One tower gathered, one product of local rows with all columns."""
    objective, weights = WEIGHED["infonce"].objective, WEIGHED["infonce"].weights
    arrays = {term: jnp.float32(weight) for term, weight in weights.items()}
    outcome = objective.value_and_gradient(pairs, arrays, axis_name=AXIS)
    return outcome.loss, outcome.gradient


def gather_both(pairs: Pairs) -> tuple[Array, dict[str, Array]]:
    """open_clip's `local_loss`: both towers gathered, local rows of each against all of the other.

    The transpose of a gather sums over devices: each device's share of the mean gets the gradient.
    """

    def share(pairs: Pairs) -> Array:
        batch, own = pairs.gathered(AXIS), global_rows(pairs.track.size, AXIS)
        losses = _cross_entropy(pairs.video, batch.music, own)
        losses += _cross_entropy(pairs.music, batch.video, own)
        return 0.5 * jnp.sum(losses) / batch.track.size

    value, gradient = differentiated(share, _BOTH)(pairs)
    return lax.psum(value, AXIS), gradient


def all_by_all(pairs: Pairs) -> tuple[Array, dict[str, Array]]:
    """open_clip without `local_loss`: every device gathers all and forms the whole matrix."""

    def whole(pairs: Pairs) -> Array:
        batch = pairs.gathered(AXIS)
        scores, own = batch.video @ batch.music.T / TEMPERATURE, jnp.arange(batch.track.size)
        return 0.5 * jnp.mean(_of_scores(scores, own) + _of_scores(scores.T, own))

    value, gradient = differentiated(whole, _BOTH)(pairs)
    # Every device has sent back the gradient of the whole loss.
    return value, jax.tree.map(lambda x: x / lax.axis_size(AXIS), gradient)


def _cross_entropy(anchors: Array, gallery: Array, own: Array) -> Array:
    """(n,D), (N,D), where each anchor's positive stands (n,) -> (n,)."""
    return _of_scores(anchors @ gallery.T / TEMPERATURE, own)


def _of_scores(scores: Array, own: Array) -> Array:
    """(n,N), (n,) -> (n,)."""
    positive = jnp.take_along_axis(scores, own[:, None], axis=1)[:, 0]
    return jax.nn.logsumexp(scores, axis=1) - positive


FORMS: dict[str, ValueAndGradient] = {
    "ours": ours,
    "gather_both": gather_both,
    "all_by_all": all_by_all,
}


def prepare(form: str, problem: Problem) -> Prepared:
    """The form, pmapped over the devices of this process, and compiled."""
    devices = jax.local_devices()[: problem.devices]
    batch = (x.reshape(len(devices), -1, *x.shape[1:]) for x in random_batch(problem))
    pairs = jax.pmap(lambda pairs: pairs, devices=devices)(Pairs(*batch))  # each on its device
    return prepared(jax.pmap(FORMS[form], axis_name=AXIS, devices=devices), pairs)
