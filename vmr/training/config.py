"""Validation of configs, and the plain JSON form in which a run keeps its own.

Everything is checked before anything starts, so that no run fails in its last step for a typo.
"""

import difflib
import json
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import ml_collections

from vmr.data.batch_spec import PAIRINGS
from vmr.data.sampling import METHODS
from vmr.encoders.layers import HIGHEST_RATE
from vmr.encoders.pooling import POOLINGS
from vmr.encoders.transformer import POSITIONS
from vmr.errors import UserError
from vmr.evaluation.metrics import RECALLS
from vmr.losses.learnable import LEAST_TEMPERATURE
from vmr.losses.pairs import SIDES
from vmr.training.base_config import base_config
from vmr.training.build import ENCODERS, FUSIONS, INTER, INTRA, SIMILARITY_DTYPES
from vmr.training.evals import EVALS


class _Kind(NamedTuple):
    """Kind of a field's value; checked first, since a config from a file may hold anything."""

    name: str
    holds: Callable[[Any], bool]


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


_INTEGER = _Kind("an integer", _is_integer)
_NUMBER = _Kind("a number", lambda value: _is_integer(value) or isinstance(value, float))
_WIDTHS = _Kind(
    "integers", lambda value: isinstance(value, list | tuple) and all(map(_is_integer, value))
)
_NAMES = _Kind(
    "names",
    lambda value: isinstance(value, list | tuple) and all(isinstance(x, str) for x in value),
)
_SWITCH = _Kind("true or false", lambda value: isinstance(value, bool))
_TEXT = _Kind("text", lambda value: isinstance(value, str))

# Sound values of fields: their kind, their range in words and as a test, and the fields' names.
_Range = tuple[_Kind, str, Callable[[Any], bool], tuple[str, ...]]
_RANGES: tuple[_Range, ...] = (
    (
        _INTEGER,
        "at least 1",
        lambda value: value >= 1,
        (
            "batch_size",
            "steps",
            "log_every",
            "eval_every",
            "checkpoint_every",
            "sampling.clips",
            "model.embedding_width",
            *(
                f"model.transformer.{name}"
                for name in ("model_width", "heads", "mlp_ratio", "max_clips")
            ),
            *(f"model.gated_conv.{name}" for name in ("model_width", "kernel")),
            *(f"model.text.{name}" for name in ("tokens", "vocabulary", "width")),
            "loss.ranking.top_k",
        ),
    ),
    # JAX and TensorFlow take seeds of 32 bits with a sign.
    (_INTEGER, "from 0 to 2**31 - 1", lambda value: 0 <= value < 2**31, ("seed",)),
    (_INTEGER, "at least 2", lambda value: value >= 2, ("loss.structure_adjacent.top_k",)),
    (
        _INTEGER,
        "at least 0",
        lambda value: value >= 0,
        (
            "microbatch",
            "patience",
            "model.transformer.layers",
            "model.gated_conv.layers",
            "model.text.embedding_width",
            "loss.block_rows",
            "loss.warmup_steps",
            "optimizer.warmup_steps",
        ),
    ),
    (
        _NUMBER,
        "at least 0",
        lambda value: value >= 0,
        (
            "loss.crossclr.negative_weight",
            "loss.infonce.hardness",
            *(f"loss.weights.{term}" for term in SIDES),
            "optimizer.learning_rate",
            "optimizer.weight_decay",
            "optimizer.clip_norm",
            "optimizer.epsilon",
            "augment.noise",
            "augment.mixup",
        ),
    ),
    (
        _NUMBER,
        "in [0, 1)",
        lambda value: 0 <= value < 1,
        (
            "model.batch_norm.decay",
            "optimizer.b1",
            "optimizer.b2",
            "optimizer.average_decay",
            "loss.infonce.label_smoothing",
        ),
    ),
    (
        _NUMBER,
        "in [0, 1), at most 1 - 1/65536",
        lambda value: 0 <= value <= HIGHEST_RATE,
        ("model.dropout", "model.input_dropout", "model.text.dropout"),
    ),
    (
        _NUMBER,
        "more than 0",
        lambda value: value > 0,
        (
            "model.batch_norm.epsilon",
            "loss.infonce.temperature",
            "loss.siglip.scale",
            "loss.crossclr.temperature",
            "loss.distillation.temperature",
            "loss.distillation.teacher_temperature",
            "loss.crossclr.weight_temperature",
            "loss.ii_kl.temperature",
            "loss.js.temperature",
        ),
    ),
    (
        _NUMBER,
        "in (0, 1]",
        lambda value: 0 < value <= 1,
        ("loss.crossclr.threshold", "dataset.train_share"),
    ),
    (_NUMBER, "in [0, 1]", lambda value: 0 <= value <= 1, ("loss.distillation.share",)),
    (_NUMBER, "", lambda _: True, ("loss.ranking.margin", "loss.siglip.bias")),
    (
        _WIDTHS,
        "widths of at least 1",
        lambda widths: all(width >= 1 for width in widths),
        ("model.video.hidden", "model.music.hidden"),
    ),
    (
        _NAMES,
        f"recalls and, if any, others of {', '.join(EVALS)}, each once",
        lambda names: (
            "recalls" in names and set(names) <= set(EVALS) and len(set(names)) == len(names)
        ),
        ("evals",),
    ),
    (_SWITCH, "", lambda _: True, ("dataset.allow_invalid", "model.linear", "model.residual")),
    (_TEXT, "", lambda _: True, ("dataset.name", "dataset.data_dir", "init_from", "loss.teacher")),
)
# Memories that hold a split between batches, see `vmr.training.feed`.
CACHES = ("auto", "device", "host", "none")

