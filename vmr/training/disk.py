"""Files of a run, written whole or not at all, and a full disk told in one line."""

import contextlib
import os
import pathlib
import threading
from collections.abc import Iterator

from vmr.errors import UserError


def write_text(path: pathlib.Path, text: str) -> None:
    """Writes a text file; see `write_bytes`."""
    write_bytes(path, text.encode())


def write_bytes(path: pathlib.Path, content: bytes) -> None:
    """Writes a file; a reader finds the earlier one or this one, never a part.

    Raises:
      UserError: the file cannot be written; an earlier one is whole.
    """
    # Of this writer alone: another process may be writing the same file.
    unfinished = path.with_name(f"{path.name}.{os.getpid()}-{threading.get_ident()}.unfinished")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished.write_bytes(content)
        unfinished.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            unfinished.unlink(missing_ok=True)
        raise UserError(f"{path} cannot be written: {error.strerror or error}") from None


def bound_folder(folder: pathlib.Path, most_bytes: int) -> None:
    """Deletes what was longest not read of a folder's files, until the rest is small enough.

    JAX bounds its cache itself if told to, but stops writing where a file is not from a bounded
    time, and locks the folder at every read. What others delete meanwhile is no matter.
    """
    files = []
    for path in folder.glob("*"):
        with contextlib.suppress(OSError):
            found = path.stat()
            files.append((max(found.st_atime, found.st_mtime), found.st_size, path))
    total = sum(size for _, size, _ in files)
    for _, size, path in sorted(files):
        if total <= most_bytes:
            return
        with contextlib.suppress(OSError):
            path.unlink()
        total -= size


@contextlib.contextmanager
def full_disk_in_one_line(path: pathlib.Path) -> Iterator[None]:
    """Turns whatever a library raises for a full disk into a UserError that names the path."""
    try:
        yield
    except Exception as error:
        # Orbax, TensorStore and TensorFlow each have an exception of their own for it.
        if "No space left on device" not in str(error):
            raise
        raise UserError(
            f"no space left on the disk of {path}: what was saved before is whole, free some "
            "space and run the same command again"
        ) from None
