"""Trains the runs of a sweep in jobs, each a process of this machine or, see `slurm`, of a cluster.

The process that launches them computes nothing: it would keep the accelerator that they need.
"""

import contextlib
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from multiprocessing import resource_tracker
from multiprocessing.connection import wait
from typing import NamedTuple, Protocol

from vmr.sweeps.jobs import (
    Job,
    failure_of,
    forget_notes,
    has_ended,
    jobs_of,
    name_of,
    note_alone,
    note_failure,
    why_alone,
)
from vmr.sweeps.worker import train_job
from vmr.training.grid import Run

# A fork would inherit the threads of JAX and TensorFlow in whatever state they are.
_SPAWN = multiprocessing.get_context("spawn")
_TELL_SECONDS = 10.0  # between two looks at the progress of jobs
_GRACE_SECONDS = 60.0  # for jobs to save at Ctrl-C: a program that is being compiled is waited for
_TAIL = 4096  # bytes of a log, among which its last line is looked for


class Ended(NamedTuple):
    """A job that has ended, and why its process died, if it did."""

    job: Job
    cause: str = ""


class Launcher(Protocol):
    """Launcher of jobs: the place where they are trained.

    Attributes:
      parallel: jobs at a time.
    """

    parallel: int

    def pending(self, runs: Sequence[Run]) -> list[Job]:
        """Finds jobs of an earlier call that are still training some of these runs."""

    def train(self, jobs: Sequence[Job]) -> Generator[Ended, None, None]:
        """Trains jobs, waits for pending ones, and yields each as it ends."""


def train_all(runs: Sequence[Run], launcher: Launcher, together: int) -> None:
    """Trains all runs to their ends, or goes on with them, and prints a line as each job ends.

    What fails is noted in the run's folder. Where a job dies, as for want of memory, or cannot
    train its runs together, each of them has a job of its own.

    Args:
      runs: runs of the sweep.
      launcher: launcher of the jobs.
      together: runs in a job, at most.
    """
    for run in runs:
        forget_notes(run)
    while waiting := [run for run in runs if not has_ended(run)]:
        jobs = launcher.pending(waiting)
        taken = {run.workdir for job in jobs for run in job.runs}
        jobs += jobs_of([run for run in waiting if run.workdir not in taken], together)
        print(f"runs to train: {len(waiting)}, jobs: {len(jobs)}", flush=True)
        # Closed at once where this is interrupted: its processes are stopped then.
        with contextlib.closing(launcher.train(jobs)) as ending:
            since = time.perf_counter()
            for number, (job, cause) in enumerate(ending, start=1):
                _note_end(job, cause)
                seconds = time.perf_counter() - since
                told = f"{number}/{len(jobs)} {job.name}: {_told(job)} ({seconds:.0f} s)"
                print(told, flush=True)


def _note_end(job: Job, cause: str) -> None:
    """Notes what a job has left: a run by itself has failed, several are to be tried so."""
    cause = cause or "it stopped before its end without saying why: see log.txt"
    for run in job.runs:
        if has_ended(run):
            continue
        if len(job.runs) == 1:  # also where its process died before it removed an earlier note
            note_failure(run, cause)
        elif not why_alone(run):
            note_alone(run, cause)


def _told(job: Job) -> str:
    """A job's outcome in words: `finished`, `failed: the loss is nan`, or what it leaves."""
    failures = {name_of(run): failure_of(run) for run in job.runs if failure_of(run)}
    if len(job.runs) == 1:
        return "".join(f"failed: {failure}" for failure in failures.values()) or "finished"
    told = [f"{name} failed: {failure}" for name, failure in failures.items()]
    alone = [run for run in job.runs if why_alone(run)]
    if alone:
        told.append(f"{len(alone)} go on, each by itself: {why_alone(alone[0])}")
    return "; ".join(told) or "finished"


class Progress:
    """Prints the latest line of each job's log, where it has a new one."""

    def __init__(self) -> None:
        self._told: dict[str, str] = {}

    def tell(self, jobs: Iterable[Job]) -> None:
        """Prints the last line of each log that is one of a step and new."""
        for job in jobs:
            line = _last_line(job)
            if line.startswith("step ") and self._told.get(job.name) != line:
                print(f"{job.name}: {line}", flush=True)
            self._told[job.name] = line

    def skip(self, job: Job) -> None:
        """Passes over the line that an earlier try has left in a job's log."""
        self._told[job.name] = _last_line(job)


def _last_line(job: Job) -> str:
    if not job.log.is_file():
        return ""
    with job.log.open("rb") as log:
        log.seek(max(0, job.log.stat().st_size - _TAIL))
        *_, line = [b"", *log.read().splitlines()]
    return line.decode(errors="replace")


