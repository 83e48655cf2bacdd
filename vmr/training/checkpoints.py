"""Checkpoints of a run: the latest, to go on from, and the best by validation, to evaluate."""

import contextlib
import itertools
import json
import logging
import pathlib
import sys
import zlib
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from vmr.errors import UserError, reason_of
from vmr.training.disk import full_disk_in_one_line
from vmr.training.state import TrainState


def checksum_of_arrays(tree: Any) -> int:
    """CRC-32 of every array of a tree: its path, type, shape and bytes.

    It tells any single flipped bit, and reads gigabytes a second.
    """
    found = 0
    for path, leaf in jax.tree_util.tree_leaves_with_path(jax.device_get(tree)):
        array = np.asarray(leaf)
        name = f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape}"
        found = zlib.crc32(name.encode(), found)
        found = zlib.crc32(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data, found)
    return found


def checksum_of_metrics(metrics: Mapping[str, float]) -> int:
    """CRC-32 of metrics, which read back from JSON are what they were to the bit."""
    values = {name: float(value) for name, value in metrics.items()}
    return zlib.crc32(json.dumps(values, sort_keys=True).encode())


CHECKSUM = "checksum"  # the name under which a checksum is kept


def saved_checksum(checkpoint: pathlib.Path) -> int | None:
    """Checksum of the arrays in a checkpoint's folder; None if it was saved without one.

    Raises:
      UserError: the file that holds it is damaged.
    """
    path = checkpoint / "_CHECKPOINT_METADATA"
    if not path.is_file():
        return None
    custom = _object(path).get("custom_metadata") or {}
    found = custom.get(CHECKSUM) if isinstance(custom, dict) else custom
    if found is not None and not isinstance(found, int):
        raise UserError(f"{path} is damaged: its checksum is not a number")
    return found


def require_sound_metrics(checkpoint: pathlib.Path, selection: str) -> None:
    """Raises UserError where a checkpoint has metrics and they are not what was saved.

    Args:
      checkpoint: its folder.
      selection: the metric that chooses the best checkpoint.
    """
    path = checkpoint / "metrics" / "metrics"
    if not path.parent.is_dir():
        return  # it was not validated
    metrics = _object(path)
    expected = metrics.pop(CHECKSUM, None)
    for name in (selection, "step"):
        if not isinstance(metrics.get(name), int | float):
            raise UserError(f"{path} is damaged: it has no number {name!r}")
    numbers = all(isinstance(value, int | float) for value in metrics.values())
    if not numbers or expected not in (None, checksum_of_metrics(metrics)):
        raise UserError(
            f"{path} is damaged: its numbers have not the checksum they were saved with"
        )


def _object(path: pathlib.Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} is damaged: {reason_of(error)}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} is damaged: the JSON of a {type(content).__name__}, not an object")
    return content


def _is_news(record: logging.LogRecord) -> bool:
    """Drops what Orbax tells of its own settings, and its tracebacks.

    What its saving thread raises is raised here, in a line.
    """
    is_orbax = "orbax" in pathlib.Path(record.pathname).parts
    return not (is_orbax and (record.exc_info or record.levelno < logging.ERROR))


@contextlib.contextmanager
def _one_error() -> Iterator[None]:
    """Silences what the threads of a failed restore print afterwards.

    Reads that end after the first that failed find its event loop closed, and print a traceback.
    """
    hook = sys.unraisablehook

    def tell(unraisable: Any) -> None:
        if str(unraisable.exc_value) != "Event loop is closed":
            hook(unraisable)

    sys.unraisablehook = tell
    yield
    sys.unraisablehook = hook  # where nothing failed, nothing comes afterwards


