"""Processes of one run, on one host or several: they connect, agree, and end together.

One process is the usual case, and then every function here is the identity. Of several, each runs
the same code on its own rows of the same batches; the first alone prints, reads checkpoints and
writes files.
"""

import atexit
import collections
import contextlib
import functools
import itertools
import os
import pickle
import re
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ParamSpec, Protocol, TypeVar

import numpy as np

from vmr.errors import UserError, reason_of

P = ParamSpec("P")
T = TypeVar("T")

FLAG_HELP = (
    "This command is one of several processes that share every batch: `auto` finds the others by "
    "what Slurm, Open MPI, Kubernetes or a TPU pod set, HOST:PORT,COUNT,NUMBER names the first "
    "process's address, how many there are, and which this is, from 0. All devices take part."
)

# What is sent is filled up to a power of two, so that few sizes are compiled, and cut into chunks.
_LEAST_BYTES, _CHUNK_BYTES = 2**10, 2**28
_FAILED, _GONE = "vmr/failed", "vmr/gone"
_POLL_SECONDS = 0.3
_SECONDS_TO_HEAR = 5.0
_PATIENT_SECONDS = 10.0  # before it is said that the others are waited for
# A process that is done waits for the first, which may rank millions of items by itself.
_MOST_SECONDS_TO_END = 7 * 24 * 3600

_LAST_PORT = 65535
# Beginnings of arguments that may differ between processes: a path may be another on each host.
_OWN = (
    *("--distributed", "--workdir", "--data_dir", "--output", "--verbosity", "--profile"),
    *("--config.dataset.data_dir", "--config.dataset.cache", "--config.loss.teacher"),
    *("--config.init_from", "/"),
)

_exchanges = itertools.count()
_is_first = True


def is_first() -> bool:
    """True for the process that prints and writes: the only one, or number 0 of several."""
    return _is_first


class _Flag(Protocol):
    """Flag of absl, whose value is known once flags are parsed."""

    @property
    def value(self) -> str | None: ...


def one_of_several(flag: _Flag) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Decorates the function of a command, which then runs `connected` by the flag's value."""

    def decorated(main: Callable[P, T]) -> Callable[P, T]:
        @functools.wraps(main)
        def connected_main(*arguments: P.args, **options: P.kwargs) -> T:
            with connected(flag.value):
                return main(*arguments, **options)

        return connected_main

    return decorated


@contextlib.contextmanager
def connected(typed: str | None) -> Iterator[None]:
    """Context in which this process is one of several; an error in one of them ends all.

    Args:
      typed: `auto` or HOST:PORT,COUNT,NUMBER, see `FLAG_HELP`; None for a single process.

    Raises:
      UserError: the processes cannot be found, do not answer, differ in their number of devices,
        or one of them is gone.
    """
    if typed is None:
        yield
        return
    _connect(typed)
    with _first_alone_prints():
        try:
            _meet()
            yield
            _end_together(_MOST_SECONDS_TO_END)
        except (KeyboardInterrupt, SystemExit):
            # Of a stop that all agreed on, or of this process alone.
            with contextlib.suppress(UserError):
                _end_together(_SECONDS_TO_HEAR)
            raise
        except BaseException as error:
            if _is_of_another(error):
                error = UserError(f"another process of the run is gone: {reason_of(error)}")
                _fail(str(error))
                raise error from None
            _fail(reason_of(error))
            raise


@contextlib.contextmanager
def _first_alone_prints() -> Iterator[None]:
    """Silences standard output but for what Python prints in the first process."""
    # Gloo tells of every connection on descriptor 1, past Python.
    with (
        open(os.devnull, "w", encoding="utf-8") as nowhere,
        os.fdopen(os.dup(1), "w", encoding="utf-8", errors="replace") as shown,
        contextlib.redirect_stdout(shown if _is_first else nowhere),
    ):
        os.dup2(nowhere.fileno(), 1)
        try:
            yield
        finally:
            shown.flush()
            os.dup2(shown.fileno(), 1)


def _connect(typed: str) -> None:
    """Connects this process with the others and watches for their errors."""
    global _is_first
    import jax

    addresses = _addresses(typed)
    # The only implementation of collectives between processes that a CPU has everywhere.
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    waiting = threading.Timer(_PATIENT_SECONDS, _tell_waiting, [typed])
    waiting.start()
    # While JAX waits Python would not hear of Ctrl-C.
    on_main = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGINT, signal.SIG_DFL) if on_main else None
    try:
        jax.distributed.initialize(**addresses, shutdown_timeout_seconds=_MOST_SECONDS_TO_END)
    except (ValueError, RuntimeError) as error:
        reason = reason_of(error)
        if not addresses and isinstance(error, ValueError):
            reason = "no Slurm, Open MPI, Kubernetes or TPU pod has started this process: expected "
            reason += "HOST:PORT,COUNT,NUMBER, as node1:9876,4,0"
        raise UserError(f"--distributed={typed}: {reason}") from None
    finally:
        waiting.cancel()
        if on_main:
            signal.signal(signal.SIGINT, before)
    if on_main:
        # JAX takes SIGTERM for a preemption that it is asked about; here it ends the process, but
        # for training, which saves first.
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _is_first = _number() == 0
    threading.Thread(target=_watch, daemon=True).start()


