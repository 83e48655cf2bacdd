"""Evaluations of the validation split during training, by the names of `config.evals`."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from vmr.evaluation import recalls
from vmr.evaluation.diagnosis.geometry import geometry
from vmr.evaluation.diagnosis.hubness import hubness

# Video (N, D), music (M, D), row of each video's track (N,) -> scalars by name.
Evaluation = Callable[[np.ndarray, np.ndarray, np.ndarray], dict[str, float]]


def _scalars(measures: Mapping[str, Any], name: str) -> Iterator[tuple[str, float]]:
    """Flattens nested measures into numbers under their paths."""
    for key, value in measures.items():
        if isinstance(value, Mapping):
            yield from _scalars(value, f"{name}/{key}")
        elif isinstance(value, int | float):
            yield f"{name}/{key}", float(value)


EVALS: dict[str, Evaluation] = {
    "recalls": recalls,
    "geometry": lambda *arrays: dict(_scalars(geometry(*arrays), "geometry")),
    "hubness": lambda video, music, _: dict(_scalars(hubness(video, music), "hubness")),
}
