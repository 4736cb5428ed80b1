"""CIFAR-10 and CIFAR-100 from their published files: pickled batches, or binary records.

A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009. Five training batches and a
test batch of 10,000 images each; an image is 3,072 bytes, the planes red, green and blue of 32x32 pixels.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from cnnlib._params import at_least, path_text
from cnnlib.data.cifar_files import map_pickle, read_pickle, read_records
from cnnlib.data.shards import ShardedArray

CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

_TRAIN_BATCHES = tuple(f"data_batch_{i}" for i in range(1, 6))
_TEST_BATCHES = ("test_batch",)
_FOLDERS = {"binary": "cifar-10-batches-bin", "python": "cifar-10-batches-py"}  # in order of preference
_SUFFIX = {"binary": ".bin", "python": ""}
_IMAGES_PER_BATCH = 10_000


def default_data_dir() -> Path:
    """Return the folder that data sets are read from by default: ``$CNNLIB_DATA``, else ``./data``.

    Examples
    --------
    >>> default_data_dir().name
    'data'
    """
    return Path(os.environ.get("CNNLIB_DATA") or "data")


def load_CIFAR10(root: str | os.PathLike) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Read all of CIFAR-10.

    Parameters
    ----------
    root : path
        The folder ``cifar-10-batches-py`` or ``cifar-10-batches-bin``, or the folder that holds it (where
        both are present the binary records are read).

    Returns
    -------
    X_train, y_train, X_test, y_test : ndarray
        Images (50000, 3, 32, 32) and (10000, 3, 32, 32), float32 in 0..255; labels int64 in 0..9,
        whose names are ``CIFAR10_CLASSES``. The images take 737 MB.

    Raises
    ------
    FileNotFoundError
        No such folder, or one of its files is missing.
    ValueError
        A file is short, damaged or something else than a batch of CIFAR-10; the message names it.

    Examples
    --------
    >>> X_train, y_train, X_test, y_test = load_CIFAR10("data")
    >>> X_train.shape[1:], X_train.dtype, CIFAR10_CLASSES[3]
    ((3, 32, 32), dtype('float32'), 'cat')
    """
    most = len(_TRAIN_BATCHES) * _IMAGES_PER_BATCH, 0, _IMAGES_PER_BATCH
    data = _as_floats(_splits("load_CIFAR10", "root", root, most, read_pickle))
    return data["X_train"], data["y_train"], data["X_test"], data["y_test"]


def get_CIFAR10_data(
    cifar10_dir: str | os.PathLike | None = None,
    num_training: int = 49000,
    num_validation: int = 1000,
    num_test: int = 1000,
    subtract_mean: bool = True,
) -> dict[str, np.ndarray]:
    """Read CIFAR-10, split it and centre it.

    Parameters
    ----------
    cifar10_dir : path, optional
        As `root` of :func:`load_CIFAR10`; by default ``$CNNLIB_DATA``, else ``./data``.
        ``cnnlib.data.download_CIFAR10()`` fetches the data to that same place.
    num_training, num_validation : int
        The first `num_training` of the 50,000 training images train, the next `num_validation` validate.
    num_test : int
        How many of the 10,000 test images to keep, from the first.
    subtract_mean : bool
        Subtract the mean image of the training part from all three parts.

    Returns
    -------
    dict
        ``X_train, y_train, X_val, y_val, X_test, y_test``: images (N, 3, 32, 32) float32, labels (N,) int64.

    Raises
    ------
    FileNotFoundError, ValueError
        As :func:`load_CIFAR10`; ValueError also for more images than there are.

    Examples
    --------
    >>> data = get_CIFAR10_data("data", num_training=50, num_validation=10, num_test=5)
    >>> {name: array.shape for name, array in data.items() if name.startswith("X")}
    {'X_train': (50, 3, 32, 32), 'X_val': (10, 3, 32, 32), 'X_test': (5, 3, 32, 32)}
    """
    where = "get_CIFAR10_data"
    counts = _counts(where, num_training, num_validation, num_test)
    if subtract_mean and counts[0] == 0:
        raise ValueError(f"{where}: subtract_mean needs training images, and num_training is 0")
    data = _as_floats(_splits(where, "cifar10_dir", cifar10_dir, counts, read_pickle))
    if subtract_mean:
        mean_image = data["X_train"].mean(axis=0, dtype=np.float64).astype(np.float32)
        for part in ("train", "val", "test"):
            data[f"X_{part}"] -= mean_image
    return data


def map_CIFAR10(
    cifar10_dir: str | os.PathLike | None = None,
    num_training: int = 49000,
    num_validation: int = 1000,
    num_test: int = 10000,
) -> dict[str, Any]:
    """Map CIFAR-10's images into memory where they lie in their files, as bytes; nothing is written.

    The labels stand between the images, so each file is read through once, and nothing but its labels kept.
    The same images as :func:`get_CIFAR10_data` with ``subtract_mean=False`` has, in a quarter of the memory,
    which the processes of a machine share. :class:`Normalization`, as the Solver's ``preprocess``, makes
    float32 of a minibatch. Batches that Python 3 has pickled anew by protocol 2 or below are read instead.

    Parameters
    ----------
    cifar10_dir, num_training, num_validation, num_test
        As of :func:`get_CIFAR10_data`.

    Returns
    -------
    dict
        ``X_train, X_val, X_test``: uint8 (N, 3, 32, 32), a memory map or a :class:`ShardedArray` of several,
        read-only. ``y_train, y_val, y_test``: int64 labels (N,).

    Raises
    ------
    FileNotFoundError, ValueError
        As :func:`get_CIFAR10_data`.

    Examples
    --------
    >>> data = map_CIFAR10("data", num_training=50, num_validation=10, num_test=5)
    >>> data["X_train"].shape, data["X_train"].dtype
    ((50, 3, 32, 32), dtype('uint8'))
    """
    where = "map_CIFAR10"
    counts = _counts(where, num_training, num_validation, num_test)
    return _splits(where, "cifar10_dir", cifar10_dir, counts, map_pickle)


