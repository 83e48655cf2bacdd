"""Samples: what the extractors of music are given."""

import numpy as np

from vmr.errors import UserError

LOUDEST = 1e12  # of a full scale of 1; the square of a spectrum of louder sound is infinite


def finite_samples(samples: np.ndarray) -> np.ndarray:
    """Samples as float32, (n,), n ≥ 1.

    Raises:
      UserError: there are none, or some are NaN, infinite or beyond `LOUDEST`.
    """
    unusable = np.count_nonzero(~(np.abs(samples) <= LOUDEST))  # NaN is in no order
    if unusable or not len(samples):
        raise UserError(
            f"sound of {len(samples)} samples, {unusable} of them NaN, infinite or beyond "
            f"{LOUDEST:.0e}; expected at least one, and all within a full scale of about 1"
        )
    return samples.astype(np.float32, copy=False)
