"""What two splits have in common, by id or by content: whoever trains on one has seen the other."""

from array import array
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass
from itertools import combinations

import numpy as np


class Occurrences:
    """How often something was found, and the ids it was found at first."""

    def __init__(self) -> None:
        self.count = 0
        self.first: list[str] = []

    def add(self, item: str) -> None:
        """Notes one more, keeping the first three by name."""
        self.count += 1
        if len(self.first) < 3:
            self.first.append(item)

    def __str__(self) -> str:
        return f"{self.count} ({', '.join(self.first)}{', …' if self.count > 3 else ''})"


class Contents:
    """What the items of a split hold, as 64-bit hashes of 8 bytes each, beside their ids.

    A million items collide once in 40 million runs. Python hashes text differently in each
    process, so hashes are compared within one validation only.
    """

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.hashes = array("q")

    def add(self, item: str, content: int) -> None:
        """Notes the hash of what the item with this id holds."""
        self.ids.append(item)
        self.hashes.append(content)


@dataclass(frozen=True)
class SplitItems:
    """What one split holds.

    Attributes:
      videos, tracks: the ids.
      pairs: the content of both features together, by video id.
      features: the content of each feature, by "video" and "music".
    """

    videos: Set[str]
    tracks: Set[str]
    pairs: Contents
    features: Mapping[str, Contents]


def leaked(splits: Mapping[str, SplitItems]) -> Iterator[str]:
    """A line for every two splits that share ids, or whole pairs under other ids."""
    for one, other in combinations(splits, 2):
        between, first, second = f"{one} and {other} share", splits[one], splits[other]
        found = (
            (shared_ids(first.videos, second.videos), "videos: {} are in both"),
            (shared_ids(first.tracks, second.tracks), "tracks: {} are in both"),
            (shared_contents(first.pairs, second.pairs), "whole pairs under other ids: {}"),
        )
        yield from (f"{between} {what.format(where)}" for where, what in found if where.count)


def suspected(splits: Mapping[str, SplitItems]) -> Iterator[str]:
    """A line for every two splits that share features of one modality under other ids.

    Real data have such duplicates (silence, a song used twice), so they are no proof of leakage.
    """
    for one, other in combinations(splits, 2):
        for name, contents in splits[one].features.items():
            where = shared_contents(contents, splits[other].features[name])
            if where.count:
                yield f"{one} and {other} share {name} features under other ids: {where}"


def shared_ids(one: Set[str], other: Set[str]) -> Occurrences:
    """The ids that two splits have in common, in alphabetical order."""
    found = Occurrences()
    for item in sorted(one & other):
        found.add(item)
    return found


def shared_contents(one: Contents, other: Contents) -> Occurrences:
    """The items of `other` that `one` holds under another id, as "id in one = id in other"."""
    found = Occurrences()
    if not one.ids:
        return found
    hashes, sought = (np.asarray(contents.hashes, np.int64) for contents in (one, other))
    order = np.argsort(hashes, kind="stable")
    owners = order[np.searchsorted(hashes, sought, sorter=order).clip(max=len(order) - 1)]
    for row in np.flatnonzero(hashes[owners] == sought):
        owner, item = one.ids[owners[row]], other.ids[row]
        if owner != item:
            found.add(f"{owner} = {item}")
    return found
