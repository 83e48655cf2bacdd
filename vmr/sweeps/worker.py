"""The process that trains a job, on this machine or on a node of a cluster."""

import contextlib
import os
import pathlib
import sys
import traceback
from collections.abc import Iterator

from absl import logging

from vmr.errors import UserError
from vmr.sweeps.jobs import (
    Job,
    forget_notes,
    has_ended,
    jobs_of,
    name_of,
    note_alone,
    note_failure,
    why_alone,
)
from vmr.training import loop
from vmr.training.grid import Run


def train_job(job: Job) -> None:
    """Trains the runs of a job to their ends, or goes on with them from their checkpoints.

    What it prints goes to `job.log`. A failure is noted in the run's folder and not raised: other
    jobs have no part in it. Where runs cannot be trained together although each might be by itself,
    for want of memory or for a damaged folder, that is noted instead.
    """
    logging.set_verbosity(logging.ERROR)
    for run in job.runs:
        run.workdir.mkdir(parents=True, exist_ok=True)
        forget_notes(run)
    with _printed_to(job.log):
        for run in job.runs[1:]:
            with (run.workdir / "log.txt").open("a", encoding="utf-8") as log:
                log.write(f"trained together with {name_of(job.runs[0])}: see {job.log}\n")
        # Some may have ended already, where Slurm has queued the job again.
        waiting, left = list[Run](), [run for run in job.runs if not has_ended(run)]
        # Without progress it stops: its parent says so, and does not try it without end.
        while left and len(left) != len(waiting):
            waiting = left
            # Grouped anew each time: when half of its runs have ended, the rest goes on in a
            # smaller program; and a job may have been cut short between the saves of two runs.
            for part in jobs_of(waiting, at_most=len(job.runs)):
                _train_noted(part)
            left = [run for run in waiting if not has_ended(run) and not why_alone(run)]


def _train_noted(job: Job) -> None:
    """Trains the runs of one program and notes what fails."""
    try:
        for workdir, failure in _train(job).items():
            (run,) = (run for run in job.runs if run.workdir == workdir)
            note_failure(run, failure)
            print(f"{name_of(run)}: failed: {failure}")
    except Exception as error:
        if isinstance(error, UserError):
            reason = str(error)
            print(f"error: {reason}")
        else:
            reason = f"{type(error).__name__}: {error}"
            traceback.print_exc()
        note = note_alone if len(job.runs) > 1 and _smaller_may_cure(error) else note_failure
        for run in job.runs:
            if not has_ended(run):
                note(run, reason)


def _train(job: Job) -> dict[pathlib.Path, str]:
    """Trains runs in one program; returns what stopped those that failed, by their folders."""
    return loop.train_grid(job.grid)


def _smaller_may_cure(error: Exception) -> bool:
    """True for a mistake in one of the runs, as a damaged folder, and for too little memory."""
    names = {kind.__name__ for kind in type(error).__mro__}
    told = ("RESOURCE_EXHAUSTED", "OUT_OF_MEMORY")
    out_of_memory = "ResourceExhaustedError" in names or any(each in str(error) for each in told)
    return isinstance(error, UserError | OSError | MemoryError) or out_of_memory


@contextlib.contextmanager
def _printed_to(path: pathlib.Path) -> Iterator[None]:
    """Sends output and errors to the end of a file, what XLA and TensorFlow print as well."""
    with (
        path.open("a", encoding="utf-8", errors="backslashreplace", buffering=1) as log,
        contextlib.ExitStack() as undo,
    ):
        for stream, descriptor in ((sys.stdout, 1), (sys.stderr, 2)):
            stream.flush()
            # Libraries in C++ know of descriptors alone.
            kept = os.dup(descriptor)
            undo.callback(os.close, kept)
            undo.callback(os.dup2, kept, descriptor)
            os.dup2(log.fileno(), descriptor)
        undo.enter_context(contextlib.redirect_stdout(log))
        undo.enter_context(contextlib.redirect_stderr(log))
        yield
