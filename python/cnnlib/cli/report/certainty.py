"""How sure a result is: shares with their intervals, the share of guesses, and what to look at first."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

_Z = 1.96  # of the normal distribution: 95 % lie within so many standard deviations
_FEW = 100  # images of which a percent is no whole number
_MANY = 10_000  # images of which a hundredth of a percent is one at least
_APART = 0.1  # by which training and held-out accuracy differ where a network has learned by heart


def interval(right: int, count: int) -> tuple[float, float]:
    """Return the 95 % interval of a share of which `count` images show `right`.

    Wilson 1927, "Probable inference, the law of succession, and statistical inference", eq. 4:
    ``(p + z²/2n ± z sqrt(p (1 - p) / n + z²/4n²)) / (1 + z²/n)``.

    Examples
    --------
    >>> [round(bound, 3) for bound in interval(11, 12)]
    [0.646, 0.985]
    """
    p, spread = right / count, _Z**2 / count
    middle = (p + spread / 2) / (1 + spread)
    half = _Z * math.sqrt(p * (1 - p) / count + spread / (4 * count)) / (1 + spread)
    return max(middle - half, 0.0), min(middle + half, 1.0)


def percent(share: float, count: int) -> str:
    """Return a share of `count` images with as many digits as these tell apart.

    Examples
    --------
    >>> percent(11 / 12, 12), percent(0.9167, 1200), percent(0.9167, 10_000)
    ('92 %', '91.7 %', '91.67 %')
    """
    digits = 0 if count < _FEW else 1 if count < _MANY else 2
    return f"{100 * share:.{digits}f} %"


def interval_text(right: int, count: int) -> str:
    """Return the interval of a share as text.

    Examples
    --------
    >>> interval_text(11, 12)
    '65 % to 99 %'
    """
    return " to ".join(percent(bound, count) for bound in interval(right, count))


def about_doubling(before: float, after: float, count: int) -> str:
    """Say whether twice as many photos to learn from helped, as far as `count` images tell.

    Both shares are of the same images. Their difference counts where it is larger than 1.96 standard errors
    of two independent shares; that of the same images varies less.

    Examples
    --------
    >>> about_doubling(0.8, 0.9, 1000)
    'The last doubling brought +10.0 points; the next one rarely brings more.'
    >>> about_doubling(0.8, 0.8, 12)
    '12 images do not tell whether the last doubling helped: +0 points, of which 32 are within chance.'
    """
    gain = after - before
    error = _Z * math.sqrt((before * (1 - before) + after * (1 - after)) / count)
    if abs(gain) <= error:
        return (
            f"{count:,} images do not tell whether the last doubling helped: {100 * gain:+.0f} points, of "
            f"which {100 * error:.0f} are within chance."
        )
    return f"The last doubling brought {100 * gain:+.1f} points; the next one rarely brings more."


def first_remarks(right: np.ndarray, y: np.ndarray, classes: Sequence[str], trained: float) -> list[str]:
    """Say what matters first of a result, in sentences.

    `right` (N,) says which images were recognised, `y` (N,) are their labels, and `trained` is the accuracy
    on training images at the same time.
    """
    count, share = len(right), float(right.mean())
    low, high = interval(int(right.sum()), count)
    numbers = np.bincount(y, minlength=len(classes))
    guess, name = numbers.max() / count, classes[int(numbers.argmax())]
    remarks = [
        f"Of {count:,} images {percent(share, count)} were recognised. For images like these, 19 times of "
        f"20, it is between {percent(low, count)} and {percent(high, count)}.",
        f"Who always says {name!r} is right in {percent(guess, count)}.",
    ]
    if low <= guess:
        remarks.append(
            "That is not clearly less than the network's share: it has learned little, or more images are "
            "needed to tell."
        )
    if trained - share > _APART and trained > high:
        remarks.append(
            f"It recognises {percent(trained, _FEW)} of the training images: it has learned these by heart. "
            "More images, --augment, --weight-decay or a smaller network help."
        )
    return remarks
