"""Paired timings: contenders take turns, each in a process of its own.

Thread pools of different libraries compete for the cores when they share a process, and a noisy
machine drifts by a factor of two. So contenders run one after another, round by round, and their
times are compared within each round.
"""

import multiprocessing
import os
import platform
import resource
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from vmr.errors import UserError


@dataclass(frozen=True)
class Prepared:
    """Contender that is ready to run.

    Attributes:
      step: work that is timed.
      facts: quantities beside its time, such as its memory.
      before: work before each step, untimed.
    """

    step: Callable[[], Any]
    facts: Mapping[str, Any] = field(default_factory=dict)
    before: Callable[[], Any] = lambda: None


@dataclass(frozen=True)
class Measured:
    """Clock and processor seconds of a contender in each round, and its facts."""

    seconds: np.ndarray
    processor_seconds: np.ndarray
    facts: Mapping[str, Any]


# Called in the contender's own process, so it must pickle: a module's function, or a partial of it.
Contender = Callable[[], Prepared]


def take_turns(
    contenders: Mapping[str, Contender], seconds: float, rounds: int = 3
) -> dict[str, Measured]:
    """Runs the contenders in turn for about `seconds`, and at least `rounds` rounds.

    Raises UserError where a contender's process ends before its turns do.
    """
    # Spawned, not forked: a contender can set its environment before its imports.
    spawn = multiprocessing.get_context("spawn")
    pipes: dict[str, Connection] = {}
    facts: dict[str, Mapping[str, Any]] = {}
    for name, contender in contenders.items():
        pipes[name], child = spawn.Pipe()
        spawn.Process(target=_serve, args=(contender, child), daemon=True).start()
        child.close()  # with this copy closed, the end of the process ends the pipe
        facts[name] = _answer(name, pipes[name])
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in contenders}
    start = time.perf_counter()
    count = 0
    while count < rounds or time.perf_counter() - start < seconds:
        for name, pipe in pipes.items():
            pipe.send(True)
            times[name].append(_answer(name, pipe))
        count += 1
    for pipe in pipes.values():
        pipe.send(False)
    measured = {}
    for name in contenders:
        wall, processor = np.transpose(times[name])
        measured[name] = Measured(wall, processor, facts[name])
    return measured


def _answer(name: str, pipe: Connection) -> Any:
    try:
        return pipe.recv()
    except (EOFError, ConnectionError):
        raise UserError(
            f"{name}: its process ended early; expected it to run (was there too little memory?)"
        ) from None


def _serve(contender: Contender, parent: Connection) -> None:
    prepared = contender()
    prepared.before()
    prepared.step()  # compiled and warm
    parent.send(dict(prepared.facts))
    while parent.recv():
        prepared.before()
        wall, processor = time.perf_counter(), time.process_time()
        prepared.step()
        parent.send((time.perf_counter() - wall, time.process_time() - processor))


def installed(contenders: Mapping[str, Contender]) -> dict[str, Contender]:
    """Contenders without those named after a library that is not installed; prints which."""
    absent = [name for name in contenders if name in _LIBRARIES and find_spec(name) is None]
    if absent:
        print(f"not installed, left out: {', '.join(absent)}")
    return {name: each for name, each in contenders.items() if name not in absent}


_LIBRARIES = ("faiss", "flax", "onnxruntime", "tensorflow", "torch")


def ratio(measured: Mapping[str, Measured], name: str, peer: str) -> str:
    """Time of `name` over that of `peer` within rounds: median and range."""
    return spread(measured[name].seconds / measured[peer].seconds)


def processor_ratio(measured: Mapping[str, Measured], name: str, peer: str) -> str:
    """Processor time of `name` over that of `peer`, see `ratio`: steadier on a shared machine."""
    return spread(measured[name].processor_seconds / measured[peer].processor_seconds)


def spread(values: np.ndarray) -> str:
    """Median and range as text."""
    return f"{np.median(values):.3f} ({values.min():.3f}-{values.max():.3f})"


def lines(measured: Mapping[str, Measured], unit: str = "", count: float = 0) -> str:
    """Lines of the contenders: median time, rate in `unit`s, both ratios of the first, facts."""
    text, ours = [], next(iter(measured))
    for name, result in measured.items():
        median = float(np.median(result.seconds))
        rate = f"{count / median:12,.0f} {unit}/s" if count else ""
        line = f"  {name:16s} {1e3 * median:10.1f} ms{rate}"
        if name != ours:
            line += f"   {ours}/{name} {ratio(measured, ours, name)}"
            line += f", processors {processor_ratio(measured, ours, name)}"
        facts = "  ".join(f"{key} {value}" for key, value in result.facts.items())
        text.append(f"{line}   {facts}".rstrip())
    return "\n".join(text)


def peak_bytes() -> int:
    """Peak resident memory of this process so far."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # KiB on Linux


def machine() -> str:
    """Processor, cores and Python of this machine, to stand beside the numbers."""
    return f"{_processor()}, {os.cpu_count()} cores, Python {platform.python_version()}"


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as info:
            names = [line.split(":")[1].strip() for line in info if line.startswith("model name")]
        return names[0]
    except (OSError, IndexError):
        return platform.processor() or platform.machine()
