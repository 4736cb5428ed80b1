"""Random changes of training images, for the Solver's ``augment``.

An augmentation is a callable ``augment(X, rng) -> X``: from images (N, C, H, W) and a
``np.random.Generator`` it makes new images of the same shape and dtype, and leaves X alone. Those defined
here are plain values that a checkpoint can hold; the Solver also takes them by name, ``'flip'``, or as a
dict, ``{'name': 'crop', 'pad': 4}``, and lists of any of these, applied in turn.
"""

from dataclasses import dataclass

import numpy as np

from cnnlib._modeling import positive_int
from cnnlib._params import choice, number
from cnnlib._registry import Registry

__all__ = ["AUGMENTATIONS", "Cutout", "HorizontalFlip", "RandomCrop"]


@dataclass(frozen=True)
class HorizontalFlip:
    """Mirror each image, left to right, with probability `p`."""

    p: float = 0.5

    def __post_init__(self):
        number("HorizontalFlip", "p", self.p, 0, 1)

    def __call__(self, X, rng):
        N = _images("HorizontalFlip", X)[0]
        flipped = rng.random(N) < self.p
        out = X.copy()
        out[flipped] = X[flipped, :, :, ::-1]
        return out


@dataclass(frozen=True)
class RandomCrop:
    """Pad each image by `pad` pixels on every side and cut out its size again, anywhere.

    Parameters
    ----------
    pad : int
    mode : 'constant' or 'reflect'
        Pad with zeros, or with the mirrored image (`pad` is then below H and W).
    """

    pad: int = 4
    mode: str = "constant"

    def __post_init__(self):
        positive_int("RandomCrop", "pad", self.pad)
        choice("RandomCrop", "mode", self.mode, ("constant", "reflect"))

    def __call__(self, X, rng):
        N, _, H, W = _images("RandomCrop", X)
        if self.mode == "reflect" and self.pad >= min(H, W):
            raise ValueError(f"RandomCrop: pad {self.pad} is too much to reflect images of {H}x{W}")
        margin = self.pad, self.pad
        padded = np.pad(X, ((0, 0), (0, 0), margin, margin), mode=self.mode)
        windows = np.lib.stride_tricks.sliding_window_view(padded, (H, W), axis=(2, 3))
        top, left = rng.integers(2 * self.pad + 1, size=(2, N))
        return np.ascontiguousarray(windows[np.arange(N), :, top, left])


@dataclass(frozen=True)
class Cutout:
    """Blank a square of each image (DeVries and Taylor 2017, arXiv:1708.04552).

    Parameters
    ----------
    size : int
        Of the square's sides. Its centre is any pixel, so it may lie partly outside.
    fill : float
        The value it gets: 0 is the mean image where the mean was subtracted.
    """

    size: int = 8
    fill: float = 0.0

    def __post_init__(self):
        positive_int("Cutout", "size", self.size)
        number("Cutout", "fill", self.fill)

    def __call__(self, X, rng):
        N, _, H, W = _images("Cutout", X)
        rows = self._inside(rng.integers(H, size=N), H)
        columns = self._inside(rng.integers(W, size=N), W)
        blank = (rows[:, :, None] & columns[:, None, :])[:, None]
        return np.where(blank, X.dtype.type(self.fill), X)

    def _inside(self, centre, length):
        """Which of the positions 0 .. length - 1 the square covers, for each image: (N, length)."""
        distance = np.arange(length) - (centre[:, None] - self.size // 2)
        return (distance >= 0) & (distance < self.size)


class Chain:
    """Augmentations one after the other."""

    def __init__(self, augmentations):
        self.augmentations = augmentations

    def __call__(self, X, rng):
        for augmentation in self.augmentations:
            X = augmentation(X, rng)
        return X


def build_augmentation(value):
    """The callable for a Solver's `augment`, and its description in plain values; (None, None) for None."""
    if value is None:
        return None, None
    if not isinstance(value, (list, tuple)):
        augmentation = AUGMENTATIONS.build(value)
        return augmentation, AUGMENTATIONS.describe(augmentation)
    chain = [AUGMENTATIONS.build(item) for item in value]
    return Chain(chain), [AUGMENTATIONS.describe(item) for item in chain]


def _images(where, X):
    if X.ndim != 4:
        raise ValueError(f"{where}: X must be images (N, C, H, W), got shape {X.shape}")
    return X.shape


AUGMENTATIONS = Registry("augmentation", {"flip": HorizontalFlip, "crop": RandomCrop, "cutout": Cutout})
