"""Label files: which labels to keep, and their names as text."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from vmr.data.sources.files import read_table
from vmr.errors import UserError

COLUMNS = ("Index", "Name")


def read_label_filter(file: Path) -> frozenset[int]:
    """Label indices from JSON (an object keyed by index, or a list) or text (one a line).

    Raises:
      UserError: the file is missing, empty, or holds something that is no label index.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--labels={file}: cannot be read: {error}") from None
    try:
        labels = frozenset(_label(entry) for entry in _entries(text))
    except (ValueError, TypeError, RecursionError):  # RecursionError: JSON in thousands of lists
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
    """Label index from a number or digits; raises ValueError for all else, 3.7 and true too."""
    if type(entry) is int and entry >= 0:
        return entry
    if isinstance(entry, str) and entry.isdecimal():
        return int(entry)
    raise ValueError


@dataclass(frozen=True)
class Vocabulary:
    """Names of labels.

    Attributes:
      file: CSV that lists them, for messages.
      names: name of each label index, empty for some labels of YouTube-8M's own file.
    """

    file: Path
    names: Mapping[int, str]

    def text_of(self, labels: Iterable[int]) -> str:
        """Text of a video: names of its labels, joined by ", ", without those that have no name.

        Raises:
          ValueError: a label is not listed.
        """
        labels = tuple(labels)
        for label in labels:
            if label not in self.names:
                raise ValueError(f"carries label {label}, which --vocabulary={self.file} lacks")
        return ", ".join(self.names[label] for label in labels if self.names[label])


def read_vocabulary(file: Path) -> Vocabulary:
    """Label names from a CSV with the columns Index and Name, like YouTube-8M's vocabulary.csv.

    Raises:
      UserError: the file cannot be read, lacks a column, lists no label or one twice, or an index
        is no number.
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
