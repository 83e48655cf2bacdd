"""The small JSON files of a checkpoint, read before Orbax reads them: its metrics, its checksum."""

import json
import pathlib
from typing import Any

from vmr.errors import UserError
from vmr.training.checksum import checksum_of_metrics
from vmr.training.reason import reason_of

CHECKSUM = "checksum"  # the name under which a checksum is kept


def saved_checksum(checkpoint: pathlib.Path) -> int | None:
    """Of the arrays in a checkpoint's folder; None where it was saved without.

    Raises:
      UserError: the file that holds it is damaged.
    """
    path = checkpoint / "_CHECKPOINT_METADATA"
    if not path.is_file():
        return None
    custom = _object(path).get("custom_metadata") or {}
    found = custom.get(CHECKSUM) if isinstance(custom, dict) else custom
    if found is not None and not isinstance(found, int):
        raise UserError(f"{path} is damaged: its checksum is not a number")
    return found


def require_sound_metrics(checkpoint: pathlib.Path, selection: str) -> None:
    """Raises UserError where a checkpoint has metrics and they are not what was saved.

    Args:
      checkpoint: its folder.
      selection: the metric that chooses the best checkpoint.
    """
    path = checkpoint / "metrics" / "metrics"
    if not path.parent.is_dir():
        return  # it was not validated
    metrics = _object(path)
    expected = metrics.pop(CHECKSUM, None)
    for name in (selection, "step"):
        if not isinstance(metrics.get(name), int | float):
            raise UserError(f"{path} is damaged: it has no number {name!r}")
    numbers = all(isinstance(value, int | float) for value in metrics.values())
    if not numbers or expected not in (None, checksum_of_metrics(metrics)):
        raise UserError(
            f"{path} is damaged: its numbers have not the checksum they were saved with"
        )


def _object(path: pathlib.Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} is damaged: {reason_of(error)}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} is damaged: the JSON of a {type(content).__name__}, not an object")
    return content
