"""Progress of a run: its speed and its line on the console, its end."""

import contextlib
import datetime
import pathlib
import time
from collections.abc import Iterator, Mapping, Sequence

import ml_collections
import numpy as np

from vmr.disk import read_json
from vmr.errors import UserError
from vmr.training.config import completed
from vmr.training.log import whole_lines
from vmr.training.run_dir import latest_step
from vmr.training.signals import StopRequest


class Progress:
    """Clock of a run: speed between logged steps, with validation and saving timed apart."""

    def __init__(self, step: int, last_step: int, batch_size: int):
        """Starts the clock at a step."""
        self._last_step = last_step
        self._batch_size = batch_size
        self._seconds: dict[str, float] = {}
        self._start = time.perf_counter()
        self.restart(step)

    def restart(self, step: int) -> None:
        """Restarts the clock at a step, after something that was not training."""
        self._step = step
        self._since = time.perf_counter()

    @contextlib.contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Context whose time is added to the total under a name."""
        start = time.perf_counter()
        yield
        self._seconds[name] = self._seconds.get(name, 0.0) + time.perf_counter() - start

    def spent(self) -> str:
        """Seconds since the start and under each name, in words."""
        seconds = time.perf_counter() - self._start
        parts = [f"{name} {spent:.1f} s" for name, spent in self._seconds.items()]
        return f"{seconds:.1f} s" + (f", of which {', '.join(parts)}" if parts else "")

    def examples_per_second(self, step: int) -> float:
        """Speed since the clock was last restarted."""
        seconds = max(time.perf_counter() - self._since, 1e-9)
        return (step - self._step) * self._batch_size / seconds

    def line(self, step: int, scalars: Mapping[str, float], selection: str) -> str:
        """Line on the scalars of a step, without those that it lacks."""
        parts = [f"step {step:,}/{self._last_step:,}"]
        if "train/loss" in scalars:
            parts.append(f"loss {scalars['train/loss']:.4f}")
            speed = scalars["train/examples_per_second"]
            if speed > 0:  # not known at the first step, where the clock has just been started
                seconds_left = (self._last_step - step) * self._batch_size / speed
                parts.append(f"{speed:,.0f} examples/s")
                parts.append(f"{datetime.timedelta(seconds=round(seconds_left))} left")
        if f"val/{selection}" in scalars:
            parts.append(f"val {selection} {scalars[f'val/{selection}']:.1f}")
        return "  ".join(parts)


def stops_early(config: ml_collections.ConfigDict, lines: Sequence[Mapping[str, float]]) -> bool:
    """True if the last `patience` validations are no better than the best one before.

    Args:
      config: config of the run.
      lines: lines of its `metrics.jsonl` so far.
    """
    key = f"val/{config.selection}"
    scores = [line[key] for line in lines if key in line]
    if not config.patience or len(scores) <= config.patience:
        return False
    # `argmax` gives the first of equals: an equal score is nothing better.
    return len(scores) - 1 - int(np.argmax(scores)) >= config.patience


def is_finished(workdir: pathlib.Path) -> bool:
    """True if the run in `workdir` finished or stopped early, judged from its files alone."""
    step = latest_step(workdir)
    if not step:
        return False
    try:
        config = ml_collections.ConfigDict(completed(read_json(workdir / "config.json")))
        # Later lines are of steps that no checkpoint holds: a resumed run would take them again.
        lines = [line for line in whole_lines(workdir / "metrics.jsonl") if line["step"] <= step]
        return step >= config.steps or stops_early(config, lines)
    except (UserError, AttributeError, KeyError, TypeError):  # not a run that this code wrote
        return False


def ending(
    config: ml_collections.ConfigDict,
    step: int,
    lines: Sequence[Mapping[str, float]],
    stop: StopRequest,
    failed: bool = False,
) -> str:
    """Two lines on a run: why it ended, and the best step with its score.

    Args:
      config: config of the run.
      step: last step taken.
      lines: lines of its `metrics.jsonl`.
      stop: request to stop, which may be false.
      failed: True if its loss or its state was not finite.
    """
    if failed:
        why = "its loss or its state is not finite"
    elif step >= config.steps:
        why = "all steps are taken"
    elif stop.signal is not None and not stops_early(config, lines):
        why = f"stopped by {stop.signal.name}; it is saved: the same command goes on from here"
    else:
        why = f"{config.patience} validations brought nothing better (config.patience)"
    return f"ended at step {step:,} of {config.steps:,}: {why}\n{_best(config, lines)}"


def _best(config: ml_collections.ConfigDict, lines: Sequence[Mapping[str, float]]) -> str:
    key = f"val/{config.selection}"
    validated = [line for line in lines if key in line]
    if not validated:
        return "not validated yet, so there is no best step"
    best = max(validated, key=lambda line: line[key])  # the first of equals
    return f"best by validation: step {best['step']:,}, {config.selection} {best[key]:.1f}"
