"""The scalars of a run, a step at a time: metrics.jsonl and TensorBoard events."""

import json
import pathlib
from collections.abc import Mapping
from types import TracebackType

from clu import metric_writers

from vmr.training.disk import full_disk_in_one_line, write_text


class MetricsLog:
    """Writes `metrics.jsonl`, one object a logged step, and the same to TensorBoard."""

    def __init__(self, workdir: pathlib.Path, resumed_step: int):
        """Opens the log at a step; lines of later steps, which will be taken again, go."""
        self._path = workdir / "metrics.jsonl"
        self.lines = [line for line in whole_lines(self._path) if line["step"] <= resumed_step]
        write_text(self._path, "".join(json.dumps(line) + "\n" for line in self.lines))
        self._file = self._path.open("a", encoding="utf-8")
        self._events = metric_writers.SummaryWriter(str(workdir))

    def __enter__(self) -> "MetricsLog":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._file.close()
        self._events.close()

    def write(self, step: int, scalars: Mapping[str, float]) -> None:
        """Writes the scalars of a step; a reader finds the line at once.

        Raises:
          UserError: no space is left; lines written before are whole.
        """
        line = {"step": step, **{name: float(value) for name, value in scalars.items()}}
        self.lines.append(line)
        with full_disk_in_one_line(self._path):
            self._file.write(json.dumps(line) + "\n")
            self._file.flush()
            self._events.write_scalars(step, dict(scalars))
            self._events.flush()


def whole_lines(path: pathlib.Path) -> list[dict[str, float]]:
    """The objects in a `metrics.jsonl`, in their order; damaged lines are left out."""
    if not path.is_file():
        return []
    lines = []
    for text in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            line = json.loads(text)
        except ValueError:
            continue
        if _is_sound(line):
            lines.append(line)
    return lines


def _is_sound(line: object) -> bool:
    """Whether it is an object of numbers, the step among them."""
    if not isinstance(line, dict) or "step" not in line:
        return False
    return all(isinstance(value, int | float) for value in line.values())
