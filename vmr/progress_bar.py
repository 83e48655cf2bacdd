"""Progress of what takes longer than a few seconds: a bar on a terminal, lines in a log."""

import io
import sys
from collections.abc import Iterable
from typing import Any

from tqdm import tqdm

_PATIENCE = 3  # seconds before anything is shown
_BETWEEN_LINES = 15  # seconds


def progress_bar(items: Iterable[Any] | None = None, **options: Any) -> Any:
    """A `tqdm` on standard error that is gone when it ends.

    Where standard error is no terminal it writes whole lines: what moves a bar about on a screen
    would stand in a log, or before the first line of a table that is piped on together with it.

    Args:
      items: to go through; None for a bar that its caller updates.
      options: of `tqdm`.
    """
    shown: dict[str, Any] = {"leave": False, "delay": _PATIENCE}
    if not sys.stderr.isatty():
        shown |= {"file": _Lines(), "mininterval": _BETWEEN_LINES, "ascii": True}
    return tqdm(items, **shown, **options)


class _Lines(io.TextIOBase):
    """Standard error as a bar sees it: each state of the bar becomes a line."""

    def write(self, text: str) -> int:
        line = text.strip("\r\n ")
        if line:
            print(line, file=sys.stderr, flush=True)
        return len(text)
