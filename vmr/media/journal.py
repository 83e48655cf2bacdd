"""Journal of an extraction: what became of each item, a line of JSON each, written as it ends.

Each shard has a folder in `OUTPUT/journal/` of its own: the journal, a lock and unfinished files.
So no two processes write one file, and a process may be killed at any moment: a line that it did
not finish counts for nothing.
"""

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, NamedTuple

from vmr.disk import locked
from vmr.errors import UserError

_NAME = "items.jsonl"


class Facts(NamedTuple):
    """State that an outcome belongs to, of the recipe and of the media file; it holds for no other.

    Attributes:
      recipe: digest of all that decides the features.
      size: bytes of the media file; -1 if it cannot be looked at.
      mtime_ns: time of its last change, in nanoseconds.
    """

    recipe: str
    size: int
    mtime_ns: int


class Outcome(NamedTuple):
    """Outcome of an item: its features are written, or the reason why there are none.

    Attributes:
      side, id: the item.
      facts: state in which the item was extracted.
      status: `ok` or `failed`.
      seconds: length of the medium.
      rows: rows of the features, 1 for a vector.
      frames: pictures that the features are of; 0 for music.
      packets_lost, frames_damaged: damage that decoding went past.
      stored: bytes of the file of features.
      reason: why it failed.
    """

    side: str
    id: str
    facts: Facts
    status: str
    seconds: float = 0.0
    rows: int = 0
    frames: int = 0
    packets_lost: int = 0
    frames_damaged: int = 0
    stored: int = 0
    reason: str = ""

    @property
    def is_damaged(self) -> bool:
        """True if the features are of what could be decoded of a damaged file."""
        return bool(self.packets_lost or self.frames_damaged)


Key = tuple[str, str]  # side and id


def shard_folder(journal: Path, shard: int, shards: int) -> Path:
    """Folder of a shard, which is made if it is missing; UserError if it cannot be."""
    folder = journal / f"shard-{shard:05d}-of-{shards:05d}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder} cannot be written: {error.strerror or error}") from None
    return folder


@contextlib.contextmanager
def claimed(journal: Path, shard: int, shards: int) -> Iterator[Path]:
    """Claims a shard, and gives its folder.

    Raises:
      UserError: another process works on this shard, or on shards of another number, or the folder
        cannot be written.
    """
    folder = shard_folder(journal, shard, shards)
    with locked(folder):
        # An item is of one shard among so many, and of another one among more.
        for other in journal.glob("shard-*-of-*"):
            if not other.name.endswith(f"-of-{shards:05d}"):
                with locked(other):
                    _remove_unfinished(other)
        _remove_unfinished(folder)
        try:
            yield folder
        finally:
            _remove_unfinished(folder)


def _remove_unfinished(folder: Path) -> None:
    for left in folder.glob("*.unfinished"):
        left.unlink(missing_ok=True)


class Journal:
    """Journal of a shard, open to be written."""

    def __init__(self, folder: Path) -> None:
        """Opens the journal in the folder of a shard, which exists."""
        self.path = folder / _NAME
        self._file: IO[bytes] = self.path.open("a+b")
        if self._file.tell():
            self._file.seek(-1, 2)
            if self._file.read() != b"\n":  # of a process that was killed
                self._file.write(b"\n")

    def append(self, outcome: Outcome) -> None:
        """Appends a line.

        Raises:
          UserError: it cannot be written.
        """
        line = json.dumps(outcome) + "\n"
        try:
            self._file.write(line.encode())
            self._file.flush()
        except OSError as error:
            raise UserError(f"{self.path} cannot be written: {error.strerror}") from None

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):  # a full disk, which `append` has told
            self._file.close()


def read_outcomes(journal: Path, facts: Mapping[Key, Facts]) -> dict[Key, dict[str, Outcome]]:
    """Reads the journals of all shards.

    Args:
      journal: folder of the journals; it may be missing.
      facts: state of each item that is asked about.

    Returns:
      of each item the latest outcome of each status, of those that agree with its facts; no `ok`
      whose features have been written over since, of another recipe or state of the file.
    """
    outcomes: dict[Key, dict[str, Outcome]] = {}
    # Not at the same time do journals of several numbers of shards grow, see `claimed`.
    for path in sorted(journal.glob(f"*/{_NAME}"), key=lambda path: path.stat().st_mtime_ns):
        with path.open("rb") as file:
            for outcome in filter(None, map(_parsed, file)):
                key = outcome.side, outcome.id
                if facts.get(key) == outcome.facts:
                    outcomes.setdefault(key, {})[outcome.status] = outcome
                elif outcome.status == "ok":
                    outcomes.get(key, {}).pop("ok", None)
    return outcomes


def _parsed(line: bytes) -> Outcome | None:
    """Outcome of a line; None if the line is cut short."""
    try:
        side, id, facts, *others = json.loads(line)
        return Outcome(side, id, Facts(*facts), *others)
    except (ValueError, TypeError):
        return None
