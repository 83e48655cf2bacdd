"""One accelerator, measured in minutes: losses, training steps, weightings together, exact ranks.

    python -m tools.bench.accelerator --output=accelerator.md
    python -m tools.bench.accelerator --small  # the same code at sizes for a CPU

Needs JAX, Flax, Optax, NumPy, absl and this package: no TensorFlow, no data. Each section is
guarded by itself: a failure, or a want of time, is told in one line, and the rest goes on. Rows are
printed as they are measured, the whole as Markdown at the end.

Ceilings, the rates of a large matrix product and of a large copy, are measured in the same run.
*Matrix share*: the operations of the loss as a formula counts them (its N × N products and their
transposes, nothing computed twice) over time × matrix rate. *Memory share*: arguments and results
moved once, temporaries written and read once, over time × bandwidth: what is moved at least.
"""

import functools
import os
import pathlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import flags

from tools.bench import paired, peers
from tools.bench.evaluation import noisy_pairs
from tools.bench.peers import LOSSES, Problem, Weighed, random_batch
from vmr.command import run
from vmr.encoders.branch import Branch
from vmr.encoders.transformer import Transformer
from vmr.encoders.two_tower import TwoTower
from vmr.losses.pairs import SIDES, Pairs
from vmr.training.state import TrainState, initial_state, placeholder_standardization
from vmr.training.step import train_step

Array = jax.Array
Row = Sequence[str]
Rows = Iterator[Row]
Batch64 = Mapping[str, np.ndarray]  # the fields of `peers.Batch`, float64
Section = Callable[["Bench"], Rows]

_REPEATS = 5  # timed turns, of which the median counts
_TURN_SECONDS = 0.05  # a turn repeats what is shorter, so that starting it weighs little
_COMPILERS = 6  # programs compiled at a time; more would fight for the device's memory
_MEMORY_SHARE = 0.85  # of the device, that a program may take


class Bench:
    """The clock, the ceilings and the sizes that the sections share."""

    def __init__(self, minutes: float, small: bool) -> None:
        """Starts the clock."""
        self.small = small
        self.device = jax.local_devices()[0]
        self.deadline = time.monotonic() + 60 * minutes
        # Operations a second by kind of product, and bytes a second; 0 until measured.
        self.rates: dict[str, float] = dict.fromkeys(("float32", "default", "bfloat16", "bytes"), 0)

    def require_time(self, seconds: float = 0.0) -> None:
        """Raises TimeoutError where less than so many seconds are left."""
        if time.monotonic() + seconds > self.deadline:
            raise TimeoutError("no time left (--minutes)")

    def share(self, amount: float, seconds: float, kind: str) -> str:
        """Percent of a ceiling that so many operations, or bytes, in this time are."""
        rate = self.rates[kind]
        return f"{100 * amount / seconds / rate:.0f} %" if rate else "?"

    def require_memory(self, compiled: Any) -> None:
        """Raises MemoryError where a program needs more than the device, or this machine, has."""
        needed, there = _bytes_held(compiled), (self.device.memory_stats() or {}).get("bytes_limit")
        if there is None:
            there = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        if needed > _MEMORY_SHARE * there:
            raise MemoryError(f"needs {_bytes(needed)} of {_bytes(there)}")

    def peak(self) -> int:
        """The most bytes of the device in use so far; 0 where the backend does not tell."""
        return (self.device.memory_stats() or {}).get("peak_bytes_in_use", 0)


def ceilings(bench: Bench) -> Rows:
    """Rates of a product of square matrices, and bandwidth of a copy."""
    yield "what", "size", "rate"
    size = 512 if bench.small else 8192
    kinds = {
        "float32": (jnp.float32, jax.lax.Precision.HIGHEST),
        "default": (jnp.float32, jax.lax.Precision.DEFAULT),  # as a product without precision
        "bfloat16": (jnp.bfloat16, jax.lax.Precision.DEFAULT),
    }
    for kind, (dtype, precision) in kinds.items():
        x = jax.random.normal(jax.random.key(0), (size, size), dtype)
        product = jax.jit(
            functools.partial(jnp.matmul, precision=precision, preferred_element_type=jnp.float32)
        )
        bench.rates[kind] = 2 * size**3 / seconds_of(product.lower(x, x).compile(), x, x)
        yield f"matrix product, {kind}", f"{size}²", f"{bench.rates[kind] / 1e12:.2f} TFLOP/s"
    x = jnp.ones((2**22 if bench.small else 2**28,), jnp.float32)
    bench.rates["bytes"] = 2 * x.nbytes / seconds_of(jax.jit(lambda x: x + 1).lower(x).compile(), x)
    yield "copy, read and written", _bytes(x.nbytes), f"{bench.rates['bytes'] / 1e9:.0f} GB/s"


