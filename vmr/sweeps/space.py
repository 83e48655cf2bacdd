"""Sweeps as plain data: lists of points, each a dict from a field of the config to its value.

    product(sweep("loss.intra", ["ii_mse", "js"]), sweep("loss.weights.music", [0.1, 1]), seeds(3))

is twelve points, the first `{"loss.intra": "ii_mse", "loss.weights.music": 0.1, "seed": 0}`. Fields
are named as the flags name them, without the leading `config.`.
"""

import itertools
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import qmc

from vmr.errors import UserError

Point = dict[str, Any]
Space = list[Point]
Fields = str | tuple[str, ...]  # several fields take the same value

_DIGITS = 4  # significant digits of a random value: enough to search, few enough to read


def sweep(fields: Fields, values: Iterable[Any]) -> Space:
    """Points of one field, one a value; several fields take the same value.

    Raises:
      UserError: there are no values, or one is not plain data.
    """
    names = (fields,) if isinstance(fields, str) else tuple(fields)
    points = [{name: plain(name, value) for name in names} for value in values]
    if not points:
        raise UserError(f"the sweep of {', '.join(names)} has no values")
    return points


def seeds(count: int) -> Space:
    """Seeds 0 … count − 1."""
    return sweep("seed", range(count))


def grid(values: Mapping[Fields, Iterable[Any]]) -> Space:
    """Combinations of the values of all fields; the last field varies fastest."""
    return product(*(sweep(fields, choices) for fields, choices in values.items()))


def product(*spaces: Space) -> Space:
    """Combinations of a point of each space; the last space varies fastest.

    Raises:
      UserError: two spaces give a field different values in one combination.
    """
    return [_joined(points) for points in itertools.product(*spaces)]


def zipped(*spaces: Space) -> Space:
    """Points of all spaces joined one by one: the first ones, the second ones, and so on.

    Raises:
      UserError: the spaces differ in length, or give a field different values in one point.
    """
    lengths = [len(space) for space in spaces]
    if len(set(lengths)) > 1:
        counts = ", ".join(map(str, lengths))
        raise UserError(f"zipped spaces must be of one length, found {counts} points")
    return [_joined(points) for points in zip(*spaces, strict=True)]


def chain(*spaces: Space) -> Space:
    """Points of all spaces, one space after another; equal points once, at the first place."""
    distinct: dict[frozenset, Point] = {}
    for point in itertools.chain(*spaces):
        # The order in which a point names its fields makes no difference.
        content = frozenset((name, plain(name, value)) for name, value in point.items())
        distinct.setdefault(content, point)
    return list(distinct.values())


@dataclass(frozen=True)
class LogUniform:
    """Values whose logarithm is uniform between those of `low` and `high`."""

    low: float
    high: float

    def at(self, share: float) -> float:
        """Quantile of the range at a share in [0, 1)."""
        log_low, log_high = math.log(self.low), math.log(self.high)
        return rounded(math.exp(log_low + share * (log_high - log_low)), self.low, self.high)


@dataclass(frozen=True)
class Uniform:
    """Values uniform between `low` and `high`."""

    low: float
    high: float

    def at(self, share: float) -> float:
        """Quantile of the range at a share in [0, 1)."""
        return rounded(self.low + share * (self.high - self.low), self.low, self.high)


@dataclass(frozen=True)
class Choice:
    """Values that are equally likely."""

    values: tuple[Any, ...]

    def at(self, share: float) -> Any:
        """Quantile at a share in [0, 1), of the values in their order."""
        return self.values[int(share * len(self.values))]


Range = LogUniform | Uniform | Choice


def log_uniform(low: float, high: float) -> LogUniform:
    """Range of a value whose order of magnitude matters; UserError unless 0 < low < high."""
    if not 0 < low < high < math.inf:
        raise UserError(f"log_uniform({low}, {high}): expected 0 < low < high, both finite")
    return LogUniform(float(low), float(high))


def uniform(low: float, high: float) -> Uniform:
    """Range on a linear scale; UserError unless low < high."""
    if not -math.inf < low < high < math.inf:
        raise UserError(f"uniform({low}, {high}): expected low < high, both finite")
    return Uniform(float(low), float(high))


def choice(values: Iterable[Any]) -> Choice:
    """Choice among these values; UserError if there are none, or one is not plain data."""
    values = tuple(plain("choice", value) for value in values)
    if not values:
        raise UserError("choice() has no values")
    return Choice(values)


def random(ranges: Mapping[Fields, Range], count: int, seed: int = 0, sobol: bool = False) -> Space:
    """Points drawn at random, numbers with four significant digits.

    The same seed draws the same points; a larger count only adds to those of a smaller one.

    Args:
      ranges: range of each field, or of several fields that take the same value.
      count: number of points.
      seed: seed of the draw.
      sobol: True draws a scrambled Sobol sequence instead of independent points: it fills the
        ranges more evenly (Owen, "Scrambling Sobol' and Niederreiter-Xing points", 1998), most so
        at counts that are powers of two.

    Raises:
      UserError: no ranges, a count below 1, or a range that is none of this module's.
    """
    if not ranges:
        raise UserError("random() has no ranges")
    if count < 1:
        raise UserError(f"random(): count is {count}, expected at least 1")
    for fields, drawn in ranges.items():
        if not isinstance(drawn, Range):
            raise UserError(
                f"random(): the range of {fields} is {drawn!r}, expected log_uniform(low, high), "
                "uniform(low, high) or choice(values)"
            )
    generator = np.random.default_rng(seed)
    if sobol:
        # Drawn to the next power of two, then cut: SciPy warns at any other count.
        sequence = qmc.Sobol(len(ranges), scramble=True, rng=generator)
        shares = sequence.random_base2((count - 1).bit_length())[:count]
    else:
        shares = generator.random((count, len(ranges)))
    return [
        _joined(
            sweep(fields, [drawn.at(float(share))])[0]
            for (fields, drawn), share in zip(ranges.items(), row, strict=True)
        )
        for row in shares
    ]


def plain(name: str, value: Any) -> Any:
    """Value in Python's own types: NumPy's become numbers, lists become tuples.

    Raises:
      UserError: it is neither a number, text, true or false, None, nor a sequence of these.
    """
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return tuple(plain(name, part) for part in value)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise UserError(f"a value of {name} is {value!r}, expected a number, text, a list or a tuple")


def _joined(points: Iterable[Point]) -> Point:
    """Joins points into one with all their fields."""
    joined: Point = {}
    for point in points:
        for name, value in point.items():
            if name in joined and joined[name] != value:
                raise UserError(
                    f"{name} is {joined[name]!r} and {value!r} in one point: expected one value"
                )
            joined[name] = value
    return joined


def rounded(value: float, low: float, high: float) -> float:
    """Value to four significant digits, within its range."""
    return min(max(float(f"{value:.{_DIGITS}g}"), low), high)
