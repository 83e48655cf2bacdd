"""Where the runs of a sweep that share no program are trained."""

import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from vmr.errors import UserError
from vmr.sweeps.processes import run_in_processes
from vmr.sweeps.slurm import run_on_slurm
from vmr.training.grid import Run


class Places(NamedTuple):
    """How many runs at a time, and where.

    Attributes:
      together: runs in one program, at most.
      parallel: processes or jobs at a time, for runs that share no program.
      slurm: parameters of submitit, for jobs instead of processes; None for processes.
    """

    together: int = 16
    parallel: int = 1
    slurm: Mapping[str, Any] | None = None

    def train_alone(self, runs: Sequence[Run], folder: pathlib.Path) -> None:
        """Trains runs that share no program; what fails is noted in its folder."""
        if self.slurm is None:
            run_in_processes(runs, self.parallel)
        else:
            run_on_slurm(runs, folder / "slurm", self.slurm, self.parallel)


def parameters_of(typed: Sequence[str]) -> dict[str, Any]:
    """`NAME=VALUE` as typed -> parameters of submitit: numbers, true, false and none as such.

    Raises:
      UserError: a part is not of this form.
    """
    parameters: dict[str, Any] = {}
    for text in typed:
        name, equals, value = text.partition("=")
        if not name or not equals:
            raise UserError(f"--slurm: {text!r} is not NAME=VALUE, as timeout_min=60")
        parameters[name] = _plain(value)
    return parameters


def _plain(value: str) -> Any:
    words = {"true": True, "false": False, "none": None}
    if value.lower() in words:
        return words[value.lower()]
    if re.fullmatch(r"-?\d+", value):
        return int(value)
    return float(value) if re.fullmatch(r"-?\d+\.\d+", value) else value