def exactness(bench: Bench) -> Rows:
    """Every loss, fused and by rows, against float64 NumPy.

    The slope is the derivative along the gradient and some noise, by central differences in NumPy.
    """
    yield "loss", "N", "fused", "rows", "slope", "gradient, fused − rows", "fused, by default"
    names = [name for name in LOSSES if name in IN_NUMPY]
    for items in (48,) if bench.small else (256, 2304):  # beyond 2,048, blocks of rows
        bench.require_time()
        pairs = jax.device_put(Pairs(*random_batch(Problem(items, 32, 48))))
        programs = {}
        for name in names:
            # An accelerator's default products have fewer bits: the errors of those stand apart.
            with jax.default_matmul_precision("highest"):
                programs[name, "fused"] = jax.jit(LOSSES[name].fused).lower(pairs)
                programs[name, "rows"] = jax.jit(LOSSES[name].by_rows).lower(pairs)
            if bench.device.platform != "cpu":
                programs[name, "default"] = jax.jit(LOSSES[name].fused).lower(pairs)
        compiled = dict(zip(programs, all_compiled(programs.values()), strict=True))

        for name in names:
            yield from guarded_rows(bench, name, _exact_row, name, pairs, compiled)


def _exact_row(bench: Bench, name: str, pairs: Pairs, compiled: Any) -> Rows:
    bench.require_time()
    results = {
        form: jax.device_get(_done(compiled[name, form])(pairs))
        for form in ("fused", "rows", "default")
        if (name, form) in compiled
    }
    yield (
        name,
        f"{pairs.positive_ids.size:,}",
        *errors(LOSSES[name], IN_NUMPY[name], pairs, results),
    )


def steps(bench: Bench) -> Rows:
    """VM-NET's and II-CLVM's training steps on made features."""
    yield "step", "pairs", "ms", "pairs/s", "temporaries", "matrix share"
    systems = (vmnet, ii_clvm)
    sizes = ((32,), (16,)) if bench.small else ((1000, 8192), (256, 2048))
    for system, of_system in zip(systems, sizes, strict=True):
        for items in of_system:
            yield from guarded_rows(bench, f"{system.__name__}, {items}", _step_row, system, items)


def weightings(bench: Bench) -> Rows:
    """16 weightings of one config in one program, against one after another."""
    yield "16 weightings of VM-NET", "pairs", "together, ms", "alone, ms", "ratio"
    runs = 16
    for items in (32,) if bench.small else (500, 1000):
        bench.require_time()
        step, state, batch, weights = vmnet(items, bench.small)
        many = {term: jnp.linspace(0.5, 1.5, runs) * value for term, value in weights.items()}
        states = jax.tree.map(lambda x: jnp.stack([x] * runs), state)
        together = jax.jit(jax.vmap(step, in_axes=(0, None, 0)))
        compiled = [together.lower(states, batch, many), jax.jit(step).lower(state, batch, weights)]
        of_all, of_one = map(_done, all_compiled(compiled))
        bench.require_memory(of_all)
        both = (
            seconds_of(of_all, states, batch, many),
            runs * seconds_of(of_one, state, batch, weights),
        )
        yield "", str(items), *(f"{1e3 * each:.1f}" for each in both), f"{both[0] / both[1]:.3f}"


