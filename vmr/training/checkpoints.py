"""Checkpoints of a run: the latest, to resume from, and the best by validation, to evaluate."""

import contextlib
import itertools
import json
import logging
import pathlib
import sys
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from vmr.disk import full_disk_in_one_line
from vmr.errors import UserError, reason_of
from vmr.training.state import TrainState


def checksum_of_arrays(tree: Any) -> int:
    """CRC-32 over all arrays of a tree: their paths, dtypes, shapes and bytes."""
    # A cryptographic hash would be slower: this finds any single flipped bit at gigabytes a second.
    checksum = 0
    for path, leaf in jax.tree_util.tree_leaves_with_path(jax.device_get(tree)):
        array = np.asarray(leaf)
        name = f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape}"
        checksum = zlib.crc32(name.encode(), checksum)
        data = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
        checksum = zlib.crc32(data, checksum)
    return checksum


def checksum_of_metrics(metrics: Mapping[str, float]) -> int:
    """CRC-32 of metrics, the same after reading them back: JSON keeps floats to the bit."""
    values = {name: float(value) for name, value in metrics.items()}
    return zlib.crc32(json.dumps(values, sort_keys=True).encode())


# Of several processes of a run the first one reads and writes, without waiting for the others.
_OF_FIRST_PROCESS = ocp.options.MultiprocessingOptions(
    primary_host=0, active_processes={0}, barrier_sync_key_prefix="first"
)
CHECKSUM = "checksum"  # key in the metadata and the metrics of a checkpoint


def saved_checksum(checkpoint: pathlib.Path) -> int | None:
    """Saved checksum of a checkpoint's arrays; None if the checkpoint has none.

    Raises:
      UserError: the file that holds the checksum is damaged.
    """
    path = checkpoint / "_CHECKPOINT_METADATA"
    if not path.is_file():
        return None
    custom = _object(path).get("custom_metadata") or {}
    checksum = custom.get(CHECKSUM) if isinstance(custom, dict) else custom
    if checksum is not None and not isinstance(checksum, int):
        raise UserError(f"{path} is damaged: its checksum is not a number")
    return checksum


def require_sound_metrics(checkpoint: pathlib.Path, selection: str) -> None:
    """Raises UserError if the metrics of a checkpoint, should it have any, are damaged.

    Args:
      checkpoint: folder of the checkpoint.
      selection: metric that chooses the best checkpoint.
    """
    path = checkpoint / "metrics" / "metrics"
    if not path.parent.is_dir():
        return  # the step was not validated
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
    """Filter that drops what Orbax logs of its own settings, and its tracebacks."""
    # Errors of its saving thread are raised again at the next call, and reported there in one line.
    is_orbax = "orbax" in pathlib.Path(record.pathname).parts
    return not (is_orbax and (record.exc_info or record.levelno < logging.ERROR))


@contextlib.contextmanager
def _one_error() -> Iterator[None]:
    """Context that silences the threads of a failed restore."""
    # Reads that end after the first failed one find the event loop closed, and print a traceback.
    hook = sys.unraisablehook

    def tell(unraisable: Any) -> None:
        if str(unraisable.exc_value) != "Event loop is closed":
            hook(unraisable)

    sys.unraisablehook = tell
    yield
    # Not in a `finally`: after a failure the threads go on, and the hook must stay.
    sys.unraisablehook = hook


class Checkpoints:
    """Orbax checkpoints of one run; as a context manager it waits for the last save.

    A save that is killed leaves nothing that a restore would see: Orbax renames a checkpoint into
    place when it is whole, its checksums with it.
    """

    def __init__(self, workdir: pathlib.Path, selection: str, read_only: bool = False):
        """Opens `workdir/checkpoints`.

        A checkpoint whose metrics are damaged is set aside, with a message, if there is another.

        Args:
          workdir: folder of the run.
          selection: metric that chooses the best checkpoint.
          read_only: True changes nothing on disk.

        Raises:
          UserError: the metrics of the only checkpoint are damaged, or of any if read-only.
        """
        logging.getLogger("absl").addFilter(_is_news)  # a logger takes the same filter only once

        def score(metrics: Mapping[str, float]) -> tuple[float, float]:
            # Of equal scores the first, which took less training.
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
        if not read_only:
            self._folder.mkdir(parents=True, exist_ok=True)
        self._manager = ocp.CheckpointManager(
            self._folder,
            options=ocp.CheckpointManagerOptions(
                preservation_policy=keep,
                best_fn=score,
                best_mode="max",
                create=False,  # Orbax would only for all processes
                read_only=read_only,
                multiprocessing_options=_OF_FIRST_PROCESS,
            ),
        )

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_: Any) -> None:
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
        """Saves a state in the background, with the metrics of its step if it was validated."""
        step = int(state.step)
        if step == self.latest_step:  # saved before: a run may end where a checkpoint was due
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

    def restore(self, step: int, template: TrainState) -> TrainState:
        """Restores the state of a step to the host; `template` has its shapes and dtypes.

        Raises:
          UserError: the checkpoint cannot be read, or its arrays are not those that were saved.
        """
        path = self._folder / str(step)
        expected = saved_checksum(path)
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, template)
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
        """Feature widths of video and music of the state saved at a step.

        Raises:
          UserError: the account that Orbax keeps of its arrays cannot be read.
        """
        path = self._folder / str(step)
        try:
            with _one_error():
                handler = ocp.PyTreeCheckpointHandler(multiprocessing_options=_OF_FIRST_PROCESS)
                reader = ocp.Checkpointer(handler, multiprocessing_options=_OF_FIRST_PROCESS)
                arrays = reader.metadata(path / "default").item_metadata.tree
            sides = arrays["standardization"]
            return {side: sides[side]["mean"].shape[0] for side in ("video", "music")}
        except Exception as error:  # Orbax raises whatever its readers do
            raise UserError(
                f"{path} is damaged: its arrays cannot be told ({reason_of(error)})"
            ) from None

    def restore_latest(self, template: TrainState) -> TrainState:
        """Restores the newest sound checkpoint; sets damaged newer ones aside, with a message.

        Raises:
          UserError: none can be restored; all are left as they are.
        """
        damaged: dict[int, UserError] = {}
        for step in sorted(self._manager.all_steps(), reverse=True):
            try:
                state = self.restore(step, template)
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
        """Sets checkpoints with damaged metrics aside; raises if that leaves none, or read-only."""
        # Otherwise Orbax would open none of a run's checkpoints.
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
        """Moves a damaged checkpoint to the folder `damaged_checkpoints`, with a message."""
        aside = self._folder.with_name("damaged_checkpoints")
        aside.mkdir(exist_ok=True)
        names = itertools.chain([str(step)], (f"{step}_{n}" for n in itertools.count(2)))
        target = next(aside / name for name in names if not (aside / name).exists())
        (self._folder / str(step)).rename(target)
        print(f"{reason}; it is set aside as {target}", flush=True)
