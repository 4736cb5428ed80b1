"""The data sets that the command knows."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cnnlib.data import CIFAR10_CLASSES, default_data_dir, get_CIFAR10_data, load_digits, load_image_folder

_CIFAR10 = {"train": 49000, "val": 1000, "test": 10000}


@dataclass(frozen=True)
class DataSet:
    """A data set: its classes, its image shape (C, H, W), and the value of a white (or fully inked) pixel.

    `ink` says that an image is bright writing on a dark ground. `load(folder, parts)` reads the parts
    'train', 'val', 'test' that are asked for.
    """

    classes: tuple[str, ...]
    shape: tuple[int, int, int]
    white: float
    ink: bool
    load: Callable


def _parts_of(data, parts):
    return {key: values for key, values in data.items() if key.partition("_")[2] in parts}


def _load_digits(folder, parts):
    return _parts_of(load_digits(), parts)


def _load_cifar10(folder, parts):
    counts = {
        "num_training": _CIFAR10["train"] if {"train", "val"} & set(parts) else 0,
        "num_validation": _CIFAR10["val"] if "val" in parts else 0,
        "num_test": _CIFAR10["test"] if "test" in parts else 0,
    }
    data = get_CIFAR10_data(folder, **counts, subtract_mean=False)
    return _parts_of(data, parts)


def _load_folder(classes, shape, shares, folder, parts):
    C, H, W = shape
    data = load_image_folder(folder, (H, W), channels=C, **shares)
    if data["classes"] != classes:
        raise ValueError(
            f"{folder} has the classes {', '.join(data['classes'])}; the model's are {', '.join(classes)}"
        )
    return _parts_of(data, parts)


DATA_SETS = {
    "digits": DataSet(tuple("0123456789"), (1, 8, 8), 1.0, True, _load_digits),
    "cifar10": DataSet(CIFAR10_CLASSES, (3, 32, 32), 255.0, False, _load_cifar10),
}


def image_folder(classes, shape, shares):
    """Images by class in a folder, as :func:`cnnlib.data.load_image_folder` reads them.

    `shares` are its options `validation` and `test`.
    """
    load = functools.partial(_load_folder, tuple(classes), tuple(shape), shares)
    return DataSet(tuple(classes), tuple(shape), 255.0, False, load)


def look_into(folder, size, channels, shares):
    """The same, with the classes and (for `channels` None) the colours that the folder has."""
    data = load_image_folder(folder, size, channels=channels, **shares)
    return image_folder(data["classes"], data["X_train"].shape[1:], shares)


def data_folder(name, folder):
    """The absolute folder that a data set is read from, as text; None for an embedded one."""
    if name == "digits":
        return None
    return str(Path(folder or default_data_dir()).resolve())
