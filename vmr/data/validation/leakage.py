"""Leakage between splits: ids or features that occur in two of them."""

from array import array
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass
from itertools import combinations

import numpy as np


class Occurrences:
    """Count of a finding, and the first three ids that it concerns."""

    def __init__(self) -> None:
        self.count = 0
        self.first: list[str] = []

    def add(self, item: str) -> None:
        """Counts one occurrence, and stores its id if it is among the first three."""
        self.count += 1
        if len(self.first) < 3:
            self.first.append(item)

    def __str__(self) -> str:
        return f"{self.count} ({', '.join(self.first)}{', …' if self.count > 3 else ''})"


class Contents:
    """Ids of the items of a split, and 64-bit hashes of their features.

    A million items collide once in 40 million validations. Python salts its hashes anew in each
    process, so they can be compared within one validation only.
    """

    def __init__(self) -> None:
        self.ids: list[str] = []
        # 8 bytes a hash, where a list of Python integers takes 40.
        self.hashes = array("q")

    def add(self, item: str, content: int) -> None:
        """Stores the id of an item and the hash of its features."""
        self.ids.append(item)
        self.hashes.append(content)


@dataclass(frozen=True)
class SplitItems:
    """Ids and feature hashes of one split.

    Attributes:
      videos, tracks: ids of the videos and of the tracks.
      pairs: hashes of the features of both modalities together, with video ids.
      features: hashes of the features of each modality, "video" and "music".
    """

    videos: Set[str]
    tracks: Set[str]
    pairs: Contents
    features: Mapping[str, Contents]


def leaked(splits: Mapping[str, SplitItems]) -> Iterator[str]:
    """Yields an error for every two splits that share ids, or whole pairs under other ids."""
    for one, other in combinations(splits, 2):
        between, first, second = f"{one} and {other} share", splits[one], splits[other]
        findings = (
            (shared_ids(first.videos, second.videos), "videos: {} are in both"),
            (shared_ids(first.tracks, second.tracks), "tracks: {} are in both"),
            (shared_contents(first.pairs, second.pairs), "whole pairs under other ids: {}"),
        )
        yield from (f"{between} {what.format(where)}" for where, what in findings if where.count)


def suspected(splits: Mapping[str, SplitItems]) -> Iterator[str]:
    """Yields a warning for every two splits that share features of a modality under other ids.

    Real data have such duplicates (silence, a song used twice), so they do not prove leakage.
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
    """Items of `other` that `one` has under another id, as "id in one = id in other"."""
    shared = Occurrences()
    if not one.ids:
        return shared
    hashes, sought = (np.asarray(contents.hashes, np.int64) for contents in (one, other))
    # Sorted search: a dictionary of a million hashes would take several times the memory.
    order = np.argsort(hashes, kind="stable")
    # Clipped: a hash above all others is inserted past the end.
    owners = order[np.searchsorted(hashes, sought, sorter=order).clip(max=len(order) - 1)]
    for row in np.flatnonzero(hashes[owners] == sought):
        owner, item = one.ids[owners[row]], other.ids[row]
        # Equal ids are reported by `shared_ids` already.
        if owner != item:
            shared.add(f"{owner} = {item}")
    return shared
