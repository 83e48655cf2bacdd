"""A folder that is either whole or absent: built aside, then put in place by a rename."""

import errno
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import tensorflow as tf

from vmr.errors import UserError

DATASET_INFO = "dataset_info.json"


@contextmanager
def scratch_beside(output: Path, overwrite: bool) -> Iterator[Path]:
    """A temporary folder on the disk of `output`, gone afterwards whatever happens.

    Args:
      output: where the result will lie.
      overwrite: an earlier dataset may be replaced.

    Yields:
      the empty temporary folder.

    Raises:
      UserError: the output exists and must stay, or the disk is full or not writable.
    """
    _refuse_existing(output, overwrite)
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{output.name}.", dir=output.parent) as scratch:
            yield Path(scratch)
    except UserError:
        raise
    except Exception as error:
        reason = _disk_trouble(error)
        if reason is None:
            raise
        raise UserError(f"{output}: {reason}; nothing was written") from None


def _disk_trouble(error: BaseException | None) -> str | None:
    # TFDS wraps what TensorFlow raises, so the reason may stand further down the chain.
    while error is not None:
        if isinstance(error, tf.errors.ResourceExhaustedError):
            return "the disk is full"
        if isinstance(error, OSError):
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            return "the disk is full" if full else error.strerror or str(error)
        error = error.__cause__
    return None


def put_in_place(finished: Path, output: Path) -> None:
    """Renames `finished` to `output`; an earlier `output` steps aside first.

    Args:
      finished: the whole result, on the same disk.
      output: its place. What lay there moves beside `finished`, into the scratch folder.
    """
    replaced = finished.with_name("replaced")
    if output.exists():
        output.rename(replaced)
    try:
        finished.rename(output)
    except OSError:
        if replaced.exists():
            replaced.rename(output)
        raise


def _refuse_existing(output: Path, overwrite: bool) -> None:
    if output.is_dir() and not any(output.iterdir()):
        return
    if output.exists() and not overwrite:
        raise UserError(f"--output={output}: exists already; pass --overwrite to replace it")
    # A mistyped path must not cost anybody a folder that is no dataset.
    if output.exists() and not (output / DATASET_INFO).is_file():
        raise UserError(f"--output={output}: is no dataset, so --overwrite does not replace it")
