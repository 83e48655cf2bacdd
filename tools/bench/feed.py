"""Times the training loop's input by `config.dataset.cache`, with a step that costs nothing.

python -m tools.bench.feed
python -m tools.bench.feed --data_dir=data/youtube8m --seeds=4

Each contender, in a process of its own, puts VM-NET's batches on the devices as the loop does:
examples, of all seeds together, a second. `host` and `device` have read the split before; how long
that took stands beside. On a CPU the devices' memory is the host's.
"""

import functools
import tempfile
import time
from itertools import islice
from pathlib import Path

import jax
from absl import flags

from configs import vmnet
from tools.bench.input import generate_vectors
from tools.bench.paired import Prepared, lines, machine, take_turns
from vmr.command import run
from vmr.training.config import require_sound
from vmr.training.feed import Feed
from vmr.training.reading import batch_spec_of, dataset_of

CACHES = ("host", "device", "none")
_ENDLESS = 10**9


def main(argv: list[str]) -> None:
    """Times the contenders and prints rates and ratios."""
    del argv
    options = flags.FLAGS
    print(f"{machine()}, JAX {jax.__version__}")
    with tempfile.TemporaryDirectory(prefix="vmr_bench_") as made:
        widths = options.video_width, options.music_width
        data_dir = options.data_dir or generate_vectors(Path(made), options.examples, widths)
        steps = max(1, options.epochs * options.examples // options.batch_size)
        contenders = {
            cache: functools.partial(
                prepare, cache, str(data_dir), options.batch_size, options.seeds, steps
            )
            for cache in CACHES
        }
        measured = take_turns(contenders, options.seconds, options.rounds)
    examples = steps * options.batch_size * options.seeds
    print(lines(measured, "examples", examples), flush=True)


def prepare(cache: str, data_dir: str, batch_size: int, seeds: int, steps: int) -> Prepared:
    """Prepares turns of so many steps, each the batches of all seeds on the devices."""
    config = vmnet.get_config()
    config.dataset.update({"data_dir": data_dir, "cache": cache})
    config.update({"batch_size": batch_size, "steps": _ENDLESS})
    require_sound(config)
    dataset = dataset_of(config)
    start = time.perf_counter()
    feed = Feed(config, dataset, batch_spec_of(config, dataset), jax.local_devices())
    stream = feed.steps(range(seeds), 0)
    jax.block_until_ready(next(stream)[0])
    facts = {"seconds until the first batch": f"{time.perf_counter() - start:.2f}"}

    def take() -> None:
        for shards, _ in islice(stream, steps):
            jax.block_until_ready(shards)

    return Prepared(take, facts)


def define_flags() -> None:
    """Defines the flags of this command."""
    flags.DEFINE_string("data_dir", None, "Dataset to time. Default: generated pairs of vectors.")
    flags.DEFINE_integer("examples", 20_000, "Pairs to generate, and pairs in an epoch.", 1)
    flags.DEFINE_integer("video_width", 1024, "Numbers in a generated video.", lower_bound=1)
    flags.DEFINE_integer("music_width", 1140, "Numbers in generated music.", lower_bound=1)
    flags.DEFINE_integer("batch_size", 1000, "Pairs in a batch.", lower_bound=1)
    flags.DEFINE_integer("seeds", 1, "Seeds in the grid, each with its own order.", lower_bound=1)
    flags.DEFINE_integer("epochs", 2, "Epochs in a turn.", lower_bound=1)
    flags.DEFINE_integer("rounds", 5, "Timed turns of each contender.", lower_bound=1)
    flags.DEFINE_float("seconds", 0.0, "Seconds of further rounds, until the ratios are known.")


if __name__ == "__main__":
    define_flags()
    run(main)
