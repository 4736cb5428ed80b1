"""CIFAR-100 from the binary version of its published files.

A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009. A file of 50,000 training images
and one of 10,000 test images; a record has two labels, of the 20 coarse and the 100 fine classes, and the
3,072 bytes of an image, the planes red, green and blue of 32x32 pixels.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from cnnlib._params import integer
from cnnlib.data.cifar10 import mapped_splits

_WHERE = "map_CIFAR100"
_FOLDER = "cifar-100-binary"
_IMAGES = {"train.bin": 50_000, "test.bin": 10_000}
_NAMES = "fine_label_names.txt"
_CLASSES = 100
_LABELS, _PIXELS = 2, 3 * 32 * 32  # bytes of a record; the fine label is the second


def map_CIFAR100(root: str | os.PathLike, num_validation: int = 1000) -> dict[str, Any]:
    """Map CIFAR-100's images into memory where they lie in their files, as bytes; nothing is written.

    The labels, of the 100 fine classes, stand between the images, so each file is read through once, and
    nothing but its labels kept.

    Parameters
    ----------
    root : path
        The folder ``cifar-100-binary``, or the folder that holds it.
    num_validation : int
        The last `num_validation` of the 50,000 training images validate.

    Returns
    -------
    dict
        ``X_train``, ``X_val``, ``X_test``: uint8 memory maps (N, 3, 32, 32), read-only. ``y_train``,
        ``y_val``, ``y_test``: int64 labels (N,). ``classes``: the names of the classes, a tuple.

    Raises
    ------
    FileNotFoundError
        There is no such folder, or one of its files is missing.
    ValueError
        A file is short, damaged or something else; the message names it.

    Examples
    --------
    >>> data = map_CIFAR100("data", num_validation=10)
    >>> data["X_val"].shape, len(data["classes"])
    ((10, 3, 32, 32), 100)
    """
    folder = _folder(Path(root))
    total = _IMAGES["train.bin"]
    num_validation = integer(_WHERE, "num_validation", num_validation)
    if not 0 <= num_validation < total:
        raise ValueError(f"{_WHERE}: num_validation must be in 0..{total - 1}, got {num_validation}")
    classes = tuple((folder / _NAMES).read_text(encoding="utf-8").split())
    if len(classes) != _CLASSES:
        raise ValueError(f"{folder / _NAMES} has {len(classes)} names, expected {_CLASSES}")
    counts = (total - num_validation, num_validation, _IMAGES["test.bin"])
    data = mapped_splits([folder / "train.bin"], [folder / "test.bin"], counts, _map_file)
    return {**data, "classes": classes}


def _folder(root):
    if not root.is_dir():
        raise FileNotFoundError(f"{_WHERE}: there is no folder {root}")
    folder = root / _FOLDER if (root / _FOLDER).is_dir() else root
    for name in (*_IMAGES, _NAMES):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{_WHERE}: {folder / name} is missing")
    return folder


def _map_file(path):
    """The images of a file, mapped: uint8 (N, 3, 32, 32), and its fine labels (N,)."""
    want, size = _IMAGES[path.name] * (_LABELS + _PIXELS), path.stat().st_size
    if size != want:
        raise ValueError(
            f"{path} is not a binary file of CIFAR-100: it has {size} bytes, "
            f"expected {want} ({_IMAGES[path.name]} records of {_LABELS} + {_PIXELS})"
        )
    # Not from the map, of which every page would stay in memory.
    labels = np.fromfile(path, dtype=np.uint8).reshape(-1, _LABELS + _PIXELS)[:, 1].astype(np.int64)
    if labels.max() >= _CLASSES:
        raise ValueError(f"{path}: a label is {labels.max()}, expected 0..{_CLASSES - 1}")
    records = np.memmap(path, dtype=np.uint8, mode="r").reshape(-1, _LABELS + _PIXELS)
    return records[:, _LABELS:].reshape(-1, 3, 32, 32), labels
