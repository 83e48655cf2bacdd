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
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from vmr.errors import UserError


@dataclass(frozen=True)
class Prepared:
    """A contender ready to run.

    Attributes:
      step: what is timed.
      facts: measured beside its time.
      before: run before each step, untimed.
    """

    step: Callable[[], Any]
    facts: Mapping[str, Any] = field(default_factory=dict)
    before: Callable[[], Any] = lambda: None


@dataclass(frozen=True)
class Contender:
    """Who takes part: `prepare(*arguments)` runs in the contender's own process."""

    prepare: Callable[..., Prepared]
    arguments: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Measured:
    """What a contender took, in seconds a round, its facts, and its processors' seconds a round."""

    seconds: np.ndarray
    facts: Mapping[str, Any]
    processor_seconds: np.ndarray = field(default_factory=lambda: np.zeros(0))


def take_turns(
    contenders: Mapping[str, Contender], seconds: float, rounds: int = 3
) -> dict[str, Measured]:
    """Runs the contenders in turn for about so many seconds, `rounds` rounds at least.

    Raises UserError where a contender's process ends before its turns do.
    """
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
    return {
        name: Measured(wall, facts[name], processor)
        for name, (wall, processor) in ((name, np.array(times[name]).T) for name in contenders)
    }


def _answer(name: str, pipe: Connection) -> Any:
    try:
        return pipe.recv()
    except (EOFError, ConnectionError):
        raise UserError(
            f"{name}: its process ended early; expected it to run (was there too little memory?)"
        ) from None


def _serve(contender: Contender, parent: Connection) -> None:
    prepared = contender.prepare(*contender.arguments)
    prepared.before()
    prepared.step()  # compiled and warm
    parent.send(dict(prepared.facts))
    while parent.recv():
        prepared.before()
        wall, processor = time.perf_counter(), time.process_time()
        prepared.step()
        parent.send((time.perf_counter() - wall, time.process_time() - processor))


def ratio(measured: Mapping[str, Measured], name: str, peer: str) -> str:
    """`name` over `peer`, paired: median and range."""
    return spread(measured[name].seconds / measured[peer].seconds)


def processor_ratio(measured: Mapping[str, Measured], name: str, peer: str) -> str:
    """As `ratio`, of the processors' time: steadier on a machine that others use."""
    return spread(measured[name].processor_seconds / measured[peer].processor_seconds)


def spread(values: np.ndarray) -> str:
    """Median and range."""
    return f"{np.median(values):.3f} ({values.min():.3f}-{values.max():.3f})"


def lines(measured: Mapping[str, Measured], ours: str, unit: str = "", count: float = 0) -> str:
    """A line for each contender: median time, speed in `unit`s, ratio of `ours` to it, facts."""
    text = []
    for name, result in measured.items():
        median = float(np.median(result.seconds))
        speed = f"{count / median:12,.0f} {unit}/s" if count else ""
        facts = "  ".join(f"{key} {value}" for key, value in result.facts.items())
        text.append(
            f"  {name:16s} {1e3 * median:10.1f} ms{speed}   "
            f"{ours}/{name} {ratio(measured, ours, name)}   {facts}".rstrip()
        )
    return "\n".join(text)


def peak_bytes() -> int:
    """The most memory that this process has had resident so far."""
    kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # on Linux
    return 1024 * kib


def machine() -> str:
    """What the numbers were measured on."""
    return f"{_processor()}, {os.cpu_count()} cores, Python {platform.python_version()}"


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as info:
            names = [line.split(":")[1].strip() for line in info if line.startswith("model name")]
        return names[0]
    except (OSError, IndexError):
        return platform.processor() or platform.machine()
