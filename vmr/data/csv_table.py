"""CSV files with named columns, read strictly: every mistake is told by file and line."""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

from vmr.errors import UserError


def read_table(file: Path, columns: Sequence[str]) -> Iterator[tuple[str, dict[str, str]]]:
    """The rows of a CSV that has these columns, and may have others.

    A row is a line: a value in quotes that goes on over the end of its line is refused, since a
    quote that was never closed takes in the rows below just so.

    Args:
      file: UTF-8, its first line the names of the columns.
      columns: those that are wanted.

    Yields:
      "FILE: line N", and the row's values by column, without space around them.

    Raises:
      UserError: the file cannot be read as CSV, lacks a column or has it twice, a quote is not
        closed on its line, or a row has fewer or more values than there are columns.
    """
    try:
        # A CSV saved by a spreadsheet may begin with a byte order mark.
        with file.open(newline="", encoding="utf-8-sig") as opened:
            rows = _rows(file, opened)
            names = [name.strip() for name in next(rows, ("", []))[1]]
            _require_columns(file, names, columns)
            for place, row in rows:
                _require_full(place, row, names)
                values = dict(zip(names, row, strict=True))
                yield place, {name: values[name].strip() for name in columns}
    except UnicodeDecodeError:
        raise UserError(f"{file}: line {_line_of_junk(file)} is not UTF-8, expected text") from None
    except OSError as error:
        raise UserError(f"{file}: cannot be read as CSV: {error}") from None


def _line_of_junk(file: Path) -> int:
    content = file.read_bytes()
    try:
        content.decode()
    except UnicodeDecodeError as error:
        return content.count(b"\n", 0, error.start) + 1
    return 1


def _rows(file: Path, lines: Iterator[str]) -> Iterator[tuple[str, list[str]]]:
    """Rows that are not blank, with their places."""
    reader = csv.reader(lines, strict=True, skipinitialspace=True)
    while True:
        line = reader.line_num + 1
        place = f"{file}: line {line}"
        unclosed = UserError(
            f"{place} opens a quote that is not closed on that line, where each value must end"
        )
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            if reader.line_num > line or "unexpected end" in str(error):
                raise unclosed from None
            raise UserError(f"{place} cannot be read as CSV: {error}") from None
        if reader.line_num > line:
            raise unclosed
        if row:
            yield place, row


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


def _require_full(place: str, row: Sequence[str], names: Sequence[str]) -> None:
    if len(row) != len(names):
        values = f"{len(row)} value{'s' if len(row) > 1 else ''}"
        hint = "; a value with a comma needs quotes" if len(row) > len(names) else ""
        raise UserError(f"{place} has {values}, expected {len(names)} ({','.join(names)}){hint}")
