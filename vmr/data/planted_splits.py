"""The arrays of planted pairs, split by split.

Each option draws from a generator of its own, so that it does not change what the others and the
defaults draw: text leaves the features as they are, and groups of a chosen size in the training
split leave validation and test as they are, numbers of groups aside.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from vmr.data.planted_features import (
    RandomMap,
    Shared,
    random_map,
    sequences,
    shared_qualities,
    vectors,
)
from vmr.data.planted_text import texts
from vmr.data.schema import Pair
from vmr.data.source import SPLITS

VIDEO_WIDTH = 192
MUSIC_WIDTH = 96
# Share of the tracks in validation, and in test.
HELD_OUT = 1 / 8

_GROUP_SIZES = (1, 2, 3)
_GROUP_CHANCES = (0.6, 0.25, 0.15)
# Generators of the options' own start from [seed, option, split]; option 0 would be the seed's.
_CLIPS, _TEXT, _GROUP_TRACKS = 1, 2, 3


@dataclass(frozen=True)
class PlantedSplit:
    """One split: N videos, M tracks, G groups.

    Attributes:
      video: (N, 192) float32, or N sequences (T, 192), each of its own length.
      music: (M, 96) float32, or M sequences (T, 96).
      track: (N,) the row of `music` that is paired with each video.
      group: (M,) tracks of equal group are compatible with each other's videos.
      shared: what the tracks of each group share, (G, ...); the first group is `first_group`.
      first_video, first_track, first_group: what the ids of this split start from.
      text: that comes with each video, "" where it is absent; empty if no video has any.
    """

    video: np.ndarray | list[np.ndarray]
    music: np.ndarray | list[np.ndarray]
    track: np.ndarray
    group: np.ndarray
    shared: Shared
    first_video: int
    first_track: int
    first_group: int
    text: tuple[str, ...] = ()

    def pairs(self) -> Iterator[Pair]:
        """The pairs, one a video."""
        for row, track in enumerate(self.track):
            yield Pair(
                video_id=f"video{self.first_video + row:06d}",
                music_id=f"track{self.first_track + track:06d}",
                video=self.video[row],
                music=self.music[track],
                text=self.text[row] if self.text else "",
                group=int(self.group[track]),
            )

    @property
    def shared_by_tracks(self) -> Shared:
        """What each track shares with the other items of its group, (M, ...)."""
        return self.shared.of(self.group - self.first_group)

    @property
    def shared_by_videos(self) -> Shared:
        """The same of each video, (N, ...)."""
        return self.shared_by_tracks.of(self.track)


def planted_splits(
    videos: int,
    tracks: int,
    seed: int,
    *,
    clips: int = 0,
    text_absent: float | None = None,
    group_tracks: int = 0,
) -> dict[str, PlantedSplit]:
    """The arrays of each split; see `vmr.data.planted.planted` for the arguments.

    Without a share of absent texts there is no text at all.
    """
    rng = np.random.default_rng(seed)
    held_out = int(tracks * HELD_OUT)
    sizes = dict(zip(SPLITS, (tracks - 2 * held_out, held_out, held_out), strict=True))
    maps = random_map(rng, VIDEO_WIDTH), random_map(rng, MUSIC_WIDTH)
    splits: dict[str, PlantedSplit] = {}
    first_video = first_track = first_group = 0
    for number, (name, size) in enumerate(sizes.items()):
        last = first_track + size == tracks
        count = videos - first_video if last else round(videos * size / tracks)
        firsts = first_video, first_track, first_group
        split = _draw_split(rng, maps, _mixed_groups(rng, size), count, firsts)
        if group_tracks and name == "train":
            # The split of mixed groups was drawn all the same: those that follow stay as they are.
            own = np.random.default_rng([seed, _GROUP_TRACKS, number])
            split = _draw_split(own, maps, np.arange(size) // group_tracks, count, firsts)
        if clips:
            own = np.random.default_rng([seed, _CLIPS, number])
            split = replace(
                split,
                video=sequences(own, maps[0], split.shared_by_videos, clips),
                music=sequences(own, maps[1], split.shared_by_tracks, clips),
            )
        if text_absent is not None:
            own = np.random.default_rng([seed, _TEXT, number])
            split = replace(split, text=tuple(texts(own, split.shared_by_videos, text_absent)))
        splits[name] = split
        first_video += count
        first_track += size
        first_group += len(split.shared.genre)
    return splits


def _mixed_groups(rng: np.random.Generator, tracks: int) -> np.ndarray:
    # Every group has a track, so `tracks` draws are always enough.
    sizes = rng.choice(_GROUP_SIZES, p=_GROUP_CHANCES, size=tracks)
    return np.repeat(np.arange(tracks), sizes)[:tracks]


def _draw_split(
    rng: np.random.Generator,
    maps: tuple[RandomMap, RandomMap],
    group: np.ndarray,
    videos: int,
    firsts: tuple[int, int, int],
) -> PlantedSplit:
    """A split of vectors, for tracks of `group` (M,) from 0; `firsts`: video, track, group."""
    shared = shared_qualities(rng, int(group[-1]) + 1)
    size = len(group)
    track = np.sort(np.concatenate([np.arange(size), rng.integers(size, size=videos - size)]))
    return PlantedSplit(
        video=vectors(rng, maps[0], shared.of(group[track])),
        music=vectors(rng, maps[1], shared.of(group)),
        track=track,
        group=firsts[2] + group,
        shared=shared,
        first_video=firsts[0],
        first_track=firsts[1],
        first_group=firsts[2],
    )
