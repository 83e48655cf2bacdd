"""Dual-bank Sinkhorn normalisation: a correction of hubness by entropic transport.

Pan, Wang, Wu, Zhang, Bu, "Hubness Reduction with Dual Bank Sinkhorn Normalization for Cross-Modal
Retrieval", ACM MM 2025. Only its abstract and a public script were available: uniform marginals,
the potential as an offset and the sample of large banks are our reading of them.
"""

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from vmr.evaluation import tiles
from vmr.evaluation.lists import Direction

ITERATIONS = 10  # as published
ITEMS = 4096  # of either bank: every iteration scores each of one with each of the other
_ROWS = 1 << 22  # scores of a block, 16 MB
_LEAST = 1e-30  # of the bank's mass, for an item, so that its logarithm is finite

Advance = Callable[[], None]  # called after each block of the bank


def sampled(rows: np.ndarray) -> np.ndarray:
    """At most `ITEMS` of the rows, drawn with seed 0, in their order."""
    if len(rows) <= ITEMS:
        return rows
    drawn = np.random.default_rng(0).choice(len(rows), ITEMS, replace=False)
    return rows[np.sort(drawn)]


def offsets(
    gallery: np.ndarray,
    bank_queries: np.ndarray,
    bank_items: np.ndarray,
    direction: Direction,
    betas: Sequence[float],
    *,
    iterations: int = ITERATIONS,
    advance: Advance | None = None,
) -> np.ndarray:
    """Potentials of the gallery, dual-bank Sinkhorn normalisation: (G,D),(B,D),(C,D),S->(S,G).

    Entropic transport between the bank's queries b and all targets t, the gallery and the bank's
    items together, with uniform marginals and the kernel exp(β·s(b, t)): the plan is
    exp(β·(s + f(b) + h(t))), and the offset of an item is h(t). From h = 0, an iteration gives
    every query its mass, then every target its own. In logarithms it is one step,

        h(t) ← h(t) − (1/β)·log Σ_b softmax_t'(β·(s(b, t') + h(t')))[t],

    stable for any β. The inverted softmax is the sum over b without the softmax's denominator. The
    authors' β is 100, for CLIP's narrow scores; they stop after ten iterations as well. Offsets of
    each β have mean zero, which moves no rank.

    All targets and a block of bank queries are scored at a time; O(S·(G + C)) memory beside it.

    Args:
        gallery: (G,D) unit rows, as of `corrections`.
        bank_queries: (B,D).
        bank_items: (C,D), of the gallery's modality; may be empty, (0,D).
        direction: `v2m` or `m2v`.
        betas: inverse temperatures, S.
        iterations: of both marginals.
        advance: function called after each block, B/rows times an iteration.
    """
    count = len(gallery) + len(bank_items)
    size = -(-count // tiles.size()) * tiles.size()
    targets = np.zeros((size, gallery.shape[1]), np.float32)
    targets[: len(gallery)], targets[len(gallery) : count] = gallery, bank_items
    # One shape for all products, a multiple of every vector width, as in `tiles`.
    rows = max(16, min(tiles.size(), _ROWS // size // 16 * 16))
    potentials = np.full((len(betas), size), -np.inf, np.float32)
    potentials[:, :count] = 0
    columns, beta = jnp.asarray(targets), jnp.asarray(betas, jnp.float32)
    for _ in range(iterations):
        mass = np.zeros((len(betas), size))
        current = jnp.asarray(potentials)
        for start in range(0, len(bank_queries), rows):
            block = np.zeros((rows, gallery.shape[1]), np.float32)
            there = bank_queries[start : start + rows]
            block[: len(there)] = there
            mass += np.asarray(
                _masses(jnp.asarray(block), columns, current, beta, len(there), direction)
            )
            if advance is not None:
                advance()
        step = np.log(np.maximum(mass[:, :count], _LEAST)) / np.asarray(betas)[:, None]
        potentials[:, :count] -= step
        potentials[:, :count] -= potentials[:, :count].mean(axis=1, keepdims=True)
    found = potentials[:, : len(gallery)]
    return found - found.mean(axis=1, keepdims=True)


@functools.partial(jax.jit, static_argnames="direction")
def _masses(
    block: jax.Array,
    targets: jax.Array,
    potentials: jax.Array,
    betas: jax.Array,
    count: jax.Array,
    direction: Direction,
) -> jax.Array:
    """Mass of each target from a block of queries of mass 1: (r,D),(n,D),(S,n),(S,)->(S,n)."""
    # The product takes videos first, as everywhere.
    scores = tiles.score(block, targets) if direction == "v2m" else tiles.score(targets, block).T
    real = (jnp.arange(len(block)) < count)[:, None]

    def mass(setting: tuple[jax.Array, jax.Array]) -> jax.Array:
        potential, beta = setting
        plan = jax.nn.softmax(beta * (scores + potential[None, :]), axis=1)
        return jnp.where(real, plan, 0).sum(axis=0)

    return jax.lax.map(mass, (potentials, betas))
