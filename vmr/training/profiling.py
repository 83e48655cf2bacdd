"""Trace of a range of steps, for TensorBoard's profiler and Perfetto."""

import contextlib
import pathlib
from collections.abc import Iterator

import jax

from vmr import distributed
from vmr.errors import UserError


def steps_of(text: str) -> tuple[int, int]:
    """Parses `FROM:TO` into the first and the last step.

    Raises:
      UserError: the text has another form, or the range is empty.
    """
    first, colon, last = text.partition(":")
    if not (colon and first.isdecimal() and last.isdecimal() and 1 <= int(first) <= int(last)):
        raise UserError(f"--profile={text}: expected FROM:TO, steps from 1, such as 10:15")
    return int(first), int(last)


def require_taken(steps: tuple[int, int] | None, last_step: int) -> None:
    """Raises UserError if steps to profile lie beyond the end of the run."""
    if steps is not None and steps[1] > last_step:
        raise UserError(
            f"--profile: steps {steps[0]} to {steps[1]}, but the run ends at step {last_step}"
        )


class StepTrace:
    """Trace of devices and host over a range of steps, written into a folder."""

    def __init__(self, folder: pathlib.Path, steps: tuple[int, int] | None):
        """Takes the first and the last step to trace, or None for no trace.

        Of several processes of a run the first one alone is traced.
        """
        self._folder, self._steps = folder, steps if distributed.is_first() else None
        self._is_on = False

    @contextlib.contextmanager
    def of_step(self, step: int) -> Iterator[None]:
        """Context of one step: starts the trace before the first, ends it after the last."""
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
        """Ends the trace and writes it, if it has begun."""
        if self._is_on:
            # Steps run after their dispatch: without this wait the last ones would be missing.
            jax.effects_barrier()
            jax.profiler.stop_trace()
            self._is_on = False
            self._steps = None
            print(f"profile written to {self._folder}: tensorboard --logdir={self._folder}")
