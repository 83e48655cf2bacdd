"""The systems of a comparison as they are typed: `[NAME=]PATH[+PATH...]`, a path perhaps a glob."""

import glob
import pathlib
from collections.abc import Sequence

from vmr.errors import UserError

Systems = dict[str, list[pathlib.Path]]


def named_systems(typed: Sequence[str]) -> Systems:
    """Paths of each system by name; several paths of one system are its seeds.

    A system without a name is called by its paths. What exists is a path, whatever its characters.

    Raises:
        UserError: a name twice, an empty path, or a path or glob that finds nothing.
    """
    systems: Systems = {}
    for text in typed:
        name, paths = _parted(text)
        if name in systems:
            raise UserError(f"--runs: two systems are called {name!r}; name them NAME=PATH")
        systems[name] = [path for part in paths for path in _found(text, part)]
    return systems


def _parted(text: str) -> tuple[str, list[str]]:
    name, equals, rest = text.partition("=")
    # A folder may be called runs/weight=0.2.
    if not equals or "/" in name or pathlib.Path(text).exists():
        name, rest = text, text
    if not name:
        raise UserError(f"--runs: {text!r} has an empty name, expected [NAME=]PATH[+PATH...]")
    return name, [rest] if pathlib.Path(rest).exists() else rest.split("+")


def _found(text: str, part: str) -> list[pathlib.Path]:
    if not part:
        raise UserError(f"--runs: {text!r} has an empty path, expected [NAME=]PATH[+PATH...]")
    path = pathlib.Path(part)
    if path.exists():
        return [path]
    found = sorted(map(pathlib.Path, glob.glob(part)))
    if not found:
        raise UserError(f"--runs: {part} does not exist; expected a run's folder or an npz file")
    return found
