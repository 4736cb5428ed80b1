"""Random changes of training images, for the Solver's ``augment``.

An augmentation is a callable ``augment(X, rng) -> X``: from images (N, C, H, W) and a
``np.random.Generator`` it makes new images of the same shape and dtype, and leaves X alone. Those defined
here are plain values that a checkpoint can hold; the Solver also takes them by name, ``'flip'``, or as a
dict, ``{'name': 'crop', 'pad': 4}``, and lists of any of these, applied in turn.

An augmentation with a true attribute ``knows_samples`` gets a third argument, :class:`Samples`: which images
of the training set these are, and how often they have been seen.

Targets that are images move along with the images: those of shape (N, C', H, W), and labels of pixels
(N, H, W), of the images' size or a multiple of it. An augmentation says how in a method
``pair(X, y, rng, samples) -> (X, y)``; without one it leaves targets as they are, and so do all with targets
of other shapes.

:func:`averaged_scores` is test-time augmentation: the scores of several views of an image, averaged.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnlib._params import choice, number, positive_int
from cnnlib._params.functions import check_call
from cnnlib._params.registry import Registry
from cnnlib.data.targets import Targets

__all__ = ["AUGMENTATIONS", "TTA", "AlternatingFlip", "Cutout", "HorizontalFlip", "RandomCrop", "Samples"]
__all__ += ["averaged_scores"]

TTA = ("mirror", "mirror-shift")


@dataclass(frozen=True)
class Samples:
    """The images of a minibatch: their `rows` (N,) in the training set, the `epoch` (0 is the first), and the
    run's `seed`, the same in every minibatch.

    Examples
    --------
    >>> samples = Samples(rows=np.array([5, 0]), epoch=0, seed=1)
    >>> AlternatingFlip()(np.ones((2, 3, 8, 8)), np.random.default_rng(0), samples).shape
    (2, 3, 8, 8)
    """

    rows: NDArray[Any]
    epoch: int
    seed: int


@dataclass(frozen=True)
class HorizontalFlip:
    """Mirror each image, left to right, with probability `p`.

    Examples
    --------
    >>> HorizontalFlip(p=1)(np.array([[[[1, 2, 3]]]]), np.random.default_rng(0))
    array([[[[3, 2, 1]]]])
    """

    p: float = 0.5

    def __post_init__(self) -> None:
        number("HorizontalFlip", "p", self.p, 0, 1)

    def __call__(self, X: NDArray[Any], rng: np.random.Generator) -> NDArray[Any]:
        return self.pair(X, None, rng)[0]

    def pair(self, X: NDArray[Any], y: Any, rng: np.random.Generator, samples: Any = None) -> tuple[Any, Any]:
        """Images and targets, flipped alike."""
        flipped = rng.random(_images("HorizontalFlip", X)[0]) < self.p
        return _mirrored(X, flipped), _mirrored(y, flipped) if _scale(X, y) else y


@dataclass(frozen=True)
class AlternatingFlip:
    """Mirror each image, left to right, in every other epoch (Jordan 2024, arXiv:2404.00498, section 3.6).

    Half of the images, chosen at random, are mirrored in the first epoch. So in two epochs the network sees
    every image in both ways, which random flips leave to chance.

    Examples
    --------
    >>> X, rng = np.array([[[[1, 2, 3]]]]), np.random.default_rng(0)
    >>> first, second = (AlternatingFlip()(X, rng, Samples(np.array([0]), epoch, seed=0)) for epoch in (0, 1))
    >>> np.array_equal(first, second[:, :, :, ::-1])
    True
    """

    knows_samples = True

    def __call__(self, X: NDArray[Any], rng: np.random.Generator, samples: Samples) -> NDArray[Any]:
        return self.pair(X, None, rng, samples)[0]

    def pair(self, X: NDArray[Any], y: Any, rng: np.random.Generator, samples: Samples) -> tuple[Any, Any]:
        """Images and targets, flipped alike."""
        _images("AlternatingFlip", X)
        flipped = (_random_bits(samples.rows, samples.seed) + samples.epoch) % 2 == 1
        return _mirrored(X, flipped), _mirrored(y, flipped) if _scale(X, y) else y


@dataclass(frozen=True)
class RandomCrop:
    """Pad each image by `pad` pixels on every side and crop its size at a random place.

    Signals, images of one row, are padded and cropped along it alone, and so are those of one column.

    Parameters
    ----------
    pad : int
    mode : 'constant' or 'reflect'
        Pad with zeros, or with the mirrored image (`pad` is then below H and W).
    target_fill : float
        With 'constant', what targets that are images are padded with: say the label that the loss ignores.

    Examples
    --------
    >>> RandomCrop(pad=1)(np.array([[[[1, 2, 3]]]]), np.random.default_rng(9))
    array([[[[2, 3, 0]]]])
    """

    pad: int = 4
    mode: str = "constant"
    target_fill: float = 0.0

    def __post_init__(self) -> None:
        positive_int("RandomCrop", "pad", self.pad)
        number("RandomCrop", "target_fill", self.target_fill)
        choice("RandomCrop", "mode", self.mode, ("constant", "reflect"))

    def __call__(self, X: NDArray[Any], rng: np.random.Generator) -> NDArray[Any]:
        return self.pair(X, None, rng)[0]

    def pair(self, X: NDArray[Any], y: Any, rng: np.random.Generator, samples: Any = None) -> tuple[Any, Any]:
        """Images and targets, cropped at the same places."""
        N, _, H, W = _images("RandomCrop", X)
        pads = np.array([self.pad if side > 1 else 0 for side in (H, W)])
        if self.mode == "reflect" and (pads >= (H, W)).any():
            raise ValueError(f"RandomCrop: pad {self.pad} is too much to reflect images of {H}x{W}")
        corners = np.minimum(rng.integers(2 * self.pad + 1, size=(2, N)), 2 * pads[:, None])
        scale = _scale(X, y)
        if scale:
            y = self._cropped(y, scale, pads, corners, "target_fill", self.target_fill)
        return self._cropped(X, 1, pads, corners, "zero", 0), y

    def _cropped(self, X, scale, pads, corners, name, fill):
        """Padded by `pads` (2,), and cropped at `corners` (2, N), of pixels that are `scale` of X's wide."""
        pads, corners = scale * pads, scale * corners
        around = ((0, 0),) * (X.ndim - 2) + tuple((pad, pad) for pad in pads)
        if self.mode == "constant":
            padded = np.pad(X, around, constant_values=_held("RandomCrop", name, fill, X.dtype))
        elif scale == 1:  # three times as fast as what follows
            padded = np.pad(X, around, mode="reflect")
        else:
            rows, columns = (_mirror(*axis, scale) for axis in zip(X.shape[-2:], pads, strict=True))
            padded = X[..., rows[:, None], columns]
        image: Any = (-2, -1)  # the types of older NumPys know of one axis only
        windows = np.lib.stride_tricks.sliding_window_view(padded, X.shape[-2:], axis=image)
        top, left = corners
        channels = (slice(None),) * (X.ndim - 3)
        return np.ascontiguousarray(windows[(np.arange(len(X)), *channels, top, left)])


