"""Embedding of batches on all devices, while the next ones are read."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import jax
import numpy as np

from vmr.training import devices as on_devices
from vmr.training.inputs import FIELDS
from vmr.training.reading import encoder_inputs
from vmr.training.state import TrainState

Batch = Mapping[str, np.ndarray]


def embed_batches(
    embed: Callable[..., tuple[jax.Array, jax.Array]],
    state: TrainState,
    batches: Iterable[Batch],
    batch_size: int,
    devices: Sequence[jax.Device],
) -> Iterator[dict[str, np.ndarray]]:
    """Yields each batch with `video_emb` (b, D) and `music_emb` (b, D) in place of its features.

    Every batch is filled up to one size that the devices can share, so that the program compiles
    once and the last, partial batch is kept. A batch is dispatched before the one in front of it
    is fetched: reading and embedding overlap.

    Args:
      embed: result of `pmapped_embed_step`, made once for all calls.
      state: state of the model.
      batches: batches as the model was trained on, none larger than `batch_size`.
      batch_size: number of items that the program takes at a time.
      devices: devices that `embed` runs on.
    """
    replicated = on_devices.replicated(state, devices)
    padded_size = -(-batch_size // len(devices)) * len(devices)
    waiting = None
    for batch in batches:
        inputs = {
            name: _filled_up(rows, padded_size) for name, rows in encoder_inputs(batch).items()
        }
        shards = on_devices.split(inputs, len(devices))
        embedded = embed(replicated, on_devices.sharded(shards, devices))
        if waiting is not None:
            yield _fetched(*waiting)
        waiting = (batch, embedded)
    if waiting is not None:
        yield _fetched(*waiting)


def _filled_up(rows: np.ndarray, size: int) -> np.ndarray:
    return np.pad(rows, [(0, size - len(rows)), *([(0, 0)] * (rows.ndim - 1))])


def _fetched(batch: Batch, embedded: tuple[jax.Array, jax.Array]) -> dict[str, np.ndarray]:
    count = len(batch["video"])
    video, music = (np.asarray(rows).reshape(-1, rows.shape[-1])[:count] for rows in embedded)
    kept = {name: rows for name, rows in batch.items() if name not in FIELDS}
    return {"video_emb": video, "music_emb": music, **kept}
