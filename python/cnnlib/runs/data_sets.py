"""The data sets of runs: by name, or of files that say what they hold."""

from __future__ import annotations

import glob
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
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
    """Find the data set of files that say their classes and shape: one of `OF_FILES`.

    `shape` is that which images of a folder get, its first number None for the colours that they have.
    """
    read = _READERS[name](DataSet(name, (), shape, None, shares, task), folder, PARTS)
    white = None if name == "npy" else 255.0
    return DataSet(name, read["classes"], read["X_train"].shape[1:], white, shares, task, read=read)


@dataclass(frozen=True)
class Source:
    """The images and targets of a run, as config.json has them under "data".

    Attributes
    ----------
    name : str
        One of `DATA_NAMES`.
    folder : str or None
        The absolute folder; None for an embedded data set.
    task : str
        'classes', 'values' or 'pixels'.
    labels : bool or None
        True if pixels have labels, False if they have colours; None for the other tasks.
    size : (int, int) or None
        Height and width of images that the files decide about, and
    channels : int or None
        their colours.
    validation, test : float or None
        The shares of a folder's images that are held out.
    skip_unreadable : bool
        True if files that cannot be read were left out.
    names : str or None
        A digest of the names of a folder's files, on which its split depends.
    """

    name: str
    folder: str | None = None
    task: str = "classes"
    labels: bool | None = None
    size: tuple[int, int] | None = None
    channels: int | None = None
    validation: float | None = None
    test: float | None = None
    skip_unreadable: bool = False
    names: str | None = None

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> Source:
        """Make it of what config.json holds, whose kinds have been checked."""
        known = {field.name: content[field.name] for field in fields(cls) if field.name in content}
        return cls(**{**known, **({"size": tuple(known["size"])} if "size" in known else {})})

    def content(self) -> dict[str, Any]:
        """Return what config.json holds: name, folder, and what is not as by default."""
        usual = {field.name: field.default for field in fields(self)}
        kept = ("name", "folder")
        return {name: value for name, value in vars(self).items() if name in kept or value != usual[name]}

    @property
    def shares(self) -> dict[str, Any]:
        """The arguments of :func:`cnnlib.data.load_image_folder` that decide about the splits."""
        return {
            "validation": self.validation,
            "test": self.test,
            "skip_unreadable": self.skip_unreadable,
        }

    def data_set(self, classes: tuple[str, ...], white: float) -> DataSet:
        """Return the data set, whose images have these classes and this value of a white pixel."""
        if self.name in DATA_SETS:
            return DATA_SETS[self.name]
        assert self.size is not None  # the files' own; it has been checked
        return DataSet(self.name, classes, (self.channels, *self.size), white, self.shares, self.task)


def found_source(
    name: str,
    folder: str,
    shape: Sequence[int],
    shares: Mapping[str, Any] | None,
    task: str = "classes",
    labels: bool | None = None,
) -> Source:
    """Describe images whose files decide about their shape (C, H, W); `shares` are a folder's."""
    channels, height, width = shape
    if shares is None:  # arrays
        return Source(name, folder, task, labels, (height, width), channels)
    return Source(
        name,
        folder,
        task,
        labels,
        (height, width),
        channels,
        validation=shares["validation"],
        test=shares["test"],
        skip_unreadable=shares["skip_unreadable"],
        names=folder_digest(folder, task),
    )


def data_folder(name, folder):
    """Return the absolute folder that a data set is read from; None for an embedded one."""
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
