"""Inputs of the encoders from the arrays of a batch: dequantised, standardised, masked."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from vmr.encoders.encoder import Clips, Tokens
from vmr.quantization import dequantize

Array = jax.Array
# {"video": {"mean": (P,), "scale": (P,)}, "music": {"mean": (Q,), "scale": (Q,)}}; scale is 1/std.
Standardization = dict[str, dict[str, Array]]

# Arrays that go to the devices; a batch may lack some of them.
FIELDS = (
    *("video", "video_mask", "music", "music_mask", "text", "text_mask", "track"),
    *("video_teacher", "music_teacher"),
)


def encoder_inputs(batch: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Arrays of a batch that go to the devices, see `FIELDS`."""
    return {name: batch[name] for name in FIELDS if name in batch}


def model_inputs(
    batch: Mapping[str, Array], standardization: Standardization
) -> tuple[Clips, Clips]:
    """Encoder inputs of a batch: video, with its text if there is any, and music.

    Args:
      batch: `video` (n, P) or (n, N, P) with `video_mask` (n, N), float or quantised uint8; the
        same for `music`; optionally `text` (n, L) int or (n, L, E) float with `text_mask` (n, L).
      standardization: statistics of both modalities.
    """
    video, music = (side_inputs(batch, side, standardization) for side in ("video", "music"))
    return video, music


def side_inputs(batch: Mapping[str, Array], side: str, standardization: Standardization) -> Clips:
    """Encoder inputs of one modality of a batch, see `model_inputs`; text goes with the video."""
    features, mask = batch[side], batch.get(f"{side}_mask")
    # Bytes are dequantised on the device: they take a quarter of the transfer.
    if features.dtype == jnp.uint8:
        features = dequantize(features)
    if mask is None:  # one vector an item is a sequence of one clip
        features = features[:, None, :]
        mask = jnp.ones(features.shape[:2], bool)
    has_text = side == "video" and "text" in batch
    text = Tokens(batch["text"], batch["text_mask"]) if has_text else None
    return Clips(standardized(features, standardization[side]), mask, text)


def standardized(features: Array, statistics: dict[str, Array]) -> Array:
    """Features less the training split's mean, times its scale: (B, N, P) -> (B, N, P)."""
    return (features - statistics["mean"][None, None, :]) * statistics["scale"][None, None, :]
