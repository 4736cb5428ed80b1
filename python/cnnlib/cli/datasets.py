"""The data sets that the command knows, and the preprocessing that a run applies and records."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cnnlib.data import CIFAR10_CLASSES, default_data_dir, get_CIFAR10_data, load_digits

_CIFAR10 = {"train": 49000, "val": 1000, "test": 10000}
_CHUNK = 1000  # images: bounds the memory that float64 copies take


@dataclass(frozen=True)
class DataSet:
    """A data set: its classes, its image shape (C, H, W), and the value of a fully bright pixel.

    `ink` says that an image is bright writing on a dark ground. `load(folder, parts)` reads the parts
    'train', 'val', 'test' that are asked for.
    """

    classes: tuple[str, ...]
    shape: tuple[int, int, int]
    full: float
    ink: bool
    load: Callable


def _load_digits(folder, parts):
    data = load_digits()
    return {key: values for key, values in data.items() if key.partition("_")[2] in parts}


def _load_cifar10(folder, parts):
    counts = {
        "num_training": _CIFAR10["train"] if {"train", "val"} & set(parts) else 0,
        "num_validation": _CIFAR10["val"] if "val" in parts else 0,
        "num_test": _CIFAR10["test"] if "test" in parts else 0,
    }
    data = get_CIFAR10_data(folder, **counts, subtract_mean=False)
    return {key: values for key, values in data.items() if key.partition("_")[2] in parts}


DATA_SETS = {
    "digits": DataSet(tuple("0123456789"), (1, 8, 8), 1.0, True, _load_digits),
    "cifar10": DataSet(CIFAR10_CLASSES, (3, 32, 32), 255.0, False, _load_cifar10),
}


def data_folder(name, folder):
    """The absolute folder that a data set is read from, as text; None for an embedded one."""
    if name == "digits":
        return None
    return str(Path(folder or default_data_dir()).resolve())


@dataclass(frozen=True)
class Preprocessing:
    """Per channel: subtract the mean of the training images, divide by their standard deviation."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def fit(cls, X):
        """From training images X (N, C, H, W)."""
        pixels = len(X) * X.shape[2] * X.shape[3]
        chunks = [X[start : start + _CHUNK] for start in range(0, len(X), _CHUNK)]
        mean = sum(chunk.sum(axis=(0, 2, 3), dtype=np.float64) for chunk in chunks) / pixels
        deviations = (chunk - mean[:, None, None] for chunk in chunks)
        variance = sum(np.square(chunk).sum(axis=(0, 2, 3)) for chunk in deviations) / pixels
        return cls(tuple(mean.tolist()), tuple(np.sqrt(variance).tolist()))

    def apply(self, X):
        """Preprocess floating-point images X (N, C, H, W) in place; returns X."""
        X -= np.array(self.mean, dtype=X.dtype)[:, None, None]
        X /= np.array(self.std, dtype=X.dtype)[:, None, None]
        return X

    def undo(self, X):
        """The images as they were, in a new array."""
        return X * np.array(self.std, X.dtype)[:, None, None] + np.array(self.mean, X.dtype)[:, None, None]
