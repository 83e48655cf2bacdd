"""Matrix products with a transposed left factor, in the order that CPUs like."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

Array = jax.Array


def transposed_product(x: Array, y: Array, **options: Any) -> Array:
    """`x.T @ y`: (n,P), (n,D) -> (P,D), with the options of `jnp.matmul`."""
    # XLA would fold the transpose into the product, which on CPU is slow where the left factor is
    # stored transposed; the barrier makes it write the transpose out first.
    return jnp.matmul(lax.optimization_barrier(x.T), y, **options)
