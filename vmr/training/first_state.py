"""The state that a run starts from, or goes on from."""

import functools
from collections.abc import Callable

import ml_collections
import numpy as np

from vmr.data.dataset import Dataset
from vmr.data.decoding import View
from vmr.training.build import build_state
from vmr.training.checkpoints import Checkpoints
from vmr.training.reading import shown_widths, standardization_of
from vmr.training.state import TrainState, placeholder_standardization


def first_states(
    dataset: Dataset, view: View
) -> Callable[[ml_collections.ConfigDict, Checkpoints], TrainState]:
    """Finds the first state of runs on the same data; its statistics are measured once, if at all.

    Args:
      dataset: that they train on.
      view: what a batch shows.

    Returns:
      `(config, checkpoints) -> state`: the latest whole checkpoint's, or a fresh run's first.
    """

    @functools.cache
    def measured() -> dict[str, dict[str, np.ndarray]]:
        print("standardising: one pass over the training split", flush=True)
        return standardization_of(dataset, view)

    def first_state(config: ml_collections.ConfigDict, checkpoints: Checkpoints) -> TrainState:
        if checkpoints.latest_step is None:
            return build_state(config, measured())
        like = build_state(config, placeholder_standardization(shown_widths(dataset, view)))
        return checkpoints.restore_latest(like)

    return first_state
