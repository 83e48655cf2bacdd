"""Times every loss, value and gradient at the embeddings, against the usual alternatives.

    python -m tools.bench.losses --output=losses.md --plot=losses.png
    python -m tools.bench.losses --losses=infonce,structure --sizes=512,1024 --large

Every contender has a process of its own, and the processes take turns (`tools.bench.paired`).
Everything runs on the CPU; JAX_PLATFORMS in the environment moves only the contenders in JAX.
Peers come with the extra `bench`; those that are not installed are left out.
"""

import itertools
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from typing import Any

import numpy as np
from absl import flags

from tools.bench import peers
from tools.bench.paired import Measured, machine, ratio, take_turns
from tools.bench.peers import Problem
from vmr import tables
from vmr.command import run
from vmr.errors import UserError

_LEAST, _MOST = 2, 32768
_PACKAGES = ("jax", "optax", "tensorflow", "torch", "open_clip", "pytorch_metric_learning")
_COLUMNS = ("loss", "B", "D", "contender", "ms", "ours / it", "memory", "value", "note")
_ALIGNMENTS = "lrrlrrrrl"


@dataclass(frozen=True)
class Result:
    """Times of a family's contenders, `ours` among them, on one batch."""

    family: str
    problem: Problem
    measured: Mapping[str, Measured]


def main(_: list[str]) -> None:
    """Measures every batch of every family; the table grows as it goes."""
    _require_outputs()
    values = flags.FLAGS
    sizes, widths = sizes_of(values.sizes), (values.width, values.input_width)
    batches = plan(values.losses, sizes, values.large, *widths, values.devices)
    absent = dict.fromkeys(name for family, _ in batches for name in peers.missing(family))
    if absent:
        print(f"not installed, their contenders are left out: {', '.join(absent)}\n")
    text = preamble(values.input_width, _PACKAGES)
    print(text, flush=True)
    results = []
    for family, problem in batches:
        measured = take_turns(peers.contenders(family, problem), values.seconds)
        results.append(Result(family, problem, measured))
        print(rows(results[-1]), flush=True)
        text += f"\n{rows(results[-1])}"
        if values.output:
            pathlib.Path(values.output).write_text(f"{text}\n", encoding="utf-8")
    if values.plot:
        plot(values.plot, results)


def plan(
    families: Sequence[str],
    sizes: Sequence[int],
    large: bool = False,
    width: int = 512,
    input_width: int = 1024,
    devices: int = 8,
) -> list[tuple[str, Problem]]:
    """Batches of every family. Raises UserError where there is no such family."""
    batches = []
    for family in families:
        if family not in peers.FAMILIES:
            known = ", ".join(peers.FAMILIES)
            raise UserError(f"--losses: {family!r}; expected some of {known}")
        sharded = family == "infonce_pmap"
        for size in [max(sizes)] if sharded else sizes:
            if sharded and size % devices:
                raise UserError(
                    f"--devices: {devices} cannot share {size} pairs evenly; expected a divisor of "
                    "the largest size, or --losses without infonce_pmap"
                )
            problem = Problem(size, width, input_width, devices if sharded else 1)
            batches.append((family, problem))
    shapes = ((8192, 512), (16384, 256), (32768, 512)) if large else ()
    return batches + [(peers.LARGE, Problem(*shape, input_width)) for shape in shapes]


def sizes_of(texts: Sequence[str]) -> list[int]:
    """Parses batch sizes, ascending. Raises UserError where one is not a number in range."""
    for text in texts:
        if not text.isdecimal() or not _LEAST <= int(text) <= _MOST:
            raise UserError(f"--sizes: {text!r}; expected whole numbers of {_LEAST} to {_MOST}")
    if not texts:
        raise UserError("--sizes: there is none; expected at least one")
    return sorted({int(text) for text in texts})


def _require_outputs() -> None:
    """Raises UserError where results could not be written, before anything is measured."""
    for name, path in (("output", flags.FLAGS.output), ("plot", flags.FLAGS.plot)):
        if path and not pathlib.Path(path).parent.is_dir():
            raise UserError(f"--{name}: {path}: expected a file in a folder that exists")
    if flags.FLAGS.plot and find_spec("matplotlib") is None:
        raise UserError("--plot: matplotlib is not installed; expected it to be")


