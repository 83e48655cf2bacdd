"""A trace of some steps, for TensorBoard's profiler and Perfetto."""

import contextlib
import pathlib
from collections.abc import Iterator

import jax

from vmr.errors import UserError


def steps_of(text: str) -> tuple[int, int]:
    """First and last step of `FROM:TO`.

    Raises:
      UserError: it is of another form, or no step lies between.
    """
    first, colon, last = text.partition(":")
    if not (colon and first.isdecimal() and last.isdecimal() and 1 <= int(first) <= int(last)):
        raise UserError(f"--profile={text}: expected FROM:TO, steps from 1, such as 10:15")
    return int(first), int(last)


def require_taken(steps: tuple[int, int] | None, last_step: int) -> None:
    """Raises UserError where steps to profile lie beyond the end of the run."""
    if steps is not None and steps[1] > last_step:
        raise UserError(
            f"--profile: steps {steps[0]} to {steps[1]}, but the run ends at step {last_step}"
        )


class StepTrace:
    """Traces the steps from one to another, devices and host, into a folder."""

    def __init__(self, folder: pathlib.Path, steps: tuple[int, int] | None):
        """Notes the first and the last step, or None for no trace."""
        self._folder, self._steps = folder, steps
        self._is_on = False

    @contextlib.contextmanager
    def of_step(self, step: int) -> Iterator[None]:
        """Wraps the taking of a step."""
        if self._steps is None:
            yield
            return
        first, last = self._steps
        if not self._is_on and first <= step <= last:
            jax.profiler.start_trace(self._folder)
            self._is_on = True
        with jax.profiler.StepTraceAnnotation("train", step_num=step):
            yield
        if step >= last:
            self.end()

    def end(self) -> None:
        """Writes what has been traced, if anything has."""
        if self._is_on:
            jax.effects_barrier()
            jax.profiler.stop_trace()
            self._is_on = False
            self._steps = None
            print(f"profile written to {self._folder}: tensorboard --logdir={self._folder}")
