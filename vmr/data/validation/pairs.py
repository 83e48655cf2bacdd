"""Checks of the ids of one split: added batch by batch as hashes, compared at the end."""

from array import array
from collections import Counter
from collections.abc import Iterator, Mapping

import numpy as np

from vmr.data.pipeline import Batch
from vmr.data.validation.leakage import Hashed, Names, Occurrences, first_rows


class PairFindings:
    """Findings in the ids of the pairs.

    Attributes:
      hashes: hashes of the ids of the "video" and the "music" of every record.
      examples: number of distinct videos; 0 before `compare`.
      videos_per_track: number of videos of each distinct track, in stored order.
    """

    def __init__(self) -> None:
        self.hashes = {side: array("q") for side in ("video", "music")}
        self.repeated, self.nameless, self.inconsistent = (
            Occurrences(),
            Occurrences(),
            Occurrences(),
        )
        self.examples = 0
        self.videos_per_track: list[int] = []
        self._indices, self._nameless = array("q"), array("q")

    def add(self, batch: Batch) -> None:
        """Adds the ids and the track indices of the next records."""
        number = len(self._indices)
        ids = {side: batch[f"{side}_id"].tolist() for side in self.hashes}
        for side, hashes in self.hashes.items():
            hashes.extend(map(hash, ids[side]))
        self._indices.extend(batch["track"].tolist())
        for row, named in enumerate(map(all, zip(*ids.values(), strict=True))):
            if not named:
                self.nameless.add(f"example {number + row}")
                self._nameless.append(number + row)

    def compare(
        self, names: Mapping[str, Names], contents: np.ndarray | None
    ) -> tuple[Hashed, Hashed, Hashed | None]:
        """Compares the ids of all records.

        Args:
          names: ids of the videos and of the tracks.
          contents: (n,) int64, hashes of both features; None if there is one modality, thus no
            pairs.

        Returns:
          videos, each once; tracks, each once; pairs, or None.
        """
        ids = {side: np.asarray(hashes) for side, hashes in self.hashes.items()}
        named = np.delete(np.arange(len(self._indices)), np.asarray(self._nameless))
        compared = ids["video"] if contents is None else contents
        videos = Hashed(ids["video"], compared, names["video"]).kept(named)
        first = first_rows(videos.ids)
        each = np.arange(len(first))
        self.repeated = videos.occurrences(np.flatnonzero(first != each))
        distinct = videos.kept(np.flatnonzero(first == each))
        self.examples = len(distinct.ids)
        tracks = Hashed(ids["music"], ids["music"], names["music"]).kept(named)
        return distinct, self._compared(tracks, named), None if contents is None else videos

    def _compared(self, tracks: Hashed, named: np.ndarray) -> Hashed:
        """Counts the videos of each track and compares its indices; the tracks, each once."""
        first = first_rows(tracks.ids)
        indices = np.asarray(self._indices)[named]
        self.inconsistent = tracks.occurrences(np.flatnonzero(indices != indices[first]))
        rows, counts = np.unique(first, return_counts=True)
        self.videos_per_track = counts.tolist()
        return tracks.kept(rows)

    def errors(self) -> Iterator[str]:
        """Faults that make the pairs unfit for training or evaluation."""
        findings = (
            (self.nameless, "pairs lack a video id or a music id"),
            (self.repeated, "video ids come more than once"),
            (self.inconsistent, "music ids have more than one music_index"),
        )
        return (f"{where} {what}" for where, what in findings if where.count)

    def multiplicity(self) -> dict[str, int]:
        """Number of tracks by their number of videos, ascending; keys are strings, as in JSON."""
        return {str(r): n for r, n in sorted(Counter(self.videos_per_track).items())}
