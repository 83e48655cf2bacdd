"""A trained run at work: restored at its best checkpoint, embedding the items of a split."""

import dataclasses
import datetime
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax
import ml_collections
import numpy as np

from vmr.data.dataset import Dataset, open_dataset
from vmr.data.pipeline import eval_batches
from vmr.encoders.two_tower import TwoTower
from vmr.errors import UserError
from vmr.training import devices as on_devices
from vmr.training.build import build_model, build_state
from vmr.training.checkpoints import Checkpoints
from vmr.training.config import resolved
from vmr.training.state import TrainState, placeholder_standardization
from vmr.training.workdir import require_same_data, saved_config

Batch = Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class TrainedRun:
    """A run at its best checkpoint by validation.

    Attributes:
      config: of the run.
      dataset: that it was trained on.
      model: the two towers.
      state: restored.
      step: of the checkpoint.
    """

    config: ml_collections.ConfigDict
    dataset: Dataset
    model: TwoTower
    state: TrainState
    step: int

    def embed(self, split: str, batch_size: int = 1000) -> Iterator[dict[str, np.ndarray]]:
        """The embeddings of a split in stored order: see `embed_batches`."""
        devices = jax.local_devices()
        embed = on_devices.pmapped_embed_step(self.model, devices)
        batches = eval_batches(self.dataset, split, batch_size)
        return embed_batches(embed, self.state, batches, batch_size, devices)

    def meta(self) -> dict[str, Any]:
        """What an npz of this run's embeddings says of their origin."""
        return {
            "config": resolved(self.config),
            "step": self.step,
            "dataset_fingerprint": self.dataset.fingerprint,
            "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        }


def restore_run(workdir: pathlib.Path, data_dir: str | None = None) -> TrainedRun:
    """The run in a folder at its best checkpoint.

    Args:
      workdir: the run's folder.
      data_dir: where its dataset lies now; None where it lay in training.

    Raises:
      UserError: no run there, none of its checkpoints was validated yet, or its data changed.
    """
    on_devices.keep_compiled_programs()
    config = saved_config(workdir)
    dataset = open_dataset(data_dir or config.dataset.data_dir)
    require_same_data(workdir, dataset.fingerprint)
    model = build_model(config)
    statistics = placeholder_standardization(dataset.video_width, dataset.music_width)
    like = build_state(config, statistics)
    if not (workdir / "checkpoints").is_dir():
        raise UserError(f"{workdir} has no checkpoint yet: train it first")
    with Checkpoints(workdir, config.selection, read_only=True) as checkpoints:
        if checkpoints.best_step is None:
            raise UserError(f"{workdir} has no validated checkpoint yet: train it further")
        state = checkpoints.restore(checkpoints.best_step, like)
        return TrainedRun(config, dataset, model, state, checkpoints.best_step)


def embed_batches(
    embed: Callable[..., tuple[jax.Array, jax.Array]],
    state: TrainState,
    batches: Iterable[Batch],
    batch_size: int,
    devices: Sequence[jax.Device],
) -> Iterator[dict[str, np.ndarray]]:
    """Each batch without its features, with `video_emb` (b, D) and `music_emb` (b, D) instead.

    Every batch is filled up to one size that the devices can share, so that the program compiles
    once and the last, partial batch is kept. A batch is dispatched before the one in front of it
    is fetched: reading and embedding overlap.

    Args:
      embed: of `pmapped_embed_step`, made once for all calls.
      state: of the model.
      batches: with `video` and `music`, none larger than `batch_size`.
      batch_size: items that the program takes at a time.
      devices: that `embed` runs on.
    """
    replicated = on_devices.replicated(state, devices)
    padded_size = -(-batch_size // len(devices)) * len(devices)
    waiting = None
    for batch in batches:
        features = {name: _filled_up(batch[name], padded_size) for name in ("video", "music")}
        embedded = embed(replicated, on_devices.sharded(features, len(devices)))
        if waiting is not None:
            yield _fetched(*waiting)
        waiting = (batch, embedded)
    if waiting is not None:
        yield _fetched(*waiting)


def _filled_up(rows: np.ndarray, size: int) -> np.ndarray:
    return np.pad(rows, [(0, size - len(rows)), (0, 0)])


def _fetched(batch: Batch, embedded: tuple[jax.Array, jax.Array]) -> dict[str, np.ndarray]:
    count = len(batch["video"])
    video, music = (np.asarray(rows).reshape(-1, rows.shape[-1])[:count] for rows in embedded)
    kept = {name: rows for name, rows in batch.items() if name not in ("video", "music")}
    return {"video_emb": video, "music_emb": music, **kept}
