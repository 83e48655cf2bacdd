"""Process that trains a job, on this machine or on a node of a cluster."""

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
    has_ended,
    jobs_of,
    name_of,
    note_failure,
    note_own_job,
    own_job_reason,
    remove_notes,
)
from vmr.training import loop
from vmr.training.grid import Run


def train_job(job: Job) -> None:
    """Trains the runs of a job to their ends, or goes on with them from their checkpoints.

    Output goes to `job.log`. A failure is noted in the run's folder, not raised. Where runs cannot
    share a program although each might be trained by itself, for want of memory or because one
    folder is damaged, all get a note that gives them jobs of their own.
    """
    logging.set_verbosity(logging.ERROR)
    for run in job.runs:
        run.workdir.mkdir(parents=True, exist_ok=True)
        remove_notes(run)
    with _printed_to(job.log):
        for run in job.runs[1:]:
            with (run.workdir / "log.txt").open("a", encoding="utf-8") as log:
                log.write(f"trained together with {name_of(job.runs[0])}: see {job.log}\n")
        # Some may have ended already, where Slurm has queued the job again.
        waiting, left = list[Run](), [run for run in job.runs if not has_ended(run)]
        # A round in which no run ended is the last, or a job that trains nothing would never end.
        while left and len(left) != len(waiting):
            waiting = left
            # Grouped anew each time: when half of its runs have ended, the rest goes on in a
            # smaller program; and a job may have been cut short between the saves of two runs.
            for part in jobs_of(waiting, at_most=len(job.runs)):
                _train_noted(part)
            left = [run for run in waiting if not has_ended(run) and not own_job_reason(run)]


def _train_noted(job: Job) -> None:
    """Trains the runs of one program and notes their failures."""
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
        note = note_own_job if len(job.runs) > 1 and _smaller_may_cure(error) else note_failure
        for run in job.runs:
            if not has_ended(run):
                note(run, reason)


def _train(job: Job) -> dict[pathlib.Path, str]:
    """Trains runs in one program; returns folder -> reason of those that failed."""
    return loop.train_grid(job.grid)


def _smaller_may_cure(error: Exception) -> bool:
    """True for a mistake in one of the runs, as a damaged folder, and for too little memory."""
    # TensorFlow's exception by its name, without its import; XLA's by its text, as it has no class.
    names = {kind.__name__ for kind in type(error).__mro__}
    codes = ("RESOURCE_EXHAUSTED", "OUT_OF_MEMORY")
    out_of_memory = "ResourceExhaustedError" in names or any(code in str(error) for code in codes)
    return isinstance(error, UserError | OSError | MemoryError) or out_of_memory


@contextlib.contextmanager
def _printed_to(path: pathlib.Path) -> Iterator[None]:
    """Appends output and errors to a file, those of XLA and TensorFlow too."""
    with (
        path.open("a", encoding="utf-8", errors="backslashreplace", buffering=1) as log,
        contextlib.ExitStack() as undo,
    ):
        for stream, descriptor in ((sys.stdout, 1), (sys.stderr, 2)):
            stream.flush()
            # Libraries in C++ write to descriptors, past Python's streams.
            original = os.dup(descriptor)
            undo.callback(os.close, original)
            undo.callback(os.dup2, original, descriptor)
            os.dup2(log.fileno(), descriptor)
        undo.enter_context(contextlib.redirect_stdout(log))
        undo.enter_context(contextlib.redirect_stderr(log))
        yield
