"""NumPy's array files: their header, bounded before it is read, and the array behind it as a memory map."""

from __future__ import annotations

import math
import os
import tokenize
from typing import Any, BinaryIO

import numpy as np

_READERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
_LENGTH_BYTES = {(1, 0): 2, (2, 0): 4}  # little-endian, behind the version
# Exceptions of Python's parser that NumPy's readers let through, beside their own ValueError.
_REFUSALS = (SyntaxError, TypeError, RecursionError, MemoryError, tokenize.TokenError)
_MOST_HEADER = 1 << 16  # bytes; NumPy's own are about 100


def read_header(file: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, whether in Fortran order, and dtype; the file is then at the array's first byte.

    ValueError if it is no header, or claims to be longer than one can be: NumPy would allocate that first.
    """
    version = np.lib.format.read_magic(file)
    if version not in _READERS:
        raise ValueError(f"it has version {version} of the array format")
    start, count = file.tell(), _LENGTH_BYTES[version]
    length = int.from_bytes(file.read(count), "little")
    if length > _MOST_HEADER:
        raise ValueError(f"its header claims {length} bytes")
    file.seek(start)
    try:
        shape, is_fortran, dtype = _READERS[version](file)
    except _REFUSALS as error:
        raise ValueError(f"its header is none of an array's: {error}") from error
    if not all(type(size) is int and size >= 0 for size in shape):  # NumPy takes True for one
        raise ValueError(f"its header says the shape {shape}")
    return shape, is_fortran, dtype


def mapped_array(path: str | os.PathLike[str]) -> np.memmap[Any, Any]:
    """The array of an ``.npy`` file, mapped and read-only. The file must not shrink while it is used.

    ValueError if it is no such file, has fewer bytes than its header says, or holds Python objects.
    """
    with open(path, "rb") as file:
        shape, is_fortran, dtype = read_header(file)
        if dtype.hasobject:
            raise ValueError("it holds Python objects")
        start, length = file.tell(), math.prod(shape) * dtype.itemsize
        if start + length > os.fstat(file.fileno()).st_size:  # which Windows calls a lack of memory
            raise ValueError(f"it ends before the {length:,} bytes of its array")
        return np.memmap(file, dtype, "r", start, shape, "F" if is_fortran else "C")
