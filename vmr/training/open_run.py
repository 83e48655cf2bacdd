"""One run of a grid while it trains: its folder's files, its best score, its end."""

import contextlib
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import ml_collections
import numpy as np

from vmr.errors import UserError
from vmr.training.build import abstract_state, build_state
from vmr.training.checkpoints import Checkpoints
from vmr.training.log import MetricsLog, require_finite
from vmr.training.progress import stops_early
from vmr.training.state import TrainState

Scalars = Mapping[str, float]


class OpenRun:
    """A run whose steps are taken elsewhere; as a context manager it closes its folder's files.

    Attributes:
      config: the run's.
      workdir: its folder.
      checkpoints: its checkpoints.
      log: its metrics.
      is_running: False once it has ended or failed.
      failure: reason why it stopped before its end; empty if it did not.
      unsaved_best: (step, metrics) of the best validation yet, where no checkpoint holds its state.
    """

    def __init__(self, config: ml_collections.ConfigDict, workdir: pathlib.Path):
        """Opens the folder, which is the run's alone: see `run_dir.claimed`."""
        self.config, self.workdir = config, workdir
        self.is_running, self.failure = True, ""
        self.unsaved_best: tuple[int, Scalars] | None = None
        self._validated: tuple[int, Scalars] = -1, {}  # the last validation's step and metrics
        self._files = contextlib.ExitStack()
        self.checkpoints = self._files.enter_context(Checkpoints(workdir, config.selection))

    def __enter__(self) -> "OpenRun":
        return self

    def __exit__(self, *raised: Any) -> None:
        self._files.__exit__(*raised)

    def start(
        self, widths: Mapping[str, int], measured: Callable[[], Mapping[str, Any]]
    ) -> TrainState:
        """Opens the log at the run's first state, which it returns: restored, or a fresh one.

        Args:
          widths: features of `video` and of `music`.
          measured: statistics of the training split, which a fresh run alone asks for.

        Raises:
          UserError: no checkpoint can be restored.
        """
        if self.checkpoints.latest_step is None:
            state = build_state(self.config, measured())
        else:
            like = abstract_state(self.config, widths)
            state = self.checkpoints.restore_latest(like)
        step = int(state.step)
        # Not before: a damaged newest checkpoint takes the lines after the one restored with it.
        self.log = self._files.enter_context(MetricsLog(self.workdir, resumed_step=step))
        self.is_running = self._goes_on_after(step)
        return state

    def require_finite(
        self, step: int, scalars: Mapping[str, Any], batch: Mapping[str, np.ndarray]
    ) -> None:
        """Ends the run where the loss or a norm is not finite, and notes why."""
        try:
            require_finite(self.workdir, step, scalars, batch)
        except UserError as failure:
            self.failure, self.is_running = str(failure), False

    def note(self, step: int, scalars: Scalars, validation: Scalars | None) -> bool:
        """Writes the line of a step, if it has one, and ends the run where it ends with it.

        Args:
          step: the step taken.
          scalars: those of the step, if it is logged.
          validation: metrics after the step, if it is validated.

        Returns:
          True where the validation is the best yet: its state is to be kept.
        """
        line = {**scalars, **{f"val/{name}": value for name, value in (validation or {}).items()}}
        if line:
            self.log.write(step, line)
        if validation is None:
            return False
        self._validated = step, validation
        self.is_running = self._goes_on_after(step)
        key = f"val/{self.config.selection}"
        *earlier, last = [line[key] for line in self.log.lines if key in line]
        is_best = all(last > score for score in earlier)
        if is_best:
            self.unsaved_best = step, validation
        return is_best

    def save(self, step: int, state: TrainState) -> None:
        """Saves the state after a step, with its metrics if it was validated."""
        validated, metrics = self._validated
        self.checkpoints.save(state, metrics if validated == step else None)
        if self.unsaved_best is not None and self.unsaved_best[0] == step:
            self.unsaved_best = None

    def save_best(self, state: TrainState) -> None:
        """Saves the state of the best validation, which no checkpoint holds yet."""
        assert self.unsaved_best is not None
        self.checkpoints.save(state, self.unsaved_best[1])
        self.unsaved_best = None

    def _goes_on_after(self, step: int) -> bool:
        return step < self.config.steps and not stops_early(self.config, self.log.lines)
