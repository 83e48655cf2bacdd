"""Python files that a user writes, configs and sweeps: their mistakes told by file and line."""

import contextlib
import pathlib
import traceback
from collections.abc import Iterator
from types import ModuleType

from vmr.errors import UserError


def load(file: pathlib.Path) -> ModuleType:
    """Runs a Python file as a module of its own.

    Args:
      file: Python; what it imports is found from the working directory, not from beside it.

    Raises:
      UserError: there is no such file, or it raises; the line that raised is named.
    """
    if not file.is_file():
        raise UserError(f"{file}: {'is a folder' if file.is_dir() else 'does not exist'}")
    module = ModuleType(file.stem)
    module.__file__ = str(file)
    with told_by_line(file):
        # Not by an import, which would keep compiled code beside the file, and take it for an edit
        # of the same second.
        exec(compile(file.read_bytes(), file, "exec"), module.__dict__)
    return module


@contextlib.contextmanager
def told_by_line(file: pathlib.Path) -> Iterator[None]:
    """Turns whatever a user's file raises into a UserError that names the file and the line.

    The exception stays as the cause, for those who want its traceback.
    """
    try:
        yield
    except Exception as error:
        line = _line_of(file, error)
        place = str(file) if line is None else f"{file}: line {line}"
        # A UserError says already what is wrong.
        kind = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
        raise UserError(f"{place}: {kind}{_reason(error)}") from error


def _line_of(file: pathlib.Path, error: Exception) -> int | None:
    """The line of the file that was being run, or that is no Python."""
    if isinstance(error, SyntaxError) and error.filename and _same(error.filename, file):
        return error.lineno
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if _same(frame.filename, file)]
    return lines[-1] if lines else None


def _same(name: str, file: pathlib.Path) -> bool:
    return pathlib.Path(name).absolute() == file.absolute()


def _reason(error: Exception) -> str:
    # A syntax error's own text repeats the file and the line, a key error's is in quotes.
    return error.msg if isinstance(error, SyntaxError) else str(error).strip("'\"")
