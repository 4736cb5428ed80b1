"""Learning-rate schedules for the Solver.

A schedule is a callable ``schedule(epoch, num_epochs) -> factor`` on the learning rate, where `epoch` is how
far the training has come, in epochs (2.5 is the middle of the third). Those defined here are plain values
that a checkpoint can hold; a :class:`cnnlib.solver.Solver` also takes them by name, ``'cosine'``, or as a
dict, ``{'name': 'cosine', 'warmup': 2}``.

>>> halved = Step(epochs=(10, 20), factor=0.5)
>>> [halved(epoch, 30) for epoch in (0, 10, 25.5)]
[1.0, 0.5, 0.25]
"""

import math
from dataclasses import dataclass

from cnnlib._params import number
from cnnlib._params.registry import Registry

__all__ = ["SCHEDULES", "Cosine", "OneCycle", "Step", "Triangle"]


@dataclass(frozen=True)
class Step:
    """Multiply the learning rate by `factor` at each of `epochs`, or every so many if that is a number.

    Parameters
    ----------
    epochs : number or tuple of numbers
        A number is at least 1.
    factor : float

    Examples
    --------
    >>> halved = Step(epochs=(10, 20), factor=0.5)
    >>> [halved(epoch, 30) for epoch in (0, 10, 25.5)]
    [1.0, 0.5, 0.25]
    """

    epochs: float | tuple[float, ...]
    factor: float = 0.1

    def __post_init__(self) -> None:
        number("Step", "factor", self.factor, 0)
        if isinstance(self.epochs, (list, tuple)):
            object.__setattr__(self, "epochs", tuple(number("Step", "epochs", e, 0) for e in self.epochs))
        else:  # of fewer than 1 the rate would vanish within an epoch or two
            number("Step", "epochs", self.epochs, 1)

    def __call__(self, epoch: float, num_epochs: float) -> float:
        if isinstance(self.epochs, tuple):
            return self.factor ** sum(epoch >= milestone for milestone in self.epochs)
        return self.factor ** math.floor(epoch / self.epochs + 1e-9)  # 3.3 / 1.1 is 2.9999999999999996


@dataclass(frozen=True)
class Cosine:
    """Fall from 1 to `final` along half a cosine wave (Loshchilov and Hutter 2016, arXiv:1608.03983).

    Parameters
    ----------
    final : float
        Factor at the end, in [0, 1].
    warmup : float
        Epochs of a linear rise from 0 before that; the first step has rate 0, as in Keras. A Solver refuses
        a rise that is longer than its `num_epochs`.

    Examples
    --------
    >>> [round(Cosine(warmup=2)(epoch, 10), 3) for epoch in (0, 1, 2, 6, 10)]
    [0.0, 0.5, 1.0, 0.5, 0.0]
    """

    final: float = 0.0
    warmup: float = 0.0

    def __post_init__(self) -> None:
        number("Cosine", "final", self.final, 0, 1)
        number("Cosine", "warmup", self.warmup, 0)

    def __call__(self, epoch: float, num_epochs: float) -> float:
        if epoch < self.warmup:
            return epoch / self.warmup
        return _cosine(1.0, self.final, (epoch - self.warmup) / max(num_epochs - self.warmup, 1e-12))


@dataclass(frozen=True)
class OneCycle:
    """Warm up from `start` to 1, then fall to `final`, both along cosines (Smith 2017, arXiv:1708.07120).

    Parameters
    ----------
    warmup : float
        Share of the whole training that the rise takes, in [0, 1].
    start, final : float
        Factors at the beginning and at the end.

    Examples
    --------
    >>> [round(OneCycle(warmup=0.25)(epoch, 8), 3) for epoch in (0, 1, 2, 5, 8)]
    [0.04, 0.52, 1.0, 0.5, 0.0]
    """

    warmup: float = 0.3
    start: float = 0.04
    final: float = 4e-6

    def __post_init__(self) -> None:
        number("OneCycle", "warmup", self.warmup, 0, 1)
        number("OneCycle", "start", self.start, 0)
        number("OneCycle", "final", self.final, 0)

    def __call__(self, epoch: float, num_epochs: float) -> float:
        peak = self.warmup * num_epochs
        if epoch < peak:
            return _cosine(self.start, 1.0, epoch / peak)
        return _cosine(1.0, self.final, (epoch - peak) / max(num_epochs - peak, 1e-12))


@dataclass(frozen=True)
class Triangle:
    """Rise from `start` to 1 along a line, then fall to `final` along another.

    Parameters
    ----------
    peak : float
        Share of the whole training that the rise takes, in [0, 1].
    start, final : float
        Factors at the beginning and at the end.

    Examples
    --------
    >>> [round(Triangle(peak=0.25)(epoch, 8), 3) for epoch in (0, 1, 2, 5, 8)]
    [0.2, 0.6, 1.0, 0.5, 0.0]
    """

    peak: float = 0.25
    start: float = 0.2
    final: float = 0.0

    def __post_init__(self) -> None:
        number("Triangle", "peak", self.peak, 0, 1)
        number("Triangle", "start", self.start, 0)
        number("Triangle", "final", self.final, 0)

    def __call__(self, epoch: float, num_epochs: float) -> float:
        share = min(epoch / num_epochs, 1.0)
        if share < self.peak:
            return self.start + (1.0 - self.start) * share / self.peak
        return 1.0 + (self.final - 1.0) * (share - self.peak) / max(1.0 - self.peak, 1e-12)


def _cosine(first, last, share):
    """From `first` at share 0 to `last` at share 1 and beyond."""
    return last + (first - last) * (1 + math.cos(math.pi * min(share, 1.0))) / 2


SCHEDULES = Registry(
    "schedule", {"step": Step, "cosine": Cosine, "one-cycle": OneCycle, "triangle": Triangle}
)