def ranks(bench: Bench) -> Rows:
    """Exact ranks of both directions, width 512: the matrix share is that of one product."""
    from vmr.evaluation import pair_ranks

    yield "videos × tracks", "s", "v2m R@10", "matrix share"
    seconds, before = 0.0, 0
    for items in (1000, 2000) if bench.small else (20_000, 200_000):
        bench.require_time(seconds * (items / before) ** 2 if before else 0.0)
        video, music = noisy_pairs(items, 512)
        start = time.perf_counter()
        v2m, _ = pair_ranks(video, music, np.arange(items))
        seconds, before = time.perf_counter() - start, items
        share = bench.share(2 * items**2 * 512, seconds, "float32")
        recall = 100 * float(np.mean(v2m.above[:, 0] < 10))
        yield f"{items:,}²", f"{seconds:.1f}", f"{recall:.2f}", share


def losses(bench: Bench) -> Rows:
    """Value and gradient at the embeddings, D = 512, inputs of 1,024, ours and the naive form.

    The peak is the device's where this program raised it. Ordered by what matters first.
    """
    yield (
        "loss",
        "B",
        "form",
        "ms",
        "temporaries",
        "peak",
        "matrix share",
        "memory share",
        "value",
    )
    sizes = (64,) if bench.small else (1024, 2048, 4096, 8192, 16384, 32768)
    names = ("infonce", "infonce bfloat16", "structure", "vmnet", "ii_mse", *_REST)
    for name in names[:5] if bench.small else names:
        for part in filter(None, (sizes[:3], sizes[3:])):
            yield from guarded_rows(bench, f"{name}, {part}", _loss_rows, name, part)


_REST = (
    "siglip",
    "ii_kl",
    "js",
    "gram",
    "rkd_distance",
    "crossclr",
    "ranking",
    "structure_adjacent",
)
SECTIONS: tuple[Section, ...] = (ceilings, exactness, steps, weightings, ranks, losses)


def _loss_rows(bench: Bench, name: str, sizes: Sequence[int]) -> Rows:
    """A loss at some batch sizes, its programs compiled side by side."""
    ours, naive = (
        (
            peers.IN_BFLOAT16.fused,
            peers.differentiated(functools.partial(peers.infonce, dtype=jnp.bfloat16)),
        )
        if name == "infonce bfloat16"
        else (LOSSES[name].fused, _NAIVE.get(name, LOSSES[name].by_rows))
    )
    bench.require_time()
    forms = {"ours": ours, "naive": naive}
    largest = _largest_batch(bench.small)
    batches = {items: Pairs(*(x[:items] for x in largest)) for items in sizes}
    programs = {
        (items, form): jax.jit(forms[form]).lower(batch)
        for items, batch in batches.items()
        for form in forms
    }
    compiled = all_compiled(programs.values())
    for (items, form), program in zip(programs, compiled, strict=True):
        bench.require_time()
        pairs = jax.device_put(batches[items])
        try:
            cells = _loss_cells(bench, name, _done(program), pairs)
        except (MemoryError, RuntimeError) as error:  # too large: the other form may still fit
            cells = [_one_line(error)]
        yield name, f"{items:,}", form, *cells


@functools.cache
def _largest_batch(small: bool) -> Pairs:
    """Drawn once: its rows are independent, so that its first are a smaller batch."""
    return Pairs(*random_batch(Problem(64 if small else 32768, *_WIDTHS)))


_WIDTHS = 512, 1024
_NAIVE = {
    "infonce": peers.differentiated(peers.infonce),
    "structure": peers.differentiated(peers.structure_sort, ("video",)),
    "ii_mse": peers.differentiated(peers.ii_mse, ("video",)),
}


def _loss_cells(bench: Bench, name: str, compiled: Any, pairs: Pairs) -> Row:
    bench.require_memory(compiled)
    before = bench.peak()
    value = float(compiled(pairs)[0])
    seconds = seconds_of(compiled, pairs)
    memory, peak = compiled.memory_analysis(), bench.peak()
    moved = _bytes_held(compiled) + (memory.temp_size_in_bytes if memory else 0)
    # Where duplicates must tie exactly, the losses ask for products in full precision.
    full = all(term in ("music", "video") for term in LOSSES[name.split()[0]].weights)
    kind = "bfloat16" if "bfloat16" in name else "float32" if full else "default"
    return (
        f"{1e3 * seconds:.2f}",
        _bytes(memory.temp_size_in_bytes) if memory else "?",
        _bytes(peak) if peak > before else "",
        bench.share(_operations(name.split()[0], pairs.positive_ids.size), seconds, kind),
        bench.share(moved, seconds, "bytes"),
        f"{value:.6g}",
    )


