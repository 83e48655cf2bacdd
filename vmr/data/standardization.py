"""Mean and scale of every input dimension, so that dimensions of any magnitude weigh alike."""

import numpy as np

from vmr.data.dataset import Dataset
from vmr.data.decoding import BatchSpec
from vmr.data.pipeline import Batch, eval_batches
from vmr.moments import Moments
from vmr.progress_bar import progress_bar
from vmr.quantization import dequantize

Statistics = dict[str, dict[str, np.ndarray]]

_BATCH = 1024


def statistics(dataset: Dataset, split: str = "train", spec: BatchSpec | None = None) -> Statistics:
    """Per-dimension statistics of a split, in one pass: standardised = (x − mean) · scale.

    They are taken over vectors or, where the spec samples, over the clips drawn. Every pair counts
    once, so a track with several videos counts several times.

    Args:
      dataset: see `open_dataset`.
      split: split to measure; always the training split, except in tests.
      spec: content of the batches that will be standardised; by default one vector an item, the
        mean of a sequence.

    Returns:
      {"video": {"mean": (Dv,), "scale": (Dv,)}, "music": {...}}, float32. `scale` is 1/std, and 1
      where the dimension is constant.

    Raises:
      UserError: the split is missing, or a record is corrupt.
    """
    moments = {"video": Moments(), "music": Moments()}
    pairs, title = dataset.examples(split), f"standardise by {split}"
    with progress_bar(total=pairs, desc=title, unit=" pairs") as bar:
        for batch in eval_batches(dataset, split, _BATCH, spec):
            for name, moment in moments.items():
                moment.add(_rows(batch, name))
            bar.update(len(batch["track"]))
    return {name: _mean_and_scale(moment) for name, moment in moments.items()}


def _mean_and_scale(moments: Moments) -> dict[str, np.ndarray]:
    deviation = np.sqrt(moments.scatter / moments.count)
    single = np.finfo(np.float32)
    # What float32 cannot tell from its mean is constant: dividing by it would blow up noise.
    # So is what it cannot divide by: below its least normal number the inverse overflows.
    constant = deviation <= np.maximum(single.eps * np.abs(moments.mean), single.tiny)
    scale = 1.0 / np.where(constant, 1.0, deviation)
    return {"mean": moments.mean.astype(np.float32), "scale": scale.astype(np.float32)}


def _rows(batch: Batch, name: str) -> np.ndarray:
    """Vectors or unmasked clips of a batch, stacked: (rows, D) float32."""
    rows = batch[name]
    if f"{name}_mask" in batch:
        rows = rows[batch[f"{name}_mask"]]
    return dequantize(rows) if rows.dtype == np.uint8 else rows
