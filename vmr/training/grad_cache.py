"""A function of rows, and its gradient, over a batch that is too large to pass at once."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from vmr.losses.blockwise import in_blocks

# parameters, rows (n,...) in any tree -> (n,...) in any tree, each row by itself
RowFunction = Callable[[Any, Any], Any]


def vjp_in_microbatches(
    function: RowFunction, parameters: Any, rows: Any, piece: int | None
) -> tuple[Any, Callable[[Any], Any]]:
    """The function's values, and what pulls gradients at them back to the parameters.

    In pieces, no activation is kept: the pull-back computes each piece again, one at a time, and
    adds up. The gradient is that of the whole: gradients at the embeddings first, then gradients of
    the encoders by pieces (GradCache, Gao et al. 2021, arXiv 2101.06983).

    Args:
      function: differentiated with respect to its parameters.
      parameters: parameters of the function.
      rows: rows of the batch, (n, ...) in any tree.
      piece: rows at a time; None takes all at once.
    """
    count = jax.tree.leaves(rows)[0].shape[0]
    if piece is None or piece >= count:
        values, pull_back = jax.vjp(lambda parameters: function(parameters, rows), parameters)
        return values, lambda slopes: pull_back(slopes)[0]

    pieces = in_blocks(rows, piece)
    values = jax.lax.map(lambda rows: function(parameters, rows), pieces)
    values = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[:count], values)

    def pull_back_in_pieces(slopes: Any) -> Any:
        def add_piece(total: Any, piece: tuple[Any, Any]) -> tuple[Any, None]:
            rows, slopes = piece
            _, pull_back = jax.vjp(lambda parameters: function(parameters, rows), parameters)
            return jax.tree.map(jnp.add, total, pull_back(slopes)[0]), None

        nothing = jax.tree.map(jnp.zeros_like, parameters)
        return jax.lax.scan(add_piece, nothing, (pieces, in_blocks(slopes, piece)))[0]

    return values, pull_back_in_pieces
