"""A run of a sweep in a process of its own, wherever that is."""

import contextlib
import os
import pathlib
import sys
import traceback
from collections.abc import Iterator

from absl import logging

from vmr.errors import UserError
from vmr.sweeps.folder import failure_of, forget_failure, name_of, note_failure
from vmr.training import loop
from vmr.training.grid import Run


def train_alone(run: Run) -> None:
    """Trains a run to its end, or goes on with it; what it prints goes to `log.txt` in its folder.

    A failure is noted in the run's folder and not raised: others have no part in it.
    """
    logging.set_verbosity(logging.ERROR)
    forget_failure(run)
    run.workdir.mkdir(parents=True, exist_ok=True)
    with _printed_to(run.workdir / "log.txt"):
        try:
            loop.train(*run)
        except UserError as mistake:
            print(f"error: {mistake}")
            note_failure(run, str(mistake))
        except Exception as error:
            traceback.print_exc()
            note_failure(run, f"{type(error).__name__}: {error}")


def ending_of(run: Run) -> str:
    """What a person is told of a run that has ended: `SETTING/seed-0: finished`, or why not."""
    failure = failure_of(run)
    return f"{name_of(run)}: failed: {failure}" if failure else f"{name_of(run)}: finished"


@contextlib.contextmanager
def _printed_to(path: pathlib.Path) -> Iterator[None]:
    """Standard output and error go to the end of a file, what XLA and TensorFlow print as well."""
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
