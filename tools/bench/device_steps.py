"""Training steps on one device: alone, an epoch of them, many weightings in one program."""

import functools
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from tools.bench import peers
from tools.bench.peers import LOSSES
from tools.bench.sections import (
    Bench,
    Rows,
    all_compiled,
    done,
    guarded_rows,
    in_bytes,
    seconds_of,
)
from vmr.encoders.branch import Branch
from vmr.encoders.transformer import Transformer
from vmr.encoders.two_tower import TwoTower
from vmr.losses.objective import Objective
from vmr.losses.pairs import SIDES
from vmr.training.state import TrainState, initial_state, placeholder_standardization
from vmr.training.step import train_step

Array = jax.Array

_AXIS = "batch"
_WIDTHS = {"video": 1024, "music": 1140}  # of YouTube-8M's video-level features, as VM-NET reads


def steps(bench: Bench) -> Rows:
    """VM-NET's and II-CLVM's training steps on made features."""
    yield "step", "pairs", "ms", "pairs/s", "temporaries", "matrix share"
    runs = [(vmnet, 1000), (vmnet, 8192), (ii_clvm, 256), (ii_clvm, 2048)]
    for system, items in [(vmnet, 32), (ii_clvm, 16)] if bench.small else runs:
        yield from guarded_rows(bench, f"{system.__name__}, {items}", _step_row, system, items)


def _step_row(bench: Bench, system: Callable[..., Any], items: int) -> Rows:
    bench.require_time()
    step, state, batch, weights = system(items, bench.small)
    # Donated where training donates it: on CPUs that costs time.
    donated = () if bench.device.platform == "cpu" else (0,)
    compiled = jax.jit(step, donate_argnums=donated).lower(state, batch, weights).compile()
    bench.require_memory(compiled)

    def take() -> Any:
        nonlocal state
        state, scalars = compiled(state, batch, weights)
        return scalars

    seconds = seconds_of(take)
    kernels = sum(leaf.size for leaf in jax.tree.leaves(state.params) if leaf.ndim > 1)
    rows = items * (batch["video"].shape[1] if batch["video"].ndim == 3 else 1)
    memory = compiled.memory_analysis()
    yield (
        system.__name__,
        str(items),
        f"{1e3 * seconds:.2f}",
        f"{items / seconds:,.0f}",
        in_bytes(memory.temp_size_in_bytes) if memory else "?",
        bench.share(6.0 * rows * kernels, seconds, "default"),  # of the encoders' products
    )


def epoch(bench: Bench) -> Rows:
    """An epoch of VM-NET, its batches gathered by number from arrays on the device.

    Against batches that the host gathers and sends one by one. As in training, the loss of a step
    is looked at while the next one runs.
    """
    yield "features on", "pairs", "a step", "epoch, s", "pairs/s", "ms a step", "matrix share"
    for items in (50,) if bench.small else (1000, 8192):
        for place in ("device", "host"):
            name = f"{place}, {items}"
            yield from guarded_rows(bench, name, _epoch_row, place, items)


