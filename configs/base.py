"""Base of all configs: the fields that they share, and variants that change them.

`vmr/training/base_config.py` explains the fields, those of the losses among them.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from ml_collections import ConfigDict

from vmr.errors import UserError
from vmr.training.base_config import base_config

__all__ = ["Variant", "Variants", "base_config", "changed"]


class Variant(NamedTuple):
    """Named change of a config.

    Attributes:
      kind: kind of choice that it makes; a config takes one variant of each kind. A `recipe` comes
        first, so that the others change it, and `smoke` last, so that a smoke test is small in any
        case.
      change: function that changes a config in place.
    """

    kind: str
    change: Callable[[ConfigDict], None]


Variants = Mapping[str, Variant]


def changed(config: ConfigDict, names: str, variants: Variants, file: str) -> ConfigDict:
    """Applies variants to a config; the order in which they are named does not matter.

    Args:
      config: config to change in place.
      names: names of variants, separated by commas.
      variants: all variants of the config file.
      file: name of the config file.

    Raises:
      UserError: there is no such variant, or two of them are of one kind.
    """
    by_kind: dict[str, str] = {}
    for name in filter(None, names.split(",")):
        if name not in variants:
            raise UserError(f"configs/{file}.py has no variant {name!r}: {', '.join(variants)}")
        other = by_kind.setdefault(variants[name].kind, name)
        if other != name:
            raise UserError(
                f"configs/{file}.py: the variants {other!r} and {name!r} both decide the "
                f"{variants[name].kind}, expected one of them"
            )
    for kind in sorted(by_kind, key=_turn):
        variants[by_kind[kind]].change(config)
    return config


def _turn(kind: str) -> int:
    """Order in which kinds are applied; kinds of one turn change different fields."""
    return {"recipe": 0, "smoke": 2}.get(kind, 1)
