"""Checkpoints of a run: the latest, to go on from, and the best by validation, to evaluate."""

import logging
import pathlib
from collections.abc import Mapping
from types import TracebackType

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from vmr.errors import UserError
from vmr.training.disk import full_disk_in_one_line
from vmr.training.state import TrainState


def _is_news(record: logging.LogRecord) -> bool:
    """False for tracebacks of Orbax: what a save raises in its thread is raised here, in a line."""
    return not (record.exc_info and "orbax" in pathlib.Path(record.pathname).parts)


class Checkpoints:
    """The Orbax checkpoints of one run; as a context manager it waits for the last save.

    A save that is killed leaves nothing that a restore would see: Orbax renames a checkpoint into
    place when it is whole.
    """

    def __init__(self, workdir: pathlib.Path, selection: str, read_only: bool = False):
        """Opens `workdir/checkpoints`; `selection` names the metric that chooses the best."""
        logging.getLogger("absl").addFilter(_is_news)  # which a second time changes nothing

        def score(metrics: Mapping[str, float]) -> tuple[float, float]:
            # Of equals the first: the same score for less training.
            return metrics[selection], -metrics["step"]

        keep = checkpoint_managers.AnyPreservationPolicy(
            [
                checkpoint_managers.LatestN(1),
                checkpoint_managers.BestN(
                    get_metric_fn=score, n=1, keep_checkpoints_without_metrics=False
                ),
            ]
        )
        self._folder = (workdir / "checkpoints").absolute()
        self._manager = ocp.CheckpointManager(
            self._folder,
            options=ocp.CheckpointManagerOptions(
                preservation_policy=keep,
                best_fn=score,
                best_mode="max",
                create=not read_only,
                read_only=read_only,
            ),
        )

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with full_disk_in_one_line(self._folder):
            self._manager.close()

    @property
    def latest_step(self) -> int | None:
        """Of the newest whole checkpoint; None where there is none."""
        return self._manager.latest_step()

    @property
    def best_step(self) -> int | None:
        """Of the checkpoint with the highest validation metric; None before any validation."""
        steps = [step for step in self._manager.all_steps() if self._manager.metrics(step)]
        return self._manager.best_step() if steps else None

    def save(self, state: TrainState, validation: Mapping[str, float] | None) -> None:
        """Saves in the background; `validation` has the metrics of this step, if it has any."""
        step = int(state.step)
        if step == self.latest_step:
            return
        metrics = None if validation is None else {**validation, "step": step}
        with full_disk_in_one_line(self._folder):
            self._manager.save(step, args=ocp.args.StandardSave(state), metrics=metrics, force=True)

    def restore(self, step: int, like: TrainState) -> TrainState:
        """The state saved at a step, on the host; `like` gives the shapes that it must have."""
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        try:
            return self._manager.restore(step, args=ocp.args.StandardRestore(abstract))
        except Exception as error:  # Orbax and TensorStore raise whatever their readers do
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise UserError(
                f"{self._folder / str(step)} cannot be restored: it is damaged, or of a model that "
                f"this code no longer builds ({reason})"
            ) from None
