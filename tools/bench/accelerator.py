"""One accelerator, measured in minutes: losses, training steps, grids of weightings, exact ranks.

    python -m tools.bench.accelerator --output=accelerator.md
    python -m tools.bench.accelerator --small  # the same code at sizes for a CPU

Needs JAX, Flax, Optax, absl and this package: no TensorFlow, no data. A section that fails or
runs out of time ends in one line, and the rest goes on. Rows are printed as they are measured, all
of them as Markdown at the end.

Ceilings, the rates of a large matrix product and of a large copy, are measured in the same run.
*Matrix share*: operations of the loss by its formula (its N × N products and their transposes,
nothing computed twice) over time × matrix rate. *Memory share*: the least that is moved, arguments
and results once, temporaries written and read once, over time × bandwidth.
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
from tools.bench.ceilings import loss_operations, percent
from tools.bench.evaluation import noisy_pairs
from tools.bench.numpy_losses import IN_NUMPY, Batch64
from tools.bench.peers import LOSSES, Problem, Weighed, random_batch
from vmr import tables
from vmr.command import run
from vmr.encoders.branch import Branch
from vmr.encoders.transformer import Transformer
from vmr.encoders.two_tower import TwoTower
from vmr.losses.objective import Objective
from vmr.losses.pairs import SIDES, Pairs
from vmr.training.state import TrainState, initial_state, placeholder_standardization
from vmr.training.step import train_step

Array = jax.Array
Row = Sequence[str]
Rows = Iterator[Row]
Section = Callable[["Bench"], Rows]

_REPEATS = 5  # timed turns, of which the median counts
_TURN_SECONDS = 0.05  # shorter calls are repeated, so that their dispatch weighs little
_COMPILERS = 6  # programs compiled at a time; more would compete for the device's memory
_MEMORY_SHARE = 0.85  # share of the device that a program may take


class Bench:
    """Clock, ceilings and sizes, shared by the sections."""

    def __init__(self, minutes: float, small: bool) -> None:
        """Starts the clock."""
        self.small = small
        self.device = jax.local_devices()[0]
        self.deadline = time.monotonic() + 60 * minutes
        # Operations a second by kind of product, and bytes a second; 0 until `ceilings` has run.
        self.rates: dict[str, float] = dict.fromkeys(("float32", "default", "bfloat16", "bytes"), 0)

    def require_time(self, seconds: float = 0.0) -> None:
        """Raises TimeoutError where less than so many seconds are left."""
        if time.monotonic() + seconds > self.deadline:
            raise TimeoutError("no time left (--minutes)")

    def share(self, amount: float, seconds: float, kind: str) -> str:
        """Percent of a ceiling that so many operations or bytes reach in this time."""
        return percent(amount, seconds, self.rates[kind])

    def require_memory(self, compiled: Any) -> None:
        """Raises MemoryError where a program needs more than the device, or this machine, has."""
        needed, limit = _bytes_held(compiled), (self.device.memory_stats() or {}).get("bytes_limit")
        if limit is None:  # a CPU
            limit = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        if needed > _MEMORY_SHARE * limit:
            raise MemoryError(f"needs {_bytes(needed)} of {_bytes(limit)}")

    def peak(self) -> int:
        """Peak of the device's memory so far, in bytes; 0 where the backend has no statistics."""
        return (self.device.memory_stats() or {}).get("peak_bytes_in_use", 0)


