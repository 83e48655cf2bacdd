"""Progress of long loops: a bar on a terminal, whole lines in a log."""

import io
import sys
from collections.abc import Iterable
from typing import Any

from tqdm import tqdm

_PATIENCE = 3  # seconds; a shorter loop shows nothing
_BETWEEN_LINES = 15  # seconds


def progress_bar(items: Iterable[Any] | None = None, **options: Any) -> Any:
    """Opens a `tqdm` bar on standard error that disappears when it ends.

    If standard error is not a terminal, whole lines are written: the control characters that redraw
    a bar would remain in a log, or before the first line of a table piped on together with it.

    Args:
      items: items to iterate over; None for a bar that its caller updates.
      options: further arguments of `tqdm`.
    """
    shown: dict[str, Any] = {"leave": False, "delay": _PATIENCE}
    if not sys.stderr.isatty():
        shown |= {"file": _Lines(), "mininterval": _BETWEEN_LINES, "ascii": True}
    return tqdm(items, **shown, **options)


class _Lines(io.TextIOBase):
    """File-like standard error that prints each state of a bar as a line."""

    def write(self, text: str) -> int:
        # tqdm returns to the start of the line before each state, and blanks it when it closes.
        line = text.strip("\r\n ")
        if line:
            print(line, file=sys.stderr, flush=True)
        return len(text)
