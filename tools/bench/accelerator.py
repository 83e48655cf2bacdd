"""One accelerator, measured in minutes: losses, steps, an epoch, grids of weightings, exact ranks.

    python -m tools.bench.accelerator --output=accelerator.md
    python -m tools.bench.accelerator --small  # the same code at sizes for a CPU

Needs JAX, Flax, Optax, NumPy, absl and this package: no TensorFlow, no data. A section that fails
or runs out of time ends in one line, and the rest goes on. Rows are printed as they are measured,
all of them as Markdown at the end.

Ceilings, the rates of a large matrix product and of a large copy, are measured in the same run.
*Matrix share*: operations of the loss by its formula (its N × N products and their transposes,
nothing computed twice) over time × matrix rate. *Memory share*: the least that is moved, arguments
and results once, temporaries written and read once, over time × bandwidth.
"""

import functools
import pathlib
import time

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from tools.bench.device_losses import exactness, losses
from tools.bench.device_steps import epoch, steps, weightings
from tools.bench.evaluation import noisy_pairs
from tools.bench.sections import Bench, Rows, Section, in_bytes, report, seconds_of
from vmr.command import run


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
    yield "copy, read and written", in_bytes(x.nbytes), f"{bench.rates['bytes'] / 1e9:.0f} GB/s"


def ranks(bench: Bench) -> Rows:
    """Exact ranks of both directions, width 512: the matrix share is that of one product."""
    from vmr.evaluation import pair_ranks

    yield "videos × tracks", "s", "v2m R@10", "matrix share"
    seconds, before = 0.0, 0
    for items in (1000, 2000) if bench.small else (20_000, 200_000, 1_000_000):
        # Quadratic in the items: a size that would leave the losses too little time is not begun.
        bench.require_time(3.0 * seconds * (items / before) ** 2 if before else 0.0)
        video, music = noisy_pairs(items, 512)
        start = time.perf_counter()
        v2m, _ = pair_ranks(video, music, np.arange(items))
        seconds, before = time.perf_counter() - start, items
        share = bench.share(2 * items**2 * 512, seconds, "float32")
        recall = 100 * float(np.mean(v2m.above[:, 0] < 10))
        yield f"{items:,}²", f"{seconds:.1f}", f"{recall:.2f}", share


SECTIONS: tuple[Section, ...] = (ceilings, exactness, steps, epoch, weightings, ranks, losses)


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
