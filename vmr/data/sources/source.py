"""Sources: named splits of pairs before they are written, and splits held out by a hash.

The split of a held-out item depends on nothing but its id and the share, so it is the same whatever
else the files hold, on every machine. Validation and test are taken from opposite ends of the hash:
of each, a larger share takes the items of a smaller one and more, and none that was in the other.
"""

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
      name: name of the dataset, in snake case.
      description: sentences about the pairs and their origin, for the card.
      licence: licence of the pairs, as far as it is known.
      schema: fields of every pair.
      splits: functions that yield the pairs of each split, from the first to the last.
      totals: expected number of pairs in a split, where it is known; for the progress bar only.
    """

    name: str
    description: str
    licence: str
    schema: Schema
    splits: Mapping[str, Callable[[], Iterator[Pair]]]
    totals: Mapping[str, int] = field(default_factory=dict)


_HASHES = 2**32


def require_share(share: float, others: Collection[str]) -> None:
    """Refuses a share that cannot be held out of a source.

    Args:
      share: share of validation, and of test again.
      others: files or flags given for splits beside train, in the user's words.

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
    """Split of an id: validation for the lowest `share` of CRC-32 / 2³², test for the highest."""
    position = zlib.crc32(item.encode()) / _HASHES
    if position < share:
        return "validation"
    return "test" if position >= 1 - share else "train"
