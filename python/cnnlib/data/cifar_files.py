"""The files of CIFAR-10 and CIFAR-100: binary records, or pickled batches."""

from __future__ import annotations

import io
import pickle
import pickletools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from cnnlib._params import choice

_PIXELS = 3 * 32 * 32


def read_records(
    path: Path, what: str, count: int, labels: int, classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """A file of records (bytes of labels, of which the last counts, and of pixels).

    The images (count, 3, 32, 32), uint8, are mapped into memory; the labels (count,), int64, are read.
    """
    want, size = count * (labels + _PIXELS), path.stat().st_size
    if size != want:
        raise ValueError(
            f"{path} is not a binary {what}: it has {size} bytes, expected {want} ({count} records of "
            f"{labels} + {_PIXELS})"
        )
    # The labels not from the map, of which every page would stay in memory.
    numbers = np.fromfile(path, dtype=np.uint8).reshape(count, -1)[:, labels - 1]
    records = np.memmap(path, dtype=np.uint8, mode="r").reshape(count, -1)
    return records[:, labels:].reshape(-1, 3, 32, 32), _checked_labels(path, numbers, classes)


def read_pickle(path: Path, count: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """A pickled batch: uint8 pixels (count, 3072) and labels (count,), int64."""
    want, size = count * _PIXELS, path.stat().st_size
    no_batch = f"{path} is not a pickled batch of CIFAR-10"
    if size > 2 * want:  # pixels, labels and file names need 1.01 times
        raise ValueError(f"{no_batch}: it has {size} bytes, expected about {want}")
    try:
        content = path.read_bytes()
        _check_sizes(content)
        batch = _Unpickler(content).load()
    except Exception as error:  # a damaged pickle can raise nearly anything
        raise ValueError(f"{no_batch}, or is damaged: {error}") from error
    if isinstance(batch, dict):  # keys are strings in what Python 3 has pickled anew
        batch = {key.encode(errors="replace") if isinstance(key, str) else key: batch[key] for key in batch}
    if not isinstance(batch, dict) or not {b"data", b"labels"} <= batch.keys():
        raise ValueError(f"{no_batch}: no dict with 'data' and 'labels'")
    pixels, labels = _bytes_of(batch[b"data"]), batch[b"labels"]
    if pixels is None or pixels.shape != (count, _PIXELS):
        raise ValueError(f"{no_batch}: 'data' is not a uint8 array {(count, _PIXELS)}")
    if not isinstance(labels, list) or len(labels) != count or {type(n) for n in labels} != {int}:
        raise ValueError(f"{path}: 'labels' is not a list of {count} integers")
    return pixels, _checked_labels(path, labels, classes)


def map_pickle(path: Path, count: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """A pickled batch: its images (count, 3, 32, 32), mapped if they lie in the file, and the labels."""
    pixels, labels = read_pickle(path, count, classes)
    # Most pickles hold the array's bytes as they are, in the order that the array has.
    order: Literal["C", "F"] = "C" if pixels.flags.c_contiguous else "F"
    wanted, content = pixels.tobytes(order), path.read_bytes()
    offset = content.find(wanted[:_PIXELS])  # to look for all of it takes seconds
    if offset < 0 or content[offset : offset + len(wanted)] != wanted:
        return pixels.reshape(-1, 3, 32, 32), labels  # Python 3 escapes them up to protocol 2
    images = np.memmap(path, dtype=np.uint8, mode="r", offset=offset, shape=pixels.shape, order=order)
    return images.reshape(-1, 3, 32, 32), labels


def _checked_labels(path: Path, labels: np.ndarray | Sequence[int], classes: int) -> np.ndarray:
    low, high = min(labels), max(labels)
    if low < 0 or high >= classes:
        raise ValueError(f"{path}: a label is {low if low < 0 else high}, expected 0..{classes - 1}")
    return np.asarray(labels, dtype=np.int64)


def _check_sizes(content: bytes) -> None:
    """Refuse a pickle that names sizes beyond its own: the unpickler believes them, and takes the memory."""
    for opcode, argument, _ in pickletools.genops(content):  # which finds strings that are cut short itself
        if "PUT" in opcode.name and int(argument or 0) > len(content):
            raise ValueError(f"it numbers an object {argument}")


class _Described:
    """What a pickle says of one of NumPy's objects, instead of it: a pickle may ask for any type and size."""

    state: Any = None

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments

    def __setstate__(self, state: Any) -> None:
        self.state = state


_MAKERS = ("multiarray._reconstruct", "numeric._frombuffer")  # of arrays, before protocol 5 and from it on
_DESCRIBED = ["numpy.ndarray", "numpy.dtype"]
_DESCRIBED += [f"numpy.{core}.{maker}" for core in ("core", "_core") for maker in _MAKERS]


class _Unpickler(pickle.Unpickler):
    """Reads what CIFAR-10's files contain, of Python 2 or 3, and calls none of NumPy's functions."""

    def __init__(self, content: bytes) -> None:
        super().__init__(io.BytesIO(content), encoding="bytes")
        self._left = len(content)  # of the bytes that the file may ask for

    def find_class(self, module: str, name: str) -> Any:
        asked = f"{module}.{name}"
        if asked in _DESCRIBED:
            return _Described
        if asked == "_codecs.encode":
            return self._encode
        raise pickle.UnpicklingError(f"it asks for {asked}")

    def _encode(self, text: str, codec: str) -> bytes:
        """How Python 3 writes bytes up to protocol 2: once each, or a small file could fill the memory."""
        self._left -= len(text)
        if self._left < 0:
            raise pickle.UnpicklingError("it asks for more bytes than it has")
        return text.encode(choice("_codecs.encode", "codec", codec, ("latin1",)))


def _bytes_of(described: Any) -> np.ndarray | None:
    """The uint8 array that was pickled, or None if it was something else."""
    try:
        if described.state is None:
            content, dtype, shape, order = described.arguments
        else:
            _version, shape, dtype, is_fortran, content = described.state
            order = "F" if is_fortran else "C"
        if dtype.arguments[0] not in (b"u1", "u1"):
            return None
        return np.frombuffer(content, dtype=np.uint8).reshape(shape, order=order)
    except (AttributeError, IndexError, TypeError, ValueError):
        return None
