"""Losses on one device: exact to float64 NumPy, and their times beside a naive form's."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tools.bench import peers
from tools.bench.ceilings import loss_operations
from tools.bench.numpy_losses import IN_NUMPY, Batch64
from tools.bench.peers import LOSSES, Problem, Weighed, random_batch
from tools.bench.sections import (
    Bench,
    Row,
    Rows,
    all_compiled,
    bytes_held,
    done,
    guarded_rows,
    in_bytes,
    one_line,
    seconds_of,
)
from vmr.losses.pairs import Pairs


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
        form: jax.device_get(done(compiled[name, form])(pairs))
        for form in ("fused", "rows", "default")
        if (name, form) in compiled
    }
    yield (
        name,
        f"{pairs.positive_ids.size:,}",
        *errors(LOSSES[name], IN_NUMPY[name], pairs, results),
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
            cells = _loss_cells(bench, name, done(program), pairs)
        except (MemoryError, RuntimeError) as error:  # too large for one form, not for the other
            cells = [one_line(error)]
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
    moved = bytes_held(compiled) + (memory.temp_size_in_bytes if memory else 0)
    # Intra-modal losses ask for products in full precision, so that duplicates tie exactly.
    full = all(term in ("music", "video") for term in LOSSES[name.split()[0]].weights)
    kind = "bfloat16" if "bfloat16" in name else "float32" if full else "default"
    return (
        f"{1e3 * seconds:.2f}",
        in_bytes(memory.temp_size_in_bytes) if memory else "?",
        in_bytes(peak) if peak > before else "",
        bench.share(
            loss_operations(name.split()[0], pairs.positive_ids.size, *_WIDTHS), seconds, kind
        ),
        bench.share(moved, seconds, "bytes"),
        f"{value:.6g}",
    )
