"""Validation and test taken out of the training files, by a hash of each id.

The split of an item depends on nothing but its id and the share, so it is the same whatever else
the files hold, on every machine. Validation and test are taken from opposite ends of the hash: of
each, a larger share takes the items of a smaller one and more, and none that was in the other.
"""

import zlib
from collections.abc import Collection

from vmr.errors import UserError

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
