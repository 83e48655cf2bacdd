"""One of the runs that a program trains together: its folder, its best state, its end."""

import pathlib
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, NamedTuple

import ml_collections
import numpy as np

from vmr.errors import UserError
from vmr.training.checkpoints import Checkpoints
from vmr.training.finite import require_finite
from vmr.training.metrics_log import MetricsLog
from vmr.training.state import TrainState
from vmr.training.stopping import stops_early


class _Validated(NamedTuple):
    state: TrainState
    metrics: Mapping[str, float]


class Member:
    """A run whose steps are taken elsewhere; as a context manager it closes its folder's files.

    Its folder is that of a run alone, but it is saved less often: the best state since the last
    save waits on the host.

    Attributes:
      config: of the run.
      workdir: its folder.
      state: that it starts from, on the host.
      runs: whether it still takes steps.
      failure: what stopped it before its end; empty if nothing did.
    """

    def __init__(
        self,
        config: ml_collections.ConfigDict,
        workdir: pathlib.Path,
        first_state: Callable[[ml_collections.ConfigDict, Checkpoints], TrainState],
    ):
        """Opens the folder; `first_state` finds the latest checkpoint's state, or the initial."""
        self.config, self.workdir = config, workdir
        self.runs, self.failure = True, ""
        self._best: _Validated | None = None
        self._validation: tuple[int, Mapping[str, float]] = -1, {}  # the last step's, its metrics
        self._checkpoints = Checkpoints(workdir, config.selection)
        self.state = first_state(config, self._checkpoints)
        self._log = MetricsLog(workdir, resumed_step=int(self.state.step))

    def __enter__(self) -> "Member":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with self._checkpoints, self._log:
            pass

    def require_finite(
        self, step: int, scalars: Mapping[str, Any], batch: Mapping[str, np.ndarray]
    ) -> None:
        """Leaves, with what was best so far, where the loss or a norm is not finite."""
        try:
            require_finite(self.workdir, step, scalars, batch)
        except UserError as failure:
            self.failure, self.runs = str(failure), False
            self._save_best()

    def note(
        self,
        step: int,
        scalars: Mapping[str, float],
        validation: Mapping[str, float] | None,
        state: Callable[[], TrainState],
    ) -> None:
        """Writes the line of a step; saves all and leaves where the run ends with it.

        Args:
          step: that was taken.
          scalars: of the step, if it is logged.
          validation: metrics after the step, if it is validated.
          state: fetches the state after the step.
        """
        line = dict(scalars)
        line |= {f"val/{name}": value for name, value in (validation or {}).items()}
        if line:
            self._log.write(step, line)
        if validation is None:
            return
        self._validation = step, validation
        if self._is_best_yet():
            self._best = _Validated(state(), validation)
        if step == self.config.steps or stops_early(self.config, self._log.lines):
            self.save(state())
            self.runs = False

    def save(self, state: TrainState) -> None:
        """Saves a state, after the best one since the last save."""
        step = int(state.step)
        if self._best is not None and int(self._best.state.step) < step:
            self._save_best()
        validated, metrics = self._validation
        self._checkpoints.save(state, metrics if validated == step else None)
        self._best = None

    def _save_best(self) -> None:
        if self._best is not None:
            self._checkpoints.save(*self._best)
        self._best = None

    def _is_best_yet(self) -> bool:
        """Whether the last validation is better than all before it."""
        key = f"val/{self.config.selection}"
        *earlier, last = [line[key] for line in self._log.lines if key in line]
        return all(last > score for score in earlier)
