"""Arrays of anybody's: npy read with plausible sizes, rows of unit length checked and made."""

import math
import os
import pathlib
import tokenize
from typing import IO, Literal

import numpy as np
from numpy.lib import format as npy_format

TOLERANCE = 1e-2  # of the length of a unit row, wide enough for rows stored in float16

# Exceptions of NumPy, beside ValueError, for a damaged header.
_HEADER_FAULTS = (
    *(tokenize.TokenError, SyntaxError, TypeError, IndexError),
    *(OverflowError, MemoryError, SystemError),
)
_READERS = {
    (1, 0): npy_format.read_array_header_1_0,
    (2, 0): npy_format.read_array_header_2_0,
}


def read_array(file: IO[bytes], stored: int) -> np.ndarray:
    """Reads an npy file or a member of an npz, once its header is known to match its size.

    Args:
      file: binary file, open at its start.
      stored: size of the file in bytes.

    Raises:
      ValueError: the file is no npy file, its header is damaged, it holds Python objects, or its
        size is not that of the header. The message does not name the file.
    """
    _read_header(file, stored)
    file.seek(0)
    try:
        return npy_format.read_array(file, allow_pickle=False)
    except (ValueError, *_HEADER_FAULTS) as error:
        raise ValueError(f"cannot be read as npy: {' '.join(str(error).split())}") from None


def mapped_array(path: pathlib.Path) -> np.ndarray:
    """Maps an npy file into memory, to be read only, after the checks of `read_array`.

    Raises:
      OSError: the file cannot be opened.
      ValueError: see `read_array`.
    """
    with path.open("rb") as file:
        shape, by_columns, dtype = _read_header(file, os.fstat(file.fileno()).st_size)
        if not math.prod(shape):  # nothing cannot be mapped
            return np.empty(shape, dtype)
        order: Literal["C", "F"] = "F" if by_columns else "C"
        return np.memmap(file, dtype, "r", file.tell(), shape, order)


def _read_header(file: IO[bytes], stored: int) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, order and type of an npy file of so many bytes, open at its start."""
    if file.read(len(npy_format.MAGIC_PREFIX)) != npy_format.MAGIC_PREFIX:
        raise ValueError("is no npy file, expected an array saved by numpy.save")
    file.seek(0)
    try:
        read_header = _READERS.get(npy_format.read_magic(file))
        if read_header is None:
            raise ValueError("an npy version that is not known here")
        shape, by_columns, dtype = read_header(file)
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
    return shape, by_columns, dtype


def lengths_and_faults(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lengths of rows, and True for rows that are not of unit length: (n, D) -> (n,), (n,) bool.

    Zero rows are accepted: encoders map empty items to zero, and a zero row ties with everything,
    which scores at chance.
    """
    # In float64, since the square of a float32 above 1e19 is infinite.
    lengths = np.sqrt(np.einsum("nd,nd->n", rows, rows, dtype=np.float64))
    return lengths, ~((np.abs(lengths - 1.0) <= TOLERANCE) | (lengths == 0.0))


def unit_rows(rows: np.ndarray) -> np.ndarray:
    """Divides rows by their lengths; zero rows stay zero: (..., D) -> (..., D) float32."""
    values = np.asarray(rows, np.float32)
    # Rows are first divided by a power of two near their largest number. This is exact, and squares
    # of what is left neither overflow nor vanish.
    _, exponent = np.frexp(np.abs(values).max(axis=-1, keepdims=True))
    scaled = np.ldexp(values, -exponent)
    lengths = np.linalg.norm(scaled, axis=-1, keepdims=True)
    return scaled / np.where(lengths > 0, lengths, np.float32(1))
