"""Leakage between splits: ids or contents that two of them share, so that one reveals the other."""

from array import array
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass
from itertools import combinations

import numpy as np


class Occurrences:
    """Count of a finding, and the first three ids it was made at."""

    def __init__(self) -> None:
        self.count = 0
        self.first: list[str] = []

    def add(self, item: str) -> None:
        """Counts one more; keeps the id if it is among the first three."""
        self.count += 1
        if len(self.first) < 3:
            self.first.append(item)

    def __str__(self) -> str:
        return f"{self.count} ({', '.join(self.first)}{', …' if self.count > 3 else ''})"


class Contents:
    """Hashes of the items of a split, 64 bits each, beside their ids.

    A million items collide once in 40 million runs. Python hashes text differently in each
    process, so hashes are compared within one validation only.
    """

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.hashes = array("q")

    def add(self, item: str, content: int) -> None:
        """Stores the hash of the content of the item with this id."""
        self.ids.append(item)
        self.hashes.append(content)


@dataclass(frozen=True)
class SplitItems:
    """Ids and contents of one split.

    Attributes:
      videos, tracks: ids of the videos and of the tracks.
      pairs: hash of both features together, by video id.
      features: hashes of each modality, "video" and "music".
    """

    videos: Set[str]
    tracks: Set[str]
    pairs: Contents
    features: Mapping[str, Contents]


def leaked(splits: Mapping[str, SplitItems]) -> Iterator[str]:
    """Errors: a line for every two splits that share ids, or whole pairs under other ids."""
    for one, other in combinations(splits, 2):
        between, first, second = f"{one} and {other} share", splits[one], splits[other]
        findings = (
            (shared_ids(first.videos, second.videos), "videos: {} are in both"),
            (shared_ids(first.tracks, second.tracks), "tracks: {} are in both"),
            (shared_contents(first.pairs, second.pairs), "whole pairs under other ids: {}"),
        )
        yield from (f"{between} {what.format(where)}" for where, what in findings if where.count)


def suspected(splits: Mapping[str, SplitItems]) -> Iterator[str]:
    """Warnings: a line for every two splits that share features of a modality under other ids.

    Real data have such duplicates (silence, a song used twice), so they are no proof of leakage.
    """
    for one, other in combinations(splits, 2):
        for name, contents in splits[one].features.items():
            where = shared_contents(contents, splits[other].features[name])
            if where.count:
                yield f"{one} and {other} share {name} features under other ids: {where}"


def shared_ids(one: Set[str], other: Set[str]) -> Occurrences:
    """Ids that two splits have in common, in alphabetical order."""
    shared = Occurrences()
    for item in sorted(one & other):
        shared.add(item)
    return shared


def shared_contents(one: Contents, other: Contents) -> Occurrences:
    """Items of `other` that `one` holds under another id, as "id in one = id in other"."""
    shared = Occurrences()
    if not one.ids:
        return shared
    hashes, sought = (np.asarray(contents.hashes, np.int64) for contents in (one, other))
    order = np.argsort(hashes, kind="stable")
    owners = order[np.searchsorted(hashes, sought, sorter=order).clip(max=len(order) - 1)]
    for row in np.flatnonzero(hashes[owners] == sought):
        owner, item = one.ids[owners[row]], other.ids[row]
        if owner != item:
            shared.add(f"{owner} = {item}")
    return shared
