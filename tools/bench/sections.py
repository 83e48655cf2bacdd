"""Sections of a benchmark of one device: their clock, their ceilings, and the page they fill."""

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import flax
import jax
import numpy as np
import optax

from tools.bench import paired
from tools.bench.ceilings import percent
from vmr import tables

Row = Sequence[str]
Rows = Iterator[Row]
Section = Callable[["Bench"], Rows]

_REPEATS = 5  # timed turns, of which the median counts
_TURN_SECONDS = 0.05  # shorter calls are repeated, so that their dispatch weighs little
_COMPILERS = 6  # programs compiled at a time; more would compete for the device's memory
_MEMORY_SHARE = 0.85  # share of the device that a program may take


class Bench:
    """Clock, ceilings and sizes, shared by the sections."""

    def __init__(self, minutes: float, small: bool) -> None:
        """Starts the clock."""
        self.small = small
        self.device = jax.local_devices()[0]
        self.deadline = time.monotonic() + 60 * minutes
        # Operations a second by kind of product, and bytes a second; 0 until `ceilings` has run.
        self.rates: dict[str, float] = dict.fromkeys(("float32", "default", "bfloat16", "bytes"), 0)

    def require_time(self, seconds: float = 0.0) -> None:
        """Raises TimeoutError where less than so many seconds are left."""
        if time.monotonic() + seconds > self.deadline:
            raise TimeoutError("no time left (--minutes)")

    def share(self, amount: float, seconds: float, kind: str) -> str:
        """Percent of a ceiling that so many operations or bytes reach in this time."""
        return percent(amount, seconds, self.rates[kind])

    def require_memory(self, compiled: Any) -> None:
        """Raises MemoryError where a program needs more than the device, or this machine, has."""
        needed, limit = bytes_held(compiled), (self.device.memory_stats() or {}).get("bytes_limit")
        if limit is None:  # a CPU
            limit = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        if needed > _MEMORY_SHARE * limit:
            raise MemoryError(f"needs {in_bytes(needed)} of {in_bytes(limit)}")

    def peak(self) -> int:
        """Peak of the device's memory so far, in bytes; 0 where the backend has no statistics."""
        return (self.device.memory_stats() or {}).get("peak_bytes_in_use", 0)


def seconds_of(program: Callable[..., Any], *arguments: Any) -> float:
    """Median time of a call, over turns of as many calls as fill a turn."""

    def turn(calls: int) -> float:
        start = time.perf_counter()
        for _ in range(calls):
            result = program(*arguments)
        # Calls are dispatched one behind another: the last one is ready when all are.
        jax.block_until_ready(result)
        return (time.perf_counter() - start) / calls

    turn(1)  # warm
    once = turn(1)
    calls = max(1, round(_TURN_SECONDS / max(once, 1e-4)))
    return float(np.median([turn(calls) for _ in range(_REPEATS if once < 1.0 else 2)]))


def all_compiled(programs: Iterable[Any]) -> list[Any]:
    """Compiles lowered programs side by side; of one that fails, its exception is returned."""

    def compiled(program: Any) -> Any:
        try:
            return program.compile()
        except RuntimeError as error:
            return error

    with ThreadPoolExecutor(min(_COMPILERS, os.cpu_count() or 1)) as pool:
        return list(pool.map(compiled, programs))


def done(compiled: Any) -> Any:
    """Returns the program, or raises the exception of its compilation."""
    if isinstance(compiled, Exception):
        raise compiled
    return compiled


def bytes_held(compiled: Any) -> int:
    """Bytes of a program's arguments, results and temporaries; 0 where the backend has no count."""
    memory = compiled.memory_analysis()
    if memory is None:
        return 0
    parts = memory.argument_size_in_bytes, memory.output_size_in_bytes, memory.temp_size_in_bytes
    return int(sum(parts))


def in_bytes(count: float) -> str:
    """Number of bytes in GB or MB."""
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


def one_line(error: BaseException) -> str:
    """Failure in one line, cut to 160 characters."""
    return f"failed: {type(error).__name__}: {' '.join(str(error).split())[:160]}"


def guarded_rows(bench: Bench, name: str, rows: Callable[..., Rows], *arguments: Any) -> Rows:
    """Yields the rows and, where they fail, a row that says so; a TimeoutError ends the section."""
    try:
        yield from rows(bench, *arguments)
    except TimeoutError:
        raise
    except Exception as error:
        yield name, one_line(error)


def report(bench: Bench, sections: Sequence[Section], write: Callable[[str], None]) -> str:
    """Measures the sections in turn; `write` takes the whole Markdown after each. Returns it."""
    device = bench.device
    text = (
        f"{device.device_kind} ({device.platform}); {paired.machine()}; JAX {jax.__version__}, "
        f"Flax {flax.__version__}, Optax {optax.__version__}; one device of {jax.device_count()}"
    )
    print(text, flush=True)
    for section in sections:
        start = time.monotonic()
        title = (section.__doc__ or section.__name__).splitlines()[0].rstrip(".")
        print(f"\n{title}", flush=True)
        rows, note = [], ""
        try:
            for row in section(bench):
                print("  " + "  ".join(row), flush=True)
                rows.append(row)
        except TimeoutError as error:
            note = f"stopped: {error}; "
        except Exception as error:
            note = f"{one_line(error)}; "
        note += f"{time.monotonic() - start:.0f} s"
        print(f"  {note}", flush=True)
        text += f"\n\n### {title}\n\n{tables.markdown(rows) if rows else ''}\n\n{note}"
        write(text)
    return text
