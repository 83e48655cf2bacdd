"""Slurm through submitit: parameters as they are typed, arrays of jobs, refusals in one line."""

import contextlib
import pathlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from vmr.errors import UserError


def parameters_of(typed: Sequence[str]) -> dict[str, Any]:
    """Parses `NAME=VALUE` parameters of submitit; numbers, true, false and none become such.

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


def executor(folder: pathlib.Path, parameters: Mapping[str, Any]) -> Any:
    """Makes submitit's executor of arrays of jobs; nothing is submitted yet.

    Args:
      folder: folder of the jobs' scripts and logs; all nodes must see it.
      parameters: parameters of submitit: `timeout_min`, `slurm_partition`, `gpus_per_node`, …

    Raises:
      UserError: submitit is not installed, there is no Slurm, or a parameter is refused.
    """
    try:
        import submitit
    except ImportError:
        raise UserError("Slurm needs the extra: pip install -e '.[slurm]'") from None
    with refused_in_one_line():
        made = submitit.AutoExecutor(folder=folder, cluster="slurm")
        made.update_parameters(**parameters)
    return made


class Resumable:
    """Task of a node that goes on where it was stopped, when it has been queued again.

    Its function must find on disk what it has done before.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function

    def __call__(self, *arguments: Any) -> None:
        """Calls the function."""
        self.function(*arguments)

    def checkpoint(self, *arguments: Any) -> Any:
        """Submission to queue again, which submitit asks for at a preemption or time limit."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, *arguments)


@contextlib.contextmanager
def refused_in_one_line() -> Iterator[None]:
    """Turns submitit's exceptions for a missing cluster or a wrong parameter into a UserError."""
    try:
        yield
    except (RuntimeError, NameError, ValueError, TypeError, AssertionError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"Slurm: {reason}") from None
