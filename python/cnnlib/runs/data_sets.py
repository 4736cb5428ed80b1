"""The data sets of runs: by name, or of files that say what they hold."""

from __future__ import annotations

import glob
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cnnlib import data
from cnnlib.data.array_files import CLASSES, array_splits
from cnnlib.data.image_folder import folder_digest
from cnnlib.data.writing import load_writing
from cnnlib.models.spec.reading import COLOURS

_CIFAR10 = {"train": 49000, "val": 1000, "test": 10000}
PARTS = ("train", "val", "test")
DATA_NAMES = ("digits", "cifar10", "cifar100", "folder", "npy")
_INSIDE = {"folder": "images by class", "npy": "arrays"}


@dataclass(frozen=True)
class DataSet:
    """A data set: its classes, its image shape (C, H, W), and the value of a white (or fully inked) pixel.

    `white` is None where that is what :meth:`cnnlib.data.Normalization.fit` finds. `ink` says that an image
    is bright writing on a dark ground. `shares` are the options `validation`, `test` and `skip_unreadable` of
    :func:`cnnlib.data.load_image_folder`; the others come with splits of their own. `read` is what was
    read to find all that, and is not read again.
    """

    name: str
    classes: tuple[str, ...]
    shape: Any
    white: float | None
    shares: Mapping[str, Any] | None = None
    task: str = "classes"
    ink: bool = False
    read: Mapping[str, Any] | None = None

    def load(self, folder, parts):
        """Read the parts 'train', 'val', 'test' that are asked for; refuse files of other classes."""
        read = self.read or _READERS[self.name](self, folder, parts)
        found = read.get("classes", self.classes)
        if self.classes not in (found, COLOURS):
            raise ValueError(
                f"{folder} has the classes {', '.join(found)}; the model's are {', '.join(self.classes)}"
            )
        names = ("unreadable", *(f"{kind}_{part}" for kind in ("X", "y", "files") for part in parts))
        return {name: read[name] for name in names if name in read}


def _read_cifar10(data_set, folder, parts):
    num_training = _CIFAR10["train"] if {"train", "val"} & set(parts) else 0
    others = (_CIFAR10[part] if part in parts else 0 for part in ("val", "test"))
    return data.map_CIFAR10(folder, num_training, *others)


def _read_folder(data_set, folder, parts):
    channels, *size = data_set.shape
    if data_set.ink:
        return load_writing(folder, data_set.shape, **data_set.shares)
    if data_set.task == "classes":
        return data.load_image_folder(folder, size, channels=channels, **data_set.shares)
    splits = dict(data_set.shares)
    if splits.pop("skip_unreadable", False):
        raise ValueError(f"--skip-unreadable means nothing to --task {data_set.task}")
    read = data.load_target_folder(folder, size, data_set.task, channels=channels, **splits)
    return read if data_set.task == "values" else _named(data_set, folder, read)


def _read_arrays(data_set, folder, parts):
    read = array_splits(Path(folder), data_set.task, parts)
    X = read[f"X_{parts[0]}"]
    if X.ndim != 4 or X.shape[1] not in (1, 3):
        raise ValueError(f"{folder}: X_{parts[0]} must be images (N, 1 or 3, H, W), got shape {X.shape}")
    if data_set.shape is not None and X.shape[1:] != data_set.shape:
        raise ValueError(f"{folder} has images {X.shape[1:]}; the model's are {data_set.shape}")
    return _named(data_set, folder, read, parts)


def _named(data_set, folder, read, parts=PARTS):
    """Without names in the folder, the model's; labels are numbers then, of which the last may not occur."""
    if not (Path(folder) / CLASSES).is_file():
        labels = data_set.task == "classes" or read[f"y_{parts[0]}"].ndim == 3
        known = data_set.classes[: len(read["classes"])] if labels else data_set.classes
        if len(known) == len(read["classes"]):
            read["classes"] = data_set.classes
    return read


_READERS = {
    "digits": lambda data_set, folder, parts: data.load_digits(),
    "cifar10": _read_cifar10,
    "cifar100": lambda data_set, folder, parts: data.map_CIFAR100(folder),
    "folder": _read_folder,
    "npy": _read_arrays,
}
DATA_SETS = {
    "digits": DataSet("digits", tuple("0123456789"), (1, 8, 8), 1.0, ink=True),
    "cifar10": DataSet("cifar10", data.CIFAR10_CLASSES, (3, 32, 32), 255.0),
}
# Their classes and shape are those of the files.
OF_FILES = tuple(name for name in _READERS if name not in DATA_SETS)


def data_set_of_files(name, folder, shape, shares, task):
    """The data set of files that say their classes and shape: one of `OF_FILES`.

    `shape` is that which images of a folder get, its first number None for the colours that they have.
    """
    read = _READERS[name](DataSet(name, (), shape, None, shares, task), folder, PARTS)
    white = None if name == "npy" else 255.0
    return DataSet(name, read["classes"], read["X_train"].shape[1:], white, shares, task, read=read)


def describe_found(folder, shape, shares, task="classes"):
    """What config.json says of images that the files decide about, beside classes and normalisation."""
    about = {"size": list(shape[1:]), "channels": shape[0]}
    if shares is not None:  # images of a folder
        about |= {name: share for name, share in shares.items() if share is not False}
        about["names"] = folder_digest(folder, task)
    return about


def data_folder(name, folder):
    """The absolute folder that a data set is read from, as text; None for an embedded one."""
    if name == "digits":
        return None
    return str(Path(folder or data.default_data_dir()).resolve())


def parse_data(text):
    """Read ``'digits'``, ``'cifar10'`` or ``NAME:DIR`` as (name, DIR or None)."""
    name, colon, folder = text.partition(":")
    if name not in DATA_NAMES:
        hint = ""
        if os.path.isdir(text):
            kind = "npy" if glob.glob("X_train*.npy", root_dir=text) else "folder"
            hint = f"; did you mean {kind}:{text}, for {_INSIDE[kind]} in this folder?"
        raise ValueError(
            f"--data must be digits, or one of cifar10, cifar100, folder, npy with :DIR, got {text!r}{hint}"
        )
    if name == "digits" and colon:
        raise ValueError(f"--data digits is embedded and takes no folder, got {text!r}")
    if (colon or name in ("folder", "npy")) and not folder:
        raise ValueError(f"--data {text} lacks the folder after the colon")
    return name, os.path.expanduser(folder) or None  # which no shell does behind a colon