_CHOICES = {
    "selection": tuple(f"{way}/{name}" for way in ("v2m", "m2v") for name in (*RECALLS, "MRR")),
    "dataset.cache": CACHES,
    "pairing": PAIRINGS,
    "positives": ("track", "label"),
    "sampling.method": METHODS,
    "model.video.encoder": tuple(ENCODERS),
    "model.music.encoder": tuple(ENCODERS),
    "model.transformer.positions": POSITIONS,
    "model.transformer.pooling": POOLINGS,
    "model.gated_conv.pooling": ("mean", "attention"),
    "model.text.fusion": FUSIONS,
    "loss.inter": tuple(INTER),
    "loss.intra": ("none", *INTRA),
    "loss.similarity_dtype": tuple(SIMILARITY_DTYPES),
    "optimizer.schedule": ("constant", "cosine"),
}


def require_sound(config: ml_collections.ConfigDict) -> None:
    """Raises UserError that names a field that is missing, cannot work, or would be ignored."""
    require_restorable(config)
    clips, default = config.sampling.clips, base_config().sampling.clips
    if config.sampling.method == "mean" and clips != default:
        raise UserError(
            f"config.sampling.clips is {clips}, but config.sampling.method=mean takes all clips of "
            f"a sequence: expected {default}, the default, or global_sparse or contiguous"
        )
    _require_teacher(config)
    warmup = config.optimizer.warmup_steps
    if warmup and warmup >= config.steps:
        raise UserError(
            f"config.optimizer.warmup_steps is {warmup}, expected fewer than config.steps, "
            f"{config.steps}"
        )


def _require_teacher(config: ml_collections.ConfigDict) -> None:
    """Raises UserError if a teacher is needed and not named, or named and not read."""
    distils = config.loss.inter == "distillation"
    if distils and not config.loss.teacher.strip():
        raise UserError(
            "config.loss.teacher is empty, expected an npz of embeddings of the training split for "
            "config.loss.inter=distillation: experiments.export --split=train --output=FILE.npz"
        )
    if config.loss.teacher and not distils:
        raise UserError(
            f"config.loss.teacher is {config.loss.teacher!r}, which "
            f"config.loss.inter={config.loss.inter} does not read: expected '' or distillation"
        )
    if distils and config.pairing != "video_music":
        raise UserError(
            f"config.loss.inter=distillation needs config.pairing=video_music, found "
            f"{config.pairing!r}"
        )
    if distils and config.augment.mixup:
        # The teacher's rows are of whole items: a mixture would be taught what half of it is.
        raise UserError(
            f"config.augment.mixup is {config.augment.mixup}, but config.loss.inter=distillation "
            "has a teacher's embeddings of unmixed pairs alone: expected 0"
        )


