"""Runs of a sweep as processes of this machine, some at a time."""

import contextlib
import multiprocessing
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from multiprocessing import resource_tracker
from multiprocessing.connection import wait

from vmr.sweeps.alone import ending_of, train_alone
from vmr.sweeps.folder import failure_of, note_failure
from vmr.training.grid import Run
from vmr.training.progress import is_finished

# A fork would inherit the threads of JAX and TensorFlow in whatever state they are.
_SPAWN = multiprocessing.get_context("spawn")


def run_in_processes(runs: Sequence[Run], parallel: int) -> None:
    """Trains each run in a process of its own, and prints a line as each ends.

    A run that fails, or whose process dies, is noted in its folder; the others go on. Each of the
    processes has its share of the machine's cores, and of the GPUs that CUDA_VISIBLE_DEVICES lists,
    of all where it is not set.
    None outlives this process, however that ends.

    Args:
      runs: to be trained.
      parallel: processes at a time.
    """
    waiting, working = list(runs), list[_Worker]()
    free = list(range(min(parallel, len(runs))))
    places = len(free)
    try:
        while waiting or working:
            while waiting and free:
                working.append(_Worker(waiting.pop(0), free.pop(0), places))
            wait([worker.process.sentinel for worker in working])
            for worker in [worker for worker in working if not worker.process.is_alive()]:
                working.remove(worker)
                free.append(worker.place)
                done = len(runs) - len(waiting) - len(working)
                print(f"{done}/{len(runs)} {worker.ending()}", flush=True)
    finally:
        for worker in working:
            worker.process.kill()  # a run may be killed at any moment
        for worker in working:
            worker.process.join()


class _Worker:
    """A run and the process that trains it, in one of so many places on the machine."""

    def __init__(self, run: Run, place: int, places: int) -> None:
        self.run, self.place = run, place
        self._since = time.perf_counter()
        # A daemon is killed, not waited for, should this process end between here and its `kill`.
        self.process = _SPAWN.Process(target=_work, args=(run, place, places), daemon=True)
        with _inherited(_cores(place, places)):
            self.process.start()

    def ending(self) -> str:
        """The line on a run whose process has ended."""
        self.process.join()
        code = self.process.exitcode or 0
        if code and not failure_of(self.run) and not is_finished(self.run.workdir):
            note_failure(self.run, f"its process ended early: {_cause(code)}, see log.txt")
        return f"{ending_of(self.run)} in {time.perf_counter() - self._since:.0f} s"


def _work(run: Run, place: int, places: int) -> None:
    """What the process does."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    gpus = _gpus()
    if gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(_share(gpus, place, places))
    if places > 1:  # or the first process would take nearly all of an accelerator's memory
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    train_alone(run)


def _share(gpus: list[str], place: int, places: int) -> list[str]:
    """Those of one of so many places; several places share one where there are too few."""
    return gpus[place::places] or [gpus[place % len(gpus)]]


def _gpus() -> list[str]:
    """The GPUs that processes may use, as CUDA_VISIBLE_DEVICES names them; JAX is not asked.

    What asks JAX for its devices takes them.
    """
    listed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if listed is None:
        command = shutil.which("nvidia-smi")
        if command is None:
            return []
        asked = [command, "--query-gpu=index", "--format=csv,noheader"]
        done = subprocess.run(asked, capture_output=True, text=True)
        listed = ",".join(done.stdout.split()) if done.returncode == 0 else ""
    return [gpu.strip() for gpu in listed.split(",") if gpu.strip()]


def _cores(place: int, places: int) -> set[int]:
    """Those of one of so many places; all share all cores where there are too few."""
    if not hasattr(os, "sched_getaffinity"):  # not Linux
        return set()
    cores = sorted(os.sched_getaffinity(0))
    share = cores[place * len(cores) // places : (place + 1) * len(cores) // places]
    return set(share if len(cores) >= places else cores)


@contextlib.contextmanager
def _inherited(cores: set[int]) -> Iterator[None]:
    """Processes that are started within keep to these cores and know of no Ctrl-C.

    Both must hold from their start: NumPy, XLA and TensorFlow make as many threads as they find
    cores, and Ctrl-C, which is for this process alone, reaches its whole group.
    """
    resource_tracker.ensure_running()  # its own start would let Ctrl-C through again
    before = os.sched_getaffinity(0) if cores else set()
    unblocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        if cores:
            os.sched_setaffinity(0, cores)
        yield
    finally:
        if cores:
            os.sched_setaffinity(0, before)
        signal.pthread_sigmask(signal.SIG_SETMASK, unblocked)


def _cause(code: int) -> str:
    """An exit code that is not 0, in words."""
    if code > 0:
        return f"exit status {code}"
    if code == -signal.SIGKILL:
        return "killed by signal 9, perhaps for want of memory"
    return f"killed by signal {-code}, {signal.strsignal(-code)}"


def _end_with_parent() -> None:
    """A sweep that was killed leaves no process behind that would go on training."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
