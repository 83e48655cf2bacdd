"""What a builder hands over to be written: named splits of pairs, and where they come from."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from vmr.data.schema import Pair, Schema

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Source:
    """A dataset before it is written.

    Attributes:
      name: the dataset's name, in snake case.
      description: what the pairs are and where they come from.
      licence: as far as it is known.
      schema: the fields of every pair.
      splits: by name, a function that yields the split's pairs from the first to the last.
      totals: by name, how many pairs to expect, where that is known; for the progress bar only.
    """

    name: str
    description: str
    licence: str
    schema: Schema
    splits: Mapping[str, Callable[[], Iterator[Pair]]]
    totals: Mapping[str, int] = field(default_factory=dict)
