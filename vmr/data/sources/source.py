"""What a builder hands over to be written: named splits of pairs, and where they come from."""

import zlib
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field

from vmr.data.schema import Pair, Schema
from vmr.errors import UserError

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Source:
    """A dataset before it is written.

    Attributes:
      name: the dataset's name, in snake case.
      description: what the pairs are and where they come from.
      licence: as far as it is known.
      schema: the fields of every pair.
      splits: by name, a function that yields the split's pairs from the first to the last.
      totals: by name, how many pairs to expect, where that is known; for the progress bar only.
    """

    name: str
    description: str
    licence: str
    schema: Schema
    splits: Mapping[str, Callable[[], Iterator[Pair]]]
    totals: Mapping[str, int] = field(default_factory=dict)


_HASHES = 2**32


def require_share(share: float, others: Collection[str]) -> None:
    """Returns if `share` can be held out of a source.

    Args:
      share: of validation, and of test again.
      others: what is given for splits beside train, as the user knows it.

    Raises:
      UserError: the share is not in [0, 0.5), or splits beside train have files of their own.
    """
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
    """Validation for the lowest `share` of CRC-32 / 2³², test for the highest, else train."""
    place = zlib.crc32(item.encode()) / _HASHES
    if place < share:
        return "validation"
    return "test" if place >= 1 - share else "train"