def require_restorable(config: ml_collections.ConfigDict) -> None:
    """Raises UserError that names the first field with which a run's model cannot be built."""
    for field, choices in _CHOICES.items():
        if _is_read(config, field):
            _require_choice(field, _lookup(config, field), choices)
    _require_finite(config, "config")
    if not _lookup(config, "dataset.data_dir"):
        raise UserError("config.dataset.data_dir is not set: give --config.dataset.data_dir=DIR")
    for kind, expected, is_sound, fields in _RANGES:
        for field in fields:
            if not _is_read(config, field):
                continue
            value = _lookup(config, field)
            if not kind.holds(value):
                raise UserError(f"config.{field} is {value!r}, expected {kind.name}")
            if not is_sound(value):
                raise UserError(f"config.{field} is {value}, expected {expected}")
    _require_sound_encoders(config)
    _require_sound_pairing(config)
    _require_sound_loss(config.loss)
    if config.microbatch > config.batch_size:
        raise UserError(
            f"config.microbatch is {config.microbatch}, expected at most config.batch_size, "
            f"{config.batch_size}"
        )


def _require_sound_encoders(config: ml_collections.ConfigDict) -> None:
    """Raises UserError if fields of the encoders do not go together."""
    model, clips = config.model, config.sampling.clips
    transformer = model.transformer
    encoders = _encoders(config).values()
    has_transformer = "transformer" in encoders
    if has_transformer and transformer.model_width % transformer.heads:
        raise UserError(
            f"config.model.transformer.model_width is {transformer.model_width}, which "
            f"{transformer.heads} heads cannot share"
        )
    sinusoidal = has_transformer and transformer.positions == "sinusoidal"
    if sinusoidal and transformer.model_width % 2:
        raise UserError(
            f"config.model.transformer.model_width is {transformer.model_width}, expected an even "
            "number for sinusoidal positions"
        )
    learned = has_transformer and transformer.positions == "learned"
    if learned and config.sampling.method != "mean" and clips > transformer.max_clips:
        raise UserError(
            f"config.sampling.clips is {clips}, expected at most "
            f"config.model.transformer.max_clips, {transformer.max_clips}"
        )
    if "gated_conv" in encoders and model.gated_conv.kernel % 2 == 0:
        raise UserError(
            f"config.model.gated_conv.kernel is {model.gated_conv.kernel}, expected an odd number"
        )
    if model.text.fusion == "tokens" and model.video.encoder != "transformer":
        raise UserError(
            "config.model.text.fusion=tokens needs config.model.video.encoder=transformer, found "
            f"{model.video.encoder!r}; gated_sum goes with any encoder"
        )


def _require_sound_pairing(config: ml_collections.ConfigDict) -> None:
    """Raises UserError if items are to be paired with themselves but cannot be."""
    if config.pairing == "video_music":
        return
    if config.sampling.method == "mean":
        raise UserError(
            f"config.pairing={config.pairing} compares two samples of an item, for which "
            "config.sampling.method must be global_sparse or contiguous, found 'mean'"
        )
    if config.model.text.fusion != "none":
        raise UserError(
            f"config.pairing={config.pairing} reads no text: config.model.text.fusion must be "
            f"'none', found {config.model.text.fusion!r}"
        )


def _require_sound_loss(loss: ml_collections.ConfigDict) -> None:
    """Raises UserError if fields of `config.loss` do not go together."""
    if loss.similarity_dtype != "float32" and loss.inter != "infonce":
        raise UserError(
            f"config.loss.similarity_dtype is {loss.similarity_dtype!r}, which "
            f"config.loss.inter={loss.inter} does not have: expected 'float32'"
        )
    options = loss.get(loss.inter, {})
    if loss.similarity_dtype != "float32" and options.get("hardness"):
        raise UserError(
            f"config.loss.similarity_dtype is {loss.similarity_dtype!r}, which "
            f"config.loss.infonce.hardness={options.hardness} does not have: expected 'float32'"
        )
    if options.get("learnt") and options.get("temperature", 1.0) < LEAST_TEMPERATURE:
        raise UserError(
            f"config.loss.{loss.inter}.temperature is {options.temperature}, expected at least "
            f"{LEAST_TEMPERATURE} where it is learnt"
        )


