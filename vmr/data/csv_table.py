"""CSV files with named columns, every mistake told by file and line."""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

from vmr.errors import UserError


def read_table(file: Path, columns: Sequence[str]) -> Iterator[tuple[str, dict[str, str]]]:
    """The lines of a CSV that has these columns, and may have others.

    Args:
      file: UTF-8, its first line the names of the columns.
      columns: those that are wanted.

    Yields:
      "FILE: line N", and the line's values by column, without space around them; "" where the line
      is too short.

    Raises:
      UserError: the file cannot be read as CSV, or lacks a column.
    """
    try:
        # A CSV saved by a spreadsheet may begin with a byte order mark.
        with file.open(newline="", encoding="utf-8-sig") as opened:
            table = csv.DictReader(opened)
            _require_columns(file, table.fieldnames, columns)
            for entry in table:
                values = {name: (entry[name] or "").strip() for name in columns}
                yield f"{file}: line {table.line_num}", values
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{file}: cannot be read as CSV: {error}") from None


def _require_columns(file: Path, found: Sequence[str] | None, columns: Sequence[str]) -> None:
    missing = [name for name in columns if name not in (found or ())]
    if missing:
        raise UserError(
            f"{file}: lacks column {', '.join(missing)}; its first line is "
            f"{','.join(found or ())!r}, expected {','.join(columns)}"
        )
