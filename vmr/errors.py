"""Mistakes that a user can mend, each told in one line."""


class UserError(ValueError):
    """Something that the user gave is wrong: a file, a field, a shape, a record.

    The message is one line that names the thing and says what was expected. Commands print it
    without a traceback and end with status 1 (`vmr.command`). It is a ValueError, so that code
    which calls this as a library can catch it without knowing of it.
    """
