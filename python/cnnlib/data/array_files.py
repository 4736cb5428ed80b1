"""Data sets as NumPy's array files, which are mapped into memory rather than read."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cnnlib._files.npy import mapped_array
from cnnlib._params import choice, path_text
from cnnlib.data.normalization import ROUNDING
from cnnlib.data.shards import ShardedArray

_WHERE = "load_array_folder"
CLASSES = "classes.txt"
LARGEST = np.float64(np.finfo(np.float32).max)  # of numbers that are learned
_LOST = 0.01  # of the spread of numbers: what float32 may take from them
_MOST_CLASSES = 2**20  # without names: a label beyond it is none, and so many would fill the memory


def load_array_folder(root: str | os.PathLike, *, task: str = "classes") -> dict[str, Any]:
    """Map the arrays of a folder: ``X_train.npy``, ``y_train.npy``, ``X_val.npy`` and so on.

    Any of them may be cut into files ``X_train_0.npy``, ``X_train_1.npy``, ..., whose rows go on one after
    the other. Labels are read; of the images only those rows that are used.

    Parameters
    ----------
    root : path
        A folder with a training and a validation split; a test split is optional, as is ``classes.txt``,
        which has the name of a class on each line.
    task : 'classes', 'values' or 'pixels'
        What y holds: labels (N,); numbers (N,) or (N, M); labels (N, H, W) of pixels, of which 255 stands for
        none, or images (N, C, H, W).

    Returns
    -------
    dict
        ``X_train``, ``X_val``, ``X_test``: memory maps (N, ...), read-only, or a :class:`ShardedArray` of
        them; ``X_test`` has no rows if there is no test split. ``y_train``, ``y_val``, ``y_test``: int64
        labels (N,), or maps of other targets; numbers are float32 (N, M). ``classes``: the names of the
        classes, numbers or channels, a tuple; without ``classes.txt`` the numbers from 0 on. The files
        must not shrink while the arrays are used: to read beyond an end ends the process.

    Raises
    ------
    FileNotFoundError
        There is no folder `root`, or a split is missing.
    ValueError
        A file is damaged, or no array of numbers; a number is missing among the files of an array; images
        and labels differ in number, or the splits in shape or dtype; a label is below 0, or has no class; a
        number is NaN, or none that float32 holds, or float32 hardly tells those of a column apart.

    Examples
    --------
    >>> for part, rows in (("train", 20), ("val", 5)):
    ...     np.save(f"X_{part}.npy", np.zeros((rows, 1, 8, 8), np.uint8))
    ...     np.save(f"y_{part}.npy", np.arange(rows) % 3)
    >>> data = load_array_folder(".")
    >>> data["X_train"].shape, data["classes"]
    ((20, 1, 8, 8), ('0', '1', '2'))
    """
    return array_splits(Path(path_text(_WHERE, "root", root)), task, ("train", "val", "test"))


def array_splits(root: Path, task: str, parts: Sequence[str]) -> dict[str, Any]:
    """What :func:`load_array_folder` returns of these parts; a test split by itself must be there."""
    choice(_WHERE, "task", task, ("classes", "values", "pixels"))
    if not root.is_dir():
        raise FileNotFoundError(f"{_WHERE}: there is no folder {root}")
    data: dict[str, Any] = {}
    for part in parts:
        if part == "test" and data and not (_files(root, "X_test") or _files(root, "y_test")):
            first = data["X_val"]
            data |= {"X_test": first[:0], "y_test": np.array(data["y_val"][:0])}
            continue
        data |= _split(root, part, task)
    _check_splits(root, data, *parts)
    targets = [data[f"y_{part}"] for part in parts]
    if task != "classes":
        return {**data, "classes": _names(root, targets, task)}
    return {**data, "classes": _classes(root, np.concatenate(targets))}


def _split(root, part, task):
    X, y = _mapped(root, f"X_{part}"), _mapped(root, f"y_{part}")
    if task != "classes":
        return {f"X_{part}": X, f"y_{part}": _targets(root, part, X, y, task)}
    if y.ndim != 1 or y.dtype.kind not in "iu":
        raise ValueError(f"{root}: y_{part} must be integer labels (N,), got {y.dtype} of shape {y.shape}")
    if X.ndim < 2 or len(X) != len(y) or len(X) == 0:
        raise ValueError(
            f"{root}: X_{part} must have a row for each of the {len(y)} labels in y_{part}, got {X.shape}"
        )
    return {f"X_{part}": X, f"y_{part}": np.array(y[:], dtype=np.int64)}


def _targets(root, part, X, y, task):
    """Numbers (N, M), labels (N, H, W) or images (N, C, H, W)."""
    if task == "values":
        fits, wanted = y.ndim in (1, 2), "numbers (N,) or (N, M)"
    else:
        labels = y.ndim == 3 and y.dtype.kind in "iu" and y.shape[1:] == X.shape[2:]
        fits = labels or (y.ndim == 4 and y.dtype.kind == "f")
        wanted = f"integer labels (N, {', '.join(map(str, X.shape[2:]))}) or floats (N, C, H, W)"
    if not fits or len(y) != len(X) or len(X) == 0:
        raise ValueError(f"{root}: y_{part} must be {wanted} for X_{part} {X.shape}, got {y.dtype} {y.shape}")
    if task != "values":
        return y
    numbers = np.asarray(y[:]).reshape(len(y), -1)
    wrong = np.flatnonzero(~(np.abs(numbers) <= LARGEST).all(axis=1))
    if len(wrong):
        reason = f"expected numbers of at most {LARGEST:.3g}"
        raise ValueError(f"{root}: y_{part}[{wrong[0]}] is {numbers[wrong[0]].tolist()}, {reason}")
    if part == "train":  # by whose spread all are standardized
        refuse_alike(f"{root}: y_train", map(str, range(numbers.shape[1])), numbers)
    return numbers.astype(np.float32)


def refuse_alike(where: str, names: Iterable[str], numbers: np.ndarray) -> None:
    """Refuse numbers (N, M) of a column that differ, but hardly in float32, in which they are learned."""
    values = np.asarray(numbers, np.float64)
    lost, spread = np.abs(values.astype(np.float32) - values).max(axis=0), values.std(axis=0)
    mean = values.mean(axis=0)
    for k, name in enumerate(names):
        if lost[k] > _LOST * spread[k] > _LOST * ROUNDING * abs(mean[k]):
            raise ValueError(
                f"{where}: column {name!r} spreads by {spread[k]:.3g} around {mean[k]:.10g}, but float32, in "
                f"which it is learned, is off by up to {lost[k]:.3g} there: subtract a number from all of it"
            )


def _names(root, targets, task):
    """The names of numbers, of labels, or of channels."""
    y = targets[0]
    columns = task == "values" or y.ndim == 4
    if columns:
        count = y.shape[1]
    else:
        parts = list(map(np.asarray, targets))
        count = 1 + max(int(part[part != 255].max(initial=0)) for part in parts)
        low = min(int(part.min(initial=0)) for part in parts)
        if low < 0:
            raise ValueError(f"{root}: a label is {low}, expected 0 or above")
        if count == 1 and len(parts) > 1:  # of one, to evaluate with, they may be
            reason = "masks in black and white have 0 and 1 here"
            raise ValueError(f"{root}: all labels are 0, or 255, which stands for none; {reason}")
    names = class_names(root, count)
    if len(names) < count or (columns and len(names) > count):
        raise ValueError(f"{root}: {CLASSES} has {len(names)} names, y needs {count}")
    return names


def class_names(root: Path, count: int) -> tuple[str, ...]:
    """The lines of a folder's ``classes.txt``; without that file the numbers from 0 on, `count` of them."""
    if (root / CLASSES).is_file():
        return read_names(root / CLASSES)
    if count > _MOST_CLASSES:
        reason = f"classes are counted from 0 on, {_MOST_CLASSES} at most"
        raise ValueError(f"{root}: a label is {count - 1}; {reason}")
    return tuple(map(str, range(count)))


