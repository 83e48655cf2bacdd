"""What a person is told when something is wrong."""

import re

_LINE_BREAKS = re.compile(r"\s*[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]\s*")


class UserError(ValueError):
    """Something that the user gave is wrong: a file, a field, a shape, a record.

    The message is one line that names the thing and says what was expected. Commands print it
    without a traceback and end with status 1 (`vmr.command`). It is a ValueError, so that code
    which calls this as a library can catch it without knowing of it.
    """

    def __init__(self, message: str) -> None:
        """Takes the line breaks out of `message`, which an id that it quotes may have."""
        super().__init__(_LINE_BREAKS.sub(" ", message))


_LONGEST = 200  # characters


def reason_of(error: BaseException) -> str:
    """The message in one line, cut short where a library has written pages; else its type."""
    line = " ".join(str(error).split()) or type(error).__name__
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST].rstrip()} …"