class Processes:
    """Jobs as processes of this machine, some at a time.

    Each has its share of the machine's cores, and of the GPUs that CUDA_VISIBLE_DEVICES lists, of
    all where it is not set. None outlives this process, however that ends: at Ctrl-C or SIGTERM
    they save first, at a second one they are killed.
    """

    def __init__(self, parallel: int = 1) -> None:
        self.parallel = parallel

    def pending(self, runs: Sequence[Run]) -> list[Job]:
        """Finds none: processes end with the one that started them."""
        return []

    def train(self, jobs: Sequence[Job]) -> Generator[Ended, None, None]:
        """Trains jobs; what a process says goes to the job's log, its progress to the terminal."""
        waiting, working = list(jobs), list[_Process]()
        slots = min(self.parallel, len(jobs))
        free, progress = list(range(slots)), Progress()
        with _sigterm_raised():
            try:
                while waiting or working:
                    while waiting and free:
                        progress.skip(waiting[0])
                        working.append(_Process(waiting.pop(0), free.pop(0), slots))
                    wait([each.process.sentinel for each in working], _TELL_SECONDS)
                    progress.tell(each.job for each in working)
                    for ended in [each for each in working if not each.process.is_alive()]:
                        working.remove(ended)
                        free.append(ended.slot)
                        yield Ended(ended.job, ended.cause())
            finally:
                _stop([each.process for each in working])


class _Process:
    """A job and the process that trains it, in one of so many slots on the machine."""

    def __init__(self, job: Job, slot: int, slots: int) -> None:
        self.job, self.slot = job, slot
        # A daemon is killed, not waited for, should this process end between here and `_stop`.
        self.process = _SPAWN.Process(target=_work, args=(job, slot, slots), daemon=True)
        with _inherited(_cores(slot, slots)):
            self.process.start()

    def cause(self) -> str:
        """Why the process, which has ended, ended early; empty where it did not."""
        self.process.join()
        code = self.process.exitcode or 0
        return f"its process ended early: {_in_words(code)}, see log.txt" if code else ""


def _work(job: Job, slot: int, slots: int) -> None:
    """Trains a job in a process that has just been started."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    gpus = _gpus()
    if gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(_share(gpus, slot, slots))
    if slots > 1:  # or the first process would take nearly all of an accelerator's memory
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    train_job(job)


def _end_with_parent() -> None:
    """Ends this process with the one that started it, even where that is killed by signal 9."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _stop(processes: Sequence[multiprocessing.process.BaseProcess]) -> None:
    """Has processes save and end; kills those that take too long, or all at another Ctrl-C."""
    if processes:
        told = f"saving {len(processes)} jobs, for at most {_GRACE_SECONDS:.0f} s; once more kills"
        print(told, file=sys.stderr, flush=True)
    deadline = time.monotonic() + _GRACE_SECONDS
    try:
        for process in processes:
            process.terminate()
        for process in processes:
            process.join(max(0.0, deadline - time.monotonic()))
    finally:
        for process in processes:
            process.kill()  # a run may be killed at any moment
        for process in processes:
            process.join()


@contextlib.contextmanager
def _sigterm_raised() -> Iterator[None]:
    """Raises SystemExit at SIGTERM, which would otherwise leave no time for jobs to be saved."""
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


def _share(gpus: list[str], slot: int, slots: int) -> list[str]:
    """GPUs of one of so many slots; several slots share one where there are too few."""
    return gpus[slot::slots] or [gpus[slot % len(gpus)]]


def _gpus() -> list[str]:
    """GPUs that jobs may use, as CUDA_VISIBLE_DEVICES names them.

    JAX is not asked: what asks it for its devices takes them.
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


def _cores(slot: int, slots: int) -> set[int]:
    """Cores of one of so many slots; all share all cores where there are too few."""
    if not hasattr(os, "sched_getaffinity"):  # not Linux
        return set()
    cores = sorted(os.sched_getaffinity(0))
    share = cores[slot * len(cores) // slots : (slot + 1) * len(cores) // slots]
    return set(share if len(cores) >= slots else cores)


@contextlib.contextmanager
def _inherited(cores: set[int]) -> Iterator[None]:
    """Has processes that are started within keep to these cores and know of no Ctrl-C.

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


def _in_words(code: int) -> str:
    """An exit code that is not 0, in words."""
    if code > 0:
        return f"exit status {code}"
    if code == -signal.SIGKILL:
        return "killed by signal 9, perhaps for want of memory"
    return f"killed by signal {-code}, {signal.strsignal(-code)}"
