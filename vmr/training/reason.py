"""What somebody else's exception says, in a line that a person reads."""

_LONGEST = 200  # characters


def reason_of(error: BaseException) -> str:
    """The message in one line, cut short where a library has written pages; else its type."""
    line = " ".join(str(error).split()) or type(error).__name__
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST].rstrip()} …"
