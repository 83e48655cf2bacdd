"""Dequantisation of YouTube-8M's features, for readers on the host and encoders on the device."""

from typing import Any

SCALE = 4.0 / 255.0
OFFSET = 4.0 / 512.0 - 2.0


def dequantize(frames: Any) -> Any:
    """Maps bytes to floats in [-1.99, 2.01]: q·4/255 + 4/512 − 2, in float32.

    The constants are those of YouTube-8M's own reader (google/youtube-8m, `utils.Dequantize`).

    Args:
      frames: uint8 NumPy or JAX array of any shape.

    Returns:
      float32 array of the same shape.
    """
    return frames.astype("float32") * SCALE + OFFSET
