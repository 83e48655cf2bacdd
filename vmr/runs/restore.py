"""Trained runs, restored at their best checkpoints to embed the items of a split."""

import dataclasses
import functools
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import ml_collections
import numpy as np

from vmr import distributed
from vmr.data.batch_spec import BatchSpec
from vmr.data.dataset import Dataset
from vmr.encoders.two_tower import TwoTower
from vmr.errors import UserError
from vmr.runs.model import meta_of
from vmr.training import devices as on_devices
from vmr.training.build import build_model
from vmr.training.embed import embed_batches
from vmr.training.reading import (
    batch_spec_of,
    dataset_of,
    evaluation_batches,
)
from vmr.training.run_dir import require_same_data, saved_config
from vmr.training.state import Trained
from vmr.training.step import embed_step
from vmr.training.trained import SavedModel, best_state, is_model

Batch = Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class TrainedRun:
    """Run at its best checkpoint by validation, with its dataset; `vmr.runs.model` does without.

    Attributes:
      config: config of the run.
      dataset: dataset that it was trained on.
      spec: form of its batches.
      model: two towers, without parameters.
      trained: parameters, and the statistics that standardise the inputs.
      step: training step of the checkpoint.
    """

    config: ml_collections.ConfigDict
    dataset: Dataset
    spec: BatchSpec
    model: TwoTower
    trained: Trained
    step: int

    def embed(self, split: str, batch_size: int = 1000) -> Iterator[dict[str, np.ndarray]]:
        """Embeds a split in stored order; yields batches, see `embed_batches`."""
        devices = jax.local_devices()
        embed = on_devices.pmapped_embed_step(
            functools.partial(embed_step, model=self.model), devices
        )
        batch_size = min(batch_size, self.dataset.examples(split))  # none is filled up in vain
        batches = evaluation_batches(self.dataset, split, batch_size, self.spec)
        return embed_batches(embed, self.trained, batches, batch_size, devices)

    def embed_segments(
        self, split: str, segments: int, batch_size: int = 200
    ) -> Iterator[dict[str, np.ndarray]]:
        """Embeds the segments of each sequence, each one as if it were a whole sequence.

        Args:
          split: split of the dataset.
          segments: number of equal segments, S; a sequence of fewer clips has fewer.
          batch_size: items at a time.

        Yields:
          batches as `embed_batches`, but with `video_emb` (b, S, D) and `music_emb` (b, S, D), with
          the numbers of segments, `video_segments` and `music_segments` (b,) int, and with those
          of the clips of whole sequences, `video_length` and `music_length` (b,) int.
        """
        devices = jax.local_devices()
        embed = on_devices.pmapped_embed_step(
            functools.partial(embed_step, model=self.model), devices
        )
        batch_size = min(batch_size, self.dataset.examples(split))
        batches = evaluation_batches(self.dataset, split, batch_size, self.spec, segments)
        parts = (in_segments(batch, segments) for batch in batches)
        # Embedded as b·S items, then folded back, so that the model needs no form for segments.
        rows = embed_batches(embed, self.trained, parts, batch_size * segments, devices)
        for batch in rows:
            shape = (len(batch["video_segments"]), segments, -1)
            whole = {name: batch[name].reshape(shape) for name in ("video_emb", "music_emb")}
            yield {**batch, **whole}

    def meta(self) -> dict[str, Any]:
        """Origin of this run's embeddings, the `meta` of their npz."""
        content, extractors = self.dataset.fingerprint, self.dataset.extractors
        return meta_of(self.config, self.step, self.trained, content, extractors)


def restore_run(workdir: pathlib.Path, data_dir: str | None = None) -> TrainedRun:
    """Restores the run in a folder at its best checkpoint.

    Args:
      workdir: the run's folder.
      data_dir: folder of its dataset; None if it is where it was in training.

    Raises:
      UserError: no run there, or a model by itself; no validated checkpoint yet, a damaged one, or
        changed data.
    """
    on_devices.keep_compiled_programs()
    config = distributed.from_first(lambda: _config_of_run(workdir))
    dataset = dataset_of(config, data_dir)
    if distributed.is_first():
        require_same_data(workdir, dataset.fingerprint)
    distributed.require_same({"dataset fingerprint": dataset.fingerprint})
    spec = batch_spec_of(config, dataset)
    step, trained = distributed.from_first(lambda: _best_trained(workdir, config))
    return TrainedRun(config, dataset, spec, build_model(config), trained, step)


def _config_of_run(workdir: pathlib.Path) -> ml_collections.ConfigDict:
    if (workdir / "ensemble.json").is_file():
        raise UserError(f"{workdir} is an ensemble, expected the folder of a run: see --ensemble")
    if is_model(workdir):
        raise UserError(f"{workdir} is a model by itself, expected the folder of a run")
    return saved_config(workdir)


def _best_trained(workdir: pathlib.Path, config: ml_collections.ConfigDict) -> tuple[int, Trained]:
    step, state = best_state(workdir, config)
    return step, state.trained


def on_dataset(saved: SavedModel, dataset: Dataset) -> TrainedRun:
    """A trained model with any dataset of its form, which need not be the one it was trained on.

    Raises:
      UserError: the dataset lacks the modality, the labels or the text that the model reads.
    """
    on_devices.keep_compiled_programs()
    config = saved.config
    dataset_of(config, str(dataset.data_dir))  # raises where there is no such text
    spec = batch_spec_of(config, dataset)
    return TrainedRun(config, dataset, spec, build_model(config), saved.trained, saved.step)


def in_segments(batch: Batch, segments: int) -> dict[str, np.ndarray]:
    """Turns b items in S segments into b·S items: clips (b, S, N, P) -> (b·S, N, P).

    Fields of one value per item stay (b,), such as `video_segments` and `music_segments`, which are
    added; text is repeated for every segment. The vector of a modality without a sequence counts
    as its only segment, of one clip.
    """
    flat = dict(batch)
    for side in ("video", "music"):
        mask = batch.get(f"{side}_mask")
        if mask is None:
            # Repeated, since both towers embed a batch of b·S; the copies are never read.
            flat[side] = np.repeat(batch[side], segments, axis=0)
            flat[f"{side}_segments"] = np.ones(len(batch[side]), np.int64)
            flat[f"{side}_length"] = np.ones(len(batch[side]), np.int64)
        else:
            flat[side] = batch[side].reshape(-1, *batch[side].shape[2:])
            flat[f"{side}_mask"] = mask.reshape(-1, mask.shape[-1])
            # Short sequences fill their first segments: the others have no valid clip.
            flat[f"{side}_segments"] = mask.any(axis=2).sum(axis=1)
    for name in ("text", "text_mask", "track"):
        if name in batch:
            flat[name] = np.repeat(batch[name], segments, axis=0)
    return flat
