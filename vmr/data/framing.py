"""Frames of a TFRecord file, read once: each record, its checksums, and whether they hold."""

from collections.abc import Iterator
from typing import IO, NamedTuple

from vmr.data.sequences import masked_checksum
from vmr.data.tfrecords import FRAME, HEAD


class BrokenFrameError(Exception):
    """A file is cut, or the head of a record is corrupt: where the next one begins is unknown."""


class Framed(NamedTuple):
    """Record as it lies in its file: 12 bytes of head, the record, 4 bytes of checksum."""

    head: bytes
    record: bytes
    foot: bytes

    @property
    def sound(self) -> bool:
        """True if the record has its checksum."""
        return masked_checksum(self.record) == int.from_bytes(self.foot, "little")


def framed_records(file: IO[bytes]) -> Iterator[Framed]:
    """Yields the records of an open file, whose own checksums remain to be compared.

    Raises:
      BrokenFrameError: the rest of the file cannot be read.
    """
    while head := file.read(HEAD):
        # Compared before the length is believed: it may ask for more than the memory holds.
        if masked_checksum(head[:8]) != int.from_bytes(head[8:], "little") or len(head) < HEAD:
            raise BrokenFrameError
        length = int.from_bytes(head[:8], "little")
        record, foot = file.read(length), file.read(FRAME - HEAD)
        if len(foot) < FRAME - HEAD:
            raise BrokenFrameError
        yield Framed(head, record, foot)
