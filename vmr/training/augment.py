"""Augmentation of a training batch before the encoders: mixed pairs, noisy inputs.

Everything drawn depends on the step and on the row of the *global* batch alone, so 1, 2 and 8
devices and any microbatch see the same inputs.
"""

import jax
import jax.numpy as jnp
from jax import lax

from vmr.encoders.encoder import Clips

Array = jax.Array
# Streams of random numbers drawn from the key of a step.
_COEFFICIENTS, _PARTNERS, _VIDEO, _MUSIC = range(1, 5)


def mixed_pairs(
    video: Clips, music: Clips, rows: Array, *, alpha: float, key: Array, axis_name: str | None
) -> tuple[Clips, Clips]:
    """Pairs mixed with partners of a random permutation: (n, N, P), (n, K, Q) -> the same shapes.

    ``x_i ← λ_i x_i + (1 − λ_i) x_π(i)`` with one λ and one π for both modalities, so that a mixed
    video goes with the mixed track. Zhang et al. 2018 (arXiv 1710.09412). λ is the larger of λ' and
    1 − λ', ``λ' ~ Beta(α, α)``, as in MixMatch (Berthelot et al. 2019, arXiv 1905.02249): a pair
    keeps the larger share of itself, hence its positives.

    A pair keeps its clips: it is mixed where its partner has a clip too. Text is not mixed.

    Args:
      video: inputs of the video encoder, standardised.
      music: inputs of the music encoder, standardised.
      rows: (n,) indices of this device's rows in the global batch.
      alpha: α.
      key: key of the step, the same on all devices.
      axis_name: pmapped axis that shards the batch; None for a single device. Each device then
        gathers the features of the whole batch.
    """
    key = _threefry(key)
    devices = 1 if axis_name is None else lax.axis_size(axis_name)
    items = rows.size * devices
    drawn = jax.random.beta(jax.random.fold_in(key, _COEFFICIENTS), alpha, alpha, (items,))
    share = jnp.maximum(drawn, 1.0 - drawn)[rows].astype(video.features.dtype)
    partners = jax.random.permutation(jax.random.fold_in(key, _PARTNERS), items)[rows]

    def mixed(clips: Clips) -> Clips:
        features, mask = clips.features, clips.mask
        if axis_name is not None:
            features, mask = lax.all_gather((features, mask), axis_name, tiled=True)
        weight = share[:, None, None]
        mixture = weight * clips.features + (1.0 - weight) * features[partners]
        has_both = clips.mask & mask[partners]
        return clips._replace(features=jnp.where(has_both[..., None], mixture, clips.features))

    return mixed(video), mixed(music)


def noisy_pairs(
    video: Clips, music: Clips, rows: Array, *, std: float, key: Array
) -> tuple[Clips, Clips]:
    """Pairs with Gaussian noise added to each number: (b, N, P), (b, K, Q) -> the same shapes.

    Args:
      video: inputs of the video encoder, standardised.
      music: inputs of the music encoder, standardised.
      rows: (b,) indices of the items in the global batch.
      std: standard deviation of the noise.
      key: key of the step, the same on all devices.
    """
    key = _threefry(key)

    def noisy(clips: Clips, stream: int) -> Clips:
        keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.fold_in(key, stream), rows)
        shape, dtype = clips.features.shape[1:], clips.features.dtype
        noise = jax.vmap(lambda key: jax.random.normal(key, shape, dtype))(keys)
        return clips._replace(features=clips.features + std * noise)

    return noisy(video, _VIDEO), noisy(music, _MUSIC)


def _threefry(key: Array) -> Array:
    """Key of Threefry whatever generator JAX is set to: under others draws depend on the shards."""
    return jax.random.wrap_key_data(jax.random.key_data(key)[:2], impl="threefry2x32")
