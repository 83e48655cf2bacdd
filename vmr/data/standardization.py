"""Mean and scale of every input dimension, which give dimensions of any magnitude equal weight."""

import numpy as np

from vmr.data.batch_spec import BatchSpec
from vmr.data.cached import CachedSplit
from vmr.data.dataset import Dataset
from vmr.data.measured import measured
from vmr.data.pipeline import Batch, eval_batches
from vmr.moments import Moments
from vmr.progress_bar import progress_bar
from vmr.quantization import dequantize

Statistics = dict[str, dict[str, np.ndarray]]

_BATCH = 1024


def statistics(
    dataset: Dataset,
    split: str = "train",
    spec: BatchSpec | None = None,
    held: CachedSplit | None = None,
) -> Statistics:
    """Computes per-dimension statistics in one pass: standardised = (x − mean) · scale.

    They are taken over the vectors of the batches or, if the spec samples, over the clips. Every
    pair counts once, so a track with several videos counts several times. They are kept beside the
    dataset, see `vmr.data.measured`.

    Args:
      dataset: dataset from `open_dataset`.
      split: split to measure; always the training split, except in tests.
      spec: content of the batches that will be standardised; by default one vector per item, the
        mean of a sequence.
      held: the split as it is held in memory, which saves reading it.

    Returns:
      {"video": {"mean": (P,), "scale": (P,)}, "music": {...}}, float32. `scale` is 1/std, or 1
      for a constant dimension.

    Raises:
      UserError: the split is missing, or a record is corrupt.
    """
    dataset.examples(split)  # raises if there is no such split
    spec = spec or BatchSpec()
    options = {"sampling": spec.sampling, "clips": spec.clips, "pairing": spec.pairing}
    arrays = measured(
        dataset, split, "statistics", options, lambda: _measured(dataset, split, spec, held)
    )
    return {
        name: {part: arrays[f"{name}_{part}"] for part in ("mean", "scale")}
        for name in ("video", "music")
    }


def _measured(
    dataset: Dataset, split: str, spec: BatchSpec, held: CachedSplit | None
) -> dict[str, np.ndarray]:
    """`video_mean`, `video_scale`, `music_mean` and `music_scale`."""
    moments = {"video": Moments(), "music": Moments()}
    pairs, title = dataset.examples(split), f"standardise by {split}"
    with progress_bar(total=pairs, desc=title, unit=" pairs") as bar:
        # The same batches either way: their sizes decide the last bits.
        read = held.batches(_BATCH) if held else eval_batches(dataset, split, _BATCH, spec)
        for batch in read:
            for name, moment in moments.items():
                moment.add(_rows(batch, name))
            bar.update(len(batch["track"]))
    return {
        f"{name}_{part}": array
        for name, moment in moments.items()
        for part, array in _mean_and_scale(moment).items()
    }


def _mean_and_scale(moments: Moments) -> dict[str, np.ndarray]:
    deviation = np.sqrt(moments.scatter / moments.count)
    single = np.finfo(np.float32)
    # A deviation that float32 cannot resolve beside the mean is rounding noise, and dividing by it
    # would blow it up. A subnormal deviation counts as constant too, since its inverse overflows.
    constant = deviation <= np.maximum(single.eps * np.abs(moments.mean), single.tiny)
    scale = 1.0 / np.where(constant, 1.0, deviation)
    return {"mean": moments.mean.astype(np.float32), "scale": scale.astype(np.float32)}


def _rows(batch: Batch, name: str) -> np.ndarray:
    """Vectors of a batch, or its clips without the padding, stacked: (rows, P) float32."""
    rows = batch[name]
    if f"{name}_mask" in batch:
        rows = rows[batch[f"{name}_mask"]]
    return dequantize(rows) if rows.dtype == np.uint8 else rows
