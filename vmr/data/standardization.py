"""Mean and scale of every input dimension, so that dimensions of any magnitude weigh alike."""

import numpy as np
from tqdm import tqdm

from vmr.data.dataset import Dataset
from vmr.data.pipeline import eval_batches

Statistics = dict[str, dict[str, np.ndarray]]

_BATCH = 1024
# Seconds before a progress bar is worth showing.
_PATIENCE = 3


class _Moments:
    """Mean and sum of squared deviations in float64, merged batch by batch (Chan et al. 1979)."""

    def __init__(self, width: int):
        self.count = 0
        self.mean = np.zeros(width)
        self.squares = np.zeros(width)

    def add(self, rows: np.ndarray) -> None:
        rows = rows.astype(np.float64)
        count = self.count + len(rows)
        mean = rows.mean(axis=0)
        shift = mean - self.mean
        self.squares += np.square(rows - mean).sum(axis=0)
        self.squares += np.square(shift) * (self.count * len(rows) / count)
        self.mean += shift * (len(rows) / count)
        self.count = count

    def statistics(self) -> dict[str, np.ndarray]:
        deviation = np.sqrt(self.squares / self.count)
        # What float32 cannot tell from its mean is constant: dividing by it would blow up noise.
        constant = deviation <= np.finfo(np.float32).eps * np.abs(self.mean)
        scale = 1.0 / np.where(constant, 1.0, deviation)
        return {"mean": self.mean.astype(np.float32), "scale": scale.astype(np.float32)}


def statistics(dataset: Dataset, split: str = "train") -> Statistics:
    """Per-dimension statistics of a split, in one pass: standardised = (x − mean) · scale.

    Every pair counts once, so a track with several videos weighs as often; sequences enter as the
    mean of their frames.

    Args:
      dataset: see `open_dataset`.
      split: the split to measure; always the training split, except in tests.

    Returns:
      {"video": {"mean": (Dv,), "scale": (Dv,)}, "music": {...}}, float32. `scale` is 1/std, and 1
      where the dimension is constant.

    Raises:
      UserError: the split is missing, or a record is corrupt.
    """
    moments = {"video": _Moments(dataset.video_width), "music": _Moments(dataset.music_width)}
    pairs, title = dataset.examples(split), f"standardise by {split}"
    with tqdm(total=pairs, desc=title, unit=" pairs", leave=False, delay=_PATIENCE) as bar:
        for batch in eval_batches(dataset, split, _BATCH):
            for name, moment in moments.items():
                moment.add(batch[name])
            bar.update(len(batch["track"]))
    return {name: moment.statistics() for name, moment in moments.items()}
