"""Accounts of extractions: the extractor behind the features of each modality, ready for JSON.

A folder of feature files that `tools.extract_features` wrote holds them in `extraction.json`; from
there they go into `dataset.json`, a run and its model.
"""

import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from vmr.disk import read_json
from vmr.errors import UserError
from vmr.tables import markdown

EXTRACTION_FILE = "extraction.json"
# A model may be anybody's: its account must not ask for more than the memory holds.
SHORTEST_CLIP, _MOST_PICTURES = 0.1, 1000.0  # seconds; a second

Account = dict[str, Any]


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_within(value: Any, low: float, high: float) -> bool:
    return type(value) in (int, float) and low <= value <= high and math.isfinite(value)


_ANY: dict[str, tuple[Callable[[Any], bool], str]] = {
    "extractor": (lambda value: _is_text(value) and bool(value), "a name"),
    # Those of a network that anybody brings may be known to nobody.
    "version": (lambda value: value is None or _is_text(value), "text or null"),
    "licence": (lambda value: value is None or _is_text(value), "text or null"),
    "sha256": (
        lambda value: (
            value is None or (_is_text(value) and bool(re.fullmatch("[0-9a-f]{64}", value)))
        ),
        "64 hexadecimal digits or null",
    ),
    "width": (lambda value: type(value) is int and value > 0, "a number of features"),
    "clip_seconds": (
        lambda value: value is None or _is_within(value, SHORTEST_CLIP, math.inf),
        f"seconds, {SHORTEST_CLIP} or more, or null",
    ),
}
_OF_SIDE = {
    "video": _ANY
    | {
        "keyframes": (lambda value: isinstance(value, bool), "true or false"),
        "per_second": (
            lambda value: _is_within(value, 1 / _MOST_PICTURES, _MOST_PICTURES),
            "pictures a second",
        ),
    },
    "music": _ANY,
}


def read_accounts(folder: Path) -> dict[str, Account]:
    """Reads the accounts of a folder of feature files, by modality; none if it has no such file.

    Raises:
      UserError: `extraction.json` is damaged.
    """
    file = folder / EXTRACTION_FILE
    if not file.is_file():
        return {}
    content = read_json(file)
    if content.get("schema_version") != 1:
        raise UserError(f"{file}: has schema_version {content.get('schema_version')!r}, expected 1")
    return checked_accounts({side: content.get(side) for side in _OF_SIDE}, str(file))


def checked_accounts(accounts: Any, place: str) -> dict[str, Account]:
    """Checks accounts that were read from a file.

    Args:
      accounts: account of each modality, by name.
      place: name of the file, for messages.

    Raises:
      UserError: a modality is unknown, or its account lacks a key or has an impossible value.
    """
    if not isinstance(accounts, Mapping) or not accounts.keys() <= _OF_SIDE.keys():
        raise UserError(f"{place}: expected accounts of the extractors of video and music")
    for side, account in accounts.items():
        if not isinstance(account, Mapping):
            raise UserError(f"{place}: expected an object under {side!r}, with its extractor")
        for key, (accepts, expected) in _OF_SIDE[side].items():
            if key not in account or not accepts(account[key]):
                there = f"{account[key]!r}" if key in account else "missing"
                raise UserError(f"{place}: {side}: {key} is {there}, expected {expected}")
    return {side: dict(account) for side, account in accounts.items()}


def accounts_table(accounts: Mapping[str, Account]) -> str:
    """Markdown table of the extractors, for a card."""
    rows = [("modality", "extractor", "version", "licence of the extractor", "a row covers")]
    for side, account in accounts.items():
        version, licence = (account[key] or "not known" for key in ("version", "licence"))
        clip = account["clip_seconds"]
        covers = "the whole item" if clip is None else f"{clip:g} s"
        rows.append((side, account["extractor"], version, licence, covers))
    return markdown(rows, "l")
