"""Files that torch.save wrote before torch 1.6, read without torch; nothing in them is run."""

import collections
import pathlib
import pickle
from collections.abc import Mapping
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from vmr.errors import UserError, reason_of

_MAGIC = 0x1950A86A20F9469CFC6C
_DTYPES: Mapping[tuple[str, str], np.dtype] = {
    ("torch", "FloatStorage"): np.dtype("<f4"),
    ("torch", "LongStorage"): np.dtype("<i8"),
}


def read_tensors(file: pathlib.Path) -> dict[str, np.ndarray]:
    """Tensors of a state dict by name, float32 or int64.

    Raises:
      UserError: the file cannot be read, is no such file, is cut, or names anything but tensors.
    """
    try:
        with file.open("rb") as opened:
            return _tensors(opened)
    # A pickle is a program: a damaged one can raise anything.
    except Exception as error:
        raise UserError(
            f"{file}: expected a whole file of torch.save: {reason_of(error)}"
        ) from None


class _Storage(NamedTuple):
    key: str
    dtype: np.dtype
    size: int


class _Placed(NamedTuple):
    """A tensor of which only the place in its storage is known."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def _placed(storage: _Storage, offset: int, shape: Any, strides: Any, *_: Any) -> _Placed:
    return _Placed(storage, offset, tuple(shape), tuple(strides))


class _TensorsOnly(pickle.Unpickler):
    """Refuses every class and function but those of tensors, which it keeps as places."""

    _ALLOWED: Mapping[tuple[str, str], Any] = {
        ("collections", "OrderedDict"): collections.OrderedDict,
        ("torch._utils", "_rebuild_tensor_v2"): _placed,
        **{storage: storage for storage in _DTYPES},
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self._ALLOWED:
            raise pickle.UnpicklingError(f"{module}.{name} in it is no tensor's")
        return self._ALLOWED[module, name]

    def persistent_load(self, pid: Any) -> _Storage:
        _, storage, key, _, size, _ = pid
        return _Storage(key, _DTYPES[storage], size)


def _tensors(file: BinaryIO) -> dict[str, np.ndarray]:
    magic, _, _, places, keys = (_TensorsOnly(file).load() for _ in range(5))
    if magic != _MAGIC:
        raise ValueError("it begins otherwise")
    storages = {place.storage.key: place.storage for place in places.values()}
    content = {}
    for key in keys:
        size, storage = int.from_bytes(file.read(8), "little"), storages[key]
        numbers = file.read(size * storage.dtype.itemsize) if size == storage.size else b""
        if len(numbers) != storage.size * storage.dtype.itemsize:
            raise ValueError(f"it ends early or is damaged at {file.tell():,} bytes")
        content[key] = numbers
    return {name: _tensor(place, content[place.storage.key]) for name, place in places.items()}


def _tensor(place: _Placed, content: bytes) -> np.ndarray:
    dtype = place.storage.dtype
    # NumPy refuses what reaches beyond the content.
    return np.ndarray(
        place.shape,
        dtype,
        content,
        place.offset * dtype.itemsize,
        tuple(stride * dtype.itemsize for stride in place.strides),
    )
