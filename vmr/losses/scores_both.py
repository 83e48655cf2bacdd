"""Both directions of an inter-modal loss from one score matrix, held whole: for small batches."""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp

from vmr.losses.pairs import Pairs

Array = jax.Array


def scores_both(
    of_scores: Callable[[Array, Array], Array], pairs: Pairs, weights: Mapping[str, Array]
) -> tuple[dict[str, Array], dict[str, Array], dict[str, Array]]:
    """The means of a row loss in both directions, and the gradient of their weighted sum.

    6 N²D operations, where two row losses need 12 N²D.

    Args:
      of_scores: scores (N,N), positives (N,N) -> (N,).
      pairs: of the global batch, on one device.
      weights: `v2m` and `m2v`, scalars.

    Returns:
      The values {"v2m": (), "m2v": ()}, the gradient at the embeddings {"video": (N, D),
      "music": (N, D)}, and none at learnt parameters.
    """
    positives = pairs.track[:, None] == pairs.track[None, :]

    def loss(scores: Array) -> tuple[Array, dict[str, Array]]:
        values = {
            "v2m": jnp.mean(of_scores(scores.T, positives)),
            "m2v": jnp.mean(of_scores(scores, positives)),
        }
        return weights["v2m"] * values["v2m"] + weights["m2v"] * values["m2v"], values

    slopes, values = jax.grad(loss, has_aux=True)(pairs.music @ pairs.video.T)
    # XLA's product on CPU is slow where the left factor is stored transposed.
    slopes_by_video = jax.lax.optimization_barrier(slopes.T)
    return values, {"video": slopes_by_video @ pairs.music, "music": slopes @ pairs.video}, {}
