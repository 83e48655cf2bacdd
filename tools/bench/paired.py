"""Paired timings: contenders take turns, each in a process of its own.

Thread pools of different libraries compete for the cores when they share a process, and a noisy
machine drifts by a factor of two. So contenders run one after another, round by round, and their
times are compared within each round. A turn lasts as many steps as fill it, and rounds end once the
ratios' medians are known.
"""

import contextlib
import multiprocessing
import os
import platform
import resource
import time
from collections.abc import Callable, Mapping, Sequence
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


_TURN_SECONDS = 0.05  # shorter steps are repeated, so that waking the process weighs little
_PRECISION = 0.02  # of a ratio's median, which ends the rounds

# Called in the contender's own process, so it must pickle: a module's function, or a partial of it.
Contender = Callable[[], Prepared]


def take_turns(
    contenders: Mapping[str, Contender], seconds: float, rounds: int = 5
) -> dict[str, Measured]:
    """Runs the contenders in turn, at least `rounds` rounds.

    More rounds follow for about `seconds` in all, unless the ratios are `settled` before.

    Raises UserError where a contender's process ends before its turns do.
    """
    # Spawned, not forked: a contender can set its environment before its imports.
    spawn = multiprocessing.get_context("spawn")
    pipes: dict[str, Connection] = {}
    facts: dict[str, Mapping[str, Any]] = {}
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in contenders}
    try:
        for name, contender in contenders.items():
            pipes[name], child = spawn.Pipe()
            spawn.Process(target=_serve, args=(contender, child), daemon=True).start()
            child.close()  # with this copy closed, the end of the process ends the pipe
            facts[name] = _answer(name, pipes[name])
        start = time.perf_counter()
        count = 0
        while count < rounds or (
            time.perf_counter() - start < seconds and not settled(list(times.values()))
        ):
            for name, pipe in pipes.items():
                pipe.send(True)
                times[name].append(_answer(name, pipe))
            count += 1
    finally:  # where one has died, the others end too, and give their memory back
        for pipe in pipes.values():
            with contextlib.suppress(OSError):
                pipe.send(False)
    measured = {}
    for name in contenders:
        wall, processor = np.transpose(times[name])
        measured[name] = Measured(wall, processor, facts[name])
    return measured


def settled(times: Sequence[Sequence[tuple[float, float]]]) -> bool:
    """Whether the ratios of the first contender's clock times to the others' are known to 2 %.

    The 95 % interval of a median is ±1.57 × interquartile range / √rounds (McGill, Tukey, Larsen:
    Variations of box plots, 1978). A contender without peers is compared with its own first round.
    """
    seconds = np.array(times)[..., 0]  # (contenders, rounds)
    ratios = seconds[0] / (seconds[1:] if len(seconds) > 1 else seconds[:, :1])
    low, median, high = np.quantile(ratios, (0.25, 0.5, 0.75), axis=1)
    return bool(np.all(1.57 * (high - low) <= _PRECISION * median * np.sqrt(seconds.shape[1])))


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
        steps, total = 0, np.zeros(2)  # clock and processor seconds
        while total[0] < _TURN_SECONDS:
            prepared.before()
            start = time.perf_counter(), time.process_time()
            prepared.step()
            total += np.subtract((time.perf_counter(), time.process_time()), start)
            steps += 1
        parent.send(tuple(total / steps))


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


def lines(
    measured: Mapping[str, Measured],
    unit: str = "",
    count: float = 0,
    share: Callable[[float], str] | None = None,
) -> str:
    """Lines of the contenders: median time, rate in `unit`s, both ratios of the first, facts.

    `share` gives the share of a ceiling that a time in seconds reaches.
    """
    text, ours = [], next(iter(measured))
    for name, result in measured.items():
        median = float(np.median(result.seconds))
        rate = f"{count / median:12,.0f} {unit}/s" if count else ""
        line = f"  {name:16s} {1e3 * median:10.1f} ms{rate}"
        line += f"   {share(median)} of matrix rate" if share else ""
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