def _require_finite(config: ml_collections.ConfigDict, name: str) -> None:
    """Raises UserError that names the first number, at any depth, that is NaN or infinite."""
    for field, value in config.items():
        if isinstance(value, ml_collections.ConfigDict):
            _require_finite(value, f"{name}.{field}")
        elif isinstance(value, float) and not math.isfinite(value):
            raise UserError(f"{name}.{field} is {value}, expected a finite number")


def _is_read(config: ml_collections.ConfigDict, field: str) -> bool:
    """False for options of a loss or of an encoder that the config does not use."""
    match field.split("."):
        case ["loss", name, _] if name in {*INTER, *INTRA}:
            return name in (config.loss.inter, config.loss.intra)
        case ["model", name, _] if name in ENCODERS:
            return name in _encoders(config).values()
        case ["model", "batch_norm", _] | ["model", "linear" | "residual"]:
            return "branch" in _encoders(config).values()
        case ["model", ("video" | "music") as side, "hidden"]:
            return _encoders(config).get(side) == "branch"
    return True


def _encoders(config: ml_collections.ConfigDict) -> dict[str, str]:
    """Encoder name of each side; a run that pairs items with themselves has one side."""
    sides = ("video", "music") if config.pairing == "video_music" else (config.pairing,)
    return {side: config.model[side].encoder for side in sides}


def resolved(config: ml_collections.ConfigDict) -> dict[str, Any]:
    """Config as plain data, the content of `config.json`."""
    return json.loads(config.to_json_best_effort(sort_keys=True))


def completed(saved: dict[str, Any]) -> dict[str, Any]:
    """Fields of a `config.json`, completed by those of `base_config` that it lacks."""
    return _updated(resolved(base_config()), saved)


def differing(old: dict[str, Any], new: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Fields in which two configs differ, by names such as `optimizer.b1`, with both values.

    Args:
      old: resolved config, possibly from before a field was added, see `completed`.
      new: resolved config of today.
    """
    before, after = _flat(completed(old)), _flat(new)
    return {
        field: (before.get(field), after.get(field))
        for field in sorted(before.keys() | after.keys())
        if before.get(field) != after.get(field)
    }


def differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """Phrases on the fields in which two resolved configs differ, see `differing`.

    The path of the data may differ, since the dataset's fingerprint tells if they are the same, and
    so may the memory that holds them.
    """
    found = differing(old, new)
    for field in ("dataset.data_dir", "dataset.cache"):
        found.pop(field, None)
    return [difference(field, *values) for field, values in found.items()]


def difference(field: str, before: Any, after: Any) -> str:
    """Phrase on a field in which two configs differ."""
    return f"config.{field} is {before!r} there and {after!r} here"


def _updated(fields: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Nested dict of fields, updated by the leaves of another."""
    updated = dict(fields)
    for field, value in changes.items():
        earlier = fields.get(field)
        both = isinstance(earlier, dict) and isinstance(value, dict)
        updated[field] = _updated(fields[field], value) if both else value
    return updated


def _flat(fields: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Leaves of nested dicts under their dotted names."""
    flat: dict[str, Any] = {}
    for field, value in fields.items():
        inner = _flat(value, f"{prefix}{field}.") if isinstance(value, dict) else {}
        flat |= inner or {f"{prefix}{field}": value}
    return flat


def _lookup(config: ml_collections.ConfigDict, field: str) -> Any:
    value: Any = config
    for part in field.split("."):
        # absl gives an object that raises at first use, here, for a config file it cannot read.
        if not hasattr(value, "keys") or part not in value:
            raise UserError(f"the config has no field {field!r}, which training needs")
        value = value[part]
    return value


def _require_choice(field: str, value: Any, choices: tuple[str, ...]) -> None:
    if value not in choices:
        nearest = difflib.get_close_matches(str(value), choices, n=1)
        hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
        raise UserError(f"config.{field} is {value!r}, expected one of {', '.join(choices)}{hint}")
