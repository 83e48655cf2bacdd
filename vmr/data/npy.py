"""Arrays of numbers from npy files, every mistake told by file."""

import os
from pathlib import Path

import numpy as np

from vmr.arrays import read_array
from vmr.errors import UserError


def read_floats(file: Path) -> np.ndarray:
    """An array of real numbers, any shape, as float32.

    Raises:
      UserError: the file cannot be read, is no npy file, or holds something else.
    """
    try:
        with file.open("rb") as opened:
            array = read_array(opened, os.fstat(opened.fileno()).st_size)
    except OSError as error:
        raise UserError(f"{file}: cannot be read: {error.strerror or error}") from None
    except ValueError as error:
        raise UserError(f"{file}: {error}") from None
    if array.dtype.kind not in "fiu":
        raise UserError(f"{file}: holds {array.dtype}, expected an array of real numbers")
    # A number beyond float32 becomes inf, which validation reports with its id.
    with np.errstate(over="ignore"):
        return array.astype(np.float32)