def _operations(name: str, items: int) -> float:
    """Those of value and gradient, at least: a product of scores and its two transposes."""
    width, input_width = _WIDTHS
    of_scores, of_inputs = 6.0 * items**2 * width, 2.0 * items**2 * input_width
    if name in ("infonce", "siglip", "ranking", "vmnet"):
        return of_scores
    if name == "crossclr":  # scores of both modalities, and of each within itself
        return 3 * of_scores
    if name == "structure_adjacent":
        return (of_scores + of_inputs) * (min(peers.TOP_K, items) / items) ** 2
    if name == "ii_mse":  # by Gram matrices of features
        grams = 2.0 * items * (width**2 + width * input_width + input_width**2)
        return min(of_scores + of_inputs, grams + 2.0 * items * width * (width + input_width))
    return of_scores + of_inputs


def vmnet(items: int, small: bool) -> Any:
    """VM-NET's published sizes and losses: step, state, batch and weights."""
    hidden = (64,) if small else (2048,)
    model = TwoTower(Branch(hidden), Branch((*hidden, 32 if small else 1024)))
    random = np.random.default_rng(0)
    batch = {
        "video": random.standard_normal((items, 1024), np.float32),
        "music": random.standard_normal((items, 1140), np.float32),
    }
    return _system(model, "vmnet", peers.WEIGHTS, optax.adam(3e-4), batch)


def ii_clvm(items: int, small: bool) -> Any:
    """II-CLVM's sizes: Transformers over 32 clips, InfoNCE and `ii_mse`."""
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
    return _system(model, "ii_clvm", weights, optimizer, batch)


def _system(
    model: TwoTower,
    losses: str,
    weights: Mapping[str, float],
    optimizer: optax.GradientTransformation,
    batch: dict[str, np.ndarray],
) -> tuple[Callable[..., Any], TrainState, dict[str, Array], dict[str, Array]]:
    infonce, ii_mse = LOSSES["infonce"].objective, LOSSES["ii_mse"].objective
    objective = LOSSES["vmnet"].objective
    if losses == "ii_clvm":
        objective = type(objective)(infonce.inter, ii_mse.intra)
    items = len(batch["video"])
    statistics = placeholder_standardization({s: batch[s].shape[-1] for s in ("video", "music")})
    state = initial_state(model, optimizer, statistics, seed=0)
    unlogged = functools.partial(
        train_step, logs=False, model=model, objective=objective, optimizer=optimizer
    )
    on_device = jax.device_put(batch | {"track": np.arange(items, dtype=np.int32)})
    return unlogged, state, on_device, {term: jnp.float32(weights[term]) for term in SIDES}


def _step_row(bench: Bench, system: Callable[..., Any], items: int) -> Rows:
    bench.require_time()
    step, state, batch, weights = system(items, bench.small)
    # Donated where training does: on CPUs it costs time.
    donated = () if bench.device.platform == "cpu" else (0,)
    compiled = jax.jit(step, donate_argnums=donated).lower(state, batch, weights).compile()
    bench.require_memory(compiled)
    held = [state]

    def take() -> Any:
        held[0], scalars = compiled(held[0], batch, weights)
        return scalars

    seconds = seconds_of(take)
    kernels = sum(leaf.size for leaf in jax.tree.leaves(held[0].params) if leaf.ndim > 1)
    rows = items * (batch["video"].shape[1] if batch["video"].ndim == 3 else 1)
    memory = compiled.memory_analysis()
    yield (
        system.__name__,
        str(items),
        f"{1e3 * seconds:.2f}",
        f"{items / seconds:,.0f}",
        _bytes(memory.temp_size_in_bytes) if memory else "?",
        bench.share(6.0 * rows * kernels, seconds, "default"),  # of the encoders' products
    )


