"""Names of labels, as the text of the videos that carry them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from vmr.data.csv_table import read_table
from vmr.errors import UserError

COLUMNS = ("Index", "Name")


@dataclass(frozen=True)
class Vocabulary:
    """The names of labels.

    Attributes:
      file: where they stand.
      names: by label index; some labels of YouTube-8M's own file are listed without a name.
    """

    file: Path
    names: Mapping[int, str]

    def text_of(self, labels: Iterable[int]) -> str:
        """The names of labels, joined by ", "; those listed without a name are left out.

        Raises:
          ValueError: a label is not listed.
        """
        labels = tuple(labels)
        for label in labels:
            if label not in self.names:
                raise ValueError(f"carries label {label}, which --vocabulary={self.file} lacks")
        return ", ".join(self.names[label] for label in labels if self.names[label])


def read_vocabulary(file: Path) -> Vocabulary:
    """Label names from a CSV with the columns Index and Name, like YouTube-8M's vocabulary.csv.

    Raises:
      UserError: the file cannot be read, lacks a column, lists no label or one twice, or an index
        is no number.
    """
    names: dict[int, str] = {}
    for place, entry in read_table(file, COLUMNS):
        if not entry["Index"].isdecimal():
            raise UserError(f"{place} has index {entry['Index']!r}, expected a label index")
        index = int(entry["Index"])
        if index in names:
            raise UserError(f"{place} repeats index {index}, expected each label once")
        names[index] = entry["Name"]
    if not names:
        raise UserError(f"{file}: lists no label, expected one a line")
    return Vocabulary(file, names)
