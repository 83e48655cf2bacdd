"""Numbers of the tracks of a dataset, and its videos each once, in 24 bytes or so an id.

Ids are told apart by 64-bit hashes: a Python string in a dictionary takes ten times as much. Of
5.6 million ids two collide once in a million builds, since Python salts its hashes anew in each
process.
"""

from array import array
from collections.abc import Mapping

import numpy as np

from vmr.errors import UserError

_FREE = -1


class HashNumbers:
    """Numbers of distinct hashes, from 0 in the order in which they come; an open hash table."""

    def __init__(self) -> None:
        self._hashes = array("q")
        self._slots = array("i", [_FREE]) * 64

    def __len__(self) -> int:
        return len(self._hashes)

    def of(self, hashed: int) -> int:
        """Number of a hash of 64 bits; the next one if it is new."""
        slot = self._slot(hashed)
        number = self._slots[slot]
        if number != _FREE:
            return number
        number = self._slots[slot] = len(self._hashes)
        self._hashes.append(hashed)
        # At most half full: else many hashes in a row would have to be passed.
        if 2 * len(self._hashes) > len(self._slots):
            self._slots = array("i", [_FREE]) * (2 * len(self._slots))
            for known, earlier in enumerate(self._hashes):
                self._slots[self._slot(earlier)] = known
        return number

    def _slot(self, hashed: int) -> int:
        """Slot that holds the number of a hash, or the free one where it belongs."""
        slots, hashes, mask = self._slots, self._hashes, len(self._slots) - 1
        slot = hashed & mask
        while (number := slots[slot]) != _FREE and hashes[number] != hashed:
            slot = (slot + 1) & mask
        return slot


class TrackNumbers:
    """Numbers of the tracks, across splits in the order of their first pairs."""

    def __init__(self) -> None:
        self._tracks = HashNumbers()
        self._videos: dict[str, HashNumbers] = {}
        self._pairs: dict[str, array[int]] = {}

    def of_pair(self, split: str, video_id: str, music_id: str) -> int:
        """Number of the track of the next pair; UserError if the split had the video before."""
        if split not in self._videos:
            self._videos[split], self._pairs[split] = HashNumbers(), array("i")
        videos = self._videos[split]
        videos.of(hash(video_id))
        if len(videos) == len(self._pairs[split]):
            raise UserError(f"{split}: video id {video_id!r} comes twice, expected each video once")
        # Numbered across splits, so that equal ids are one track wherever they occur.
        track = self._tracks.of(hash(music_id))
        self._pairs[split].append(track)
        return track

    def refuse_empty(self, split: str) -> None:
        """Raises UserError if the split, whose pairs have all come, had none."""
        if not self._pairs.get(split):
            raise UserError(f"{split}: holds no pair, expected at least one")

    @property
    def videos_per_track(self) -> Mapping[str, np.ndarray]:
        """Number of videos of each track, by split: (M,) int64, in the order of their numbers."""
        return {
            split: np.unique(np.asarray(tracks), return_counts=True)[1]
            for split, tracks in self._pairs.items()
        }
