"""Leakage between splits: ids or features that occur in two of them."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from heapq import nsmallest
from itertools import combinations

import numpy as np

# Names of records: ascending numbers -> ids, read from the shards only when a finding names them.
Names = Callable[[np.ndarray], Iterator[str]]

_NAMED = 3  # ids that a finding names
_READ_AGAIN = 5_000  # records at most, for the ids to name of a finding


class Occurrences:
    """Count of a finding, and the first three ids that it concerns."""

    def __init__(self, count: int = 0, first: list[str] | None = None) -> None:
        self.count = count
        self.first = first or []

    def add(self, item: str) -> None:
        """Counts one occurrence, and stores its id if it is among the first three."""
        self.count += 1
        if len(self.first) < _NAMED:
            self.first.append(item)

    def __str__(self) -> str:
        return f"{self.count} ({', '.join(self.first)}{', …' if self.count > _NAMED else ''})"


@dataclass(frozen=True)
class Hashed:
    """Items of a split as 64-bit hashes of their ids and of what is compared, in stored order.

    A million items collide once in 40 million validations. Python salts its hashes anew in each
    process, so they can be compared within one validation only.

    Attributes:
      ids: (n,) int64, hashes of the ids.
      contents: (n,) int64, hashes of the features; for ids alone, the same as `ids`.
      names: ids themselves, by the numbers of records.
      numbers: (n,) int64, ascending, number of each item's record; None if they are 0 to n−1.
    """

    ids: np.ndarray
    contents: np.ndarray
    names: Names
    numbers: np.ndarray | None = None

    def kept(self, rows: np.ndarray) -> "Hashed":
        """Items at ascending rows; the same arrays, not copies, if these are all."""
        if len(rows) == len(self.ids):
            return self
        numbers = rows if self.numbers is None else self.numbers[rows]
        return Hashed(self.ids[rows], self.contents[rows], self.names, numbers)

    def named(self, rows: np.ndarray) -> Iterator[str]:
        """Ids at ascending rows."""
        return self.names(rows if self.numbers is None else self.numbers[rows])

    def name(self, row: int) -> str:
        """Id at a row."""
        return next(self.named(np.array([row])))

    def occurrences(self, rows: np.ndarray) -> Occurrences:
        """Occurrences at ascending rows."""
        return Occurrences(len(rows), list(self.named(rows[:_NAMED])))

    def matches(self, owners: np.ndarray, rows: np.ndarray, of: "Hashed") -> Occurrences:
        """Occurrences "id of the owner = id" of items at `owners` here and at `rows` of another."""
        firsts = zip(owners[:_NAMED].tolist(), rows[:_NAMED].tolist(), strict=True)
        return Occurrences(
            len(rows), [f"{self.name(owner)} = {of.name(row)}" for owner, row in firsts]
        )


def first_rows(hashes: np.ndarray) -> np.ndarray:
    """First row of each row's hash: (n,) -> (n,) int64."""
    # Sorted: a dictionary of a million hashes would take several times the memory.
    order = np.argsort(hashes, kind="stable")
    ordered = hashes[order]
    begins = np.append(True, ordered[1:] != ordered[:-1])[: len(order)]
    first = np.empty(len(order), np.int64)
    first[order] = order[begins][np.cumsum(begins) - 1]
    return first


def distinct_rows(hashes: np.ndarray) -> np.ndarray:
    """Rows, ascending, whose hash no row before them has."""
    return np.flatnonzero(first_rows(hashes) == np.arange(len(hashes)))


@dataclass(frozen=True)
class SplitItems:
    """Hashed items of one split.

    Attributes:
      videos, tracks: each video and each track once.
      pairs: videos, with the features of both modalities together; None if there is one modality.
      features: items of each modality once, "video" and "music".
    """

    videos: Hashed
    tracks: Hashed
    pairs: Hashed | None
    features: Mapping[str, Hashed]


def leaked(splits: Mapping[str, SplitItems]) -> Iterator[str]:
    """Yields an error for every two splits that share ids, or whole pairs under other ids."""
    for one, other in combinations(splits, 2):
        between, first, second = f"{one} and {other} share", splits[one], splits[other]
        findings = [
            (shared_ids(first.videos, second.videos), "videos: {} are in both"),
            (shared_ids(first.tracks, second.tracks), "tracks: {} are in both"),
        ]
        if first.pairs and second.pairs:
            pairs = shared_contents(first.pairs, second.pairs)
            findings.append((pairs, "whole pairs under other ids: {}"))
        yield from (f"{between} {what.format(where)}" for where, what in findings if where.count)


def suspected(splits: Mapping[str, SplitItems]) -> Iterator[str]:
    """Yields a warning for every two splits that share features of a modality under other ids.

    Real data have such duplicates (silence, a song used twice), so they do not prove leakage.
    """
    for one, other in combinations(splits, 2):
        for name, items in splits[one].features.items():
            where = shared_contents(items, splits[other].features[name])
            if where.count:
                yield f"{one} and {other} share {name} features under other ids: {where}"


def shared_ids(one: Hashed, other: Hashed) -> Occurrences:
    """Ids that two splits have in common, each once in both, in alphabetical order.

    Of many, those named are the first of some thousand: their records are read again for it.
    """
    rows = np.flatnonzero(np.isin(other.ids, one.ids))
    return Occurrences(len(rows), nsmallest(_NAMED, other.named(rows[:_READ_AGAIN])))


def shared_contents(one: Hashed, other: Hashed) -> Occurrences:
    """Items of `other` that `one` has under another id, as "id in one = id in other"."""
    if not len(one.ids):
        return Occurrences()
    order = np.argsort(one.contents, kind="stable")
    # Clipped: a hash above all others is inserted past the end.
    places = np.searchsorted(one.contents, other.contents, sorter=order).clip(max=len(order) - 1)
    owners = order[places]
    # Equal ids are reported by `shared_ids` already.
    shared = (one.contents[owners] == other.contents) & (one.ids[owners] != other.ids)
    rows = np.flatnonzero(shared)
    return one.matches(owners[rows], rows, other)
