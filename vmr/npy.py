"""Arrays in npy form from anybody's files: sizes are plausible before memory is taken."""

import math
import tokenize
from typing import IO

import numpy as np
from numpy.lib import format as npy_format

# What NumPy raises, beside ValueError, for a header that is no header.
_HEADER_FAULTS = (
    *(tokenize.TokenError, SyntaxError, TypeError, IndexError),
    *(OverflowError, MemoryError, SystemError),
)
_READERS = {
    (1, 0): npy_format.read_array_header_1_0,
    (2, 0): npy_format.read_array_header_2_0,
}


def read_array(file: IO[bytes], stored: int) -> np.ndarray:
    """The array of an npy file or of a member of an npz.

    Args:
      file: open at its start.
      stored: bytes that it holds.

    Raises:
      ValueError: it is no npy file, its header is damaged, it holds Python objects, or as many
        bytes as the header says are not there; says which, without a name.
    """
    if file.read(len(npy_format.MAGIC_PREFIX)) != npy_format.MAGIC_PREFIX:
        raise ValueError("is no npy file, expected an array saved by numpy.save")
    file.seek(0)
    try:
        read_header = _READERS.get(npy_format.read_magic(file))
        if read_header is None:
            raise ValueError("an npy version that is not known here")
        shape, _, dtype = read_header(file)
        needed = file.tell() + math.prod(shape) * dtype.itemsize
    except ValueError as error:
        raise ValueError(f"cannot be read as npy: {' '.join(str(error).split())}") from None
    except _HEADER_FAULTS:
        raise ValueError("cannot be read as npy: its header is cut or corrupt") from None
    if dtype.hasobject:
        raise ValueError("cannot be read as npy: Object arrays hold Python's own objects")
    if min(shape, default=0) < 0 or needed != stored:
        raise ValueError(
            f"cannot be read as npy: it has {stored:,} bytes, and {needed:,} by its header "
            f"({dtype}, shape {shape})"
        )
    file.seek(0)
    try:
        return npy_format.read_array(file, allow_pickle=False)
    except (ValueError, *_HEADER_FAULTS) as error:
        raise ValueError(f"cannot be read as npy: {' '.join(str(error).split())}") from None
