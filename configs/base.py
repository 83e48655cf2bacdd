"""What configs are made of: the fields that all share, and variants that change them.

`vmr/training/base_config.py` explains the fields, those of the losses among them.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from ml_collections import ConfigDict

from vmr.errors import UserError
from vmr.training.base_config import base_config

__all__ = ["Variant", "Variants", "base_config", "changed"]


class Variant(NamedTuple):
    """A change of a config, by name.

    Attributes:
      kind: what it decides; of each kind a config takes one. A `recipe` comes first, so that the
        others change it, and `smoke` last, so that a smoke test is small whatever it tests.
      change: of a config, in place.
    """

    kind: str
    change: Callable[[ConfigDict], None]


Variants = Mapping[str, Variant]


def changed(config: ConfigDict, names: str, variants: Variants, file: str) -> ConfigDict:
    """The config, changed by variants; the order in which they are named does not matter.

    Args:
      config: changed in place.
      names: of the variants, parted by commas.
      variants: of the config file.
      file: its name.

    Raises:
      UserError: there is no such variant, or two decide the same.
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
    """When variants of a kind are applied; those of one turn change different fields."""
    return {"recipe": 0, "smoke": 2}.get(kind, 1)
