"""What opening checkpoints does to the process: nothing but to silence Orbax's tracebacks."""

import logging
import pathlib
import sys

from vmr.training.checkpoints import Checkpoints


def record(path: str, failed: bool) -> logging.LogRecord:
    error = None
    if failed:
        try:
            raise OSError(28, "No space left on device")
        except OSError:
            error = sys.exc_info()
    return logging.LogRecord("absl", logging.ERROR, path, 1, "told", (), error)


def test_only_tracebacks_of_orbax_are_silenced_however_many_runs_are_open(
    tmp_path: pathlib.Path,
) -> None:
    log = logging.getLogger("absl")
    with Checkpoints(tmp_path / "one", "v2m/R@10"):
        filters = list(log.filters)
        with Checkpoints(tmp_path / "two", "v2m/R@10"):
            assert log.filters == filters
    assert not log.filter(record("/lib/orbax/checkpoint/async_checkpointer.py", failed=True))
    assert log.filter(record("/lib/orbax/checkpoint/async_checkpointer.py", failed=False))
    assert log.filter(record("/lib/tensorflow_datasets/reader.py", failed=True))
