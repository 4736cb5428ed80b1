"""The checkpoint file: an ``.npz`` that ``np.load`` reads without pickle.

Parameters stand under their own names. Everything else stands under names that begin with
``__cnnlib__/``, which no parameter may: ``__cnnlib__/state`` is a JSON text with the settings, counters and
random state, and points to the arrays that belong to it (optimizer state, batch-norm statistics, best
parameters, histories), which are entries of their own.
"""

from __future__ import annotations

import errno
import io
import json
import math
import os
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnlib._files.npy import read_header
from cnnlib._files.readable import open_to_read
from cnnlib._files.version import check_version
from cnnlib._files.written import written_whole
from cnnlib._params import type_name

__all__ = ["RESERVED_PREFIX", "load_checkpoint", "save_checkpoint"]

RESERVED_PREFIX = "__cnnlib__/"
_STATE = RESERVED_PREFIX + "state"
_FORMAT, _VERSION = "cnnlib checkpoint", 1


def save_checkpoint(
    params: Mapping[str, NDArray[Any]], path: str | os.PathLike[str], state: Mapping[str, Any] | None = None
) -> None:
    """Write `params` and `state` to `path`, completely or not at all.

    The file is written under a temporary name in the same folder (made if missing), flushed to the disk
    and then renamed, so at every moment `path` is either the complete new file or what it was before. What a
    killed process left of an earlier attempt is removed.

    Parameters
    ----------
    params : dict of str -> ndarray
    path : str or os.PathLike
    state : dict or None
        Nested dicts (with str keys), lists and tuples of arrays, NumPy scalars and what JSON can hold.

    Raises
    ------
    ValueError
        If a parameter's name begins with the reserved prefix, or something cannot be stored without pickle.
    OSError
        If the file cannot be written; nothing is left behind then.

    Examples
    --------
    >>> save_checkpoint({"W1": np.eye(2)}, "net.npz", {"epoch": 3})
    >>> np.load("net.npz")["W1"].shape
    (2, 2)
    """
    for name in params:
        check_name(name)
    entries = {name: np.asarray(value) for name, value in params.items()}
    tree = {
        "format": _FORMAT,
        "version": _VERSION,
        "params": list(params),
        "state": _pack({} if state is None else state, "", entries),
    }
    entries[_STATE] = np.array(json.dumps(tree))
    for name, value in entries.items():
        if value.dtype.hasobject or value.dtype.kind == "V":
            raise ValueError(
                f"checkpoint {os.fspath(path)}: {name} has dtype {value.dtype}, which needs pickle"
            )

    # What np.savez does, but for any names and never with pickle.
    with written_whole(path) as file, zipfile.ZipFile(file, "w") as archive:
        for name, array in entries.items():
            with archive.open(name + ".npy", "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, array, allow_pickle=False)


def load_checkpoint(path: str | os.PathLike[str]) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Read what :func:`save_checkpoint` wrote.

    Returns
    -------
    params : dict of str -> ndarray
    state : dict

    Raises
    ------
    ValueError
        If the file is damaged, cut short, of another version, or not a checkpoint of this library; the
        message names it.
    OSError
        If it cannot be read.

    Examples
    --------
    >>> save_checkpoint({"W1": np.eye(2)}, "net.npz", {"epoch": 3})
    >>> params, state = load_checkpoint("net.npz")
    >>> params["W1"].shape, state
    ((2, 2), {'epoch': 3})
    """
    path = os.fspath(path)
    with open_to_read("load_checkpoint", path) as file:
        entries = _read_npz(path, file)
    if _STATE not in entries:
        raise ValueError(f"{path} is not a cnnlib checkpoint: it has no entry {_STATE!r}")
    try:
        tree = json.loads(str(entries[_STATE]))
        kind, version = tree["format"], tree["version"]
    except (KeyError, RecursionError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is damaged, or not a cnnlib checkpoint: {error}") from error
    if kind != _FORMAT:
        raise ValueError(f"{path} is not a cnnlib checkpoint: its format is {kind!r}")
    check_version(path, "a cnnlib checkpoint", version, _VERSION)
    try:
        return {name: entries[name] for name in tree["params"]}, _unpack(tree["state"], entries)
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is damaged: {error}") from error


def check_name(name):
    """Refuse a parameter name that a checkpoint could not hold beside its own entries."""
    if not isinstance(name, str) or not name or "\0" in name or name.startswith(RESERVED_PREFIX):
        raise ValueError(
            "parameter names must be non-empty strings without NUL characters that do not begin with "
            f"{RESERVED_PREFIX!r}, got {name!r}"
        )


def _pack(value, place, entries):
    """`value` as JSON can hold it; arrays move to `entries` and leave the name of their entry behind."""
    if isinstance(value, (np.ndarray, np.generic)):
        name = RESERVED_PREFIX + place
        while name in entries or name == _STATE:
            name += "'"
        entries[name] = np.asarray(value)
        bare = isinstance(value, np.ndarray) and value.ndim == 0
        return {"@zero-dimensional" if bare else "@array": name}
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str) or key.startswith("@"):
                raise ValueError(
                    f"checkpoint: key {key!r} of {place or 'the state'} must be a string without '@'"
                )
        return {key: _pack(item, f"{place}/{key}".lstrip("/"), entries) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        items = [_pack(item, f"{place}/{i}", entries) for i, item in enumerate(value)]
        return {"@tuple": items} if isinstance(value, tuple) else items
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise ValueError(f"checkpoint: {place} is {type_name(value)}, which cannot be stored without pickle")


def _unpack(value, entries):
    """The inverse of :func:`_pack`."""
    if isinstance(value, list):
        return [_unpack(item, entries) for item in value]
    if not isinstance(value, dict):
        return value
    if "@array" in value:
        array = entries[value["@array"]]
        return array if array.ndim else array[()]  # NumPy's scalars are stored as arrays
    if "@zero-dimensional" in value:
        return entries[value["@zero-dimensional"]]
    if "@tuple" in value:
        return tuple(_unpack(item, entries) for item in value["@tuple"])
    return {key: _unpack(item, entries) for key, item in value.items()}


def _read_npz(path, file):
    """The entries of an open ``.npz``; whatever it claims, no more memory is taken than it has bytes."""
    try:
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            if any(member.compress_type != zipfile.ZIP_STORED for member in members):
                raise ValueError("its entries are compressed, which a checkpoint's are not")
            total = sum(member.file_size for member in members)
            if total > file.size:
                raise ValueError(f"its entries claim {total} bytes, it has {file.size}")
            return {member.filename.removesuffix(".npy"): _read_array(archive, member) for member in members}
    except OSError as error:
        if error.errno not in (None, errno.EINVAL):  # EINVAL: the zip's directory leads to before the start
            raise OSError(error.errno, error.strerror, path) from error
        raise ValueError(f"{path} is damaged, or not a checkpoint: {error}") from error
    except Exception as error:  # a damaged zip or array header fails in many ways
        raise ValueError(f"{path} is damaged, or not a checkpoint: {error}") from error


def _read_array(archive, member):
    # The whole entry first: its checksum is verified at its end, before any of it is believed.
    content = archive.read(member)
    file = io.BytesIO(content)
    try:
        shape, is_fortran, dtype = read_header(file)
    except ValueError as error:
        raise ValueError(f"{member.filename}: {error}") from error
    want, start = math.prod(shape) * dtype.itemsize, file.tell()
    if dtype.hasobject or dtype.itemsize == 0 or min(shape, default=0) < 0 or want != len(content) - start:
        raise ValueError(
            f"{member.filename} does not hold the {dtype} array {shape} that its header promises"
        )
    return np.ndarray(shape, dtype, content, start, order="F" if is_fortran else "C").copy(order="K")