def errors(
    weighed: Weighed, loss: Callable[[Batch64], float], batch: Any, results: Mapping[str, Any]
) -> Row:
    """Relative errors of value, slope and gradient."""
    doubles = {name: np.asarray(x, np.float64) for name, x in batch._asdict().items()}
    exact = loss(doubles)
    gradient = {side: np.asarray(x, np.float64) for side, x in results["fused"][1].items()}
    random = np.random.default_rng(1)
    length = np.sqrt(sum(np.sum(x * x) for x in gradient.values()))
    slopes = {}
    for side, x in gradient.items():
        noise = random.standard_normal(x.shape)
        slopes[side] = x / length + noise / np.linalg.norm(noise)
    ends = [
        loss(doubles | {side: doubles[side] + step * slopes[side] for side in slopes})
        for step in (1e-6, -1e-6)
    ]
    along = sum(np.sum(gradient[side] * slopes[side]) for side in slopes)
    values = [f"{abs(results[form][0] / exact - 1):.0e}" for form in ("fused", "rows")]
    default = f"{abs(results['default'][0] / exact - 1):.0e}" if "default" in results else ""
    return (
        *values,
        f"{abs((ends[0] - ends[1]) / 2e-6 - along) / length:.0e}",
        f"{peers.largest_error(results['fused'][1], results['rows'][1]):.0e}",
        default,
    )


def _direction(anchors: np.ndarray, gallery: np.ndarray) -> float:
    """VM-NET's hinge of the hardest negatives, one direction."""
    scores = anchors @ gallery.T
    violation = peers.MARGIN - np.diag(scores)[:, None] + scores
    np.fill_diagonal(violation, 0.0)
    top_k = min(peers.TOP_K, len(scores))
    hardest = np.partition(violation, len(scores) - top_k, axis=1)[:, -top_k:]
    return float(np.mean(np.maximum(hardest, 0.0)))


def _ranking(batch: Batch64) -> float:
    video, music = batch["video"], batch["music"]
    return 0.5 * (_direction(video, music) + _direction(music, video))


def _vmnet(batch: Batch64) -> float:
    video, music = batch["video"], batch["music"]
    swapped = {"video": music, "video_inputs": batch["music_inputs"]}
    weights = peers.WEIGHTS
    return (
        weights["m2v"] * _direction(music, video)
        + weights["v2m"] * _direction(video, music)
        + weights["music"] * _structure_adjacent(swapped)
        + weights["video"] * _structure_adjacent(batch)
    )


def _infonce(batch: Batch64) -> float:
    scores = batch["video"] @ batch["music"].T / peers.TEMPERATURE
    both = _log_sum_exp(scores) + _log_sum_exp(scores.T)
    return float(np.mean(0.5 * both - np.diag(scores)))


def _siglip(batch: Batch64) -> float:
    logits = peers.SCALE * batch["video"] @ batch["music"].T + peers.BIAS
    signs = 1.0 - 2.0 * np.eye(len(logits))
    return float(np.mean(np.sum(np.logaddexp(0.0, signs * logits), axis=1)))


def _crossclr(batch: Batch64) -> float:
    def direction(side: str, other: str) -> float:
        inputs = _unit(batch[f"{side}_inputs"])
        connectivity = np.mean(_without_own(inputs @ inputs.T, 0.0), axis=1)
        negative = connectivity <= 0.7 * np.max(connectivity)
        hidden = np.where(negative, 0.0, -np.inf)[None, :]
        scores = batch[side] @ batch[other].T / 0.03
        own = _without_own(batch[side] @ batch[side].T / 0.03, -np.inf)
        of_negatives = np.logaddexp(
            _log_sum_exp(_without_own(scores, -np.inf) + hidden),
            np.log(0.8) + _log_sum_exp(own + hidden),
        )
        weights = np.exp(connectivity / np.sum(np.abs(connectivity)) / 0.0035)
        return float(
            np.mean(weights / np.mean(weights) * np.logaddexp(0, of_negatives - np.diag(scores)))
        )

    return 0.5 * (direction("music", "video") + direction("video", "music"))


