"""Evaluations of the validation split during training, by the names of `config.evals`."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from vmr.evaluation import recalls
from vmr.evaluation.diagnosis.geometry import geometry
from vmr.evaluation.diagnosis.hubness import hubness

# (N, D) of video, (M, D) of music, (N,) rows of the videos' tracks -> scalars by name.
Evaluation = Callable[[np.ndarray, np.ndarray, np.ndarray], dict[str, float]]


def _geometry(video: np.ndarray, music: np.ndarray, gt_music_index: np.ndarray) -> dict[str, float]:
    return dict(_scalars(geometry(video, music, gt_music_index), "geometry"))


def _hubness(video: np.ndarray, music: np.ndarray, gt_music_index: np.ndarray) -> dict[str, float]:
    return dict(_scalars(hubness(video, music), "hubness"))


def _scalars(measures: Mapping[str, Any], name: str) -> Iterator[tuple[str, float]]:
    """The numbers in nested measures, under their paths."""
    for key, value in measures.items():
        if isinstance(value, Mapping):
            yield from _scalars(value, f"{name}/{key}")
        elif isinstance(value, int | float):
            yield f"{name}/{key}", float(value)


EVALS: dict[str, Evaluation] = {"recalls": recalls, "geometry": _geometry, "hubness": _hubness}
