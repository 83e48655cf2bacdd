"""In what the settings of a sweep differ: its axes, in tables and in plots."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vmr.sweeps.outcomes import Setting, value_of


@dataclass(frozen=True)
class Axis:
    """A field, or fields that are equal in every setting.

    Attributes:
      fields: of the config.
      values: one a setting.
    """

    fields: tuple[str, ...]
    values: tuple[Any, ...]

    @property
    def label(self) -> str:
        """The fields' name, of several as `loss.weights.{music,video}`."""
        groups = {field.rpartition(".")[0] for field in self.fields}
        if len(self.fields) == 1 or len(groups) > 1:
            return " = ".join(self.fields)
        names = ",".join(field.rpartition(".")[2] for field in self.fields)
        return f"{groups.pop()}.{{{names}}}".removeprefix(".")

    @property
    def varies(self) -> bool:
        """Whether settings differ in it."""
        return len(set(self.values)) > 1

    @property
    def numeric(self) -> bool:
        """Whether all its values are numbers."""
        return all(type(value) in (int, float) for value in self.values)


def axes_of(settings: Sequence[Setting]) -> list[Axis]:
    """The fields that the sweep sets, but the seed, in the order in which it names them."""
    named = [field for setting in settings for field in setting.changes if field != "seed"]
    tied: dict[tuple[Any, ...], list[str]] = {}
    for field in dict.fromkeys(named):
        values = tuple(value_of(setting, field) for setting in settings)
        tied.setdefault(values, []).append(field)
    return [Axis(tuple(fields), values) for values, fields in tied.items()]


def shown(value: Any) -> str:
    """A value of a field, as tables and plots write it."""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, tuple):
        return "×".join(map(shown, value)) or "none"
    return str(value)