def preamble(input_width: int, packages: Iterable[str]) -> str:
    """Method, machine and packages behind the numbers, and the head of the table."""
    distributions = metadata.packages_distributions()
    versions = ", ".join(
        f"{name} {metadata.version(distributions[name][0])}"
        for name in packages
        if name in distributions
    )
    return "\n".join(
        [
            f"Value and gradient at the embeddings (B, D), float32, of inputs (B, {input_width}).",
            "Median time; our time over each contender's, paired within rounds: median (range).",
            "Memory: temporary buffers of the compiled program; RSS: growth of the process's peak",
            "in its first full step.",
            "",
            f"{machine()}; {versions}",
            "",
            tables.markdown_head(_COLUMNS, _ALIGNMENTS),
        ]
    )


def rows(result: Result) -> str:
    """Rows of the table, one for each contender of a batch."""
    lines = []
    for name, measured in result.measured.items():
        facts = dict(measured.facts)
        memory, value = facts.pop("memory", ""), facts.pop("loss", "")
        notes = [peers.FAMILIES[result.family][name].note, *(f"{k} {v}" for k, v in facts.items())]
        cells = [
            *(result.family, str(result.problem.items), str(result.problem.width), name),
            f"{1e3 * np.median(measured.seconds):.1f}",
            "1" if name == "ours" else ratio(result.measured, "ours", name),
            *(memory, value, "; ".join(filter(None, notes))),
        ]
        lines.append(tables.markdown_row(cells))
    return "\n".join(lines)


def plot(path: str, results: Sequence[Result]) -> None:
    """Plots each contender's time over ours: a panel a family, both axes logarithmic.

    Markers are medians over rounds, bars their range.
    """
    from matplotlib.figure import Figure

    families = [list(group) for _, group in itertools.groupby(results, lambda each: each.family)]
    columns = min(3, len(families))
    lines = -(-len(families) // columns)
    figure = Figure(figsize=(4.6 * columns, 3.5 * lines), layout="constrained")  # inches
    for number, group in enumerate(families, start=1):
        _draw(figure.add_subplot(lines, columns, number), group)
    figure.savefig(path, dpi=150)


def _draw(panel: Any, results: Sequence[Result]) -> None:
    """Draws the panel of one family."""
    panel.axhline(1.0, color="black", linewidth=1.0, label="ours")
    names = dict.fromkeys(name for each in results for name in each.measured if name != "ours")
    for name, marker in zip(names, itertools.cycle("osD^vPX*"), strict=False):
        present = [each for each in results if name in each.measured]
        ratios = [each.measured[name].seconds / each.measured["ours"].seconds for each in present]
        # (3, B): least, median and greatest ratio at each batch.
        low, middle, high = np.transpose([np.quantile(each, (0.0, 0.5, 1.0)) for each in ratios])
        sizes = [each.problem.items for each in present]
        reach = middle - low, high - middle
        panel.errorbar(sizes, middle, reach, marker=marker, markersize=4, capsize=2, label=name)
    panel.set_xscale("log", base=2)
    panel.set_yscale("log")
    problems = [each.problem for each in results]
    panel.set_xticks([p.items for p in problems], [f"{p.items} × {p.width}" for p in problems])
    low, high = panel.get_ylim()
    panel.set_ylim(min(low, 0.45), max(high, 2.2))  # wide enough to hold labelled ticks
    panel.set(title=results[0].family, xlabel="B × D", ylabel="time / our time")
    panel.grid(which="major", alpha=0.3)
    panel.legend(fontsize="x-small")


def define_flags() -> None:
    """Defines the flags of this command; other modules import its functions without them."""
    flags.DEFINE_list(
        "losses",
        [family for family in peers.FAMILIES if family != peers.LARGE],
        "Which families of losses to time.",
    )
    flags.DEFINE_list("sizes", ["512", "1024", "2048", "4096"], "Batch sizes.")
    flags.DEFINE_integer("width", 512, "Width of the embeddings.", lower_bound=1)
    flags.DEFINE_integer("input_width", 1024, "Width of the inputs.", lower_bound=1)
    flags.DEFINE_integer(
        "devices",
        8,
        "Virtual devices of infonce_pmap, which takes the largest of the sizes alone.",
        lower_bound=2,
        upper_bound=64,
    )
    flags.DEFINE_bool(
        "large",
        False,
        "InfoNCE against naive at 8192 x 512 and 16384 x 256, and alone at 32768 x 512.",
    )
    flags.DEFINE_float(
        "seconds", 10, "Time for each family and size; three rounds at least.", lower_bound=0
    )
    flags.DEFINE_string("output", None, "Markdown file for the table, beside printing it.")
    flags.DEFINE_string("plot", None, "Image file for a plot of the ratios; needs matplotlib.")


if __name__ == "__main__":
    define_flags()
    run(main)
