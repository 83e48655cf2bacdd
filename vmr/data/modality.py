"""Storage of one modality: vectors or sequences of frames, floats or quantised bytes."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Modality:
    """Storage of one modality of a pair.

    Attributes:
      width: P, numbers in a feature vector or frame.
      sequence: True for (T, P), where T differs between examples; False for (P,).
      quantized: True if frames are uint8, quantised as in YouTube-8M; implies `sequence`.
    """

    width: int
    sequence: bool = False
    quantized: bool = False

    @property
    def dtype(self) -> np.dtype:
        """Type of the stored numbers."""
        return np.dtype(np.uint8 if self.quantized else np.float32)

    @property
    def row_bytes(self) -> int:
        """Size in bytes of one stored vector or frame."""
        return self.width * self.dtype.itemsize
