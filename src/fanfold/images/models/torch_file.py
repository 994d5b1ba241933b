"""Legacy (not zip) torch files of tensors, read without torch:

    pickle  0x1950a86a20f9469cfc6c      the magic number
    pickle  1001                        the protocol
    pickle  {little_endian, sizes}
    pickle  OrderedDict                 name -> tensor: (storage key, offset, shape, strides)
    pickle  [storage key, ...]          in the order of what follows
    raw     int64 count, data           once a storage key

A pickle is a program, so an unpickler reads it that admits two names only: an ordered dictionary and a tensor.
"""

import collections
import pickle
import struct
from collections.abc import Mapping
from typing import Any, BinaryIO, NamedTuple

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]

_MAGIC = (0x1950A86A20F9469CFC6C, 1001)  # and the protocol
_DTYPES: dict[str, np.dtype[Any]] = {"FloatStorage": np.dtype("<f4"), "LongStorage": np.dtype("<i8")}


class _Tensor(NamedTuple):
    """A tensor in the pickle: a view of a storage that follows."""

    storage: tuple[Any, ...]
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _TensorsOnly(pickle.Unpickler):
    """An unpickler that admits nothing but tensors."""

    _ADMITTED: Mapping[tuple[str, str], Any] = {
        ("collections", "OrderedDict"): collections.OrderedDict,
        ("torch._utils", "_rebuild_tensor_v2"): lambda *facts: _Tensor(*facts[:4]),
        ("torch", "FloatStorage"): "FloatStorage",
        ("torch", "LongStorage"): "LongStorage",
    }

    def find_class(self, module: str, name: str) -> Any:
        try:
            return self._ADMITTED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"{module}.{name} is not allowed in a file of tensors") from None

    def persistent_load(self, pid: Any) -> Any:
        return pid


def read_weights(file: BinaryIO) -> dict[str, Array]:
    """The tensors of a legacy torch pickle, by name. Raises UnpicklingError for anything else."""
    parts: list[Any] = [_TensorsOnly(file).load() for _ in range(5)]
    magic, protocol, _system, tensors, keys = parts
    if (magic, protocol) != _MAGIC:
        raise pickle.UnpicklingError("not a legacy torch pickle")
    dtypes: dict[str, np.dtype[Any]] = {tensor.storage[2]: _DTYPES[tensor.storage[1]] for tensor in tensors.values()}
    storages = {str(key): _storage(file, dtypes[key]) for key in keys}
    return {name: _strided(tensor, storages[tensor.storage[2]]) for name, tensor in tensors.items()}


def _storage(file: BinaryIO, dtype: np.dtype[Any]) -> Array:
    (count,) = struct.unpack("<q", file.read(8))
    return np.frombuffer(file.read(count * dtype.itemsize), dtype)


def _strided(tensor: _Tensor, storage: Array) -> Array:
    """The view of the storage, as an array of its own: torch strides count elements, NumPy's bytes."""
    last = tensor.offset + sum((side - 1) * step for side, step in zip(tensor.shape, tensor.strides, strict=True))
    if not 0 <= tensor.offset <= last < len(storage):
        raise pickle.UnpicklingError("a tensor reaches outside of its storage")
    strides = [step * storage.itemsize for step in tensor.strides]
    view = np.lib.stride_tricks.as_strided(storage[tensor.offset :], tensor.shape, strides, writeable=False)
    return np.ascontiguousarray(view)
