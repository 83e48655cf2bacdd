"""When a run is at its end: its last step is taken, or validation brings nothing better."""

import pathlib
from collections.abc import Mapping, Sequence

import ml_collections
import numpy as np

from vmr.errors import UserError
from vmr.training.config import completed
from vmr.training.metrics_log import whole_lines
from vmr.training.workdir import latest_step, read_json


def stops_early(config: ml_collections.ConfigDict, lines: Sequence[Mapping[str, float]]) -> bool:
    """True when the last `patience` validations brought nothing better than the one before.

    Args:
      config: of the run.
      lines: of its `metrics.jsonl`, as far as it is.
    """
    key = f"val/{config.selection}"
    scores = [line[key] for line in lines if key in line]
    if not config.patience or len(scores) <= config.patience:
        return False
    return len(scores) - 1 - int(np.argmax(scores)) >= config.patience


def is_finished(workdir: pathlib.Path) -> bool:
    """Whether the run in a folder has come to its end, all that it found on disk."""
    step = latest_step(workdir)
    if not step:
        return False
    try:
        config = ml_collections.ConfigDict(completed(read_json(workdir / "config.json")))
        lines = [line for line in whole_lines(workdir / "metrics.jsonl") if line["step"] <= step]
        return step >= config.steps or stops_early(config, lines)
    except (UserError, AttributeError, KeyError, TypeError):  # not a run that this code wrote
        return False
