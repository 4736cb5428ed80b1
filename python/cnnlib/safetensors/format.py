"""Files of arrays by name in the safetensors format: read where they lie, and nothing in them is run.

A file is the header's length (8 bytes, little-endian), the header (JSON: for each name its dtype, its shape
and where its bytes begin and end), and the bytes of all arrays, one behind the other without a gap. It is the
format of https://github.com/huggingface/safetensors.
"""

from __future__ import annotations

import json
import math
import mmap
import os
import struct
from collections.abc import Collection, Mapping
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cnnlib._files.readable import open_to_read
from cnnlib._files.written import written_whole
from cnnlib._params import type_name
from cnnlib._params.arrays import as_array

_LENGTH = struct.Struct("<Q")
_MOST_HEADER = 100_000_000  # bytes; what the format's own reader takes
_METADATA = "__metadata__"  # the one name in a header that is no array
_ALIGNMENT = 8  # bytes; the header is padded with spaces, so that the arrays begin at a multiple of it
_DTYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "BF16": "<u2",  # NumPy has none of its own; see `_as_stored`
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "|i1",
    "U64": "<u8",
    "U32": "<u4",
    "U16": "<u2",
    "U8": "|u1",
    "BOOL": "|b1",
}
_NAMES = {np.dtype(code).newbyteorder("=").name: name for name, code in _DTYPES.items() if name != "BF16"}
_NAMES["bfloat16"] = "BF16"


def save(params: Mapping[str, ArrayLike], path: str | os.PathLike[str]) -> None:
    """
    Write arrays to a safetensors file, which is written whole or not at all.

    Parameters
    ----------
    params : dict of str to array
        A model's `params`, or anything else: floats, integers and booleans, `ml_dtypes.bfloat16` too.
    path : str or os.PathLike

    Raises
    ------
    ValueError
        A name that is reserved, or a dtype that the format does not have.
    TypeError
        No dict, or a name that is no string.
    OSError
        The file cannot be written; nothing is left behind then.

    Examples
    --------
    >>> save({"W1": np.eye(2, dtype=np.float32)}, "net.safetensors")
    >>> load("net.safetensors")["W1"]
    array([[1., 0.],
           [0., 1.]], dtype=float32)
    """
    if not isinstance(params, Mapping):
        raise TypeError(f"save: {os.fspath(path)}: params must be a dict of arrays, got {type_name(params)}")
    write(path, {name: _checked(path, name, as_array("save", repr(name), params[name])) for name in params})


def write(
    path: str | os.PathLike[str],
    arrays: Mapping[str, NDArray[Any]],
    metadata: Mapping[str, str] | None = None,
    narrow: Collection[str] = (),
) -> None:
    """Write arrays of dtypes that the format has, and texts beside them.

    Arrays of float32 whose names are in `narrow` hold numbers that bfloat16 has, and are written as that.
    """
    if _METADATA in arrays:
        raise ValueError(f"save: {os.fspath(path)}: the name {_METADATA!r} is the format's own")
    # The widest first: then each array lies at a multiple of its item size.
    arrays = {name: _upper_halves(array) if name in narrow else array for name, array in arrays.items()}
    order = sorted(arrays, key=lambda name: -arrays[name].itemsize)
    header: dict[str, Any] = {} if metadata is None else {_METADATA: metadata}
    end = 0
    for name in order:
        begin, end = end, end + arrays[name].nbytes
        array = arrays[name]
        dtype = "BF16" if name in narrow else _NAMES[array.dtype.name]
        header[name] = {"dtype": dtype, "shape": array.shape, "data_offsets": [begin, end]}
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    with written_whole(path) as file:
        file.write(_LENGTH.pack(len(text)) + text)
        for name in order:
            array = arrays[name]
            little = array.astype(array.dtype.newbyteorder("<"), copy=False)
            file.write(np.ascontiguousarray(little).reshape(-1).view(np.uint8).data)


def _upper_halves(array: NDArray[Any]) -> NDArray[Any]:
    """The bits of float32 that bfloat16 has."""
    return (array.view(np.uint32) >> np.uint32(16)).astype(np.uint16)


def _checked(path, name, array):
    where = f"save: {os.fspath(path)}"
    if not isinstance(name, str):
        raise TypeError(f"{where}: names must be strings, got {name!r}")
    if array.dtype.name not in _NAMES:
        raise ValueError(f"{where}: {name!r} has dtype {array.dtype}, which the format does not have")
    return array


