"""Child processes: how they start, and how each ends with its parent and says why."""

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Collection, Iterator, Mapping
from multiprocessing import resource_tracker

# A fork would inherit the threads of JAX and TensorFlow in whatever state they are.
SPAWN = multiprocessing.get_context("spawn")


def core_count() -> int:
    """Number of cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1  # not Linux


def end_with_parent() -> None:
    """Has this process end with the one that started it, even where that is killed by signal 9."""
    threading.Thread(target=_wait_for_parent, daemon=True).start()


def _wait_for_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        # At once: sys.exit would end no more than this thread.
        os._exit(1)


@contextlib.contextmanager
def sigterm_raised() -> Iterator[None]:
    """Raises SystemExit at SIGTERM, which would otherwise leave no time to save anything."""
    # Python sets handlers on the main thread only, and a handler of the caller's is left alone.
    on_main = threading.current_thread() is threading.main_thread()
    if not on_main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return

    def end(number: int, _: object) -> None:
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


@contextlib.contextmanager
def inherited(
    cores: Collection[int] = (), environment: Mapping[str, str] | None = None
) -> Iterator[None]:
    """Limits processes that are started within to some cores, and hides Ctrl-C from them.

    Both must hold from their start: NumPy, XLA and TensorFlow make as many threads as they find
    cores, and a terminal sends Ctrl-C, which this process handles, to its whole group; as Slurm
    sends SIGUSR2, by which it tells a job that its time ends.

    Args:
      cores: numbers of the cores; none: no limit.
      environment: environment variables that the processes have in addition.
    """
    resource_tracker.ensure_running()  # its own start would let Ctrl-C through again
    before = os.sched_getaffinity(0) if cores else set()
    variables = {name: os.environ.get(name) for name in environment or {}}
    unblocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGUSR2})
    try:
        os.environ.update(environment or {})
        if cores:
            os.sched_setaffinity(0, cores)
        yield
    finally:
        for name, value in variables.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        if cores:
            os.sched_setaffinity(0, before)
        signal.pthread_sigmask(signal.SIG_SETMASK, unblocked)


def exit_in_words(code: int) -> str:
    """Name of an exit code."""
    if code >= 0:
        return f"exit status {code}"
    if code == -signal.SIGKILL:
        return "killed by signal 9, perhaps for want of memory"
    return f"killed by signal {-code}, {signal.strsignal(-code)}"
