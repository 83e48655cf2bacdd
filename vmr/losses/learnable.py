"""Learnable options of a loss, such as a temperature: parameters beside the encoders'.

An option that must stay positive is learnt as its logarithm, under the name ``log_<option>``.
"""

import math
from collections.abc import Mapping

import jax
import jax.numpy as jnp

Array = jax.Array

# Parameters of each inter-modal loss that has learnable options; their names are in checkpoints.
LEARNABLE = {
    "infonce": ("log_temperature",),
    "siglip": ("log_scale", "bias"),
    "crossclr": ("log_temperature",),
    "distillation": ("log_temperature",),
}
# CLIP's bound (Radford et al. 2021): scores are scaled by 100 at most.
LEAST_TEMPERATURE = 0.01
_LEAST = {"log_temperature": math.log(LEAST_TEMPERATURE)}


def initial(loss: str, options: Mapping[str, float]) -> dict[str, Array]:
    """Learnt parameters of a loss before the first step, from the values of its options."""
    values = {}
    for name in LEARNABLE[loss]:
        option = options[name.removeprefix("log_")]
        values[name] = jnp.float32(math.log(option) if name.startswith("log_") else option)
    return values


def as_options(parameters: Mapping[str, Array]) -> dict[str, Array]:
    """Options of the loss from its learnt parameters."""
    return {
        name.removeprefix("log_"): jnp.exp(value) if name.startswith("log_") else value
        for name, value in parameters.items()
    }


def bounded(parameters: Mapping[str, Array]) -> dict[str, Array]:
    """Parameters after a step, clipped to their bounds."""
    return {
        name: jnp.maximum(value, _LEAST[name]) if name in _LEAST else value
        for name, value in parameters.items()
    }
