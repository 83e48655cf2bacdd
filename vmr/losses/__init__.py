"""Losses: row losses between and within modalities, and the objective that weighs them."""

from vmr.losses import inter, intra

__all__ = ["inter", "intra"]
