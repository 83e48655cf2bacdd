"""One process trains in a folder at a time."""

import contextlib
import pathlib
import sys
from collections.abc import Iterator
from typing import IO

from vmr.errors import UserError

if sys.platform != "win32":
    import fcntl


@contextlib.contextmanager
def locked(folder: pathlib.Path) -> Iterator[None]:
    """Keeps others out of a folder; the system lets go of it when the process ends, however.

    A disk that has no locks goes without, as does Windows.

    Raises:
      UserError: another process, or this one elsewhere, has the folder; or it cannot be written in.
    """
    path = folder / ".lock"  # which stays: others may have it open
    try:
        file = path.open("a")
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror or error}") from None
    with file:
        try:
            _lock(file)
        except BlockingIOError:
            raise UserError(
                f"{folder} is in use: another process trains there, expected one at a time"
            ) from None
        yield


def _lock(file: IO[str]) -> None:
    if sys.platform == "win32":
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:
        return  # the disk has no locks
