"""What a person is told when training ends: why, and what was best."""

from collections.abc import Mapping, Sequence

import ml_collections

from vmr.training.signals import StopRequest
from vmr.training.stopping import stops_early


def ending(
    config: ml_collections.ConfigDict,
    step: int,
    lines: Sequence[Mapping[str, float]],
    stop: StopRequest,
) -> str:
    """Two lines on a run: why it ended, and the best step with its score.

    Args:
      config: of the run.
      step: the last that was taken.
      lines: of its `metrics.jsonl`.
      stop: whether it was asked to.
    """
    if step >= config.steps:
        why = "all steps are taken"
    elif stop.signal is not None and not stops_early(config, lines):
        why = f"stopped by {stop.signal.name}; it is saved: the same command goes on from here"
    else:
        why = f"{config.patience} validations brought nothing better (config.patience)"
    return f"ended at step {step:,} of {config.steps:,}: {why}\n{_best(config, lines)}"


def _best(config: ml_collections.ConfigDict, lines: Sequence[Mapping[str, float]]) -> str:
    key = f"val/{config.selection}"
    validated = [line for line in lines if key in line]
    if not validated:
        return "not validated yet, so there is no best step"
    best = max(validated, key=lambda line: line[key])  # of equals the first, as is kept
    return f"best by validation: step {best['step']:,}, {config.selection} {best[key]:.1f}"
