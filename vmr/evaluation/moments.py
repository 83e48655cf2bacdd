"""Means and covariances of paired features, from one pass over their batches.

Every block of rows is centred at its own mean and then merged by the update of Chan, Golub and
LeVeque ("Updating formulae and a pairwise algorithm for computing sample variances", 1979). So
nothing cancels, however far from zero the features lie; Σxxᵀ/n − mean·meanᵀ would lose them.
"""

from collections.abc import Iterable

import numpy as np

from vmr.errors import UserError
from vmr.evaluation import inputs

Batches = Iterable[tuple[np.ndarray, np.ndarray]]

# Rows taken to float64 at a time, so that a whole training split may come as one batch.
_ROWS = 4096


class Moments:
    """Moments of the pairs seen so far: float64, O((P+Q)²) memory however many there are.

    Attributes:
        count: pairs seen.
    """

    def __init__(self) -> None:
        self.count = 0
        self._widths = (0, 0)
        # Of video and music side by side: a scalar 0 until the first rows tell the width P+Q.
        self._mean = np.zeros(())
        self._scatter = np.zeros(())

    @classmethod
    def of(cls, batches: Batches) -> "Moments":
        """Moments of all batches: iterable of ((b,P),(b,Q)), each looked at once.

        Raises:
            UserError: as `add`, and where there is no batch.
        """
        moments = cls()
        for video, music in batches:
            moments.add(video, music)
        if not moments.count:
            raise UserError("expected at least one pair of a video and a track; found none")
        return moments

    def add(self, video: np.ndarray, music: np.ndarray) -> None:
        """Takes in paired rows (b,P),(b,Q).

        Raises:
            UserError: NaN or infinity, not as many tracks as videos, or widths unlike before.
        """
        video = inputs.check_embeddings("video features", video, first_row=self.count)
        music = inputs.check_embeddings("music features", music, first_row=self.count)
        if len(video) != len(music):
            raise UserError(
                f"expected paired rows; found {len(video)} videos and {len(music)} tracks"
            )
        widths = (video.shape[1], music.shape[1])
        if self.count and widths != self._widths:
            raise UserError(
                f"expected video and music features of width {self._widths[0]} and "
                f"{self._widths[1]}, as in the batches before; found {widths[0]} and {widths[1]}"
            )
        self._widths = widths
        for start in range(0, len(video), _ROWS):
            block = slice(start, start + _ROWS)
            sides = [video[block].astype(np.float64), music[block].astype(np.float64)]
            self._merge(np.concatenate(sides, axis=1))

    def _merge(self, rows: np.ndarray) -> None:
        mean = rows.mean(axis=0)
        rows -= mean
        total = self.count + len(rows)
        step = mean - self._mean
        between = np.outer(step, step) * (self.count * len(rows) / total)
        self._scatter = self._scatter + rows.T @ rows + between
        self._mean = self._mean + step * (len(rows) / total)
        self.count = total

    @property
    def video_mean(self) -> np.ndarray:
        """(P,)."""
        return self._mean[: self._widths[0]]

    @property
    def music_mean(self) -> np.ndarray:
        """(Q,)."""
        return self._mean[self._widths[0] :]

    @property
    def video_covariance(self) -> np.ndarray:
        """(P,P), divided by the count."""
        return self._scatter[: self._widths[0], : self._widths[0]] / self.count

    @property
    def music_covariance(self) -> np.ndarray:
        """(Q,Q), divided by the count."""
        return self._scatter[self._widths[0] :, self._widths[0] :] / self.count

    @property
    def cross_covariance(self) -> np.ndarray:
        """Video by music (P,Q), divided by the count."""
        return self._scatter[: self._widths[0], self._widths[0] :] / self.count
