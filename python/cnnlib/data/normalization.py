"""What images go through before a model sees them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cnnlib._params import above_0, flag, number
from cnnlib._params.registry import Registry
from cnnlib.data.row_array import RowArray

_NEARLY_ALL, _LARGE = 0.95, 2.0**16
ROUNDING = 1e-13  # of a mean of many equal numbers, which so have a standard deviation
_CHUNK_IMAGES, _CHUNK_VALUES = 1000, 2**22  # at a time: bounds the memory that wider copies take


@dataclass(frozen=True, init=False)
class Normalization:
    """Subtract `mean` and divide by `std`, per channel.

    Calling it makes new images and leaves the given ones alone: of uint8 and other integers float32, of
    floating-point images the same dtype.

    Parameters
    ----------
    mean, std : float or sequence of float
        A number for each channel, or one for all; `std` is above 0.
    white : float
        The value of a white pixel in the images that are given: 255, or 1 for images in [0, 1].
    ink : bool
        Whether the images are bright writing on a dark ground. Files are then read as scans: turned so that
        the ground is dark, and cropped to the ink. (`white` and `ink` have no part in the formula; who reads
        images from files for the model has to know them, as ``cnnlib predict`` does, and a Predictor that is
        given bytes.)

    Raises
    ------
    ValueError, TypeError
        For numbers out of range, or `mean` and `std` of different lengths.

    Examples
    --------
    >>> float(Normalization(mean=0, std=255)(np.full((1, 3, 2, 2), 255, np.uint8)).max())
    1.0
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    white: float
    ink: bool

    def __init__(
        self,
        mean: float | Sequence[float],
        std: float | Sequence[float],
        white: float = 255.0,
        ink: bool = False,
    ) -> None:
        means, stds = _numbers("mean", mean), _numbers("std", std)
        if min(stds) <= 0:
            raise ValueError(f"Normalization: std must be above 0, got {std!r}")
        if len(means) != len(stds):
            raise ValueError(f"Normalization: mean has {len(means)} channels, std {len(stds)}")
        white = above_0("Normalization", "white", white)
        ink = flag("Normalization", "ink", ink)
        for name, value in (("mean", means), ("std", stds), ("white", white), ("ink", ink)):
            object.__setattr__(self, name, value)

    @classmethod
    def fit(cls, X: np.ndarray | RowArray, *, ink: bool | None = None) -> Normalization:
        """The mean and the standard deviation of each channel of the training images X (N, C, H, W).

        X may be a memory map, or several; it is read in parts. A channel without any contrast gets the
        standard deviation 1. `white` is 1 if no value lies above 1, else 255 (always for integers, but for
        uint16 beyond that: 65535). `ink` None: the images are taken for writing if they are grey and nearly
        all have a border of zeros, as scanned digits do. Say False of what
        :func:`cnnlib.data.load_image_folder` has read, which takes all files for photographs: those of
        another size would later be read otherwise.
        """
        if X.ndim != 4 or 0 in X.shape:
            raise ValueError(f"Normalization.fit: X must be images (N, C, H, W), got shape {X.shape}")
        if X.dtype == np.uint8:
            mean, variance = _moments_of_bytes(X)
        else:
            mean, variance = moments(X)
        if not np.isfinite([mean, variance]).all():
            raise ValueError("Normalization.fit: X holds NaN, infinity, or numbers whose squares are none")
        std = np.sqrt(variance)
        std = np.where(std > ROUNDING * np.abs(mean), std, 1.0)
        ink = _is_writing(X[:_CHUNK_IMAGES]) if ink is None else ink
        return cls(tuple(mean.tolist()), tuple(std.tolist()), _white_of(X), ink)

    def __call__(self, X: np.ndarray) -> np.ndarray:
        """Images X (N, C, H, W), normalised, in a new array."""
        channels = len(self.mean)
        if X.ndim != 4 or channels not in (1, X.shape[1]):
            raise ValueError(
                f"Normalization: X must be images (N, {channels}, H, W) as mean has {channels} "
                f"channel{'s' * (channels > 1)}, got shape {X.shape}"
            )
        dtype = np.dtype(np.float32) if X.dtype.kind in "iub" else X.dtype
        # Beside a large mean float32 does not tell integers apart.
        wide = X.dtype.kind in "iu" and max(map(abs, self.mean)) > _LARGE
        out = X.astype(np.float64 if wide else dtype)
        out -= np.array(self.mean, dtype=out.dtype)[:, None, None]
        out /= np.array(self.std, dtype=out.dtype)[:, None, None]
        return out.astype(dtype, copy=False)


