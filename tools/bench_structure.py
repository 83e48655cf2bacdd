"""Times the exact structure loss, value and gradient, against the ways it is usually written.

    python -m tools.bench_structure --sizes=512,1024

Every contender lives in a process of its own, because the thread pools of torch and XLA fight over
the cores; the processes take turns, so that each ratio compares neighbours in time. Targets on CPU:
0.04 of `naive` within 5 MB at 512; 0.45 of `sort` and 0.9 of `torch`, within 40 MB, from 1024 on.
"""

import importlib.util
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from tools.paired import Contender, Prepared, lines, machine, take_turns
from vmr.command import run
from vmr.losses.blocks import sum_and_gradients
from vmr.losses.intra import structure
from vmr.losses.ranks import preferred_block_rows

_SIZES = flags.DEFINE_list("sizes", ["512", "1024", "2048", "4096"], "Batch sizes.")
_WIDTH = flags.DEFINE_integer("width", 512, "Width of inputs and embeddings.")
_SECONDS = flags.DEFINE_float("seconds", 10, "Time for each batch size; three rounds at least.")

_NAIVE_ITEMS = 512  # beyond, a cube of float32 no longer fits a small machine

# inputs (N,P), embeddings (N,D) -> the loss () and its gradient (N,D)
Loss = Callable[[jax.Array, jax.Array], tuple[jax.Array, jax.Array]]


def ours(inputs: jax.Array, embeddings: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The library's row loss, a block of anchors at a time."""
    items = embeddings.shape[0]

    def row_loss(anchors: jax.Array, gallery: jax.Array, facts: tuple) -> jax.Array:
        block_inputs, rows = facts
        return structure(block_inputs, anchors, inputs, gallery, rows)

    facts = (inputs, jnp.arange(items))
    value, to_anchors, to_gallery = sum_and_gradients(
        row_loss, embeddings, embeddings, facts, preferred_block_rows(items)
    )
    return value / items, (to_anchors + to_gallery) / items


def naive(inputs: jax.Array, embeddings: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Every triplet, from the formula."""
    items = embeddings.shape[0]
    i, j, k = jnp.ogrid[:items, :items, :items]

    def loss(embeddings: jax.Array) -> jax.Array:
        before, after = inputs @ inputs.T, embeddings @ embeddings.T
        gaps = after[:, :, None] - after[:, None, :]
        flips = jnp.sign(gaps) - jnp.sign(before[:, :, None] - before[:, None, :])
        terms = jnp.where((i != j) & (i != k), jax.lax.stop_gradient(flips) * gaps, 0)
        return jnp.sum(terms) / (items * (items - 1) * (items - 2))

    return jax.value_and_grad(loss)(embeddings)


def sort(inputs: jax.Array, embeddings: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The same ranks from `lax.sort` with the places carried along, scattered back."""
    items = embeddings.shape[0]
    own = jnp.eye(items, dtype=bool)
    anchors, places = (jax.lax.broadcasted_iota(jnp.int32, own.shape, axis) for axis in (0, 1))

    def ranks(values: jax.Array) -> jax.Array:
        values = jnp.where(own, -jnp.inf, values)
        ascending, order = jax.lax.sort((values, places), num_keys=1)
        starts = jnp.pad(ascending[:, 1:] != ascending[:, :-1], ((0, 0), (1, 0)))
        ends = jnp.pad(ascending[:, 1:] != ascending[:, :-1], ((0, 0), (0, 1)))
        first = jax.lax.cummax(jnp.where(starts, places, 0), axis=1)
        last = jax.lax.cummin(jnp.where(ends, places, items - 1), axis=1, reverse=True)
        signed = jnp.zeros_like(order).at[anchors, order].set(first + last - items)
        return jnp.where(own, 0, signed)

    def loss(embeddings: jax.Array) -> jax.Array:
        before, after = inputs @ inputs.T, embeddings @ embeddings.T
        flips = ranks(jax.lax.stop_gradient(after)) - ranks(before)
        scale = 2 / (items * (items - 1) * (items - 2))
        return scale * jnp.sum(after * flips.astype(after.dtype))

    return jax.value_and_grad(loss)(embeddings)


def torch_step(inputs: np.ndarray, embeddings: np.ndarray) -> Callable[[], Any]:
    """The form of `sort` in torch, by argsort; the gradient by autograd."""
    import torch

    items = embeddings.shape[0]
    own = torch.eye(items, dtype=torch.bool)
    places = torch.arange(items).expand(items, items)
    before_inputs, leaf = torch.from_numpy(inputs), torch.from_numpy(embeddings)

    def ranks(values: torch.Tensor) -> torch.Tensor:
        values = values.masked_fill(own, -torch.inf)
        order = values.argsort(dim=1)
        ascending = values.gather(1, order)
        differs = ascending[:, 1:] != ascending[:, :-1]
        starts = torch.nn.functional.pad(differs, (1, 0))
        ends = torch.nn.functional.pad(differs, (0, 1))
        first = torch.where(starts, places, 0).cummax(1).values
        last = torch.where(ends, places, items - 1).flip(1).cummin(1).values.flip(1)
        signed = torch.empty_like(order).scatter_(1, order, first + last - items)
        return signed.masked_fill(own, 0)

    def step() -> tuple[torch.Tensor, torch.Tensor]:
        z = leaf.clone().requires_grad_()
        after = z @ z.T
        with torch.no_grad():
            flips = ranks(after) - ranks(before_inputs @ before_inputs.T)
        value = 2 * (after * flips).sum() / (items * (items - 1) * (items - 2))
        return value.detach(), torch.autograd.grad(value, z)[0]

    return step


LOSSES: dict[str, Loss] = {"ours": ours, "naive": naive, "sort": sort}


def unit_rows(size: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Inputs and the embeddings that an encoder might make of them, both (size, width)."""
    random = np.random.default_rng(0)
    inputs, noise = random.standard_normal((2, size, width), np.float32)
    inputs, embeddings = (
        rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (inputs, inputs + 2 * noise)
    )
    return inputs, embeddings


def prepare(name: str, size: int, width: int) -> Prepared:
    """A contender, compiled; its facts are its temporary memory and its value."""
    arrays = unit_rows(size, width)
    if name == "torch":
        torch_loss = torch_step(*arrays)
        return Prepared(torch_loss, {"loss": f"{float(torch_loss()[0]):.6f}"})
    on_device = jax.device_put(arrays)
    compiled = jax.jit(LOSSES[name]).lower(*on_device).compile()
    memory: Any = compiled.memory_analysis()  # None on backends that do not tell
    megabytes = memory.temp_size_in_bytes / 1e6 if memory else np.nan

    def step() -> jax.Array:
        return jax.block_until_ready(compiled(*on_device))[0]

    return Prepared(step, {"MB": f"{megabytes:.1f}", "loss": f"{float(step()):.6f}"})


def contenders(size: int, width: int) -> dict[str, Contender]:
    """Who takes part at this batch size."""
    names = ["ours", "sort"]
    if size <= _NAIVE_ITEMS:
        names.append("naive")
    if importlib.util.find_spec("torch"):
        names.append("torch")
    return {name: Contender(prepare, (name, size, width)) for name in names}


def main(_: list[str]) -> None:
    """Measures every size."""
    print(machine())
    if not importlib.util.find_spec("torch"):
        print("torch is not installed: measured without it")
    for size in map(int, _SIZES.value):
        measured = take_turns(contenders(size, _WIDTH.value), _SECONDS.value)
        print(f"structure loss, value and gradient, {size} items")
        print(lines(measured, "ours"), flush=True)


if __name__ == "__main__":
    run(main)
