"""Times every loss, value and gradient at the embeddings, against the usual alternatives.

    python -m tools.bench.losses --output=losses.md --plot=losses.png
    python -m tools.bench.losses --losses=infonce,structure --sizes=512,1024 --widths=128,512
    python -m tools.bench.losses --all --record=monday.jsonl  # and again another day
    python -m tools.bench.losses --merge=monday.jsonl,friday.jsonl

Every contender has a process of its own, and the processes take turns (`tools.bench.paired`).
Everything runs on the CPU; JAX_PLATFORMS in the environment moves only the contenders in JAX.
The machine's ceilings are measured first (`tools.bench.ceilings`). Peers come with the extra
`bench`; those that are not installed are left out.
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

from tools.bench import peers, records
from tools.bench.ceilings import Ceilings, loss_operations, measured_ceilings
from tools.bench.paired import Contender, Measured, processor_ratio, ratio, take_turns
from tools.bench.peers import Problem
from vmr import tables
from vmr.command import run
from vmr.errors import UserError

_LEAST, _MOST = 2, 32768
_PACKAGES = ("jax", "optax", "tensorflow", "torch", "open_clip", "pytorch_metric_learning")
_COLUMNS = (
    *("loss", "B", "D", "contender", "ms", "ours / it", "processors", "matrix share"),
    *("memory", "value", "note"),
)
_ALIGNMENTS = "lrrlrrrrrrl"
# --large adds the one that is left out.
_FAMILIES = [name for name in peers.FAMILIES if name != peers.LARGE]
# All that users are known to have: powers of two, whose rows alias in caches, and others.
_SIZES = 256, 500, 512, 1000, 1024, 2000, 2048, 4096, 8192
_WIDTHS = 128, 256, 512, 1024


@dataclass(frozen=True)
class Result:
    """Times of a family's contenders, `ours` among them, on one batch."""

    family: str
    problem: Problem
    measured: Mapping[str, Measured]

    @property
    def operations(self) -> float:
        """Least operations of the loss and its gradient, whatever a contender does."""
        problem, name = self.problem, self.family.split(",")[0].removesuffix("_pmap")
        return loss_operations(name, problem.items, problem.width, problem.input_width)


def main(_: list[str]) -> None:
    """Measures every batch of every family; the table grows as it goes.

    Raises UserError at the end where some could not be measured.
    """
    values = flags.FLAGS
    if values.merge:
        print(records.merged(values.merge))
        return
    _require_outputs()
    families = _FAMILIES if values.all else values.losses
    sizes = list(_SIZES) if values.all else sizes_of(values.sizes)
    widths = list(_WIDTHS) if values.all else sizes_of(values.widths, "widths", least=1)
    large = values.large or values.all
    batches = plan(families, sizes, large, widths, values.input_width, values.devices)
    require_contenders(values.contenders, [family for family, _ in batches])
    absent = dict.fromkeys(name for family, _ in batches for name in peers.missing(family))
    if absent:
        print(f"not installed, their contenders are left out: {', '.join(absent)}\n")
    ceilings = measured_ceilings()
    text = preamble(values.input_width, _PACKAGES, ceilings)
    print(text, flush=True)
    results, unmeasured, record = [], [], records.Record(values.record, ceilings)
    for family, problem in batches:
        contenders = chosen(peers.contenders(family, problem), values.contenders)
        try:
            measured = take_turns(contenders, values.seconds)
        except UserError as mistake:  # hours of other measurements are not lost with it
            unmeasured.append(f"{family} at {problem.items} x {problem.width}: {mistake}")
            print(f"not measured: {unmeasured[-1]}", flush=True)
            continue
        result = Result(family, problem, measured)
        results.append(result)
        print(rows(result, ceilings), flush=True)
        text += f"\n{rows(result, ceilings)}"
        record.add(family, (problem.items, problem.width), measured, result.operations)
        if values.output:
            pathlib.Path(values.output).write_text(f"{text}\n", encoding="utf-8")
    if values.plot and results:
        plot(values.plot, results)
    if unmeasured:
        raise UserError(
            f"not measured, {len(unmeasured)} of {len(batches)}: {'; '.join(unmeasured)}"
        )


def plan(
    families: Sequence[str],
    sizes: Sequence[int],
    large: bool = False,
    widths: Sequence[int] = (512,),
    input_width: int = 1024,
    devices: int = 8,
) -> list[tuple[str, Problem]]:
    """Batches of every family. Raises UserError where there is no such family."""
    batches = []
    for family in families:
        if family not in peers.FAMILIES:
            known = ", ".join(_FAMILIES)
            raise UserError(f"--losses: {family!r}; expected some of {known}")
        sharded = family == "infonce_pmap"
        for size, width in itertools.product([max(sizes)] if sharded else sizes, widths):
            if sharded and size % devices:
                raise UserError(
                    f"--devices: {devices} cannot share {size} pairs evenly; expected a divisor of "
                    "the largest size, or --losses without infonce_pmap"
                )
            problem = Problem(size, width, input_width, devices if sharded else 1)
            batches.append((family, problem))
    shapes = ((8192, 512), (16384, 256), (32768, 512)) if large else ()
    return batches + [(peers.LARGE, Problem(*shape, input_width)) for shape in shapes]