def of_bytes(preprocess: Any) -> Any:
    """What bytes go through: a Normalization of another white is scaled to theirs, 255."""
    if not isinstance(preprocess, Normalization) or preprocess.white == 255:
        return preprocess
    by = 255 / preprocess.white
    mean, std = ([by * number for number in each] for each in (preprocess.mean, preprocess.std))
    return Normalization(mean, std, ink=preprocess.ink)


def preprocessed(preprocess: Callable[..., Any], X: np.ndarray) -> Any:
    """Preprocess images; a function of the user's own gets a copy, since it may change them in place."""
    return preprocess(X if isinstance(preprocess, Normalization) else np.array(X))


def _numbers(name, value):
    values = value if isinstance(value, (list, tuple, np.ndarray)) else [value]
    if len(values) == 0:
        raise ValueError(f"Normalization: {name} must have a number for each channel, got none")
    return tuple(number("Normalization", name, item) for item in values)


def _chunks(X):
    step = min(_CHUNK_IMAGES, max(1, _CHUNK_VALUES // X[0].size))
    return (X[start : start + step] for start in range(0, len(X), step))


def _white_of(X):
    """The value of a white pixel, as far as images say it."""
    wide = X.dtype.kind == "u" and X.dtype.itemsize == 2
    if X.dtype.kind in "iu" and not wide:
        return 255.0
    largest = max(chunk.max() for chunk in _chunks(X))
    return (65535.0 if largest > 255 else 255.0) if wide else 255.0 if largest > 1 else 1.0


def _is_writing(X):
    """Whether images are grey, and at least half of the border is zero in nearly all of them."""
    if X.shape[1] != 1:
        return False
    border = np.concatenate([X[:, 0, 0], X[:, 0, -1], X[:, 0, :, 0], X[:, 0, :, -1]], axis=1)
    return bool(np.mean(np.median(border, axis=1) == 0) > _NEARLY_ALL)


def moments(X: Any) -> tuple[Any, Any]:
    """Mean and variance of each channel of images, or of each feature of X (N, D), summed in float64."""
    axes = (0, *range(2, X.ndim))
    count = math.prod(X.shape) // X.shape[1]
    mean = sum(chunk.sum(axis=axes, dtype=np.float64) for chunk in _chunks(X)) / count
    per_channel = mean.reshape(-1, *(1,) * (X.ndim - 2))
    deviations = (chunk - per_channel for chunk in _chunks(X))
    return mean, sum(np.square(chunk).sum(axis=axes) for chunk in deviations) / count


def _moments_of_bytes(X):
    """Moments of uint8 images in one pass: from how often each value occurs."""
    counts = np.zeros((X.shape[1], 256), dtype=np.int64)
    for chunk in _chunks(X):
        for channel, count in enumerate(counts):
            count += np.bincount(chunk[:, channel].ravel(), minlength=256)
    shares = counts / counts[0].sum()
    mean = shares @ np.arange(256.0)
    return mean, np.sum(shares * np.square(np.arange(256.0) - mean[:, None]), axis=1)


# What networks of these families go through, of pixels 0 to 255.
NORMALIZATIONS = {
    "torchvision": Normalization((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
    "half": Normalization(127.5, 127.5),
    "unit": Normalization(0.0, 255.0),
}

PREPROCESSING = Registry("preprocessing", {"normalization": Normalization})