def read_names(path: Path) -> tuple[str, ...]:
    """The lines of a text file, without those that are empty."""
    return tuple(filter(None, map(str.strip, read_text(path).split("\n"))))


def read_text(path: Path) -> str:
    """A text file in UTF-8, with a mark of the byte order or without."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} must be text in UTF-8: {error}") from error


def _files(root, name):
    """The files of an array in their order: ``name.npy`` alone, or ``name_0.npy`` and so on."""
    pattern = re.compile(rf"{name}_(\d+)\.npy")
    numbered = sorted(
        (int(match[1]), path) for path in root.iterdir() if (match := pattern.fullmatch(path.name))
    )
    whole = root / f"{name}.npy"
    if whole.is_file():
        if numbered:
            raise ValueError(f"{root} holds both {whole.name} and {numbered[0][1].name}: which is meant?")
        return [whole]
    if [number for number, _ in numbered] != list(range(len(numbered))):
        names = ", ".join(path.name for _, path in numbered)
        raise ValueError(f"{root}: the files of {name} must be numbered 0, 1, ... without a gap, got {names}")
    return [path for _, path in numbered]


def _mapped(root, name):
    files = _files(root, name)
    if not files:
        raise FileNotFoundError(f"{_WHERE}: {root} holds neither {name}.npy nor {name}_0.npy")
    arrays = []
    for file in files:
        try:
            array = mapped_array(file)
        except (OSError, OverflowError, ValueError) as error:
            raise ValueError(f"{file} is no array file, or is damaged: {error}") from error
        if array.dtype.kind not in "uif":
            raise ValueError(f"{file} must be an array of numbers")
        if array.ndim == 0:
            raise ValueError(f"{file} must be an array with rows, got a single number")
        arrays.append(array)
    try:
        return arrays[0] if len(arrays) == 1 else ShardedArray(arrays)
    except ValueError as error:
        raise ValueError(f"{root}: the files of {name} do not fit together: {error}") from error


def _check_splits(root, data, of_first, *others):
    for name, part in itertools.product("Xy", others):
        first, array = data[f"{name}_{of_first}"], data[f"{name}_{part}"]
        if array.shape[1:] != first.shape[1:] or (name == "X" and array.dtype != first.dtype):
            raise ValueError(
                f"{root}: {name}_{part} has shape {array.shape} and dtype {array.dtype}, "
                f"{name}_{of_first} {first.shape} and {first.dtype}"
            )


def _classes(root, labels):
    low, high = int(labels.min()), int(labels.max())
    names = class_names(root, high + 1)
    if low < 0 or high >= len(names):
        raise ValueError(f"{root}: a label is {low if low < 0 else high}, expected 0..{len(names) - 1}")
    return names