class Checkpoints:
    """The Orbax checkpoints of one run; as a context manager it waits for the last save.

    A save that is killed leaves nothing that a restore would see: Orbax renames a checkpoint into
    place when it is whole, its checksums with it.
    """

    def __init__(self, workdir: pathlib.Path, selection: str, read_only: bool = False):
        """Opens `workdir/checkpoints`.

        One whose metrics are damaged is set aside, if another is there, and told.

        Args:
          workdir: the run's folder.
          selection: the metric that chooses the best checkpoint.
          read_only: changes nothing.

        Raises:
          UserError: metrics are damaged, and nothing may be set aside or nothing else is there.
        """
        logging.getLogger("absl").addFilter(_is_news)  # adding it again changes nothing

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
        self._set_aside_without_metrics(selection, read_only)
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
        """Step of the newest whole checkpoint; None if there is none."""
        return self._manager.latest_step()

    @property
    def best_step(self) -> int | None:
        """Step of the checkpoint with the highest validation metric; None before any validation."""
        steps = [step for step in self._manager.all_steps() if self._manager.metrics(step)]
        return self._manager.best_step() if steps else None

    def save(self, state: TrainState, validation: Mapping[str, float] | None) -> None:
        """Saves in the background; `validation` has the metrics of this step, if it has any."""
        step = int(state.step)
        if step == self.latest_step:
            return
        metrics: dict[str, float] | None = None
        if validation is not None:
            metrics = {**validation, "step": step}
            metrics[CHECKSUM] = checksum_of_metrics(metrics)
        with full_disk_in_one_line(self._folder):
            self._manager.save(
                step,
                args=ocp.args.StandardSave(state),
                metrics=metrics,
                force=True,
                custom_metadata={CHECKSUM: checksum_of_arrays(state)},
            )

    def restore(self, step: int, like: TrainState) -> TrainState:
        """The state saved at a step, on the host; `like` gives the shapes that it must have.

        Raises:
          UserError: it cannot be read, or its arrays are not those that were saved.
        """
        path = self._folder / str(step)
        expected = saved_checksum(path)
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        try:
            with _one_error():
                state = self._manager.restore(step, args=ocp.args.StandardRestore(abstract))
        except Exception as error:  # Orbax and TensorStore raise whatever their readers do
            raise UserError(
                f"{path} cannot be restored: it is damaged, or of a model that this code no longer "
                f"builds ({reason_of(error)})"
            ) from None
        if expected not in (None, checksum_of_arrays(state)):  # None: saved before there was one
            raise UserError(
                f"{path} is damaged: its arrays have not the checksum they were saved with"
            )
        return state

    def feature_widths(self, step: int) -> dict[str, int]:
        """Widths of the video and music features of the state saved at a step.

        Raises:
          UserError: the account that Orbax keeps of its arrays cannot be read.
        """
        path = self._folder / str(step)
        try:
            with _one_error():
                arrays = ocp.PyTreeCheckpointer().metadata(path / "default").item_metadata.tree
            sides = arrays["standardization"]
            return {side: sides[side]["mean"].shape[0] for side in ("video", "music")}
        except Exception as error:  # Orbax raises whatever its readers do
            raise UserError(
                f"{path} is damaged: its arrays cannot be told ({reason_of(error)})"
            ) from None

    def restore_latest(self, like: TrainState) -> TrainState:
        """The state of the newest checkpoint that is whole; newer ones are set aside, and told.

        Raises:
          UserError: none can be restored; all are left as they are.
        """
        damaged: dict[int, UserError] = {}
        for step in sorted(self._manager.all_steps(), reverse=True):
            try:
                state = self.restore(step, like)
            except UserError as error:
                damaged[step] = error
                continue
            for newer, reason in damaged.items():
                self._set_aside(newer, reason)
            if damaged:
                self._manager.reload()
            return state
        raise damaged[max(damaged)]

    def _set_aside_without_metrics(self, selection: str, read_only: bool) -> None:
        """Orbax opens none of a run's checkpoints where the metrics of one cannot be read."""
        steps = [path for path in self._folder.glob("[0-9]*") if path.name.isdigit()]
        damaged: dict[int, UserError] = {}
        for path in steps:
            try:
                saved_checksum(path)
                require_sound_metrics(path, selection)
            except UserError as error:
                damaged[int(path.name)] = error
        if damaged and (read_only or len(damaged) == len(steps)):
            raise damaged[max(damaged)]
        for step, reason in damaged.items():
            self._set_aside(step, reason)

    def _set_aside(self, step: int, reason: UserError) -> None:
        """Moves a damaged checkpoint to where none is looked for."""
        aside = self._folder.with_name("damaged_checkpoints")
        aside.mkdir(exist_ok=True)
        names = itertools.chain([str(step)], (f"{step}_{n}" for n in itertools.count(2)))
        target = next(aside / name for name in names if not (aside / name).exists())
        (self._folder / str(step)).rename(target)
        print(f"{reason}; it is set aside as {target}", flush=True)
