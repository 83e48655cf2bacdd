"""The table of `tools.bench_losses`, in Markdown: a row for each contender of each batch."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import metadata

import numpy as np

from tools.paired import Measured, machine, ratio
from tools.peers.problem import Problem

_COLUMNS = ("loss", "B", "D", "contender", "ms", "ours / it", "memory", "value", "note")
_RIGHT = {"B", "D", "ms", "ours / it", "memory", "value"}


@dataclass(frozen=True)
class Result:
    """What the contenders of a family took for one batch; `ours` is among them.

    Attributes:
      family: of losses.
      problem: the shapes of the batch.
      measured: by contender.
      notes: by contender, where there is one.
    """

    family: str
    problem: Problem
    measured: Mapping[str, Measured]
    notes: Mapping[str, str]


def preamble(input_width: int, packages: Iterable[str]) -> str:
    """What the numbers are, what they were measured on, and the head of the table."""
    rule = ("---:" if column in _RIGHT else "---" for column in _COLUMNS)
    return "\n".join(
        [
            f"Value and gradient at the embeddings (B, D), float32, of inputs (B, {input_width}).",
            "Median time; our time over each contender's, paired within rounds: median (range).",
            "Memory: temporary buffers of the compiled program; RSS: growth of the process's peak",
            "in its first full step.",
            "",
            f"{machine()}; {_versions(packages)}",
            "",
            _row(_COLUMNS),
            "|" + "|".join(rule) + "|",
        ]
    )


def rows(result: Result) -> str:
    """The rows of one batch."""
    return "\n".join(_row(_cells(result, name)) for name in result.measured)


def _cells(result: Result, name: str) -> list[str]:
    measured, problem = result.measured[name], result.problem
    facts = dict(measured.facts)
    memory, value = facts.pop("memory", ""), facts.pop("loss", "")
    others = [f"{key} {fact}" for key, fact in facts.items()]
    return [
        result.family,
        str(problem.items),
        str(problem.width),
        name,
        f"{1e3 * np.median(measured.seconds):.1f}",
        "1" if name == "ours" else ratio(result.measured, "ours", name),
        memory,
        value,
        "; ".join(note for note in (result.notes.get(name, ""), *others) if note),
    ]


def _row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _versions(packages: Iterable[str]) -> str:
    """Of those that are installed."""
    distributions = metadata.packages_distributions()
    return ", ".join(
        f"{name} {metadata.version(distributions[name][0])}"
        for name in packages
        if name in distributions
    )
