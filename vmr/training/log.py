"""Log of a run's scalars in `metrics.jsonl` and TensorBoard; check that they are finite."""

import contextlib
import itertools
import json
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
import optax
from clu import metric_writers

from vmr import distributed
from vmr.disk import full_disk_in_one_line, write_json, write_text
from vmr.errors import UserError
from vmr.training.state import TrainState


class MetricsLog:
    """Writer of `metrics.jsonl`, one JSON object per logged step, and of TensorBoard events.

    Attributes:
      lines: lines of the log so far.
    """

    def __init__(self, workdir: pathlib.Path, resumed_step: int):
        """Opens the log at a step; drops the lines of later steps, which will be taken again."""
        self._path = workdir / "metrics.jsonl"
        self.lines = distributed.from_first(lambda: self._lines_until(resumed_step))
        self._files = contextlib.ExitStack()
        if not distributed.is_first():
            return
        write_text(self._path, "".join(json.dumps(line) + "\n" for line in self.lines))
        self._file = self._files.enter_context(self._path.open("a", encoding="utf-8"))
        self._events = metric_writers.SummaryWriter(str(workdir))
        self._files.callback(self._events.close)

    def _lines_until(self, step: int) -> list[dict[str, float]]:
        return [line for line in whole_lines(self._path) if line["step"] <= step]

    def __enter__(self) -> "MetricsLog":
        return self

    def __exit__(self, *_: Any) -> None:
        self._files.close()

    def write(self, step: int, scalars: Mapping[str, float]) -> None:
        """Writes the scalars of a step, flushed for readers to find the line at once.

        Raises:
          UserError: no space is left; lines written before are whole.
        """
        line = {"step": step, **{name: float(value) for name, value in scalars.items()}}
        self.lines.append(line)
        if not distributed.is_first():
            return
        with full_disk_in_one_line(self._path):
            self._file.write(json.dumps(line) + "\n")
            self._file.flush()
            self._events.write_scalars(step, dict(scalars))
            self._events.flush()


def whole_lines(path: pathlib.Path) -> list[dict[str, float]]:
    """Lines of a `metrics.jsonl` in their order, without damaged ones."""
    if not path.is_file():
        return []
    lines = []
    # A process that is killed leaves half a line; a disk that fails leaves any bytes.
    for text in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            line = json.loads(text)
        except ValueError:
            continue
        if _is_sound(line):
            lines.append(line)
    return lines


def _is_sound(line: object) -> bool:
    """True for an object of numbers with a step."""
    if not isinstance(line, dict) or "step" not in line:
        return False
    return all(isinstance(value, int | float) for value in line.values())


# Scalars that must be finite if a step has them, and their names in words.
_NAMES = {"loss": "loss", "gradient_norm": "gradient norm", "state_norm": "norm of the state"}


def state_norm(state: TrainState) -> jax.Array:
    """Norm () of everything that embeds; may be infinite while the loss is still finite."""
    return optax.tree.norm((state.params, state.average, state.batch_stats))


def require_finite(
    workdir: pathlib.Path,
    step: int,
    scalars: Mapping[str, jax.Array],
    batch: Mapping[str, np.ndarray],
) -> None:
    """Raises UserError that names the step and its batch if the loss or a norm is not finite.

    Args:
      workdir: folder for a report of the step.
      step: number of the step taken.
      scalars: scalars of the step; before a validation or a checkpoint, with its `state_norm`.
      batch: batch of the step.
    """
    values = {name: float(scalars[field]) for field, name in _NAMES.items() if field in scalars}
    if np.isfinite(list(values.values())).all():
        return
    own = [str(video_id) for video_id in batch["video_id"]]
    ids = list(itertools.chain.from_iterable(distributed.from_all(own)))
    report = workdir / f"nonfinite_step_{step}.json"
    # Norms of the terms and towers are left out: steps that are not logged have none. As strings,
    # since JSON has no NaN.
    texts = {name: str(float(x)) for name, x in scalars.items() if "_norm/" not in name}
    write_json(report, {"step": step, "scalars": texts, "video_ids": ids})
    numbers = ", ".join(f"{name} {value}" for name, value in values.items())
    videos = ", ".join(" ".join(video_id.split()) for video_id in ids[:5])  # each on one line
    raise UserError(
        f"step {step}: {numbers}; the batch's videos: {videos}, … (all {len(ids)} in {report}); "
        "earlier checkpoints are whole"
    )
