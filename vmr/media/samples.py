"""Samples: what the extractors of music are given."""

import numpy as np

from vmr.errors import UserError


def finite_samples(samples: np.ndarray) -> np.ndarray:
    """Samples as float32, (n,), n ≥ 1.

    Raises:
      UserError: there are none, or some are NaN or infinite.
    """
    unusable = np.count_nonzero(~np.isfinite(samples))
    if unusable or not len(samples):
        raise UserError(
            f"sound of {len(samples)} samples, {unusable} of them NaN or infinite; expected at "
            "least one, and all of them finite"
        )
    return samples.astype(np.float32, copy=False)
