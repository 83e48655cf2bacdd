"""Inputs of the encoders from the arrays of a batch: dequantised, standardised, masked."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from vmr.encoders.encoder import Clips, Tokens
from vmr.quantization import dequantize

Array = jax.Array
# {"video": {"mean": (P,), "scale": (P,)}, "music": {"mean": (Q,), "scale": (Q,)}}
Standardization = dict[str, dict[str, Array]]

# Arrays of a batch that go to the devices, those that it has.
FIELDS = ("video", "video_mask", "music", "music_mask", "text", "text_mask", "track")


def encoder_inputs(batch: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Arrays of a batch that the encoders read."""
    return {name: batch[name] for name in FIELDS if name in batch}


def model_inputs(
    batch: Mapping[str, Array], standardization: Standardization
) -> tuple[Clips, Clips]:
    """Video, with its text if there is any, and music of a batch.

    Args:
      batch: `video` (n, P) or (n, N, P) with `video_mask` (n, N), float or quantised uint8; the
        same of `music`; perhaps `text` (n, L) int or (n, L, E) float with `text_mask` (n, L).
      standardization: statistics of both modalities.
    """
    video, music = (side_inputs(batch, side, standardization) for side in ("video", "music"))
    return video, music


def side_inputs(batch: Mapping[str, Array], side: str, standardization: Standardization) -> Clips:
    """One modality of a batch, see `model_inputs`; text goes with the video."""
    features, mask = batch[side], batch.get(f"{side}_mask")
    if features.dtype == jnp.uint8:
        features = dequantize(features)
    if mask is None:
        features = features[:, None, :]
        mask = jnp.ones(features.shape[:2], bool)
    has_text = side == "video" and "text" in batch
    text = Tokens(batch["text"], batch["text_mask"]) if has_text else None
    return Clips(standardized(features, standardization[side]), mask, text)


def standardized(features: Array, statistics: dict[str, Array]) -> Array:
    """(B, N, P) -> (B, N, P): mean 0 and variance 1 per dimension of the training split."""
    return (features - statistics["mean"][None, None, :]) * statistics["scale"][None, None, :]
