"""Times every loss, value and gradient at the embeddings, against what one would use instead.

    python -m tools.bench_losses --output=losses.md --plot=losses.png
    python -m tools.bench_losses --losses=infonce,structure --sizes=512,1024 --large

Every contender lives in a process of its own, because the thread pools of different libraries fight
over the cores; the processes take turns, so that each ratio compares neighbours in time. Everything
runs on the CPU: JAX_PLATFORMS in the environment moves the contenders in JAX alone. Peers come with
the extra `bench`; those that are not installed are left out.

What to reach, our time and memory over the peer's, at width 512 unless said:

    structure     512          0.04 of naive, 5 MB with inputs of width 512
                  1024 - 4096  0.9 of torch argsort, 0.45 of lax.sort, 40 MB
    infonce       4096         0.35 of open_clip
                  8192         0.85 of naive in time, 0.08 in memory
                  16384 x 256  0.65 of naive in time, 0.03 in memory
    infonce_pmap  4096         0.55 of gather both, 0.25 of all by all
    ii_mse        4096         0.3 of naive
    vmnet                      the step as a whole: see tools.bench_step
"""

import pathlib
from collections.abc import Sequence
from importlib.util import find_spec

from absl import flags

from tools import loss_plot, loss_table
from tools.loss_table import Result
from tools.paired import take_turns
from tools.peers.catalogue import FAMILIES, LARGE, Peer, contenders, missing
from tools.peers.problem import Problem
from vmr.command import run
from vmr.errors import UserError

_LOSSES = flags.DEFINE_list("losses", list(FAMILIES), "Which families of losses to time.")
_SIZES = flags.DEFINE_list("sizes", ["512", "1024", "2048", "4096"], "Batch sizes.")
_WIDTH = flags.DEFINE_integer("width", 512, "Width of the embeddings.", lower_bound=1)
_INPUT_WIDTH = flags.DEFINE_integer("input_width", 1024, "Width of the inputs.", lower_bound=1)
_DEVICES = flags.DEFINE_integer(
    "devices",
    8,
    "Virtual devices of infonce_pmap, which takes the largest of the sizes alone.",
    lower_bound=2,
    upper_bound=64,
)
_LARGE = flags.DEFINE_bool(
    "large", False, "InfoNCE against naive at 8192 x 512 and 16384 x 256, and alone at 32768 x 512."
)
_SECONDS = flags.DEFINE_float(
    "seconds", 10, "Time for each family and size; three rounds at least.", lower_bound=0
)
_OUTPUT = flags.DEFINE_string("output", None, "Markdown file for the table, beside printing it.")
_PLOT = flags.DEFINE_string("plot", None, "Image file for a plot of the ratios; needs matplotlib.")

_LEAST, _MOST = 2, 32768
_PACKAGES = ("jax", "optax", "tensorflow", "torch", "open_clip", "pytorch_metric_learning")

# A family, its peers, and one batch for them.
Plan = list[tuple[str, tuple[Peer, ...], Problem]]


def plan(families: Sequence[str], sizes: Sequence[int]) -> Plan:
    """Every batch of every family. Raises UserError where there is no such family."""
    steps: Plan = []
    width, input_width = _WIDTH.value, _INPUT_WIDTH.value
    for family in families:
        if family not in FAMILIES:
            raise UserError(f"--losses: {family!r}; expected some of {', '.join(FAMILIES)}")
        if family == "infonce_pmap":
            problems = [_sharded(max(sizes))]
        else:
            problems = [Problem(size, width, input_width) for size in sizes]
        steps += [(family, FAMILIES[family], problem) for problem in problems]
    if _LARGE.value:
        shapes = ((8192, 512), (16384, 256), (32768, 512))
        steps += [("infonce, large", LARGE, Problem(*shape, input_width)) for shape in shapes]
    return steps


def sizes_of(texts: Sequence[str]) -> list[int]:
    """The batch sizes, ascending. Raises UserError where one is none."""
    for text in texts:
        if not text.isdecimal() or not _LEAST <= int(text) <= _MOST:
            raise UserError(f"--sizes: {text!r}; expected whole numbers of {_LEAST} to {_MOST}")
    if not texts:
        raise UserError("--sizes: there is none; expected at least one")
    return sorted({int(text) for text in texts})


def _sharded(size: int) -> Problem:
    if size % _DEVICES.value:
        raise UserError(
            f"--devices: {_DEVICES.value} cannot share {size} pairs evenly; expected a divisor of "
            "the largest size, or --losses without infonce_pmap"
        )
    return Problem(size, _WIDTH.value, _INPUT_WIDTH.value, _DEVICES.value)


def _require_outputs() -> None:
    """Raises UserError where what is measured could not be written."""
    for name, path in (("output", _OUTPUT.value), ("plot", _PLOT.value)):
        if path and not pathlib.Path(path).parent.is_dir():
            raise UserError(f"--{name}: {path}: expected a file in a folder that exists")
    if _PLOT.value and find_spec("matplotlib") is None:
        raise UserError("--plot: matplotlib is not installed; expected the extra `bench`")


def main(_: list[str]) -> None:
    """Measures every batch of every family; the table grows as it goes."""
    _require_outputs()
    steps = plan(_LOSSES.value, sizes_of(_SIZES.value))
    absent = missing(peer for _, peers, _ in steps for peer in peers)
    if absent:
        print(f"not installed, their contenders are left out: {', '.join(absent)}\n")
    text = loss_table.preamble(_INPUT_WIDTH.value, _PACKAGES)
    print(text, flush=True)
    results = []
    for family, peers, problem in steps:
        measured = take_turns(contenders(peers, problem), _SECONDS.value)
        notes = {peer.name: peer.note for peer in peers}
        results.append(Result(family, problem, measured, notes))
        found = loss_table.rows(results[-1])
        print(found, flush=True)
        text += f"\n{found}"
        if _OUTPUT.value:
            pathlib.Path(_OUTPUT.value).write_text(f"{text}\n", encoding="utf-8")
    if _PLOT.value:
        loss_plot.save(_PLOT.value, results)


if __name__ == "__main__":
    run(main)
