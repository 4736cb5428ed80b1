"""The data sets that the command knows."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cnnlib.data import (
    CIFAR10_CLASSES,
    default_data_dir,
    load_array_folder,
    load_digits,
    load_image_folder,
    load_target_folder,
    map_CIFAR10,
    map_CIFAR100,
)
from cnnlib.data.image_folder import folder_digest

_CIFAR10 = {"train": 49000, "val": 1000, "test": 10000}


@dataclass(frozen=True)
class DataSet:
    """A data set: its classes, its image shape (C, H, W), and the value of a white (or fully inked) pixel.

    `white` is None where that is what :meth:`cnnlib.data.Normalization.fit` finds.
    `ink` says that an image is bright writing on a dark ground. `load(folder, parts)` reads the parts
    'train', 'val', 'test' that are asked for.
    """

    classes: tuple[str, ...]
    shape: tuple[int, int, int]
    white: float | None
    ink: bool
    load: Callable
    task: str = "classes"


def _parts_of(data, parts):
    return {
        key: values for key, values in data.items() if key.partition("_")[2] in parts or key == "unreadable"
    }


def _load_digits(folder, parts):
    return _parts_of(load_digits(), parts)


def _load_cifar10(folder, parts):
    counts = {
        "num_training": _CIFAR10["train"] if {"train", "val"} & set(parts) else 0,
        "num_validation": _CIFAR10["val"] if "val" in parts else 0,
        "num_test": _CIFAR10["test"] if "test" in parts else 0,
    }
    return _parts_of(map_CIFAR10(folder, **counts), parts)


def _load_photos(shape, shares, folder, task):
    channels, *size = shape
    if task == "classes":
        return load_image_folder(folder, size, channels=channels, **shares)
    if shares.get("skip_unreadable"):
        raise ValueError(f"--skip-unreadable means nothing to --task {task}")
    splits = {name: shares[name] for name in ("validation", "test")}
    return load_target_folder(folder, size, task, channels=channels, **splits)


def _load_arrays(shape, shares, folder, task):
    data = load_array_folder(folder, task=task)
    X = data["X_train"]
    if X.ndim != 4 or X.shape[1] not in (1, 3):
        raise ValueError(f"{folder}: X_train must be images (N, 1 or 3, H, W), got shape {X.shape}")
    if shape is not None and X.shape[1:] != shape:
        raise ValueError(f"{folder} has images {X.shape[1:]}; the model's are {shape}")
    return data


def _load_cifar100(shape, shares, folder, task):
    return map_CIFAR100(folder)


_READERS = {"folder": _load_photos, "npy": _load_arrays, "cifar100": _load_cifar100}


def _load_found(name, classes, shape, shares, task, folder, parts):
    data = _READERS[name](shape, shares, folder, task)
    if data["classes"] != classes:
        raise ValueError(
            f"{folder} has the classes {', '.join(data['classes'])}; the model's are {', '.join(classes)}"
        )
    return _parts_of(data, parts)


DATA_SETS = {
    "digits": DataSet(tuple("0123456789"), (1, 8, 8), 1.0, True, _load_digits),
    "cifar10": DataSet(CIFAR10_CLASSES, (3, 32, 32), 255.0, False, _load_cifar10),
}


def found_data_set(name, classes, shape, white, shares, task="classes"):
    """A data set whose classes and shape are known from its files: one of `FOUND`.

    `shares` are the options `validation`, `test` and `skip_unreadable` of
    :func:`cnnlib.data.load_image_folder`; the others come with splits of their own.
    """
    load = functools.partial(_load_found, name, tuple(classes), tuple(shape), shares, task)
    return DataSet(tuple(classes), tuple(shape), white, False, load, task)


def look_into(name, folder, shape, shares, task):
    """The same, with the classes and the shape that the files have.

    `shape` is that which images of a folder get, its first number None for the colours that they have.
    """
    data = _READERS[name](shape, shares, folder, task)
    white = None if name == "npy" else 255.0
    return found_data_set(name, data["classes"], data["X_train"].shape[1:], white, shares, task)


def describe_found(folder, shape, shares):
    """What config.json says of images that the files decide about, beside classes and normalisation."""
    about = {"size": list(shape[1:]), "channels": shape[0]}
    if shares is not None:  # images of a folder
        about |= {name: share for name, share in shares.items() if share is not False}
        about["names"] = folder_digest(folder)
    return about


FOUND = tuple(_READERS)  # classes and shape are those of the files


def data_folder(name, folder):
    """The absolute folder that a data set is read from, as text; None for an embedded one."""
    if name == "digits":
        return None
    return str(Path(folder or default_data_dir()).resolve())
