"""Source of pairs, as named splits; splits held out of the training data by a hash of ids.

The split of an item depends on its id and the share alone, so it is the same on every machine and
whatever else the files hold. Validation and test take opposite ends of the hash: with a larger
share each keeps its items and gains some, and none of them was in the other.
"""

import zlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from vmr.data.accounts import Account
from vmr.errors import UserError

if TYPE_CHECKING:  # imports TensorFlow, which those who list pairs of media do without
    from vmr.data.schema import Pair, Schema

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class InParts:
    """Pairs of a split in parts, each of which another process or machine may read by itself.

    Attributes:
      read: function from a part to its pairs, in order.
      parts: files, or rows of a table, in order; they and `read` can be pickled.
      if_empty: message of the UserError that a call raises if no part holds a pair.
    """

    read: "Callable[[Any], Iterator[Pair]]"
    parts: Sequence[Any]
    if_empty: str

    def __call__(self) -> "Iterator[Pair]":
        """Yields the pairs of all parts, one part after the other."""
        empty = True
        for part in self.parts:
            for pair in self.read(part):
                empty = False
                yield pair
        if empty:
            raise UserError(self.if_empty)


@dataclass
class LeftOut:
    """Items of a source that cannot be read and are left out, up to a number of them.

    Attributes:
      most: number of items that may be left out; with 0, the first one ends the build.
      reasons: message about each item left out so far, by its place: a record or a line.
      names: their ids, or places where the ids cannot be read, by place too.
    """

    most: int = 0
    reasons: dict[str, str] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.most < 0:
            raise UserError(f"--skip_bad={self.most}: expected 0 or more items")

    def add(self, place: str, fault: UserError, item: str = "") -> None:
        """Leaves an item out; raises the fault instead if that would be one too many.

        Args:
          place: record or line of the item, which no other has.
          fault: reason.
          item: its id, if that is known.
        """
        # A source may be read several times, and meet the item each time.
        if place in self.reasons:
            return
        if len(self.reasons) == self.most:
            hint = f"; as many as --skip_bad={self.most} allows were left out before it"
            raise UserError(f"{fault}{hint if self.most else ''}") from None
        self.reasons[place] = str(fault)
        self.names[place] = " ".join(item.split()) or place

    def __str__(self) -> str:
        first = ", ".join(list(self.names.values())[:3]) + (", …" if len(self.reasons) > 3 else "")
        count = len(self.reasons)
        items = f"{count} unreadable items are" if count > 1 else "1 unreadable item is"
        return f"{items} left out, named in the card: {first}"


@dataclass(frozen=True)
class Source:
    """Dataset before it is written: metadata, and a generator of pairs for each split.

    Attributes:
      name: name of the dataset, in snake case.
      description: sentences about the pairs and their origin, for the card.
      licence: licence of the pairs, as far as it is known.
      schema: fields of every pair.
      splits: function of each split that yields its pairs, from the first to the last; `InParts`
        where they can be read in parallel.
      totals: number of pairs of each split for which it is known; for the progress bar only.
      extractors: account of the extractor of each modality, see `vmr.data.accounts`; empty if not
        known.
      left_out: items that could not be read, known once the splits were read.
    """

    name: str
    description: str
    licence: str
    schema: "Schema"
    splits: "Mapping[str, Callable[[], Iterator[Pair]]]"
    totals: Mapping[str, int] = field(default_factory=dict)
    extractors: Mapping[str, Account] = field(default_factory=dict)
    left_out: LeftOut = field(default_factory=LeftOut)


_HASHES = 2**32


def require_share(share: float, others: Collection[str]) -> None:
    """Refuses a share that cannot be held out of a source.

    Args:
      share: share of the items for validation, and again for test.
      others: files or flags given for splits other than train, as the user typed them.

    Raises:
      UserError: the share is not in [0, 0.5), or other splits than train have files of their own.
    """
    # From 0.5 on, the two ends of the hash would overlap and leave nothing to train on.
    if not 0 <= share < 0.5:
        raise UserError(
            f"--held_out={share}: expected a share from 0 to less than 0.5, which validation takes "
            "and test takes again"
        )
    if share and others:
        raise UserError(
            f"--held_out={share}: takes validation and test out of train, so {' and '.join(others)}"
            " cannot be given too"
        )


def split_of(item: str, share: float) -> str:
    """Split of an id: validation for the lowest `share` of CRC-32 / 2³², test for the highest."""
    # CRC-32 and not `hash`, which Python salts anew in every process.
    position = zlib.crc32(item.encode()) / _HASHES
    if position < share:
        return "validation"
    return "test" if position >= 1 - share else "train"
