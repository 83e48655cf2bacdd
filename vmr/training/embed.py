"""Embedding of batches on all devices, while the next ones are read."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import jax
import numpy as np

from vmr import distributed
from vmr.training import devices as on_devices
from vmr.training.inputs import FIELDS, encoder_inputs
from vmr.training.state import Trained

Batch = Mapping[str, np.ndarray]
T = TypeVar("T")


def embed_batches(
    embed: Callable[..., tuple[jax.Array, jax.Array]],
    trained: Trained,
    batches: Iterable[Batch],
    batch_size: int,
    devices: Sequence[jax.Device],
) -> Iterator[dict[str, np.ndarray]]:
    """Yields each batch with `video_emb` (b, D) and `music_emb` (b, D) in place of its features.

    Args:
      embed: result of `pmapped_embed_step`, made once for all calls.
      trained: parameters of the model, or whatever `embed` takes in their place.
      batches: batches as the model was trained on, none larger than `batch_size`.
      batch_size: number of items that the program takes at a time.
      devices: devices that `embed` runs on.
    """
    inputs = ((batch, encoder_inputs(batch)) for batch in batches)
    for batch, (video, music) in embedded_rows(embed, trained, inputs, batch_size, devices):
        kept = {name: rows for name, rows in batch.items() if name not in FIELDS}
        yield {"video_emb": video, "music_emb": music, **kept}


def embedded_rows(
    embed: Callable[..., Any],
    trained: Trained,
    batches: Iterable[tuple[T, Batch]],
    batch_size: int,
    devices: Sequence[jax.Device],
) -> Iterator[tuple[T, Any]]:
    """Yields the key of each batch and the embeddings (b, D) of its items, in order.

    Every batch is filled up to one size that the devices can share, so that the program compiles
    once and the last, partial batch is kept. A batch is dispatched before the one in front of it
    is fetched: reading and embedding overlap. Several processes read the same batches, embed a
    share of each, and all get all embeddings.

    Args:
      embed: pmapped program of `trained` and a batch's arrays.
      trained: parameters of the model, the first argument of `embed`.
      batches: (key, arrays (b, ...)) of each batch, none larger than `batch_size`.
      batch_size: number of items that the program takes at a time.
      devices: devices that `embed` runs on.
    """
    replicated = on_devices.replicated(trained, devices)
    total = on_devices.total(devices)
    padded_size = -(-batch_size // total) * total
    own = on_devices.rows_of_process(padded_size)
    waiting = None
    for key, batch in batches:
        inputs = {name: _filled_up(rows, padded_size)[own] for name, rows in batch.items()}
        shards = on_devices.split(inputs, len(devices))
        embedded = embed(replicated, on_devices.sharded(shards, devices))
        if waiting is not None:
            yield _fetched(*waiting)
        waiting = (key, len(next(iter(batch.values()))), embedded)
    if waiting is not None:
        yield _fetched(*waiting)


def _filled_up(rows: np.ndarray, size: int) -> np.ndarray:
    return np.pad(rows, [(0, size - len(rows)), *([(0, 0)] * (rows.ndim - 1))])


def _fetched(key: T, count: int, embedded: Any) -> tuple[T, Any]:
    def rows(shards: jax.Array) -> np.ndarray:
        own = np.asarray(shards).reshape(-1, shards.shape[-1])
        return distributed.gathered(own)[:count]

    return key, jax.tree.map(rows, embedded)
