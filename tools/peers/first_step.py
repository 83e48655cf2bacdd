"""The memory of a contender whose library does not tell: how far its first step raises the peak."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from tools.paired import Prepared, peak_bytes
from tools.peers.problem import Problem

# What a library allocates once, it allocates in a step of so many pairs.
_WARM_ITEMS = 128

Step = Callable[[], tuple[Any, dict[str, Any]]]


def prepared(step_of: Callable[[Problem], Step], problem: Problem) -> Prepared:
    """The step of a problem, its library warm: it gives the loss () and its gradient.

    The facts are the growth of the process's peak in the first step, and the loss.
    """
    step_of(replace(problem, items=min(problem.items, _WARM_ITEMS)))()
    step = step_of(problem)
    before = peak_bytes()
    loss = float(step()[0])
    megabytes = (peak_bytes() - before) / 1e6
    return Prepared(step, {"memory": f"{megabytes:.0f} MB RSS", "loss": f"{loss:.6g}"})
