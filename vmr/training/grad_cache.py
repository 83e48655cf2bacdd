"""GradCache: value and gradient over a batch whose activations do not fit the memory."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from vmr.losses.blockwise import in_blocks

# Parameters, tree of rows (n,...) -> tree of rows (n,...), each row computed by itself.
RowFunction = Callable[[Any, Any], Any]


def vjp_in_microbatches(
    function: RowFunction, parameters: Any, rows: Any, microbatch: int | None
) -> tuple[Any, Callable[[Any], Any]]:
    """Values of a function of rows, and the pull-back of gradients at them to the parameters.

    No activation of a microbatch is kept: the pull-back computes it again, one microbatch at a
    time, and sums the gradients, which are those of the whole batch (GradCache, Gao et al. 2021,
    arXiv 2101.06983).

    Args:
      function: function to differentiate with respect to its parameters.
      parameters: parameters of the function.
      rows: tree of rows (n, ...) of the batch.
      microbatch: rows at a time; None takes all at once.
    """
    count = jax.tree.leaves(rows)[0].shape[0]
    if microbatch is None or microbatch >= count:
        values, pull_back = jax.vjp(lambda parameters: function(parameters, rows), parameters)
        return values, lambda slopes: pull_back(slopes)[0]

    blocks = in_blocks(rows, microbatch)  # the last one filled up with zeros
    values = jax.lax.map(lambda rows: function(parameters, rows), blocks)
    values = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[:count], values)

    def pull_back_in_microbatches(slopes: Any) -> Any:
        def add_microbatch(total: Any, block: tuple[Any, Any]) -> tuple[Any, None]:
            rows, slopes = block
            # Rows that fill up the last block have zero slopes, so they add nothing.
            _, pull_back = jax.vjp(lambda parameters: function(parameters, rows), parameters)
            return jax.tree.map(jnp.add, total, pull_back(slopes)[0]), None

        nothing = jax.tree.map(jnp.zeros_like, parameters)
        slopes = in_blocks(slopes, microbatch)
        return jax.lax.scan(add_microbatch, nothing, (blocks, slopes))[0]

    return values, pull_back_in_microbatches
