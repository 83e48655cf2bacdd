"""The line that a person watches: step, loss, validation, speed, time left."""

import datetime
import time
from collections.abc import Mapping


class Progress:
    """Measures the speed between logged steps, time spent on validation left out."""

    def __init__(self, step: int, last_step: int, batch_size: int):
        """Starts the clock at a step."""
        self._last_step = last_step
        self._batch_size = batch_size
        self.restart(step)

    def restart(self, step: int) -> None:
        """Starts the clock anew, after something that was not training."""
        self._step = step
        self._since = time.perf_counter()

    def examples_per_second(self, step: int) -> float:
        """The speed since the clock was started."""
        seconds = max(time.perf_counter() - self._since, 1e-9)
        return (step - self._step) * self._batch_size / seconds

    def line(self, step: int, scalars: Mapping[str, float], selection: str) -> str:
        """One line on the scalars of a step; fields that they lack are left out."""
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
