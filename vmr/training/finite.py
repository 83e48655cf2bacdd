"""A run whose loss is no longer finite stops, and says at which step and on which videos."""

import pathlib
from collections.abc import Mapping

import jax
import numpy as np

from vmr.errors import UserError
from vmr.training.workdir import write_json


def require_finite(
    workdir: pathlib.Path,
    step: int,
    scalars: Mapping[str, jax.Array],
    batch: Mapping[str, np.ndarray],
) -> None:
    """Raises UserError that names the step and its batch where loss or gradient is not finite."""
    loss, norm = float(scalars["loss"]), float(scalars["gradient_norm"])
    if np.isfinite(loss) and np.isfinite(norm):
        return
    ids = [str(video_id) for video_id in batch["video_id"]]
    report = workdir / f"nonfinite_step_{step}.json"
    # The norms of the parts are measured at logged steps alone.
    values = {name: str(float(x)) for name, x in scalars.items() if "_norm/" not in name}
    write_json(report, {"step": step, "scalars": values, "video_ids": ids})
    raise UserError(
        f"step {step}: loss {loss}, gradient norm {norm}; the batch's videos: "
        f"{', '.join(ids[:5])}, … (all {len(ids)} in {report}); earlier checkpoints are whole"
    )
