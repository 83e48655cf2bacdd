"""Label files: indices of the labels to keep, and names of labels, which become text."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from vmr.data.sources.files import read_table
from vmr.errors import UserError

COLUMNS = ("Index", "Name")


def read_label_filter(file: Path) -> frozenset[int]:
    """Reads label indices from JSON (an object keyed by index, or a list) or text (one a line).

    Raises:
      UserError: the file is missing or empty, or an entry is not a label index.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--labels={file}: cannot be read: {error}") from None
    try:
        labels = frozenset(_label(entry) for entry in _entries(text))
    except (ValueError, TypeError, RecursionError):  # RecursionError: JSON nested a thousand deep
        raise UserError(
            f"--labels={file}: expected label indices: a JSON object keyed by index, a JSON list, "
            "or one index a line"
        ) from None
    if not labels:
        raise UserError(f"--labels={file}: is empty, expected at least one label index")
    return labels


def _entries(text: str) -> list:
    if text.lstrip().startswith(("{", "[")):
        return list(json.loads(text))
    return text.split()


def _label(entry: object) -> int:
    """Label index from an integer or digits; raises ValueError for anything else."""
    # `type`, since `isinstance` would take JSON's `true` for the label 1.
    if type(entry) is int and entry >= 0:
        return entry
    if isinstance(entry, str) and entry.isdecimal():
        return int(entry)
    raise ValueError


@dataclass(frozen=True)
class Vocabulary:
    """Vocabulary of labels: the name of each label index.

    Attributes:
      file: CSV that lists the names; quoted in messages.
      names: name of each label index; some are empty in YouTube-8M's own file.
    """

    file: Path
    names: Mapping[int, str]

    def text_of(self, labels: Iterable[int]) -> str:
        """Text of a video: the non-empty names of its labels, joined by ", ".

        Raises:
          ValueError: a label is not in the vocabulary.
        """
        labels = tuple(labels)
        for label in labels:
            if label not in self.names:
                raise ValueError(f"carries label {label}, which --vocabulary={self.file} lacks")
        return ", ".join(self.names[label] for label in labels if self.names[label])


def read_vocabulary(file: Path) -> Vocabulary:
    """Reads label names from a CSV with columns Index and Name, as YouTube-8M's vocabulary.csv.

    Raises:
      UserError: the file cannot be read, lacks a column, lists no label, lists a label twice, or an
        index is not a number.
    """
    names: dict[int, str] = {}
    for line, entry in read_table(file, COLUMNS):
        if not entry["Index"].isdecimal():
            raise UserError(f"{line} has index {entry['Index']!r}, expected a label index")
        index = int(entry["Index"])
        if index in names:
            raise UserError(f"{line} repeats index {index}, expected each label once")
        names[index] = entry["Name"]
    if not names:
        raise UserError(f"{file}: lists no label, expected one a line")
    return Vocabulary(file, names)