def _tell_waiting(typed: str) -> None:
    line = f"waiting for the other processes (--distributed={typed}), at most five minutes"
    print(line, file=sys.stderr, flush=True)


def _addresses(typed: str) -> dict[str, Any]:
    """Arguments of `jax.distributed.initialize`; none for `auto`."""
    if typed == "auto":
        return {}
    match = re.fullmatch(r"([^,]+:(\d+)),(\d+),(\d+)", typed)
    if match is None or int(match[2]) > _LAST_PORT or int(match[4]) >= int(match[3]):
        raise UserError(
            f"--distributed={typed}: expected auto, or HOST:PORT,COUNT,NUMBER with a number from 0 "
            "to the count less one, as node1:9876,4,0"
        )
    try:
        socket.getaddrinfo(match[1].rpartition(":")[0].strip("[]"), None)
    except OSError as error:
        raise UserError(f"--distributed={typed}: no such host: {reason_of(error)}") from None
    return {
        "coordinator_address": match[1],
        "num_processes": int(match[3]),
        "process_id": int(match[4]),
        "cluster_detection_method": "deactivate",
    }


def _meet() -> None:
    """Has all processes connect their devices, which must be as many in each.

    Later they may wait for each other for long: one reads what others do not. But Gloo gives up a
    first meeting after half a minute.
    """
    import jax

    try:
        devices = jax.devices()
    except RuntimeError as error:  # of Gloo, which asks for the address of this host's name
        raise UserError(
            f"devices cannot be connected ({reason_of(error)}): expected a host whose name, "
            f"{socket.gethostname()!r}, has an address, as in /etc/hosts"
        ) from None
    counts = collections.Counter(device.process_index for device in devices)
    if len(set(counts.values())) > 1:
        there = ", ".join(f"{of} in process {number}" for number, of in counts.items())
        raise UserError(f"the processes have different numbers of devices: {there}")
    # The devices of the same place in each process meet first, then all of them.
    require_same({argument: True for argument in sys.argv[1:] if not argument.startswith(_OWN)})
    total = jax.pmap(lambda one: jax.lax.psum(one, "devices"), "devices")
    jax.block_until_ready(total(np.ones(jax.local_device_count())))


def count() -> int:
    """Number of processes of the run; JAX is not imported for a single one."""
    if "jax" not in sys.modules:
        return 1
    import jax

    # Asked of the connection, not of the devices, which would start them.
    return jax.process_count() if jax.distributed.is_initialized() else 1


def require_same(facts: Mapping[str, Any]) -> None:
    """Raises UserError, in every process, that names a fact in which one differs from the first.

    Args:
      facts: values, of types that pickle takes, by their names.
    """
    first, *others = from_all(dict(facts))
    for number, other in enumerate(others, start=1):
        for name in sorted(first.keys() | other.keys()):
            if first.get(name) != other.get(name):
                raise UserError(
                    f"process {number} differs from process 0 in {name}: {_told(other.get(name))} "
                    f"there, {_told(first.get(name))} here, expected the same in all"
                )


def _told(value: Any) -> str:
    names = {None: "absent", True: "given"}
    return names[value] if value is None or value is True else repr(value)


def from_first(make: Callable[[], T]) -> T:
    """What `make` returns in the first process, in every process; it is called in the first alone.

    Args:
      make: function without arguments, of a value that pickle takes.
    """
    if count() == 1:
        return make()
    return _shared(make() if _is_first else None, by_all=False)[0]


def from_all(value: T) -> list[T]:
    """Values of all processes, in the order of their numbers; the value by itself of a single one.

    Args:
      value: this process's, of a type that pickle takes.
    """
    return [value] if count() == 1 else _shared(value, by_all=True)


def gathered(rows: np.ndarray) -> np.ndarray:
    """Rows of all processes, in the order of their numbers: (n, ...) -> (processes · n, ...)."""
    if count() == 1:
        return rows
    from jax.experimental import multihost_utils

    return np.asarray(multihost_utils.process_allgather(rows, tiled=True))


