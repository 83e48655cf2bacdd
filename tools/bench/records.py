"""Measurements as JSON lines, and runs of several days beside one another.

The first line of a file has the machine and its ceilings, each further line one contender of one
problem, with the ratios of the first contender's times to its own in every round.
"""

import datetime
import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tools.bench.ceilings import Ceilings
from tools.bench.paired import Measured
from vmr import disk, tables
from vmr.errors import UserError

_COLUMNS = ("what", "B", "D", "contender", "runs", "ms", "ours / it", "processors", "matrix share")
_KEY = ("what", "items", "width", "contender")


class Record:
    """File of measurements, whole after each problem; with no path, nothing is written."""

    def __init__(self, path: str | None, ceilings: Ceilings) -> None:
        """Begins the lines. `require_new` has refused a path that cannot be written."""
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        self._path, self._lines = path, [json.dumps({"date": now, **ceilings.as_record()})]
        self._rate = max(ceilings.matrix.values())

    def add(
        self,
        what: str,
        shape: tuple[int, int],
        measured: Mapping[str, Measured],
        operations: float,
    ) -> None:
        """Adds the contenders of a problem of (items, width) and writes the file."""
        ours = next(iter(measured.values()))
        for name, each in measured.items():
            key = dict(zip(_KEY, (what, *shape, name), strict=True))
            numbers = {
                "seconds": each.seconds.tolist(),
                "ratio": (ours.seconds / each.seconds).tolist(),
                "processor_ratio": (ours.processor_seconds / each.processor_seconds).tolist(),
                "share": operations / float(np.median(each.seconds)) / self._rate,
            }
            self._lines.append(json.dumps({**key, **numbers, "facts": dict(each.facts)}))
        if self._path:
            disk.write_text(pathlib.Path(self._path), "\n".join(self._lines) + "\n")


def require_new(path: str | None) -> None:
    """Raises UserError, before anything is measured, where a record could not be written."""
    if path and (os.path.lexists(path) or not pathlib.Path(path).parent.is_dir()):
        raise UserError(f"--record: {path}: expected a new file in a folder that exists")


def merged(paths: Sequence[str]) -> str:
    """Runs side by side: their machines, then a Markdown table of ranges over the runs.

    Each number is the range of the runs' medians; of ratios, the range of all their rounds stands
    in brackets. Raises UserError where a file is named twice or is no record.
    """
    if len({os.path.realpath(path) for path in paths}) < len(paths):
        raise UserError(f"--merge: {','.join(paths)}: expected each record once")
    heads: list[str] = []
    cells: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for path in paths:
        head, *lines = _read(path)
        heads.append(f"{head['date']}: {head['ceilings']}")
        for line in lines:
            cells.setdefault(tuple(line[name] for name in _KEY), []).append(line)
    rows = [_COLUMNS, *(_row(key, lines) for key, lines in cells.items())]
    return "\n".join(["\n\n".join(heads), "", tables.markdown(rows, "lrrlrrrrr")])


def _read(path: str) -> list[dict[str, Any]]:
    """Lines of a record, the head first."""
    lines: list[dict[str, Any]] = []
    try:
        for text in pathlib.Path(path).read_text("utf-8").splitlines():
            line = json.loads(text)
            if lines:
                if not (line["seconds"] and line["ratio"] and line["processor_ratio"]):
                    raise ValueError("no rounds")
                _row(tuple(line[name] for name in _KEY), [line])  # raises if it is no such line
                lines.append(line)
            else:
                head = {"date": line.pop("date"), "ceilings": Ceilings(**line)}
                str(head["ceilings"])
                lines.append(head)
    except OSError as error:
        raise UserError(f"--merge: {path}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"--merge: {path}: line {len(lines) + 1} is none of --record ({error!r})"
        ) from None
    if len(lines) < 2:
        raise UserError(f"--merge: {path}: nothing was measured; expected a file of --record")
    return lines


def _row(key: tuple[Any, ...], lines: Sequence[Mapping[str, Any]]) -> list[str]:
    what, items, width, contender = key
    milliseconds = _range([1e3 * np.median(line["seconds"]) for line in lines], ".1f")
    shares = _range([100 * line["share"] for line in lines], ".0f")
    ratios = [
        f"{_range([np.median(line[name]) for line in lines])} "
        f"({_range(np.concatenate([line[name] for line in lines]))})"
        for name in ("ratio", "processor_ratio")
    ]
    counts = str(items), str(width), contender, str(len(lines))
    return [what, *counts, milliseconds, *ratios, f"{shares} %"]


def _range(values: Any, form: str = ".3f") -> str:
    low, high = format(np.min(values), form), format(np.max(values), form)
    return low if low == high else f"{low}–{high}"
