"""Arrays of numbers from npy files, every mistake told by file."""

import tokenize
from pathlib import Path

import numpy as np
from numpy.lib.format import MAGIC_PREFIX, read_array

from vmr.errors import UserError

# What numpy raises, beside ValueError, for a header that is no header or a shape beyond all memory.
_HEADER_FAULTS = (tokenize.TokenError, SyntaxError, TypeError, OverflowError, MemoryError)


def read_floats(file: Path) -> np.ndarray:
    """An array of real numbers, any shape, as float32.

    Raises:
      UserError: the file cannot be read, is no npy file, or holds something else.
    """
    try:
        with file.open("rb") as opened:
            # np.load would take whatever begins otherwise for a pickle or an archive.
            if opened.read(len(MAGIC_PREFIX)) != MAGIC_PREFIX:
                raise UserError(f"{file}: is no npy file, expected an array saved by numpy.save")
            opened.seek(0)
            array = read_array(opened, allow_pickle=False)
    except UserError:
        raise
    except OSError as error:
        raise UserError(f"{file}: cannot be read: {error.strerror or error}") from None
    except ValueError as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{file}: cannot be read as npy: {reason}") from None
    except _HEADER_FAULTS:
        raise UserError(f"{file}: cannot be read as npy: its header is cut or corrupt") from None
    if array.dtype.kind not in "fiu":
        raise UserError(f"{file}: holds {array.dtype}, expected an array of real numbers")
    # A number beyond float32 becomes inf, which validation reports with its id.
    with np.errstate(over="ignore"):
        return array.astype(np.float32)
