"""What an objective holds beside its arguments, by XLA's own analysis: O(block · N)."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest

from vmr.losses import inter, intra
from vmr.losses.objective import Objective
from vmr.losses.pairs import Pairs

WEIGHTS = {"m2v": 3.0, "v2m": 1.0, "music": 0.2, "video": 0.7}
OBJECTIVES = {
    "ranking": Objective(inter.ranking),
    "infonce": Objective(inter.infonce),
    "siglip": Objective(inter.siglip),
    "crossclr": Objective(inter.crossclr),
    "structure": Objective(inter.infonce, intra.structure),
    "ii_mse": Objective(inter.infonce, intra.ii_mse),
    "ii_kl": Objective(inter.infonce, intra.ii_kl),
    "js": Objective(inter.infonce, intra.js),
    "gram": Objective(inter.infonce, intra.gram),
    "rkd_distance": Objective(inter.infonce, intra.rkd_distance),
}


def temporary_bytes(which: Objective, items: int) -> int:
    rows = jax.ShapeDtypeStruct((items, 16), jnp.float32)
    track = jax.ShapeDtypeStruct((items,), jnp.int32)
    pairs = Pairs(rows, rows, rows, rows, track)
    compiled = (
        jax.jit(lambda pairs: which.value_and_gradient(pairs, WEIGHTS)).lower(pairs).compile()
    )
    return compiled.memory_analysis().temp_size_in_bytes


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_large_batch_never_holds_a_matrix_of_all_pairs(name: str) -> None:
    items = 8192
    assert temporary_bytes(OBJECTIVES[name], items) < 0.5 * items * items * 4


@pytest.mark.parametrize("name", ["ranking", "infonce", "ii_kl", "rkd_distance"])
def test_memory_grows_with_the_batch_not_with_its_square(name: str) -> None:
    which = dataclasses.replace(OBJECTIVES[name], block_rows=64)
    assert temporary_bytes(which, 4096) < 2.2 * temporary_bytes(which, 2048)


def test_small_batches_are_taken_whole() -> None:
    """So they pay nothing: the whole and the default are the same program."""
    items = 1024
    default = temporary_bytes(Objective(inter.infonce, intra.ii_kl), items)
    assert default == temporary_bytes(Objective(inter.infonce, intra.ii_kl, items), items)
    assert default > 4 * items * items