def load(path: str | os.PathLike[str]) -> dict[str, NDArray[Any]]:
    """
    Read the arrays of a safetensors file, by name.

    Parameters
    ----------
    path : str or os.PathLike

    Returns
    -------
    dict of str to ndarray
        Views of the file, mapped into memory: what is not read is not loaded, what is written to an array
        does not reach the file. The file must not shrink while they are used. bfloat16, which NumPy does not
        have, comes as float32, which holds the same numbers, and booleans are copied.

    Raises
    ------
    ValueError
        The file is damaged, cut short, or none of this format, its arrays overlap, leave gaps or lie outside
        of it, or have a dtype that is not read (floats of 8 bits and less); the message names the file.
    OSError
        It cannot be read.

    Examples
    --------
    >>> save({"W1": np.zeros((16, 3, 3, 3), np.float32), "b1": np.zeros(16)}, "net.safetensors")
    >>> {name: (array.shape, array.dtype.name) for name, array in load("net.safetensors").items()}
    {'b1': ((16,), 'float64'), 'W1': ((16, 3, 3, 3), 'float32')}
    """
    path = os.fspath(path)  # a number would be a file that is open, and be closed
    with open_to_read("safetensors.load", path) as file:
        return read(path, file)[0]


def read(
    name: str, file: BinaryIO, access: int = mmap.ACCESS_COPY
) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """The arrays in an open file, which is mapped into memory, and its metadata; `name` is for messages."""
    size = os.fstat(file.fileno()).st_size
    try:
        header, metadata = _header(file, size)
        start = file.tell()
        _check_layout(header, size - start)
        mapped = mmap.mmap(file.fileno(), 0, access=access)
        return {key: _as_stored(mapped, start, entry) for key, entry in header.items()}, metadata
    except (OverflowError, RecursionError, ValueError) as error:
        raise ValueError(f"{name} is damaged, or not a safetensors file: {error}") from error


def _header(file, size):
    """The entries of the arrays, and the metadata; the file is then at the first byte of the arrays."""
    first = file.read(_LENGTH.size)
    if len(first) < _LENGTH.size:
        raise ValueError(f"it has {len(first)} bytes")
    (length,) = _LENGTH.unpack(first)
    if length > min(size - _LENGTH.size, _MOST_HEADER):
        raise ValueError(f"its header claims {length} bytes, the file has {size}")
    header = json.loads(file.read(length).decode(), object_pairs_hook=_without_repetition)
    if not isinstance(header, dict):
        raise ValueError("its header is no JSON object")
    metadata = header.pop(_METADATA, {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise ValueError("its metadata are not strings by name")
    return header, metadata


def _without_repetition(pairs):
    entries = dict(pairs)
    if len(entries) < len(pairs):
        raise ValueError("a name stands in its header twice")
    return entries


def _check_layout(header, size):
    """Each entry as the format has it, and all of them together exactly the bytes that there are."""
    spans = []
    for name, entry in header.items():
        if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
            raise ValueError(f"the entry of {name!r} must have dtype, shape and data_offsets")
        shape, offsets = entry["shape"], entry["data_offsets"]
        if not (_are_counts(shape) and _are_counts(offsets) and len(offsets) == 2):
            raise ValueError(f"{name!r} has shape {shape!r} and data_offsets {offsets!r}")
        if not isinstance(entry["dtype"], str) or entry["dtype"] not in _DTYPES:
            raise ValueError(f"{name!r} has dtype {entry['dtype']!r}; {', '.join(_DTYPES)} are read")
        want = math.prod(shape) * np.dtype(_DTYPES[entry["dtype"]]).itemsize
        if offsets[1] - offsets[0] != want:
            raise ValueError(f"{name!r} takes {want} bytes, its data_offsets are {offsets}")
        spans.append((*offsets, name))
    end = 0
    for begin, after, name in sorted(spans):
        if begin != end:
            raise ValueError(f"{name!r} begins at {begin}, where {end} bytes are taken: a gap or an overlap")
        end = after
    if end != size:
        raise ValueError(f"its arrays take {end} bytes, it has {size}")


def _are_counts(value):
    return isinstance(value, list) and all(type(count) is int and count >= 0 for count in value)


def _as_stored(mapped, start, entry):
    """An entry as an array on the mapped bytes, or of a dtype of its own."""
    kind = entry["dtype"]
    dtype = np.dtype(np.uint8 if kind == "BOOL" else _DTYPES[kind])
    array: NDArray[Any] = np.ndarray(entry["shape"], dtype, mapped, start + entry["data_offsets"][0])
    if kind == "BOOL":
        return array != 0  # a byte of another value would be neither true nor false
    if kind == "BF16":  # the upper half of a float32
        return (array.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return array