def _epoch_row(bench: Bench, place: str, items: int) -> Rows:
    bench.require_time()
    features = _features(1000 if bench.small else 200_000)
    take, state = _epoch_step(bench, place, items)
    pairs = len(features["video"])
    numbers = np.random.default_rng(0).permutation(pairs)[: pairs // items * items]
    batches = numbers.reshape(-1, 1, items).astype(np.int32)  # (steps, devices, items)
    if place == "device":
        # Replicated as pmap has it, or each step would lay them out anew.
        mesh = jax.sharding.Mesh(np.asarray([bench.device]), (_AXIS,))
        everywhere = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
        features = jax.device_put(features, everywhere)
    state, _ = _taken(take, state, batches[:2], features)  # compiles
    state, few = _taken(take, state, batches[2:8], features)
    bench.require_time(few * len(batches) / 6)
    state, seconds = _taken(take, state, batches, features)
    kernels = sum(leaf.size for leaf in jax.tree.leaves(state.params) if leaf.ndim > 1)
    yield (
        place,
        f"{pairs:,}",
        f"{items:,}",
        f"{seconds:.2f}",
        f"{batches.size / seconds:,.0f}",
        f"{1e3 * seconds / len(batches):.2f}",
        bench.share(6.0 * batches.size * kernels, seconds, "default"),
    )


@functools.cache
def _features(pairs: int) -> dict[str, np.ndarray]:
    """Features on the host, drawn once: 1.7 GB for 200,000 pairs."""
    random = np.random.default_rng(0)
    return {side: random.standard_normal((pairs, P), np.float32) for side, P in _WIDTHS.items()}


def _epoch_step(bench: Bench, place: str, items: int) -> tuple[Callable[..., Any], TrainState]:
    """VM-NET's pmapped step from (1, B) numbers, and its first state."""
    step, state, _, weights = vmnet(items, bench.small)

    def of_numbers(state: TrainState, numbers: Array, features: Mapping[str, Array]) -> Any:
        batch = {side: rows[numbers] for side, rows in features.items()}
        return step(state, batch | {"track": numbers}, weights)

    def of_rows(state: TrainState, numbers: Array, rows: Mapping[str, Array]) -> Any:
        return step(state, {**rows, "track": numbers}, weights)

    on_device = place == "device"
    pmapped = jax.pmap(
        of_numbers if on_device else of_rows,
        axis_name=_AXIS,
        in_axes=(None, 0, None if on_device else 0),
        out_axes=None,
        devices=[bench.device],
        donate_argnums=() if bench.device.platform == "cpu" else (0,),
    )

    def take(state: TrainState, numbers: np.ndarray, features: Mapping[str, Any]) -> Any:
        if not on_device:
            features = {side: rows[numbers] for side, rows in features.items()}
        return pmapped(state, numbers, features)

    return take, state


def _taken(
    take: Callable[..., Any], state: TrainState, batches: np.ndarray, features: Mapping[str, Any]
) -> tuple[TrainState, float]:
    """State after some steps, and their time; FloatingPointError at a loss that is not finite."""
    start, losses = time.perf_counter(), list[Array]()
    for numbers in batches:
        state, scalars = take(state, numbers, features)
        losses.append(scalars["loss"])
        if len(losses) > 1:
            _require_finite(losses[-2])
    _require_finite(losses[-1])
    return state, time.perf_counter() - start


def _require_finite(loss: Array) -> None:
    if not np.isfinite(float(loss)):
        raise FloatingPointError(f"the loss is {loss}")


def weightings(bench: Bench) -> Rows:
    """16 weightings of one config in one program, against one after another."""
    yield "16 weightings of VM-NET", "pairs", "together, ms", "alone, ms", "ratio"
    runs = 16
    for items in (32,) if bench.small else (500, 1000):
        bench.require_time()
        step, state, batch, weights = vmnet(items, bench.small)
        many = {term: jnp.linspace(0.5, 1.5, runs) * value for term, value in weights.items()}
        states = jax.tree.map(lambda x: jnp.stack([x] * runs), state)
        vmapped = jax.jit(jax.vmap(step, in_axes=(0, None, 0)))
        lowered = [vmapped.lower(states, batch, many), jax.jit(step).lower(state, batch, weights)]
        grid, single = map(done, all_compiled(lowered))
        bench.require_memory(grid)
        at_once = seconds_of(grid, states, batch, many)
        in_turn = runs * seconds_of(single, state, batch, weights)
        times = f"{1e3 * at_once:.1f}", f"{1e3 * in_turn:.1f}"
        yield "", str(items), *times, f"{at_once / in_turn:.3f}"


def vmnet(items: int, small: bool) -> Any:
    """VM-NET at its published sizes and losses: step, state, batch and weights."""
    hidden = (64,) if small else (2048,)
    model = TwoTower(Branch(hidden), Branch((*hidden, 32 if small else 1024)))
    random = np.random.default_rng(0)
    batch = {
        side: random.standard_normal((items, width), np.float32) for side, width in _WIDTHS.items()
    }
    return _system(model, LOSSES["vmnet"].objective, peers.WEIGHTS, optax.adam(3e-4), batch)


def ii_clvm(items: int, small: bool) -> Any:
    """II-CLVM at its sizes, see `vmnet`: Transformers over 32 clips, InfoNCE and `ii_mse`."""
    encoder = functools.partial(
        Transformer, width=256, model_width=32 if small else 256, layers=1 if small else 2
    )
    model = TwoTower(encoder(dropout=0.2), encoder(dropout=0.2))
    random, clips = np.random.default_rng(0), 4 if small else 32
    batch = {
        side: random.integers(256, size=(items, clips, width), dtype=np.uint8)
        for side, width in (("video", 1024), ("music", 128))
    }
    batch |= {f"{side}_mask": np.ones((items, clips), bool) for side in tuple(batch)}
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(5e-4, weight_decay=0.1))
    weights = {"m2v": 0.5, "v2m": 0.5, "music": 3.0, "video": 3.0}
    objective = Objective(LOSSES["infonce"].objective.inter, LOSSES["ii_mse"].objective.intra)
    return _system(model, objective, weights, optimizer, batch)


def _system(
    model: TwoTower,
    objective: Objective,
    weights: Mapping[str, float],
    optimizer: optax.GradientTransformation,
    batch: dict[str, np.ndarray],
) -> tuple[Callable[..., Any], TrainState, dict[str, Array], dict[str, Array]]:
    items = len(batch["video"])
    statistics = placeholder_standardization({s: batch[s].shape[-1] for s in ("video", "music")})
    state = initial_state(model, optimizer, statistics, seed=0)
    unlogged = functools.partial(
        train_step, logs=False, model=model, objective=objective, optimizer=optimizer
    )
    on_device = jax.device_put(batch | {"track": np.arange(items, dtype=np.int32)})
    return unlogged, state, on_device, {term: jnp.float32(weights[term]) for term in SIDES}
