"""Points of a sweep: loaded from its file, checked against the config they change, named."""

import difflib
import hashlib
import pathlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ml_collections

from vmr import python_file
from vmr.errors import UserError
from vmr.sweeps.space import Fields, Point, Range, Space, plain
from vmr.training.config import require_sound

_LONGEST = 120  # characters of a folder's name
_HASH = 8


@dataclass(frozen=True)
class Sweep:
    """Contents of a sweep file.

    Attributes:
      description: first line of the file's docstring; empty if it has none.
      points: points of `get_sweep()`, not checked against any config yet.
      ranges: ranges of `get_search()`, for a search instead of the points; None without it.
    """

    description: str
    points: Space
    ranges: dict[Fields, Range] | None


@dataclass(frozen=True)
class SweepPoint:
    """Run of a sweep: its name, its config, its changes.

    Attributes:
      name: `SETTING/seed-N`, the folder of the run below WORKDIR/points. It depends on nothing but
        the point's own changes, so that points added to a sweep leave other names as they were.
      setting: name of the folder of all runs that differ from this one in their seed only.
      changes: field -> value as the config holds it; the seed too, where the sweep sets it.
      config: config with the changes, locked.
    """

    name: str
    setting: str
    changes: dict[str, Any]
    config: ml_collections.ConfigDict


def load_sweep(path: pathlib.Path) -> Sweep:
    """Runs a sweep file: a Python file whose `get_sweep()` returns a list of points.

    Raises:
      UserError: there is no such file, it fails (the line is named), or what it returns is no list
        of points, or empty.
    """
    module = python_file.load(path)
    if not callable(getattr(module, "get_sweep", None)):
        raise UserError(f"{path} defines no get_sweep(), which returns the list of points")
    with python_file.told_by_line(path):
        points = module.get_sweep()
    if not isinstance(points, list) or not all(_is_point(point) for point in points):
        raise UserError(
            f"{path}: get_sweep() returns {_abridged(points)}, expected a list of dicts from "
            "field to value"
        )
    if not points:
        raise UserError(f"{path}: get_sweep() returns no points")
    description = (module.__doc__ or "").strip().partition("\n")[0]
    return Sweep(description, points, _ranges_of(path, module))


def checked_points(
    points: Sequence[Point], base_config: ml_collections.ConfigDict
) -> list[SweepPoint]:
    """Applies each point to the base config, and checks all before any starts.

    Raises:
      UserError: the first point with an unknown field, with a value of a wrong type, with a config
        that cannot be trained, or equal to an earlier one; there are no points.
    """
    if not points:
        raise UserError("the sweep is empty: expected at least one point")
    leaves = _leaves(base_config)
    checked: dict[str, SweepPoint] = {}
    for number, point in enumerate(points, start=1):
        try:
            candidate = _checked(point, base_config, leaves)
        except UserError as mistake:
            raise UserError(f"point {number} of the sweep, {_in_words(point)}: {mistake}") from None
        if candidate.name in checked:
            raise UserError(f"point {number} of the sweep, {_in_words(point)}, is there twice")
        checked[candidate.name] = candidate
    return list(checked.values())


def setting_name(changes: Mapping[str, Any]) -> str:
    """Folder name of a setting, from its changes but the seed: at most 120 of A–Z a–z 0–9 . _ -."""
    parts = [
        f"{field}-{_value_name(changes[field])}" for field in sorted(changes) if field != "seed"
    ]
    name = "__".join(parts) or "unchanged"
    safe = re.sub(r"[^A-Za-z0-9._-]", "_", name)
    if safe == name and len(name) <= _LONGEST:
        return name
    # Names that are equal once cut and cleaned differ by the hash of the whole.
    digest = hashlib.sha256(name.encode()).hexdigest()[:_HASH]
    return f"{safe[: _LONGEST - _HASH - 1]}-{digest}"


def _value_name(value: Any) -> str:
    if isinstance(value, tuple):
        return "_".join(map(_value_name, value)) or "empty"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        # Every digit: with fewer, two values would have one name.
        return repr(value).removesuffix(".0")
    return str(value)


def _checked(
    point: Point, base_config: ml_collections.ConfigDict, leaves: Mapping[str, Any]
) -> SweepPoint:
    changes = {
        field: _fitting(field, plain(field, value), leaves) for field, value in point.items()
    }
    # A copy without references, so that a change in one point reaches no other.
    config = base_config.copy_and_resolve_references()
    with config.unlocked():
        config.update_from_flattened_dict(changes)
    config.lock()
    require_sound(config)
    setting = setting_name(changes)
    return SweepPoint(f"{setting}/seed-{config.seed}", setting, changes, config)


def _fitting(field: str, value: Any, leaves: Mapping[str, Any]) -> Any:
    """Converts a value to the type that the field has.

    Raises:
      UserError: there is no such field, or the value cannot have its type.
    """
    if field not in leaves:
        raise UserError(f"the config has no field {field!r}{_hint(field, leaves)}")
    current = leaves[field]
    if isinstance(current, float) and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not _fits(value, current):
        raise UserError(
            f"config.{field} is {value!r}, expected {_TYPES[type(current)]} as {current!r}"
        )
    return value


_TYPES = {
    bool: "true or false,",
    int: "a whole number,",
    float: "a number,",
    str: "text,",
    tuple: "a tuple of whole numbers,",
}


def _fits(value: Any, current: Any) -> bool:
    """True if a value has the type of the current one; a field that is not set takes text."""
    # Exact types: True is an int to isinstance, and would train as 1.
    if current is None:
        return value is None or isinstance(value, str)
    if isinstance(current, tuple):
        return isinstance(value, tuple) and all(type(part) is int for part in value)
    return type(value) is type(current)


def _leaves(config: ml_collections.ConfigDict, prefix: str = "") -> dict[str, Any]:
    """Flat fields of a config, `loss.weights.music` -> value, lists as tuples."""
    leaves: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, ml_collections.ConfigDict):
            leaves |= _leaves(value, f"{prefix}{name}.")
        else:
            leaves[prefix + name] = tuple(value) if isinstance(value, list) else value
    return leaves


def _hint(field: str, leaves: Mapping[str, Any]) -> str:
    field = field.removeprefix("config.")
    inside = [name for name in leaves if name.startswith(f"{field}.")]
    if inside:
        return f" but a group of that name: {', '.join(inside)}"
    nearest = [name for name in leaves if name == field or name.endswith(f".{field}")]
    nearest = nearest or difflib.get_close_matches(field, leaves, n=1)
    return f"; did you mean {nearest[0]!r}?" if nearest else ""


def _in_words(point: Point) -> str:
    return ", ".join(f"{field}={value}" for field, value in point.items()) or "no changes"


def _abridged(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}…"


def _is_point(point: Any) -> bool:
    return isinstance(point, dict) and all(isinstance(field, str) for field in point)


def _ranges_of(path: pathlib.Path, module: Any) -> dict[Fields, Range] | None:
    if not hasattr(module, "get_search"):
        return None
    with python_file.told_by_line(path):
        ranges = module.get_search()
    sound = isinstance(ranges, dict) and all(
        isinstance(values, Range) for values in ranges.values()
    )
    if not ranges or not sound:
        raise UserError(
            f"{path}: get_search() returns {_abridged(ranges)}, expected a dict from field to "
            "log_uniform(low, high), uniform(low, high) or choice(values)"
        )
    return ranges
