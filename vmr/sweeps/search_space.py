"""What a search may try: the ranges of fields, as Optuna knows them and as points of a sweep."""

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import ml_collections

from vmr.errors import UserError
from vmr.sweeps.points import SweepPoint, resolved
from vmr.sweeps.space import (
    Choice,
    Fields,
    LogUniform,
    Point,
    Range,
    Space,
    choice,
    product,
    sweep,
)

_DIGITS = 4  # significant ones of a number that is tried, as of one that is drawn at random
_SETTINGS = 32  # to be drawn for a value that the base config refuses


@dataclass(frozen=True)
class SearchSpace:
    """The settings that a search chooses from.

    Attributes:
      config: locked; the base that a setting changes.
      ranges: what a field may be; fields of a tuple take the same value.
      seeds: of the runs of each setting.
    """

    config: ml_collections.ConfigDict
    ranges: Mapping[Fields, Range]
    seeds: tuple[int, ...]

    def require_sound(self) -> None:
        """Tries the ends of each range, and each choice, before anything starts.

        Raises:
          UserError: there are no ranges or no seeds; or the base config refuses a value, and so do
            settings that are drawn at random, which may hold what the value needs.
        """
        if not self.ranges or not self.seeds:
            raise UserError("the search has no ranges or no seeds: expected at least one of each")
        ends = {fields: _ends(drawn) for fields, drawn in self.ranges.items()}
        generator = random.Random(0)
        settings = [
            {fields: generator.choice(values) for fields, values in ends.items()}
            for _ in range(_SETTINGS)
        ]
        self._joined({fields: values[0] for fields, values in ends.items()})  # none is there twice
        for fields, values in ends.items():
            for value in values:
                alone = self._mistake({fields: value})
                if alone and all(self._mistake({**drawn, fields: value}) for drawn in settings):
                    raise alone

    def distributions(self) -> dict[str, Any]:
        """Optuna's distribution of each range, by its name."""
        from optuna.distributions import CategoricalDistribution, FloatDistribution

        return {
            _name(fields): CategoricalDistribution(list(map(str, drawn.values)))
            if isinstance(drawn, Choice)
            else FloatDistribution(drawn.low, drawn.high, log=isinstance(drawn, LogUniform))
            for fields, drawn in self.ranges.items()
        }

    def points(self, parameters: Mapping[str, Any]) -> list[SweepPoint]:
        """One point a seed of what Optuna tries; UserError where it makes no sound config."""
        values = {
            fields: _value(drawn, parameters[_name(fields)])
            for fields, drawn in self.ranges.items()
        }
        return resolved(self._joined(values), self.config)

    def description(self) -> str:
        """The ranges and seeds as JSON: equal where searches can be continued by each other."""
        ranges = {
            _name(fields): {type(drawn).__name__: asdict(drawn)}
            for fields, drawn in self.ranges.items()
        }
        return json.dumps({"ranges": ranges, "seeds": self.seeds}, sort_keys=True)

    def _joined(self, values: Mapping[Fields, Any]) -> Space:
        fields = [sweep(fields, [value]) for fields, value in values.items()]
        return product(*fields, sweep("seed", self.seeds))

    def _mistake(self, values: Mapping[Fields, Any]) -> UserError | None:
        try:
            resolved(self._joined(values), self.config)
        except UserError as mistake:
            return mistake
        return None


def choices_of(points: Sequence[Point]) -> dict[Fields, Range]:
    """The values that each field but the seed has in a sweep, as choices.

    Fields that are equal in all points stay so. Others are chosen one by one: a search over a sweep
    without ranges also tries combinations that the sweep leaves out.
    """
    fields = dict.fromkeys(field for point in points for field in point if field != "seed")
    tied: dict[tuple[tuple[bool, Any], ...], list[str]] = {}
    for field in fields:
        tied.setdefault(tuple((field in point, point.get(field)) for point in points), []).append(
            field
        )
    return {
        tuple(names): choice(dict.fromkeys(value for is_set, value in column if is_set))
        for column, names in tied.items()
    }


def _name(fields: Fields) -> str:
    return fields if isinstance(fields, str) else ",".join(fields)


def _ends(drawn: Range) -> tuple[Any, ...]:
    return drawn.values if isinstance(drawn, Choice) else (drawn.low, drawn.high)


def _value(drawn: Range, suggested: Any) -> Any:
    if isinstance(drawn, Choice):
        return drawn.values[list(map(str, drawn.values)).index(suggested)]
    return min(max(float(f"{suggested:.{_DIGITS}g}"), drawn.low), drawn.high)
