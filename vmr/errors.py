"""Mistakes that a user can mend, each told in one line."""


class UserError(Exception):
    """Something that the user gave is wrong: a file, a field, a shape, a record.

    The message is one line that names the thing and says what was expected. Commands print it
    without a traceback and end with status 1 (`vmr.command`).
    """