def _structure(batch: Batch64) -> float:
    """Σ over k of (sign(s_ij − s_ik) − …)(s_ij − s_ik), by counts of smaller and larger entries."""
    before, after = _before_and_after(batch)
    items = len(after)
    total = 0.0
    for i in range(items):
        s, t = (np.delete(x[i], i) for x in (after, before))
        signed = [
            np.searchsorted(np.sort(x), x, "left") + np.searchsorted(np.sort(x), x, "right")
            for x in (s, t)
        ]
        total += 2.0 * float(s @ (signed[0] - signed[1]))
    return total / (items * (items - 1) * (items - 2))


def _structure_adjacent(batch: Batch64) -> float:
    first = {name: batch[name][: peers.TOP_K] for name in ("video", "video_inputs")}
    before, after = (x[:, :-1] - x[:, 1:] for x in _before_and_after(first))
    return float(np.mean((np.sign(after) - np.sign(before)) * after))


def _ii_mse(batch: Batch64) -> float:
    before, after = _before_and_after(batch)
    return float(np.sum(_without_own(before - after, 0.0) ** 2) / (len(after) * (len(after) - 1)))


def _ii_kl(batch: Batch64) -> float:
    before, after = (_without_own(x / peers.TEMPERATURE, -np.inf) for x in _before_and_after(batch))
    before, after = (x - _log_sum_exp(x)[:, None] for x in (before, after))
    with np.errstate(invalid="ignore"):
        return float(np.mean(np.sum(_without_own(np.exp(before) * (before - after), 0.0), axis=1)))


def _js(batch: Batch64) -> float:
    logs = [x / peers.TEMPERATURE for x in _before_and_after(batch)]
    logs = [x - _log_sum_exp(x)[:, None] for x in logs]
    middle = np.logaddexp(*logs) - np.log(2.0)
    return float(np.mean(sum(0.5 * np.sum(np.exp(x) * (x - middle), axis=1) for x in logs)))


def _gram(batch: Batch64) -> float:
    before, after = map(_unit, _before_and_after(batch))
    return float(np.mean((after - before) ** 2))


def _rkd_distance(batch: Batch64) -> float:
    def scaled(x: np.ndarray) -> np.ndarray:
        squares = np.sum(x * x, axis=1)
        apart = squares[:, None] + squares[None, :] - 2.0 * x @ x.T
        apart = _without_own(np.sqrt(np.maximum(apart, 0.0)), 0.0)
        return apart / (np.sum(apart) / (len(x) * (len(x) - 1)))

    change = np.abs(scaled(batch["video"]) - scaled(batch["video_inputs"]))
    costs = np.where(change < 1.0, 0.5 * change**2, change - 0.5)
    return float(np.sum(costs) / (len(change) * (len(change) - 1)))


def _before_and_after(batch: Batch64) -> tuple[np.ndarray, np.ndarray]:
    """Cosines of the videos' inputs, dot products of their embeddings."""
    inputs = _unit(batch["video_inputs"])
    return inputs @ inputs.T, batch["video"] @ batch["video"].T


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def _without_own(matrix: np.ndarray, value: float) -> np.ndarray:
    matrix = matrix.copy()
    np.fill_diagonal(matrix, value)
    return matrix


def _log_sum_exp(rows: np.ndarray) -> np.ndarray:
    largest = np.max(rows, axis=1, keepdims=True)
    return (largest + np.log(np.sum(np.exp(rows - largest), axis=1, keepdims=True)))[:, 0]


IN_NUMPY: dict[str, Callable[[Batch64], float]] = {
    "ranking": _ranking,
    "infonce": _infonce,
    "siglip": _siglip,
    "crossclr": _crossclr,
    "structure": _structure,
    "structure_adjacent": _structure_adjacent,
    "ii_mse": _ii_mse,
    "ii_kl": _ii_kl,
    "js": _js,
    "gram": _gram,
    "rkd_distance": _rkd_distance,
    "vmnet": _vmnet,
}


def seconds_of(program: Callable[..., Any], *arguments: Any) -> float:
    """The median time of a call, over some turns of as many calls as fill a turn."""
    jax.block_until_ready(program(*arguments))  # warm
    start = time.perf_counter()
    jax.block_until_ready(program(*arguments))
    once = time.perf_counter() - start
    calls = max(1, round(_TURN_SECONDS / max(once, 1e-4)))
    turns = []
    for _ in range(_REPEATS if once < 1.0 else 2):
        start = time.perf_counter()
        for _ in range(calls):
            result = program(*arguments)
        jax.block_until_ready(result)
        turns.append((time.perf_counter() - start) / calls)
    return float(np.median(turns))


