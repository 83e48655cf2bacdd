"""Paired timings: contenders take turns, each in a process of its own.

Thread pools of different libraries fight over the cores when they share a process, and a noisy
machine drifts by a factor of two: so contenders run one after another, round by round, and what is
reported is the ratio within a round.
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
    """A contender ready to run.

    Attributes:
      step: the work that is timed.
      facts: measured beside its time, such as its memory.
      before: run before each step, untimed.
    """

    step: Callable[[], Any]
    facts: Mapping[str, Any] = field(default_factory=dict)
    before: Callable[[], Any] = lambda: None


@dataclass(frozen=True)
class Measured:
    """Seconds of each round, by the clock and of the processors, and a contender's facts."""

    seconds: np.ndarray
    processor_seconds: np.ndarray
    facts: Mapping[str, Any]


# Called in the contender's own process: a function of a module, or a partial of one, which pickles.
Contender = Callable[[], Prepared]


def take_turns(
    contenders: Mapping[str, Contender], seconds: float, rounds: int = 3
) -> dict[str, Measured]:
    """Runs the contenders in turn for about `seconds`, and for `rounds` rounds at least.

    Raises UserError where a contender's process ends before its turns do.
    """
    # Spawned, not forked: what a contender sets in its environment precedes its imports.
    spawn = multiprocessing.get_context("spawn")
    pipes: dict[str, Connection] = {}
    facts: dict[str, Mapping[str, Any]] = {}
    for name, contender in contenders.items():
        pipes[name], child = spawn.Pipe()
        spawn.Process(target=_serve, args=(contender, child), daemon=True).start()
        child.close()  # the process has its own: when it ends, nobody is left to wait for
        facts[name] = _answer(name, pipes[name])
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in contenders}
    start = time.perf_counter()
    done = 0
    while done < rounds or time.perf_counter() - start < seconds:
        for name, pipe in pipes.items():
            pipe.send(True)
            times[name].append(_answer(name, pipe))
        done += 1
    for pipe in pipes.values():
        pipe.send(False)
    measured = {}
    for name in contenders:
        wall, processor = np.array(times[name]).T
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
    """The contenders, less those named after a library that is not installed: one line tells."""
    absent = [name for name in contenders if name in _LIBRARIES and find_spec(name) is None]
    if absent:
        print(f"not installed, left out: {', '.join(absent)}")
    return {name: each for name, each in contenders.items() if name not in absent}


_LIBRARIES = ("faiss", "flax", "tensorflow", "torch")


def ratio(measured: Mapping[str, Measured], name: str, peer: str) -> str:
    """Time of `name` over that of `peer`, paired within rounds: median and range."""
    return spread(measured[name].seconds / measured[peer].seconds)


def processor_ratio(measured: Mapping[str, Measured], name: str, peer: str) -> str:
    """As `ratio`, of the processors' time: steadier on a machine that others use."""
    return spread(measured[name].processor_seconds / measured[peer].processor_seconds)


def spread(values: np.ndarray) -> str:
    """Median and range."""
    return f"{np.median(values):.3f} ({values.min():.3f}-{values.max():.3f})"


def lines(measured: Mapping[str, Measured], unit: str = "", count: float = 0) -> str:
    """A line for each contender: median time, rate in `unit`s, ratio of the first to it, facts.

    Both ratios stand there, of the clock and of the processors' time.
    """
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
    """The most memory that this process has had resident so far."""
    kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # on Linux
    return 1024 * kib


def machine() -> str:
    """Processor, cores and Python that the numbers were measured on."""
    return f"{_processor()}, {os.cpu_count()} cores, Python {platform.python_version()}"


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as info:
            names = [line.split(":")[1].strip() for line in info if line.startswith("model name")]
        return names[0]
    except (OSError, IndexError):
        return platform.processor() or platform.machine()
