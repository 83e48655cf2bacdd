"""A run that is no longer finite stops, and says at which step and on which videos."""

import pathlib
from collections.abc import Mapping

import jax
import numpy as np
import optax

from vmr.errors import UserError
from vmr.training.state import TrainState
from vmr.training.workdir import write_json

# Scalars that must be finite, where a step has them, and what they are called.
_NAMES = {"loss": "loss", "gradient_norm": "gradient norm", "state_norm": "norm of the state"}


def state_norm(state: TrainState) -> jax.Array:
    """() of all that embeds: of no use where it is not finite, though the step's loss still was."""
    return optax.tree.norm((state.params, state.average, state.batch_stats))


def require_finite(
    workdir: pathlib.Path,
    step: int,
    scalars: Mapping[str, jax.Array],
    batch: Mapping[str, np.ndarray],
) -> None:
    """Raises UserError that names the step and its batch where a norm or the loss is not finite.

    Args:
      workdir: where a report is left.
      step: that was taken.
      scalars: of the step; before the state is validated or saved, with its `state_norm`.
      batch: of the step.
    """
    found = {name: float(scalars[field]) for field, name in _NAMES.items() if field in scalars}
    if np.isfinite(list(found.values())).all():
        return
    ids = [str(video_id) for video_id in batch["video_id"]]
    report = workdir / f"nonfinite_step_{step}.json"
    # The norms of the parts are measured at logged steps alone.
    values = {name: str(float(x)) for name, x in scalars.items() if "_norm/" not in name}
    write_json(report, {"step": step, "scalars": values, "video_ids": ids})
    told = ", ".join(f"{name} {value}" for name, value in found.items())
    shown = ", ".join(" ".join(video_id.split()) for video_id in ids[:5])  # of one line, each
    raise UserError(
        f"step {step}: {told}; the batch's videos: {shown}, … (all {len(ids)} in {report}); "
        "earlier checkpoints are whole"
    )