def chosen(contenders: Mapping[str, Contender], names: Sequence[str]) -> dict[str, Contender]:
    """Ours, and the contenders of these names; all of them where there are no names."""
    return {
        name: each for name, each in contenders.items() if name in ("ours", *(names or contenders))
    }


def require_contenders(names: Sequence[str], families: Iterable[str]) -> None:
    """Raises UserError where a name is no contender's of any of these families."""
    known = list(dict.fromkeys(name for family in families for name in peers.FAMILIES[family]))
    for name in names:
        if name not in known:
            raise UserError(f"--contenders: {name!r}; expected some of {', '.join(known)}")


def sizes_of(texts: Sequence[str], flag: str = "sizes", least: int = _LEAST) -> list[int]:
    """Parses sizes of a flag, ascending. Raises UserError where one is not a number in range."""
    for text in texts:
        if not text.isdecimal() or not least <= int(text) <= _MOST:
            raise UserError(f"--{flag}: {text!r}; expected whole numbers of {least} to {_MOST}")
    if not texts:
        raise UserError(f"--{flag}: there is none; expected at least one")
    return sorted({int(text) for text in texts})


def _require_outputs() -> None:
    """Raises UserError where results could not be written, before anything is measured."""
    records.require_new(flags.FLAGS.record)
    for name, path in (("output", flags.FLAGS.output), ("plot", flags.FLAGS.plot)):
        if path and not pathlib.Path(path).parent.is_dir():
            raise UserError(f"--{name}: {path}: expected a file in a folder that exists")
    if flags.FLAGS.plot and find_spec("matplotlib") is None:
        raise UserError("--plot: matplotlib is not installed; expected it to be")


def preamble(input_width: int, packages: Iterable[str], ceilings: Ceilings) -> str:
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
            "Median time; our time over each contender's, by the clock and of processors, paired",
            "within at least five rounds: median (range). Matrix share: operations that the loss's",
            "products need at least, over time and the fastest matrix rate of this machine.",
            "Memory: temporary buffers of the compiled program; RSS: growth of the process's peak",
            "in its first full step.",
            "",
            f"{ceilings}; {versions}",
            "",
            tables.markdown_head(_COLUMNS, _ALIGNMENTS),
        ]
    )


def rows(result: Result, ceilings: Ceilings) -> str:
    """Rows of the table, one for each contender of a batch."""
    lines = []
    for name, measured in result.measured.items():
        facts = dict(measured.facts)
        memory, value = facts.pop("memory", ""), facts.pop("loss", "")
        notes = [peers.FAMILIES[result.family][name].note, *(f"{k} {v}" for k, v in facts.items())]
        cells = [
            *(result.family, str(result.problem.items), str(result.problem.width), name),
            f"{1e3 * np.median(measured.seconds):.1f}",
            *(
                "1" if name == "ours" else paired_ratio(result.measured, "ours", name)
                for paired_ratio in (ratio, processor_ratio)
            ),
            ceilings.share(result.operations, float(np.median(measured.seconds))),
            *(memory, value, "; ".join(filter(None, notes))),
        ]
        lines.append(tables.markdown_row(cells))
    return "\n".join(lines)


def plot(path: str, results: Sequence[Result]) -> None:
    """Plots each contender's time over ours: a panel a family and width, axes logarithmic.

    Markers are medians over rounds, bars their range.
    """
    from matplotlib.figure import Figure

    panels: dict[tuple[str, int], list[Result]] = {}
    for result in results:
        panels.setdefault((result.family, result.problem.width), []).append(result)
    columns = min(3, len(panels))
    lines = -(-len(panels) // columns)
    figure = Figure(figsize=(4.6 * columns, 3.5 * lines), layout="constrained")  # inches
    for number, group in enumerate(panels.values(), start=1):
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
    ticks = [each.problem.items for each in results]
    panel.set_xticks(ticks, [str(tick) for tick in ticks])
    low, high = panel.get_ylim()
    panel.set_ylim(min(low, 0.45), max(high, 2.2))  # wide enough to hold labelled ticks
    title = f"{results[0].family}, D = {results[0].problem.width}"
    panel.set(title=title, xlabel="B", ylabel="time / our time")
    panel.grid(which="major", alpha=0.3)
    panel.legend(fontsize="x-small")


def define_flags() -> None:
    """Defines the flags of this command; other modules import its functions without them."""
    flags.DEFINE_list(
        "losses",
        ["infonce", "vmnet", "structure", "ii_mse"],
        f"Which families of losses to time, of {', '.join(_FAMILIES)}.",
    )
    flags.DEFINE_list("contenders", [], "Who runs beside ours; all that are installed by default.")
    flags.DEFINE_list("sizes", ["256", "1000", "1024", "4096"], "Batch sizes.")
    flags.DEFINE_list("widths", ["512"], "Widths of the embeddings.")
    flags.DEFINE_bool("all", False, f"Every family at B of {_SIZES}, D of {_WIDTHS}, and --large.")
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
        "seconds", 10, "At most, after five rounds, for each family, size and width.", lower_bound=0
    )
    flags.DEFINE_string("record", None, "New file of JSON lines, for --merge on another day.")
    flags.DEFINE_list("merge", None, "Prints the ranges over these records; measures nothing.")
    flags.DEFINE_string("output", None, "Markdown file for the table, beside printing it.")
    flags.DEFINE_string("plot", None, "Image file for a plot of the ratios; needs matplotlib.")


if __name__ == "__main__":
    define_flags()
    run(main)
