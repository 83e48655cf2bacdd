"""Files written whole or not at all, a locked or bounded folder, one line for a full disk."""

import contextlib
import json
import os
import pathlib
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator
from typing import IO, Any

from vmr import distributed
from vmr.errors import UserError

if sys.platform != "win32":
    import fcntl


def write_text(path: pathlib.Path, text: str) -> None:
    """Writes a text file; see `write_bytes`."""
    write_bytes(path, text.encode())


def write_bytes(path: pathlib.Path, content: bytes) -> None:
    """Writes a file; a reader finds the earlier one or this one, never a part.

    Raises:
      UserError: the file cannot be written; an earlier one stays whole.
    """
    with whole_file(path) as unfinished:
        unfinished.write_bytes(content)


@contextlib.contextmanager
def whole_file(path: pathlib.Path, scratch: pathlib.Path | None = None) -> Iterator[pathlib.Path]:
    """Names an unfinished file, which replaces `path` at the end, and goes if that does not come.

    Of several processes of a run only the first one's replaces it; what others write goes.

    Args:
      path: file to write.
      scratch: folder of the unfinished file, on the same file system; beside `path` by default.

    Raises:
      UserError: the file cannot be written; an earlier one stays whole.
    """
    if not distributed.is_first():
        with tempfile.TemporaryDirectory() as elsewhere:
            yield pathlib.Path(elsewhere) / path.name
        return
    # A name of this writer's own: another process or thread may be writing the same file.
    name = f"{path.name}.{os.getpid()}-{threading.get_ident()}.unfinished"
    unfinished = (scratch or path.parent) / name
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield unfinished
        unfinished.replace(path)
    except OSError as error:
        # NumPy's own error of a full disk has a count of numbers alone.
        reason = error.strerror or f"no space left? ({error})"
        raise UserError(f"{path} cannot be written: {reason}") from None
    finally:
        with contextlib.suppress(OSError):
            unfinished.unlink(missing_ok=True)


def read_json(path: pathlib.Path) -> dict[str, Any]:
    """Object of a JSON file; UserError if the file cannot be read or holds anything else."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read as JSON: {error}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} is the JSON of a {type(content).__name__}, expected an object")
    return content


def write_json(path: pathlib.Path, content: dict[str, Any]) -> None:
    """Writes an indented JSON file, whole or not at all; see `write_text`."""
    write_text(path, json.dumps(content, indent=2) + "\n")


@contextlib.contextmanager
def locked(folder: pathlib.Path, wait: bool = False) -> Iterator[None]:
    """Locks a folder against other processes; the system frees it however this process ends.

    Other hosts are kept out where the file system's locks reach them, as those of NFS do. File
    systems without locks, and Windows, go without.

    Args:
      folder: folder, which exists.
      wait: True to wait until the folder is free.

    Raises:
      UserError: the folder is locked, by this process or another, or cannot be written to.
    """
    path = folder / ".lock"  # never deleted: another process may have it open
    try:
        file = path.open("a+", encoding="utf-8", errors="replace")
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror or error}") from None
    with file:
        try:
            _lock(file, wait)
        except BlockingIOError:
            file.seek(0)
            holder = " ".join(file.read(200).split())
            who = f", {holder}" if holder else ""
            raise UserError(
                f"{folder} is in use: another process works there{who}, expected one at a time"
            ) from None
        with contextlib.suppress(OSError):  # of a full disk: the name is for messages alone
            file.truncate(0)
            file.write(f"{os.getpid()} on {socket.gethostname()}\n")
            file.flush()
        yield


def _lock(file: IO[str], wait: bool) -> None:
    if sys.platform == "win32":
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        raise
    except OSError:
        return  # the disk has no locks


def bound_folder(folder: pathlib.Path, most_bytes: int) -> None:
    """Deletes the least recently used files of a folder until the rest fits `most_bytes`."""
    # JAX can bound its cache itself, but then locks the folder at every read, and stops writing
    # where it finds files from before the bound was set.
    files = []
    for path in folder.glob("*"):
        with contextlib.suppress(OSError):  # another process may delete files at the same time
            status = path.stat()
            # Many file systems update the time of access late or never.
            files.append((max(status.st_atime, status.st_mtime), status.st_size, path))
    total = sum(size for _, size, _ in files)
    for _, size, path in sorted(files):
        if total <= most_bytes:
            return
        with contextlib.suppress(OSError):
            path.unlink()
        total -= size


@contextlib.contextmanager
def full_disk_in_one_line(path: pathlib.Path) -> Iterator[None]:
    """Turns any library's error for a full disk into a UserError that names the path."""
    try:
        yield
    except Exception as error:
        # Orbax, TensorStore and TensorFlow each raise their own exception, of which only the text
        # is the same.
        if "No space left on device" not in str(error):
            raise
        raise UserError(
            f"no space left on the disk of {path}: what was saved before is whole, free some "
            "space and run the same command again"
        ) from None


def files_below(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    """Yields the files in a folder and in its folders, in the order of names; links are followed.

    Raises:
      UserError: a folder cannot be read, or a link leads to a folder that it is in.
    """

    def refuse(error: OSError) -> None:
        raise UserError(f"{error.filename} cannot be read: {error.strerror}")

    # Links are followed, since a folder may lie on a larger disk.
    for place, folders, names in os.walk(folder, onerror=refuse, followlinks=True):
        folders.sort()
        for name in folders:
            link = pathlib.Path(place, name)
            if link.is_symlink() and pathlib.Path(place).resolve().is_relative_to(link.resolve()):
                raise UserError(f"{link} is a link to a folder that it is in, expected none")
        yield from (pathlib.Path(place, name) for name in sorted(names))
