"""The labels that a video must carry to be kept, read from a file."""

import json
from pathlib import Path

from vmr.errors import UserError


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
    """An index as a number or in digits; raises ValueError for anything else, 3.7 and true too."""
    if type(entry) is int and entry >= 0:
        return entry
    if isinstance(entry, str) and entry.isdecimal():
        return int(entry)
    raise ValueError