def ceilings(bench: Bench) -> Rows:
    """Rates of a product of square matrices, and bandwidth of a copy."""
    yield "what", "size", "rate"
    size = 512 if bench.small else 8192
    kinds = {
        "float32": (jnp.float32, jax.lax.Precision.HIGHEST),
        "default": (jnp.float32, jax.lax.Precision.DEFAULT),  # TF32 or bfloat16 on accelerators
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
    for items in (48,) if bench.small else (256, 2304):  # beyond 2,048, blocks of rows
        bench.require_time()
        pairs = jax.device_put(Pairs(*random_batch(Problem(items, 32, 48))))
        programs = {}
        for name in LOSSES:
            # An accelerator's default products have fewer bits: the errors of those stand apart.
            with jax.default_matmul_precision("highest"):
                programs[name, "fused"] = jax.jit(LOSSES[name].fused).lower(pairs)
                programs[name, "rows"] = jax.jit(LOSSES[name].by_rows).lower(pairs)
            if bench.device.platform != "cpu":
                programs[name, "default"] = jax.jit(LOSSES[name].fused).lower(pairs)
        compiled = dict(zip(programs, all_compiled(programs.values()), strict=True))
        for name in LOSSES:
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
    runs = [(vmnet, 1000), (vmnet, 8192), (ii_clvm, 256), (ii_clvm, 2048)]
    for system, items in [(vmnet, 32), (ii_clvm, 16)] if bench.small else runs:
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
        vmapped = jax.jit(jax.vmap(step, in_axes=(0, None, 0)))
        lowered = [vmapped.lower(states, batch, many), jax.jit(step).lower(state, batch, weights)]
        grid, single = map(_done, all_compiled(lowered))
        bench.require_memory(grid)
        at_once = seconds_of(grid, states, batch, many)
        in_turn = runs * seconds_of(single, state, batch, weights)
        times = f"{1e3 * at_once:.1f}", f"{1e3 * in_turn:.1f}"
        yield "", str(items), *times, f"{at_once / in_turn:.3f}"


def ranks(bench: Bench) -> Rows:
    """Exact ranks of both directions, width 512: the matrix share is that of one product."""
    from vmr.evaluation import pair_ranks

    yield "videos × tracks", "s", "v2m R@10", "matrix share"
    seconds, before = 0.0, 0
    for items in (1000, 2000) if bench.small else (20_000, 200_000):
        # Quadratic in the items: a size that cannot end in time is not begun.
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

    The peak is the device's, where this program raised it. The most used losses come first, lest
    the time ends before them.
    """
    yield "loss", "B", "form", "ms", "temporaries", "peak", *_SHARES, "value"
    sizes = (64,) if bench.small else (1024, 2048, 4096, 8192, 16384, 32768)
    names = _FIRST if bench.small else (*_FIRST, *(name for name in LOSSES if name not in _FIRST))
    for name in names:
        for part in filter(None, (sizes[:3], sizes[3:])):
            yield from guarded_rows(bench, f"{name}, {part}", _loss_rows, name, part)


_SHARES = "matrix share", "memory share"
_FIRST = "infonce", "infonce bfloat16", "structure", "vmnet", "ii_mse"
SECTIONS: tuple[Section, ...] = (ceilings, exactness, steps, weightings, ranks, losses)


def _loss_rows(bench: Bench, name: str, sizes: Sequence[int]) -> Rows:
    """Rows of a loss at some batch sizes, its programs compiled side by side."""
    bench.require_time()
    weighed = peers.IN_BFLOAT16 if name == "infonce bfloat16" else LOSSES[name]
    forms = {"ours": weighed.fused, "naive": _NAIVE.get(name, weighed.by_rows)}
    largest = _largest_batch(bench.small)
    batches = {items: largest.first(items) for items in sizes}
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
        except (MemoryError, RuntimeError) as error:  # too large for one form, not for the other
            cells = [_one_line(error)]
        yield name, f"{items:,}", form, *cells


@functools.cache
def _largest_batch(small: bool) -> Pairs:
    """Largest batch, drawn once; its rows are independent, so the first are a smaller batch."""
    return Pairs(*random_batch(Problem(64 if small else 32768, *_WIDTHS)))


_WIDTHS = 512, 1024
_NAIVE = {
    "infonce": peers.differentiated(peers.infonce),
    "infonce bfloat16": peers.differentiated(functools.partial(peers.infonce, dtype=jnp.bfloat16)),
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
    # Intra-modal losses ask for products in full precision, so that duplicates tie exactly.
    full = all(term in ("music", "video") for term in LOSSES[name.split()[0]].weights)
    kind = "bfloat16" if "bfloat16" in name else "float32" if full else "default"
    return (
        f"{1e3 * seconds:.2f}",
        _bytes(memory.temp_size_in_bytes) if memory else "?",
        _bytes(peak) if peak > before else "",
        bench.share(
            loss_operations(name.split()[0], pairs.positive_ids.size, *_WIDTHS), seconds, kind
        ),
        bench.share(moved, seconds, "bytes"),
        f"{value:.6g}",
    )


def vmnet(items: int, small: bool) -> Any:
    """VM-NET at its published sizes and losses: step, state, batch and weights."""
    hidden = (64,) if small else (2048,)
    model = TwoTower(Branch(hidden), Branch((*hidden, 32 if small else 1024)))
    random = np.random.default_rng(0)
    batch = {
        "video": random.standard_normal((items, 1024), np.float32),
        "music": random.standard_normal((items, 1140), np.float32),
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
        _bytes(memory.temp_size_in_bytes) if memory else "?",
        bench.share(6.0 * rows * kernels, seconds, "default"),  # of the encoders' products
    )


def errors(
    weighed: Weighed, loss: Callable[[Batch64], float], batch: Any, results: Mapping[str, Any]
) -> Row:
    """Relative errors of value, slope and gradient, see `exactness`."""
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


def seconds_of(program: Callable[..., Any], *arguments: Any) -> float:
    """Median time of a call, over turns of as many calls as fill a turn."""

    def turn(calls: int) -> float:
        start = time.perf_counter()
        for _ in range(calls):
            result = program(*arguments)
        # Calls are dispatched one behind another: the last one is ready when all are.
        jax.block_until_ready(result)
        return (time.perf_counter() - start) / calls

    turn(1)  # warm
    once = turn(1)
    calls = max(1, round(_TURN_SECONDS / max(once, 1e-4)))
    return float(np.median([turn(calls) for _ in range(_REPEATS if once < 1.0 else 2)]))


def all_compiled(programs: Iterable[Any]) -> list[Any]:
    """Compiles lowered programs side by side; of one that fails, its exception is returned."""

    def compiled(program: Any) -> Any:
        try:
            return program.compile()
        except RuntimeError as error:
            return error

    with ThreadPoolExecutor(min(_COMPILERS, os.cpu_count() or 1)) as pool:
        return list(pool.map(compiled, programs))


def _done(compiled: Any) -> Any:
    """Returns the program, or raises the exception of its compilation."""
    if isinstance(compiled, Exception):
        raise compiled
    return compiled


def _bytes_held(compiled: Any) -> int:
    """Bytes of a program's arguments, results and temporaries; 0 where the backend has no count."""
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
    """Yields the rows and, where they fail, a row that says so; a TimeoutError ends the section."""
    try:
        yield from rows(bench, *arguments)
    except TimeoutError:
        raise
    except Exception as error:
        yield name, _one_line(error)


def report(bench: Bench, sections: Sequence[Section], write: Callable[[str], None]) -> str:
    """Measures the sections in turn; `write` takes the whole Markdown after each. Returns it."""
    device = bench.device
    text = (
        f"{device.device_kind} ({device.platform}); {paired.machine()}; JAX {jax.__version__}, "
        f"Flax {flax.__version__}, Optax {optax.__version__}; one device of {jax.device_count()}"
    )
    print(text, flush=True)
    for section in sections:
        start = time.monotonic()
        title = (section.__doc__ or section.__name__).splitlines()[0].rstrip(".")
        print(f"\n{title}", flush=True)
        rows, note = [], ""
        try:
            for row in section(bench):
                print("  " + "  ".join(row), flush=True)
                rows.append(row)
        except TimeoutError as error:
            note = f"stopped: {error}; "
        except Exception as error:
            note = f"{_one_line(error)}; "
        note += f"{time.monotonic() - start:.0f} s"
        print(f"  {note}", flush=True)
        text += f"\n\n### {title}\n\n{tables.markdown(rows) if rows else ''}\n\n{note}"
        write(text)
    return text


def main(_: list[str]) -> None:
    """Measures the sections, prints each row at once and all of them as Markdown at the end."""
    if flags.FLAGS.small:  # times mean nothing there: compilation takes most of them
        jax.config.update("jax_disable_most_optimizations", True)

    def write(text: str) -> None:
        # After every section, so that a command that is cut off leaves what it measured.
        if flags.FLAGS.output:
            pathlib.Path(flags.FLAGS.output).write_text(f"{text}\n", encoding="utf-8")

    print(f"\n{report(Bench(flags.FLAGS.minutes, flags.FLAGS.small), SECTIONS, write)}")


def define_flags() -> None:
    """Defines the flags of this command; other modules import its functions without them."""
    flags.DEFINE_float("minutes", 8.0, "After which nothing new is begun.", lower_bound=0.1)
    flags.DEFINE_bool("small", False, "Sizes for a CPU: shows that everything runs.")
    flags.DEFINE_string("output", None, "Markdown file, beside printing it.")


if __name__ == "__main__":
    define_flags()
    run(main)
