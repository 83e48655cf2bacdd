"""Loader of Python files that users write (configs, sweeps); names file and line of a mistake."""

import contextlib
import pathlib
import traceback
from collections.abc import Iterator
from types import ModuleType

from vmr.errors import UserError


def load(file: pathlib.Path) -> ModuleType:
    """Runs a Python file and returns it as a module that is not registered in `sys.modules`.

    Args:
      file: path of the file. Its imports are resolved from the working directory, not from the
        folder of the file.

    Raises:
      UserError: the file does not exist, or raises; the message names the line.
    """
    if not file.is_file():
        raise UserError(f"{file}: {'is a folder' if file.is_dir() else 'does not exist'}")
    module = ModuleType(file.stem)
    module.__file__ = str(file)
    with told_by_line(file):
        # An import would write compiled code beside the file, and would run that stale code again
        # if the file is edited within the same second at the same length.
        exec(compile(file.read_bytes(), file, "exec"), module.__dict__)
    return module


@contextlib.contextmanager
def told_by_line(file: pathlib.Path) -> Iterator[None]:
    """Turns any exception of a user's file into a UserError that names the file and the line.

    The original exception is kept as the cause, and so is its traceback.
    """
    try:
        yield
    except Exception as error:
        line = _line_of(file, error)
        place = str(file) if line is None else f"{file}: line {line}"
        # A UserError is written for users already; of others the type is half of the message.
        kind = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
        raise UserError(f"{place}: {kind}{_reason(error)}") from error


def _line_of(file: pathlib.Path, error: Exception) -> int | None:
    """Line of the file that was running, or that does not parse; None if neither is in the file."""
    if isinstance(error, SyntaxError) and error.filename and _same(error.filename, file):
        return error.lineno
    frames = traceback.extract_tb(error.__traceback__)
    # The error may come from a library that the file called: the innermost line of the file itself
    # is what its author can mend.
    lines = [frame.lineno for frame in frames if _same(frame.filename, file)]
    return lines[-1] if lines else None


def _same(name: str, file: pathlib.Path) -> bool:
    return pathlib.Path(name).absolute() == file.absolute()


def _reason(error: Exception) -> str:
    # The text of a SyntaxError repeats the file and the line; that of a KeyError stands in quotes.
    return error.msg if isinstance(error, SyntaxError) else str(error).strip("'\"")
