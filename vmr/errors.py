"""Errors that are a user's to mend, and one-line messages of any error."""

import re

_LINE_BREAKS = re.compile(r"\s*[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]\s*")


class UserError(ValueError):
    """Error in something that the user gave: a file, a field, a shape, a record.

    The message is one line that names the thing and says what was expected. Commands print it
    without a traceback and end with status 1 (`vmr.command`). It derives from ValueError, so that
    callers of the library can catch it without importing it.
    """

    def __init__(self, message: str) -> None:
        """Replaces line breaks in `message` by spaces: an id that it quotes may contain some."""
        super().__init__(_LINE_BREAKS.sub(" ", message))


_LONGEST = 200  # characters


def reason_of(error: BaseException) -> str:
    """Message of an error in one line of at most 200 characters; its type if it has no message."""
    # XLA and Orbax write messages of several pages.
    line = " ".join(str(error).split()) or type(error).__name__
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST].rstrip()} …"
