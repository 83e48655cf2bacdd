"""What a config must hold before anything starts, and how it is kept with the run."""

import difflib
import json
from typing import Any

import ml_collections

from vmr.errors import UserError
from vmr.evaluation.table import RECALLS
from vmr.losses.objective import SIDES
from vmr.training.build import INTER, INTRA

_POSITIVE = ("batch_size", "steps", "log_every", "eval_every", "checkpoint_every")
_CHOICES = {
    "selection": tuple(f"{way}/{name}" for way in ("v2m", "m2v") for name in (*RECALLS, "MRR")),
    "loss.inter": tuple(INTER),
    "loss.intra": ("none", *INTRA),
    "optimizer.schedule": ("constant", "cosine"),
}


def require_sound(config: ml_collections.ConfigDict) -> None:
    """Raises UserError that names the first field whose value cannot work."""
    for field in _POSITIVE:
        if config[field] < 1:
            raise UserError(f"config.{field} is {config[field]}, expected at least 1")
    for field, choices in _CHOICES.items():
        _require_choice(field, _lookup(config, field), choices)
    missing = [term for term in SIDES if term not in config.loss.weights]
    if missing:
        raise UserError(f"config.loss.weights has no {', '.join(missing)}")
    if not config.dataset.data_dir:
        raise UserError("config.dataset.data_dir is not set: give --config.dataset.data_dir=DIR")
    if not 0.0 <= config.model.dropout < 1.0:
        raise UserError(f"config.model.dropout is {config.model.dropout}, expected in [0, 1)")


def resolved(config: ml_collections.ConfigDict) -> dict[str, Any]:
    """The config as plain JSON data, as `config.json` holds it."""
    return json.loads(config.to_json_best_effort(sort_keys=True))


def differences(old: dict[str, Any], new: dict[str, Any], prefix: str = "config") -> list[str]:
    """One line for each field in which two resolved configs differ."""
    lines = []
    for field in sorted(old.keys() | new.keys()):
        before, after = old.get(field), new.get(field)
        if isinstance(before, dict) and isinstance(after, dict):
            lines += differences(before, after, f"{prefix}.{field}")
        elif before != after:
            lines.append(f"{prefix}.{field} is {before!r} there and {after!r} here")
    return lines


def _lookup(config: ml_collections.ConfigDict, field: str) -> Any:
    value: Any = config
    for part in field.split("."):
        value = value[part]
    return value


def _require_choice(field: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        nearest = difflib.get_close_matches(value, choices, n=1)
        hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
        raise UserError(f"config.{field} is {value!r}, expected one of {', '.join(choices)}{hint}")
