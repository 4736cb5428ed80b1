"""The file of a predictor: a JSON header, then the arrays as they lie in memory, each from a cache line on.

8 bytes   the format's name, b"cnnlibP1"
8 bytes   the header's length, little-endian, and 4 bytes its CRC-32, 4 bytes of zero
header    JSON: what the predictor is, its operations, and each array's dtype, shape, offset and CRC-32
arrays    little-endian
"""

from __future__ import annotations

import json
import math
import mmap
import os
import struct
import weakref
import zlib
from collections.abc import Callable, Sequence
from typing import Any, BinaryIO

import numpy as np

from cnnlib._files import written_whole
from cnnlib._typing import Array
from cnnlib.inference.checks import check_about, check_ops
from cnnlib.inference.ops import Op

_MAGIC = b"cnnlibP1"
_LEAD = struct.Struct("<8sQII")
_ALIGNMENT = 64  # bytes
_MOST_HEADER = 1 << 28  # bytes: more is no header
_DTYPES = ("float32", "float64")
_ARRAY_DTYPES = (*_DTYPES, "int8", "uint8", "int32")
# What comes of a header that is JSON, but not ours.
_MALFORMED = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)


def is_predictor(path: str | os.PathLike[str]) -> bool:
    """Whether a file begins as a predictor's does."""
    with open(path, "rb") as file:
        return file.read(len(_MAGIC)) == _MAGIC


def write_file(path: str | os.PathLike[str], about: dict[str, Any], ops: Sequence[Op]) -> None:
    """Write a predictor, all or nothing."""
    arrays: list[Array] = []
    entries: list[dict[str, Any]] = []
    described = []
    at = 0
    for op in ops:
        indices = {}
        for name, array in op.arrays.items():
            little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
            indices[name] = len(arrays)
            arrays.append(little)
            entry = {
                "dtype": array.dtype.name,
                "shape": array.shape,
                "offset": at,
                "crc": zlib.crc32(_bytes(little)),
            }
            entries.append(entry)
            at += -(-little.nbytes // _ALIGNMENT) * _ALIGNMENT
        described.append({**vars(op), "arrays": indices})
    header = json.dumps({"about": about, "ops": described, "arrays": entries}).encode()
    header += b" " * (-(len(header) + _LEAD.size) % _ALIGNMENT)
    with written_whole(path) as file:
        file.write(_LEAD.pack(_MAGIC, len(header), zlib.crc32(header), 0))
        file.write(header)
        for array in arrays:
            file.write(_bytes(array))
            file.write(b"\0" * (-array.nbytes % _ALIGNMENT))


def read_file(path: str | os.PathLike[str]) -> tuple[dict[str, Any], list[Op], Callable[[], None]]:
    """What :func:`write_file` wrote, its arrays mapped, and a function to call before they are read.

    It raises a ValueError if the file has become too short for the map, and compares the checksums at its
    first call, and whenever the file was written to since the last.
    """
    name = os.fspath(path)
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        lead = file.read(_LEAD.size)
        if len(lead) < _LEAD.size or lead[: len(_MAGIC)] != _MAGIC:
            raise ValueError(f"{name} is not a predictor of cnnlib")
        _, length, crc, _ = _LEAD.unpack(lead)
        if length > min(size, _MOST_HEADER):
            raise ValueError(f"{name} is damaged: its header is said to have {length} bytes")
        header = file.read(length)
        mapped = _Mapped(name, file)
    if len(header) < length or zlib.crc32(header) != crc:
        raise ValueError(f"{name} is damaged: its header is not what was written")
    start = _LEAD.size + length
    try:
        content = json.loads(header)
        about = content["about"]
        check_about(about)
        data = np.frombuffer(mapped.memory, np.uint8)[start:]
        arrays = [_array(data, start, entry) for entry in content["arrays"]]
        mapped.sums = [(array, entry["crc"]) for array, entry in zip(arrays, content["arrays"], strict=True)]
        ops = []
        for op in content["ops"]:
            own = {key: arrays[index] for key, index in op.pop("arrays").items()}
            ops.append(Op(arrays=own, **op))
        check_ops(ops, about["output"], tuple(about["input_dim"]), _dtype(about["dtype"]))
    except _MALFORMED as error:
        why = error if isinstance(error, ValueError) else repr(error)
        raise ValueError(
            f"{name} is damaged, or not a predictor that this version of cnnlib reads: {why}"
        ) from error
    return about, ops, mapped.check


class _Mapped:
    """A file in memory, and whether its arrays, `sums` with their checksums, may be read."""

    def __init__(self, name: str, file: BinaryIO) -> None:
        self.name = name
        self.memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self.size = len(self.memory)
        self.sums: list[tuple[Array, int]] = []
        self._file = os.dup(file.fileno())
        self._written: int | None = None  # when, as of the last comparison
        weakref.finalize(self, os.close, self._file)

    def check(self) -> None:
        now = os.fstat(self._file)
        if now.st_size < self.size:  # to read beyond its end would end the process
            raise ValueError(
                f"{self.name} was cut short after it was loaded: {now.st_size} of {self.size} bytes"
            )
        if now.st_mtime_ns == self._written:
            return
        if any(zlib.crc32(_bytes(array)) != checksum for array, checksum in self.sums):
            raise ValueError(f"{self.name} is damaged: its weights are not what was written")
        self._written = now.st_mtime_ns


def _dtype(name: Any, known: Sequence[str] = _DTYPES) -> np.dtype[Any]:
    if name not in known:
        raise ValueError(f"there is no dtype {name!r} in it")
    return np.dtype(name)


def _array(data: np.ndarray, data_starts: int, entry: dict[str, Any]) -> Array:
    dtype = _dtype(entry["dtype"], _ARRAY_DTYPES)
    shape = tuple(entry["shape"])
    start, bytes_ = entry["offset"], math.prod(shape) * dtype.itemsize
    if any(n < 0 for n in shape) or start < 0 or start + bytes_ > data.size:
        raise ValueError(f"an array of shape {shape} lies beyond its end")
    if (data_starts + start) % dtype.itemsize:
        raise ValueError(f"an array of shape {shape} does not lie at a multiple of its item size")
    if bytes_ == 0:
        return np.empty(shape, dtype)
    stored = data[start : start + bytes_].view(dtype.newbyteorder("<")).reshape(shape)
    return stored if stored.dtype.isnative else stored.astype(dtype)


def _bytes(array: Array) -> bytes | memoryview:
    return array.data.cast("B") if array.size else b""
