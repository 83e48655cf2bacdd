"""Training of a sweep's runs in jobs: processes of this machine or, see `slurm`, of a cluster.

The process that launches them computes nothing: it would hold the accelerator that they need.
"""

import contextlib
import multiprocessing.process
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Generator, Iterable, Sequence
from multiprocessing.connection import wait
from typing import NamedTuple, Protocol

from vmr.errors import UserError
from vmr.processes import SPAWN, end_with_parent, exit_in_words, inherited, sigterm_raised
from vmr.sweeps.jobs import (
    Job,
    cluster_job_of,
    failure_of,
    has_ended,
    jobs_of,
    name_of,
    note_failure,
    note_own_job,
    own_job_reason,
    remove_notes,
)
from vmr.sweeps.worker import train_job
from vmr.training.grid import Run

_PROGRESS_SECONDS = 10.0  # between two looks at the logs of jobs
_GRACE_SECONDS = 60.0  # for jobs to save at Ctrl-C: a program that is being compiled is waited for
_TAIL = 4096  # bytes at the end of a log that are searched for its last line


class Ended(NamedTuple):
    """Job that has ended, and the reason why its process died, if it did."""

    job: Job
    cause: str = ""


class Launcher(Protocol):
    """Launcher of jobs on this machine or a cluster.

    Attributes:
      parallel: number of jobs at a time.
    """

    parallel: int

    def pending(self, runs: Sequence[Run]) -> list[Job]:
        """Finds jobs of an earlier call that are still training some of these runs."""

    def train(self, jobs: Sequence[Job]) -> Generator[Ended, None, None]:
        """Trains jobs, waits for pending ones, and yields each as it ends."""


def train_all(runs: Sequence[Run], launcher: Launcher, runs_per_job: int) -> None:
    """Trains all runs to their ends, or goes on with them, and prints a line as each job ends.

    Failures are noted in the folders of the runs. Where a job dies, as for want of memory, or
    cannot train its runs in one program, each of them has a job of its own.

    Args:
      runs: runs of the sweep.
      launcher: launcher of the jobs.
      runs_per_job: most runs in a job.
    """
    for run in runs:
        remove_notes(run)
    while waiting := [run for run in runs if not has_ended(run)]:
        jobs = launcher.pending(waiting)
        taken = {run.workdir for job in jobs for run in job.runs}
        jobs += jobs_of([run for run in waiting if run.workdir not in taken], runs_per_job)
        print(f"runs to train: {len(waiting)}, jobs: {len(jobs)}", flush=True)
        # Closed at once, so that an interrupt stops its processes now, not at a garbage collection.
        with contextlib.closing(launcher.train(jobs)) as ending:
            since = time.perf_counter()
            for number, (job, cause) in enumerate(ending, start=1):
                note_end(job, cause)
                seconds = time.perf_counter() - since
                line = f"{number}/{len(jobs)} {job.name}: {_outcome(job)} ({seconds:.0f} s)"
                print(line, flush=True)


def note_end(job: Job, cause: str) -> None:
    """Notes for each run that has not ended: a lone run has failed, others get their own jobs."""
    cause = cause or "it stopped before its end without saying why: see log.txt"
    for run in job.runs:
        if has_ended(run):
            continue
        if len(job.runs) == 1:  # also where its process died before it removed an earlier note
            note_failure(run, cause)
        elif not own_job_reason(run):
            note_own_job(run, cause)


def _outcome(job: Job) -> str:
    """Outcome of a job in words: `finished`, `failed: the loss is nan`, or what it leaves."""
    failures = {name_of(run): failure_of(run) for run in job.runs if failure_of(run)}
    if len(job.runs) == 1:
        return "".join(f"failed: {failure}" for failure in failures.values()) or "finished"
    parts = [f"{name} failed: {failure}" for name, failure in failures.items()]
    reasons = [reason for run in job.runs if (reason := own_job_reason(run))]
    if reasons:
        parts.append(f"{len(reasons)} go on, each by itself: {reasons[0]}")
    return "; ".join(parts) or "finished"


class Progress:
    """Progress of jobs, read from the ends of their logs."""

    def __init__(self) -> None:
        self._last: dict[str, str] = {}

    def print_new(self, jobs: Iterable[Job]) -> None:
        """Prints the last line of each job's log if it is about a step and new."""
        for job in jobs:
            line = _last_line(job)
            if line.startswith("step ") and self._last.get(job.name) != line:
                print(f"{job.name}: {line}", flush=True)
            self._last[job.name] = line

    def skip(self, job: Job) -> None:
        """Passes over the line that an earlier try has left in a job's log."""
        self._last[job.name] = _last_line(job)


def _last_line(job: Job) -> str:
    if not job.log.is_file():
        return ""
    with job.log.open("rb") as log:
        log.seek(max(0, job.log.stat().st_size - _TAIL))
        *_, line = [b"", *log.read().splitlines()]
    return line.decode(errors="replace")


