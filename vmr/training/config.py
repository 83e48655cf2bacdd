"""What a config must hold before anything starts, and how it is kept with the run."""

import difflib
import json
from collections.abc import Callable
from typing import Any

import ml_collections

from vmr.errors import UserError
from vmr.evaluation.table import RECALLS
from vmr.losses.pairs import SIDES
from vmr.training.build import INTER, INTRA, SIMILARITY_DTYPES

# What a number must be for a step to make sense: in words, as a test, and in which fields.
_RANGES: tuple[tuple[str, Callable[[Any], bool], tuple[str, ...]], ...] = (
    (
        "at least 1",
        lambda value: value >= 1,
        (
            "batch_size",
            "steps",
            "log_every",
            "eval_every",
            "checkpoint_every",
            "model.embedding_width",
            "loss.ranking.top_k",
            "loss.structure_adjacent.top_k",
        ),
    ),
    (
        "at least 0",
        lambda value: value >= 0,
        (
            "microbatch",
            "patience",
            "loss.block_rows",
            "loss.warmup_steps",
            "loss.crossclr.negative_weight",
            "optimizer.warmup_steps",
            "optimizer.learning_rate",
            "optimizer.weight_decay",
            "optimizer.clip_norm",
            "optimizer.epsilon",
        ),
    ),
    (
        "in [0, 1)",
        lambda value: 0 <= value < 1,
        (
            "model.dropout",
            "model.input_dropout",
            "model.batch_norm.decay",
            "optimizer.b1",
            "optimizer.b2",
            "optimizer.average_decay",
            "loss.infonce.label_smoothing",
        ),
    ),
    (
        "more than 0",
        lambda value: value > 0,
        (
            "loss.infonce.temperature",
            "loss.siglip.scale",
            "loss.crossclr.temperature",
            "loss.crossclr.weight_temperature",
            "loss.ii_kl.temperature",
            "loss.js.temperature",
        ),
    ),
    (
        "widths of at least 1",
        lambda widths: all(width >= 1 for width in widths),
        ("model.video.hidden", "model.music.hidden"),
    ),
)
_CHOICES = {
    "selection": tuple(f"{way}/{name}" for way in ("v2m", "m2v") for name in (*RECALLS, "MRR")),
    "loss.inter": tuple(INTER),
    "loss.intra": ("none", *INTRA),
    "loss.similarity_dtype": tuple(SIMILARITY_DTYPES),
    "optimizer.schedule": ("constant", "cosine"),
}


def require_sound(config: ml_collections.ConfigDict) -> None:
    """Raises UserError that names the first field that is missing or whose value cannot work."""
    for expected, is_sound, fields in _RANGES:
        for field in fields:
            value = _lookup(config, field)
            if not is_sound(value):
                raise UserError(f"config.{field} is {value}, expected {expected}")
    for field, choices in _CHOICES.items():
        _require_choice(field, _lookup(config, field), choices)
    for term in SIDES:
        _lookup(config, f"loss.weights.{term}")
    if not _lookup(config, "dataset.data_dir"):
        raise UserError("config.dataset.data_dir is not set: give --config.dataset.data_dir=DIR")
    if config.loss.similarity_dtype != "float32" and config.loss.inter != "infonce":
        raise UserError(
            f"config.loss.similarity_dtype is {config.loss.similarity_dtype!r}, which "
            f"config.loss.inter={config.loss.inter} does not have: expected 'float32'"
        )
    if config.microbatch > config.batch_size:
        raise UserError(
            f"config.microbatch is {config.microbatch}, expected at most config.batch_size, "
            f"{config.batch_size}"
        )
    warmup = config.optimizer.warmup_steps
    if config.optimizer.schedule == "cosine" and warmup >= config.steps:
        raise UserError(
            f"config.optimizer.warmup_steps is {warmup}, expected fewer than config.steps, "
            f"{config.steps}"
        )


def resolved(config: ml_collections.ConfigDict) -> dict[str, Any]:
    """The config as plain JSON data, as `config.json` holds it."""
    return json.loads(config.to_json_best_effort(sort_keys=True))


def differences(old: dict[str, Any], new: dict[str, Any], prefix: str = "config") -> list[str]:
    """A phrase for each field in which two resolved configs differ.

    Where the data lie may differ: the dataset's fingerprint says whether they are the same.
    """
    lines = []
    for field in sorted((old.keys() | new.keys()) - {"data_dir"}):
        before, after = old.get(field), new.get(field)
        if isinstance(before, dict) and isinstance(after, dict):
            lines += differences(before, after, f"{prefix}.{field}")
        elif before != after:
            lines.append(f"{prefix}.{field} is {before!r} there and {after!r} here")
    return lines


def _lookup(config: ml_collections.ConfigDict, field: str) -> Any:
    value: Any = config
    for part in field.split("."):
        if part not in value:
            raise UserError(f"the config has no field {field!r}, which training needs")
        value = value[part]
    return value


def _require_choice(field: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        nearest = difflib.get_close_matches(value, choices, n=1)
        hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
        raise UserError(f"config.{field} is {value!r}, expected one of {', '.join(choices)}{hint}")