def _shared(value: Any, by_all: bool) -> list[Any]:
    """Sends pickled values through the devices: of all processes, or of the first alone."""
    from jax.experimental import multihost_utils

    # A collective of CPUs gives up after half an hour, in which not every `make` has returned.
    _store().wait_at_barrier(f"vmr/shared/{next(_exchanges)}", _MOST_SECONDS_TO_END * 1000)
    content = pickle.dumps(value)
    # In two numbers, since JAX has 32 bits for integers.
    digits = np.array(divmod(len(content), _CHUNK_BYTES), np.int32)
    sizes = [int(high) * _CHUNK_BYTES + int(low) for high, low in _all_rows(digits)]
    sizes = sizes if by_all else sizes[:1]
    size = max(_LEAST_BYTES, 1 << (max(sizes) - 1).bit_length())
    sent: list[bytearray] = [bytearray() for _ in sizes]
    for start in range(0, max(sizes), _CHUNK_BYTES):
        chunk = np.zeros(min(size, _CHUNK_BYTES), np.uint8)
        part = np.frombuffer(content[start : start + _CHUNK_BYTES], np.uint8)
        if by_all or _is_first:
            chunk[: len(part)] = part
        # A sum with the zeros of the others, which leaves bytes as they are.
        rows = _all_rows(chunk) if by_all else [multihost_utils.broadcast_one_to_all(chunk)]
        for received, row in zip(sent, rows, strict=True):
            received += row.tobytes()
    return [pickle.loads(received[:size]) for received, size in zip(sent, sizes, strict=True)]


def _all_rows(row: np.ndarray) -> np.ndarray:
    """Arrays of all processes, stacked: (...) -> (processes, ...)."""
    from jax.experimental import multihost_utils

    return np.asarray(multihost_utils.process_allgather(row))


def _store() -> Any:
    """Keys and values that all processes see, served by the first one."""
    return _connection().client


def _number() -> int:
    """Number of this process, which is known before its devices are."""
    return int(_connection().process_id)


def _connection() -> Any:
    # JAX has no public name for it, and its collectives would wait for a process that failed.
    from jax._src import distributed

    return distributed.global_state


def _fail(reason: str) -> None:
    """Tells the other processes of an error, and lets this one end without waiting for them."""

    # Registered last, so called before JAX's own, which waits for processes that are gone.
    atexit.register(_exit_now)
    with contextlib.suppress(Exception):  # the service may be what is gone
        _store().key_value_set(f"{_FAILED}/{_number()}", reason)


def _exit_now() -> None:
    """Ends this process; the first one, which serves the keys, after the others."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    with contextlib.suppress(Exception):
        if not _is_first:
            time.sleep(3 * _POLL_SECONDS)  # the others look for its reason before they miss it
            _store().key_value_set(f"{_GONE}/{_number()}", "")
            os._exit(1)
        until = time.monotonic() + _SECONDS_TO_HEAR
        while len(_store().key_value_dir_get(_GONE)) < _connection().num_processes - 1:
            if time.monotonic() > until:
                break
            time.sleep(_POLL_SECONDS)
        time.sleep(_POLL_SECONDS)  # JAX would abort one that is still there, with its stack
    os._exit(1)


def _watch() -> None:
    """Ends this process once another has told of an error; it may be waiting for that one."""
    own = _number()
    while not _ended.wait(_POLL_SECONDS):
        with contextlib.suppress(Exception):
            if not _store().key_value_dir_get(_FAILED):
                continue
            time.sleep(_POLL_SECONDS)  # a mistake that all make is told by each
            failures = dict(_store().key_value_dir_get(_FAILED))
            if f"{_FAILED}/{own}" in failures:
                return  # it ends by itself
            if _is_first:
                key, reason = next(iter(failures.items()))
                print(f"error: process {key.rsplit('/', 1)[1]}: {reason}", file=sys.stderr)
            _exit_now()


_ended = threading.Event()


def _end_together(seconds: float) -> None:
    """Disconnects once every process is done.

    Raises:
      UserError: another process is gone, or still at work after so many seconds.
    """
    import jax

    try:
        _store().wait_at_barrier("vmr/end", int(seconds * 1000))
    except jax.errors.JaxRuntimeError as error:
        _fail("ended before the others")
        raise UserError(f"another process of the run did not end: {reason_of(error)}") from None
    _ended.set()
    jax.distributed.shutdown()


def _is_of_another(error: BaseException) -> bool:
    """True for the error of a collective or a barrier whose other side is gone."""
    told = str(error)
    named = any(name in told for name in ("Gloo", "NCCL", "coordination service", "Barrier"))
    return named and not isinstance(error, UserError)