def all_compiled(programs: Iterable[Any]) -> list[Any]:
    """Lowered programs, compiled side by side; where one fails, its exception stands for it."""

    def compiled(program: Any) -> Any:
        try:
            return program.compile()
        except RuntimeError as error:
            return error

    with ThreadPoolExecutor(min(_COMPILERS, os.cpu_count() or 1)) as pool:
        return list(pool.map(compiled, programs))


def _done(compiled: Any) -> Any:
    """The program, or the exception that its compilation left."""
    if isinstance(compiled, Exception):
        raise compiled
    return compiled


def _bytes_held(compiled: Any) -> int:
    """Arguments, results and temporaries of a program; 0 on a backend that does not tell."""
    memory = compiled.memory_analysis()
    if memory is None:
        return 0
    parts = memory.argument_size_in_bytes, memory.output_size_in_bytes, memory.temp_size_in_bytes
    return int(sum(parts))


def _bytes(count: float) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


def _one_line(error: BaseException) -> str:
    return f"failed: {type(error).__name__}: {' '.join(str(error).split())[:160]}"


def guarded_rows(bench: Bench, name: str, rows: Callable[..., Rows], *arguments: Any) -> Rows:
    """The rows; where they fail, a row that says so. Running out of time ends the section."""
    try:
        yield from rows(bench, *arguments)
    except TimeoutError:
        raise
    except Exception as error:
        yield name, _one_line(error)


def report(bench: Bench, sections: Sequence[Section], write: Callable[[str], None]) -> None:
    """Measures the sections in turn; `write` is given the whole Markdown again after each."""
    device = bench.device
    text = [
        f"{device.device_kind} ({device.platform}); {paired.machine()}; JAX {jax.__version__}, "
        f"Flax {flax.__version__}, Optax {optax.__version__}; one device of {jax.device_count()}"
    ]
    print(text[0], flush=True)
    for section in sections:
        start = time.monotonic()
        title = (section.__doc__ or section.__name__).splitlines()[0].rstrip(".")
        print(f"\n{title}", flush=True)
        table, note = [], ""
        try:
            for row in section(bench):
                print("  " + "  ".join(row), flush=True)
                table.append(row)
        except TimeoutError as error:
            note = f"stopped: {error}"
        except Exception as error:
            note = _one_line(error)
        note += f"{'; ' if note else ''}{time.monotonic() - start:.0f} s"
        print(f"  {note}", flush=True)
        text.append("\n".join([f"### {title}", "", *_markdown(table), "", note]))
        write("\n\n".join(text))


def _markdown(table: Sequence[Row]) -> list[str]:
    """Lines of a table whose first row is its head; short rows are filled up."""
    if not table:
        return []
    width = len(table[0])
    cells = [[*row, *[""] * (width - len(row))] for row in table]
    cells.insert(1, ["---", *["---:"] * (width - 1)])
    return ["| " + " | ".join(row) + " |" for row in cells]


def main(_: list[str]) -> None:
    """Measures, then prints the whole as Markdown."""
    pages = [""]
    if flags.FLAGS.small:  # times mean nothing there: compilation takes most of them
        jax.config.update("jax_disable_most_optimizations", True)

    def write(text: str) -> None:
        pages[0] = text
        if (
            flags.FLAGS.output
        ):  # at every section: what is measured outlives a command that is cut off
            pathlib.Path(flags.FLAGS.output).write_text(f"{text}\n", encoding="utf-8")

    report(Bench(flags.FLAGS.minutes, flags.FLAGS.small), SECTIONS, write)
    print(f"\n{pages[0]}")


def define_flags() -> None:
    """The flags of this command; other modules take its functions without them."""
    flags.DEFINE_float("minutes", 8.0, "After which nothing new is begun.", lower_bound=0.1)
    flags.DEFINE_bool("small", False, "Sizes for a CPU: shows that everything runs.")
    flags.DEFINE_string("output", None, "Markdown file, beside printing it.")


if __name__ == "__main__":
    define_flags()
    run(main)
