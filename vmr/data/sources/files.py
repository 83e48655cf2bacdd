"""Strict readers of CSV and npy files, and the Unicode forms of file names.

Every message names the file and, in a CSV, the line of the mistake.
"""

import contextlib
import csv
import os
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from vmr.arrays import read_array
from vmr.errors import UserError


def read_table(
    file: Path, columns: Sequence[str], optional: Sequence[str] = ()
) -> Iterator[tuple[str, dict[str, str]]]:
    """Reads the rows of a CSV that has at least these columns.

    Each row is one line. A quoted value that runs over the end of its line is refused, since a
    quote that was left open swallows the rows below in the same way.

    Args:
      file: UTF-8 file whose first line names the columns.
      columns: names of the columns to read.
      optional: names of columns to read too, those of them that the file has.

    Yields:
      "FILE: line N", and the values of the row by column, stripped of surrounding space.

    Raises:
      UserError: the file cannot be read as CSV, lacks a column or has it twice, a quote is not
        closed on its line, or a row has fewer or more values than there are columns.
    """
    try:
        # `utf-8-sig` drops the byte order mark that spreadsheets put before the first column.
        with file.open(newline="", encoding="utf-8-sig") as opened:
            rows = _rows(file, opened)
            names = [name.strip() for name in next(rows, ("", []))[1]]
            columns = [*columns, *(name for name in optional if name in names)]
            _require_columns(file, names, columns)
            for line, row in rows:
                _require_full(line, row, names)
                values = dict(zip(names, row, strict=True))
                yield line, {name: values[name].strip() for name in columns}
    except UnicodeDecodeError:
        raise UserError(f"{file}: line {_line_of_junk(file)} is not UTF-8, expected text") from None
    except OSError as error:
        raise UserError(f"{file}: cannot be read as CSV: {error}") from None


def _line_of_junk(file: Path) -> int:
    # The decoder of an open file reports offsets within its buffer, so the file is decoded again.
    content = file.read_bytes()
    try:
        content.decode()
    except UnicodeDecodeError as error:
        return content.count(b"\n", 0, error.start) + 1
    return 1


def _rows(file: Path, lines: Iterator[str]) -> Iterator[tuple[str, list[str]]]:
    """Reads the rows that are not blank, each with its file and line."""
    reader = csv.reader(lines, strict=True, skipinitialspace=True)
    while True:
        number = reader.line_num + 1
        line = f"{file}: line {number}"
        unclosed = UserError(
            f"{line} opens a quote that is not closed on that line, where each value must end"
        )
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            # An open quote ends at the end of the file, or at a stray quote in a later row.
            if reader.line_num > number or "unexpected end" in str(error):
                raise unclosed from None
            raise UserError(f"{line} cannot be read as CSV: {error}") from None
        if reader.line_num > number:
            raise unclosed
        if row:
            yield line, row


def _require_columns(file: Path, names: Sequence[str], columns: Sequence[str]) -> None:
    missing = [name for name in columns if name not in names]
    if missing:
        raise UserError(
            f"{file}: lacks column {', '.join(missing)}; its first line is "
            f"{','.join(names)!r}, expected {','.join(columns)}"
        )
    for name in columns:
        if names.count(name) > 1:
            raise UserError(f"{file}: has column {name} twice, expected it once")


def _require_full(line: str, row: Sequence[str], names: Sequence[str]) -> None:
    if len(row) != len(names):
        values = f"{len(row)} value{'s' if len(row) > 1 else ''}"
        hint = "; a value with a comma needs quotes" if len(row) > len(names) else ""
        raise UserError(f"{line} has {values}, expected {len(names)} ({','.join(names)}){hint}")


def read_floats(file: Path) -> np.ndarray:
    """Reads an array of real numbers, of any shape, as float32.

    Raises:
      UserError: the file cannot be read, is no npy file, or does not hold real numbers.
    """
    try:
        with file.open("rb") as opened:
            array = read_array(opened, os.fstat(opened.fileno()).st_size)
    except OSError as error:
        raise UserError(f"{file}: cannot be read: {error.strerror or error}") from None
    except ValueError as error:
        raise UserError(f"{file}: {error}") from None
    if array.dtype.kind not in "fiu":
        raise UserError(f"{file}: holds {array.dtype}, expected an array of real numbers")
    # A float64 beyond the range of float32 becomes inf, which validation reports with its id.
    with np.errstate(over="ignore"):
        return array.astype(np.float32)


def composed(text: str) -> str:
    """Composes accented letters (NFC), so that é as two code points equals é as one."""
    return unicodedata.normalize("NFC", text)


def other_spelling(file: Path) -> str | None:
    """Other Unicode form, NFC or NFD, of the name under which the file exists; None if neither."""
    name = file.name
    spellings = {
        "NFC": unicodedata.normalize("NFC", name),
        "NFD": unicodedata.normalize("NFD", name),
    }
    for form, spelt in spellings.items():
        with contextlib.suppress(OSError):  # NFD is longer, perhaps too long for the file system
            if spelt != name and file.with_name(spelt).is_file():
                return form
    return None