def _splits(where, name, root, counts, of_pickle):
    """The splits of CIFAR-10, images as bytes; ``of_pickle(path, count, classes)`` reads a pickled batch.

    `name` is what `where` calls the folder.
    """
    batches = _find_batches(Path(path_text(where, name, default_data_dir() if root is None else root)), where)
    classes = len(CIFAR10_CLASSES)

    def batch(path):
        if path.suffix == ".bin":
            return read_records(path, "batch of CIFAR-10", _IMAGES_PER_BATCH, 1, classes)
        pixels, labels = of_pickle(path, _IMAGES_PER_BATCH, classes)
        return pixels.reshape(-1, 3, 32, 32), labels

    return mapped_splits(batches["train"], batches["test"], counts, batch)


def _as_floats(data):
    return {name: np.array(array[:], np.float32) if name[0] == "X" else array for name, array in data.items()}


def mapped_splits(train, test, counts, map_file):
    """Splits of the first images of the files `train` and `test`; ``map_file(path)`` returns (X, y)."""
    num_training, num_validation, num_test = counts
    data: dict[str, Any] = {}
    for paths, parts in (
        (train, {"train": (0, num_training), "val": (num_training, num_training + num_validation)}),
        (test, {"test": (0, num_test)}),
    ):
        shards, labels = [np.empty((0, 3, 32, 32), np.uint8)], [np.empty(0, np.int64)]
        wanted = max(stop for _, stop in parts.values())
        for path in paths:
            if sum(map(len, labels)) < wanted:
                images, numbers = map_file(path)
                shards.append(images)
                labels.append(numbers)
        X, y = ShardedArray(shards), np.concatenate(labels)
        for part, (start, stop) in parts.items():
            data |= {f"X_{part}": X.part(start, stop), f"y_{part}": y[start:stop]}
    return data


def _counts(where, num_training, num_validation, num_test):
    """The three numbers of images, checked."""
    given = {"num_training": num_training, "num_validation": num_validation, "num_test": num_test}
    num_training, num_validation, num_test = (at_least(0, where, *item) for item in given.items())
    total = len(_TRAIN_BATCHES) * _IMAGES_PER_BATCH
    if num_training + num_validation > total:
        raise ValueError(
            f"{where}: num_training + num_validation is {num_training} + {num_validation}, "
            f"but there are {total} training images"
        )
    if num_test > _IMAGES_PER_BATCH:
        raise ValueError(f"{where}: num_test is {num_test}, but there are {_IMAGES_PER_BATCH} test images")
    return num_training, num_validation, num_test


def batch_files(layout):
    """Names of the six files of a layout ('python' or 'binary'), below that layout's folder."""
    return [f"{_FOLDERS[layout]}/{name}{_SUFFIX[layout]}" for name in (*_TRAIN_BATCHES, *_TEST_BATCHES)]


def _find_batches(root, where):
    """The batch files below `root`: {'train': paths, 'test': paths}; FileNotFoundError if one is missing."""
    hint = f"cnnlib.data.download_CIFAR10({str(root)!r}) fetches the data set"
    if not root.is_dir():
        raise FileNotFoundError(f"{where}: there is no folder {root}; {hint}")
    for layout, folder in _FOLDERS.items():
        for place in (root, root / folder):
            paths = [place / f"{name}{_SUFFIX[layout]}" for name in (*_TRAIN_BATCHES, *_TEST_BATCHES)]
            if not any(path.exists() for path in paths):
                continue
            for path in paths:
                if not path.is_file():
                    raise FileNotFoundError(f"{where}: {path} is missing; {hint}")
            return {"train": paths[: len(_TRAIN_BATCHES)], "test": paths[len(_TRAIN_BATCHES) :]}
    folders = " nor ".join(_FOLDERS.values())
    raise FileNotFoundError(f"{where}: {root} holds neither CIFAR-10's batches nor {folders}; {hint}")


_WHERE_100 = "map_CIFAR100"
_FOLDER_100 = "cifar-100-binary"
_IMAGES_100 = {"train.bin": 50_000, "test.bin": 10_000}
_NAMES = "fine_label_names.txt"
_CLASSES = 100


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
    folder = _folder_100(Path(path_text(_WHERE_100, "root", root)))
    total = _IMAGES_100["train.bin"]
    if at_least(0, _WHERE_100, "num_validation", num_validation) >= total:
        raise ValueError(f"{_WHERE_100}: num_validation must be in 0..{total - 1}, got {num_validation}")
    classes = tuple((folder / _NAMES).read_text(encoding="utf-8").split())
    if len(classes) != _CLASSES:
        raise ValueError(f"{folder / _NAMES} has {len(classes)} names, expected {_CLASSES}")
    counts = (total - num_validation, num_validation, _IMAGES_100["test.bin"])

    def images(path):  # the fine labels follow the coarse ones
        return read_records(path, "file of CIFAR-100", _IMAGES_100[path.name], 2, _CLASSES)

    data = mapped_splits([folder / "train.bin"], [folder / "test.bin"], counts, images)
    return {**data, "classes": classes}


def _folder_100(root):
    if not root.is_dir():
        raise FileNotFoundError(f"{_WHERE_100}: there is no folder {root}")
    folder = root / _FOLDER_100 if (root / _FOLDER_100).is_dir() else root
    for name in (*_IMAGES_100, _NAMES):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{_WHERE_100}: {folder / name} is missing")
    return folder
