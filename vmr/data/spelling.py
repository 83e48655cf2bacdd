"""Names that look alike and are spelt otherwise in Unicode: é as one code point, or as two."""

import contextlib
import unicodedata
from pathlib import Path


def composed(text: str) -> str:
    """The text in composed form, NFC, in which spellings that look alike are equal."""
    return unicodedata.normalize("NFC", text)


def other_spelling(file: Path) -> str | None:
    """The form, NFC or NFD, in which a file of this name is there; None where there is none."""
    name = file.name
    spellings = {
        "NFC": unicodedata.normalize("NFC", name),
        "NFD": unicodedata.normalize("NFD", name),
    }
    for form, spelt in spellings.items():
        with contextlib.suppress(OSError):  # a spelling may be too long for the disk
            if spelt != name and file.with_name(spelt).is_file():
                return form
    return None
