"""The files of CIFAR-10 and CIFAR-100: binary records, or batches that Python 2 has pickled."""

from __future__ import annotations

import io
import pickle
import pickletools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

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
        batch = _Unpickler(io.BytesIO(content), encoding="bytes").load()
    except Exception as error:  # a damaged pickle can raise nearly anything
        raise ValueError(f"{no_batch}, or is damaged: {error}") from error
    if not isinstance(batch, dict) or not {b"data", b"labels"} <= batch.keys():
        raise ValueError(f"{no_batch}: no dict with 'data' and 'labels'")
    pixels, labels = _bytes_of(batch[b"data"]), batch[b"labels"]
    if pixels is None or pixels.shape != (count, _PIXELS):
        raise ValueError(f"{no_batch}: 'data' is not a uint8 array {(count, _PIXELS)}")
    if not isinstance(labels, list) or len(labels) != count or {type(n) for n in labels} != {int}:
        raise ValueError(f"{path}: 'labels' is not a list of {count} integers")
    return pixels, _checked_labels(path, labels, classes)


def map_pickle(path: Path, count: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """A pickled batch: its images (count, 3, 32, 32), mapped where they lie in the file, and the labels."""
    pixels, labels = read_pickle(path, count, classes)
    # A pickle of Python 2 holds the array's bytes as they are, in the order that the array has.
    order: Literal["C", "F"] = "C" if pixels.flags.c_contiguous else "F"
    wanted, content = pixels.tobytes(order), path.read_bytes()
    offset = content.find(wanted[:_PIXELS])  # to look for all of it takes seconds
    if offset < 0 or content[offset : offset + len(wanted)] != wanted:
        raise ValueError(f"{path}: its pixels do not lie in it as they are, so they cannot be mapped")
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


class _Unpickler(pickle.Unpickler):
    """Reads what CIFAR-10's files contain, and calls no function, not even NumPy's."""

    def find_class(self, module: str, name: str) -> Any:
        if f"{module}.{name}" in ("numpy.core.multiarray._reconstruct", "numpy.ndarray", "numpy.dtype"):
            return _Described
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")


def _bytes_of(described: Any) -> np.ndarray | None:
    """The uint8 array that was pickled, or None if it was something else."""
    try:
        _version, shape, dtype, is_fortran, content = described.state
        if dtype.arguments[0] != b"u1":
            return None
        return np.frombuffer(content, dtype=np.uint8).reshape(shape, order="F" if is_fortran else "C")
    except (AttributeError, IndexError, TypeError, ValueError):
        return None