class Processes:
    """Jobs as processes of this machine, some at a time.

    Each has its share of the machine's cores and of the GPUs, those in CUDA_VISIBLE_DEVICES if it
    is set. None outlives this process, however it ends: at Ctrl-C or SIGTERM they save first, at a
    second one they are killed.
    """

    def __init__(self, parallel: int | None = None, gpus_per_job: int | None = None) -> None:
        """Counts the GPUs if it is said how many a job has; nothing starts yet.

        Args:
          parallel: number of jobs at a time; by default one, or with `gpus_per_job` as many as
            the GPUs are enough for.
          gpus_per_job: number of GPUs that a job has for itself, by their numbers in turn; None
            shares out what there is, if need be one GPU among several jobs.

        Raises:
          UserError: there are too few GPUs.
        """
        self.gpus_per_job = gpus_per_job
        if gpus_per_job is None:
            self.parallel = parallel or 1
            return
        gpus = len(_gpus())
        self.parallel = parallel or max(1, gpus // gpus_per_job)
        if self.parallel * gpus_per_job > gpus:
            raise UserError(
                f"--gpus_per_job={gpus_per_job}, {self.parallel} at a time: this machine shows "
                f"{gpus} GPUs, expected at least {self.parallel * gpus_per_job}"
            )

    def pending(self, runs: Sequence[Run]) -> list[Job]:
        """Returns no jobs: processes end with the one that started them.

        Raises:
          UserError: a cluster may still train one of the runs.
        """
        noted = [(run.workdir, id) for run in runs if (id := cluster_job_of(run))]
        if noted:
            workdir, id = noted[0]
            raise UserError(
                f"{workdir}: slurm_job.txt says that job {id} of Slurm trains it, and {len(noted)} "
                "runs have such a note: go on with --slurm, or delete these files once squeue "
                "lists their jobs no more"
            )
        return []

    def train(self, jobs: Sequence[Job]) -> Generator[Ended, None, None]:
        """Trains jobs; output of a process goes to the job's log, its progress to the terminal."""
        waiting, working = list(jobs), list[_Process]()
        slots = min(self.parallel, len(jobs))
        free, progress = list(range(slots)), Progress()
        with sigterm_raised():
            try:
                while waiting or working:
                    while waiting and free:
                        progress.skip(waiting[0])
                        places = free.pop(0), slots, self.gpus_per_job
                        working.append(_Process(waiting.pop(0), *places))
                    # Returns as soon as a process ends, else in time for a look at the logs.
                    wait([each.process.sentinel for each in working], _PROGRESS_SECONDS)
                    progress.print_new(process.job for process in working)
                    for ended in [each for each in working if not each.process.is_alive()]:
                        working.remove(ended)
                        free.append(ended.slot)
                        yield Ended(ended.job, ended.cause())
            finally:
                _stop([each.process for each in working])


class _Process:
    """Job and the process that trains it, in one of the machine's slots."""

    def __init__(self, job: Job, slot: int, slots: int, gpus_per_job: int | None) -> None:
        self.job, self.slot = job, slot
        arguments = job, slot, slots, gpus_per_job
        # A daemon is killed, not waited for, should this process end between here and `_stop`.
        self.process = SPAWN.Process(target=_work, args=arguments, daemon=True)
        with inherited(_cores(slot, slots)):
            self.process.start()

    def cause(self) -> str:
        """Reason why the process, which has ended, ended early; empty where it did not."""
        self.process.join()
        code = self.process.exitcode or 0
        return f"its process ended early: {exit_in_words(code)}, see log.txt" if code else ""


def _work(job: Job, slot: int, slots: int, gpus_per_job: int | None = None) -> None:
    """Trains a job in a process that has just been started."""
    end_with_parent()
    if "SLURM_JOB_ID" in os.environ and hasattr(os, "setsid"):
        os.setsid()  # Slurm signals a whole group, where it is the parent that tells its processes
    gpus = _gpus()
    if gpus:
        if "CUDA_VISIBLE_DEVICES" not in os.environ:
            # The numbers of nvidia-smi; CUDA by itself would count from the fastest.
            os.environ["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
        share = _share(gpus, slot, slots, gpus_per_job)
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(share)
    if len(gpus) < slots:  # by default the first process would take most of a shared GPU's memory
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    train_job(job)


def _stop(processes: Sequence[multiprocessing.process.BaseProcess]) -> None:
    """Asks processes to save and end; kills those that take too long, or all at another Ctrl-C."""
    if processes:
        line = f"saving {len(processes)} jobs, for at most {_GRACE_SECONDS:.0f} s; once more kills"
        print(line, file=sys.stderr, flush=True)
    deadline = time.monotonic() + _GRACE_SECONDS
    try:
        for process in processes:
            process.terminate()
        for process in processes:
            process.join(max(0.0, deadline - time.monotonic()))
    finally:
        for process in processes:
            process.kill()  # safe: checkpoints are whole or absent
        for process in processes:
            process.join()


def _share(gpus: list[str], slot: int, slots: int, each: int | None = None) -> list[str]:
    """GPUs of one of so many slots, `each` or all in equal shares; too few are shared."""
    if each is not None:
        return gpus[slot * each : (slot + 1) * each]
    return gpus[slot::slots] or [gpus[slot % len(gpus)]]


def _gpus() -> list[str]:
    """GPUs that jobs may use, as CUDA_VISIBLE_DEVICES names them."""
    # JAX could list them, but a process that asks it takes the devices for itself.
    listed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if listed is None:
        command = shutil.which("nvidia-smi")
        if command is None:
            return []
        query = [command, "--query-gpu=index", "--format=csv,noheader"]
        answer = subprocess.run(query, capture_output=True, text=True)
        listed = ",".join(answer.stdout.split()) if answer.returncode == 0 else ""
    return [gpu.strip() for gpu in listed.split(",") if gpu.strip()]


def _cores(slot: int, slots: int) -> set[int]:
    """Cores of one of so many slots; slots share all cores where there are too few."""
    if not hasattr(os, "sched_getaffinity"):  # not Linux
        return set()
    cores = sorted(os.sched_getaffinity(0))
    share = cores[slot * len(cores) // slots : (slot + 1) * len(cores) // slots]
    return set(share if len(cores) >= slots else cores)
