"""One run while the loop trains it: its open files, its best validation, whether it goes on."""

import contextlib
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import ml_collections
import numpy as np

from vmr import distributed
from vmr.errors import UserError
from vmr.training.build import abstract_state
from vmr.training.checkpoints import Checkpoints
from vmr.training.log import MetricsLog, require_finite
from vmr.training.progress import stops_early
from vmr.training.start import first_state
from vmr.training.state import TrainState
from vmr.training.trained import SavedModel

Scalars = Mapping[str, float]


class OpenRun:
    """Files and bookkeeping of a run whose steps the loop takes; a context manager for the files.

    Attributes:
      config: config of the run.
      workdir: folder of the run.
      checkpoints: checkpoints of the run; of several processes, the first alone has them.
      log: log of its scalars; opened by `start`.
      is_running: False once the run has ended or failed.
      failure: error that ended the run early; empty if there is none.
      unsaved_best: (step, metrics) of the best validation if no checkpoint holds its state yet.
    """

    def __init__(self, config: ml_collections.ConfigDict, workdir: pathlib.Path):
        """Opens the checkpoints of a folder that `run_dir.claimed` has claimed."""
        self.config, self.workdir = config, workdir
        self.is_running, self.failure = True, ""
        self.unsaved_best: tuple[int, Scalars] | None = None
        self._validated: tuple[int, Scalars] = -1, {}  # the last validation's step and metrics
        self._files = contextlib.ExitStack()
        if distributed.is_first():
            self.checkpoints = self._files.enter_context(Checkpoints(workdir, config.selection))

    def __enter__(self) -> "OpenRun":
        return self

    def __exit__(self, *raised: Any) -> None:
        self._files.__exit__(*raised)

    def start(
        self,
        widths: Mapping[str, int],
        measured: Callable[[], Mapping[str, Any]],
        start: SavedModel | None = None,
    ) -> TrainState:
        """First state of the run, restored or fresh; opens the log at its step.

        Args:
          widths: feature widths of `video` and of `music`.
          measured: function that gives statistics of the training split, called for a fresh run
            only, since it takes a pass over the data.
          start: what a fresh run starts from, see `start_of`.

        Raises:
          UserError: no checkpoint can be restored, or `start` is of other shapes.
        """

        def restored_or_fresh() -> TrainState:
            if self.checkpoints.latest_step is None:
                return first_state(self.config, start, widths, measured)
            return self.checkpoints.restore_latest(abstract_state(self.config, widths))

        state = distributed.from_first(restored_or_fresh)
        step = int(state.step)
        # Only now is the step known: if the newest checkpoint is damaged, an older one is restored,
        # and the lines after it go.
        self.log = self._files.enter_context(MetricsLog(self.workdir, resumed_step=step))
        self.is_running = self._goes_on_after(step)
        return state

    def require_finite(
        self, step: int, scalars: Mapping[str, Any], batch: Mapping[str, np.ndarray]
    ) -> None:
        """Ends the run, and notes the failure, if the loss or a norm is not finite."""
        try:
            require_finite(self.workdir, step, scalars, batch)
        except UserError as failure:
            self.failure, self.is_running = str(failure), False

    def note(self, step: int, scalars: Scalars, validation: Scalars | None) -> bool:
        """Logs a step and ends the run if it stops early or the step is its last.

        Args:
          step: number of the step taken.
          scalars: scalars of the step; empty if it is not logged.
          validation: metrics after the step; None if it is not validated.

        Returns:
          True if the validation is the best yet, so that the caller keeps the state.
        """
        line = {**scalars, **{f"val/{name}": value for name, value in (validation or {}).items()}}
        if line:
            self.log.write(step, line)
        if validation is None:
            return False
        # The loop validates the last step too: but for a failure, a run ends at a validation.
        self._validated = step, validation
        self.is_running = self._goes_on_after(step)
        key = f"val/{self.config.selection}"
        *earlier, last = [line[key] for line in self.log.lines if key in line]
        is_best = all(last > score for score in earlier)  # of equals the first: less training
        if is_best:
            self.unsaved_best = step, validation
        return is_best

    def save(self, step: int, state: TrainState) -> None:
        """Saves the state after a step, with its metrics if the step was validated."""
        validated, metrics = self._validated
        self.checkpoints.save(state, metrics if validated == step else None)
        if self.unsaved_best is not None and self.unsaved_best[0] == step:
            self.unsaved_best = None

    def save_best(self, state: TrainState) -> None:
        """Saves the state of the best validation, with its metrics."""
        assert self.unsaved_best is not None
        self.checkpoints.save(state, self.unsaved_best[1])
        self.unsaved_best = None

    def _goes_on_after(self, step: int) -> bool:
        return step < self.config.steps and not stops_early(self.config, self.log.lines)