@dataclass(frozen=True)
class Cutout:
    """Blank a square of each image (DeVries and Taylor 2017, arXiv:1708.04552).

    Parameters
    ----------
    size : int
        Of the square's sides. Its centre is any pixel, so it may lie partly outside.
    fill : float
        The value it gets: 0 is the mean image where the mean was subtracted.

    Examples
    --------
    >>> Cutout(size=2)(np.ones((1, 1, 3, 4)), np.random.default_rng(0))[0, 0]
    array([[1., 1., 1., 1.],
           [1., 0., 0., 1.],
           [1., 0., 0., 1.]])
    """

    size: int = 8
    fill: float = 0.0

    def __post_init__(self) -> None:
        positive_int("Cutout", "size", self.size)
        number("Cutout", "fill", self.fill)

    def __call__(self, X: NDArray[Any], rng: np.random.Generator) -> NDArray[Any]:
        N, _, H, W = _images("Cutout", X)
        rows = self._inside(rng.integers(H, size=N), H)
        columns = self._inside(rng.integers(W, size=N), W)
        blank = (rows[:, :, None] & columns[:, None, :])[:, None]
        return np.where(blank, _held("Cutout", "fill", self.fill, X.dtype), X)

    def _inside(self, centre, length):
        """Which of the positions 0 .. length - 1 the square covers, for each image: (N, length)."""
        distance = np.arange(length) - (centre[:, None] - self.size // 2)
        return (distance >= 0) & (distance < self.size)


class Chain:
    """Augmentations one after the other."""

    knows_samples = True

    def __init__(self, augmentations: Sequence[Callable[..., Any]]) -> None:
        self.augmentations = augmentations

    def __call__(
        self, X: NDArray[Any], rng: np.random.Generator, samples: Samples | None = None
    ) -> NDArray[Any]:
        return self.pair(X, None, rng, samples)[0]

    def pair(self, X: NDArray[Any], y: Any, rng: np.random.Generator, samples: Any = None) -> tuple[Any, Any]:
        """Images and targets, by each of them."""
        for augmentation in self.augmentations:
            X, y = augmented(augmentation, X, y, rng, samples)
        return X, y


def build_augmentation(value: Any) -> Callable[..., Any]:
    """The callable that a Solver's `augment` means."""
    if isinstance(value, (list, tuple)):
        return Chain([_build_one(item) for item in value])
    return _build_one(value)


def _build_one(value):
    """Build one augmentation; TypeError for a function that does not take what it is called with."""
    augmentation = AUGMENTATIONS.build(value)
    if not hasattr(augmentation, "pair"):
        known = getattr(augmentation, "knows_samples", False)
        call = "augment(X, rng, samples) -> X" if known else "augment(X, rng) -> X"
        check_call("Solver: augment", augmentation, call, 3 if known else 2)
    return augmentation


def describe_augmentation(augmentation: Callable[..., Any] | None) -> Any:
    """The inverse of :func:`build_augmentation`, in plain values; None for None."""
    if isinstance(augmentation, Chain):
        return [AUGMENTATIONS.describe(item) for item in augmentation.augmentations]
    return AUGMENTATIONS.describe(augmentation)


def averaged_scores(
    scores_of: Callable[[NDArray[Any]], NDArray[Any]], X: NDArray[Any], tta: str | None = None
) -> NDArray[Any]:
    """Average the scores of the images X (N, C, H, W) over several views of each.

    Parameters
    ----------
    scores_of : callable
        From images to scores (N, K), such as a model's ``loss``.
    X : ndarray (N, C, H, W)
    tta : None, 'mirror' or 'mirror-shift'
        None: the images as they are. 'mirror': also their mirror images, left to right. 'mirror-shift': the
        mean of that and of the same for the images shifted by one pixel along both diagonals, up and left
        and down and right, with the edge reflected (Jordan 2024, arXiv:2404.00498): six views.

    Examples
    --------
    The score is the left pixel; with 'mirror', the mean of both edges:

    >>> left = lambda X: X[:, 0, :, 0]
    >>> averaged_scores(left, np.array([[[[1.0, 5.0, 3.0]]]]), "mirror")
    array([[2.]])
    """
    if tta is None:
        return scores_of(X)
    if choice("averaged_scores", "tta", tta, TTA) == "mirror":
        _images("averaged_scores", X)
        scores = scores_of(X)
        if max(scores.shape[2:], default=1) > 1:
            raise ValueError(
                f"averaged_scores: tta wants scores (N, K), got {scores.shape}: maps would not be turned back"
            )
        return (scores + scores_of(np.ascontiguousarray(X[:, :, :, ::-1]))) / 2
    _, _, H, W = _images("averaged_scores", X)
    padded = np.pad(X, ((0, 0), (0, 0), (1, 1), (1, 1)), mode="reflect")
    shifted = (np.ascontiguousarray(padded[:, :, i : i + H, i : i + W]) for i in (0, 2))
    first, second = (averaged_scores(scores_of, view, "mirror") for view in shifted)
    return averaged_scores(scores_of, X, "mirror") / 2 + (first + second) / 4


def augmented(
    augmentation: Callable[..., Any],
    X: NDArray[Any],
    y: Any,
    rng: np.random.Generator,
    samples: Samples | None,
) -> tuple[Any, Any]:
    """What `augmentation` makes of images and targets; it is given the samples if it wants to know them."""
    if isinstance(y, Targets) and hasattr(augmentation, "pair"):  # each moves by the same draws
        start, moved, images = rng.bit_generator.state, {}, None
        for name, array in y.arrays.items():
            rng.bit_generator.state = start
            made, moved[name] = augmentation.pair(X.copy(), array, rng, samples)
            if images is not None and not np.array_equal(made, images, equal_nan=made.dtype.kind == "f"):
                raise ValueError(f"{type(augmentation).__name__}.pair must draw from `rng` alone")
            images = made
        return images, Targets(moved)
    if hasattr(augmentation, "pair"):
        return augmentation.pair(X, y, rng, samples)
    wanted = getattr(augmentation, "knows_samples", False)
    return (augmentation(X, rng, samples) if wanted else augmentation(X, rng)), y


def _scale(X, y):
    """How many times as large as the images X targets are that are images themselves; else 0."""
    if y is None or y.ndim not in (3, 4):
        return 0
    scale, rest = divmod(y.shape[-1], X.shape[-1])
    return scale if rest == 0 and y.shape[-2] == scale * X.shape[-2] else 0


def _mirror(size, pad, scale):
    """The indices of `size` pixels with `pad` more on either side, mirrored in the middle of the outermost
    `scale` ones, which are one pixel of the images.
    """
    at = np.arange(-pad, size + pad)
    at = np.where(at < 0, scale - 1 - at, at)
    return np.where(at < size, at, 2 * size - scale - 1 - at)


def _held(where, name, value, dtype):
    """`value` in `dtype`; refuses what integers or bools of it do not hold."""
    with np.errstate(invalid="ignore"):
        held = np.array(value).astype(dtype)
    if dtype.kind in "iub" and held != value:
        raise ValueError(f"{where}: {name} is {value:g}, which {dtype.name} does not hold")
    return held


def _mirrored(X, flipped):
    """A copy with some of the images mirrored, left to right."""
    out = X.copy()
    out[flipped] = X[flipped][..., ::-1]
    return out


def _random_bits(rows, seed):
    """A bit (0 or 1) for each of `rows`, always the same for a `seed`: the first of SplitMix64's output."""
    z = np.asarray(rows).astype(np.uint64) + np.uint64(seed * 0x9E3779B97F4A7C15 % 2**64)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((z ^ (z >> np.uint64(31))) & np.uint64(1)).astype(np.int64)


def _images(where, X):
    if X.ndim != 4:
        raise ValueError(f"{where}: X must be images (N, C, H, W), got shape {X.shape}")
    return X.shape


AUGMENTATIONS = Registry(
    "augmentation",
    {"flip": HorizontalFlip, "alternating-flip": AlternatingFlip, "crop": RandomCrop, "cutout": Cutout},
)
