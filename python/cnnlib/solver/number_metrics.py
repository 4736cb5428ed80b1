"""Metrics of predicted numbers and images against others of the same shape."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from cnnlib._params import number
from cnnlib.solver.metric import Metric


def _errors(where: str, scores: Any, y: Any) -> Any:
    """Scores minus targets, (N, values of a sample), in float64."""
    if scores.shape != np.shape(y):
        raise ValueError(f"{where}: targets must be of the scores' shape {scores.shape}, got {np.shape(y)}")
    return np.subtract(scores, y, dtype=np.float64).reshape(len(scores), -1)


@dataclass(frozen=True)
class RMSE(Metric):
    """Root of the mean squared error over all values.

    Examples
    --------
    >>> rmse = RMSE()
    >>> rmse.value(rmse.look(np.array([[5.0], [5.0]]), np.array([[2.0], [8.0]])))
    3.0
    """

    name, more_is_better = "rmse", False

    def look(self, scores: Any, y: Any) -> Any:
        errors = _errors(self.name, scores, y)
        return np.array([errors.size, np.vdot(errors, errors)])

    def value(self, kept: Any) -> float:
        total, squares = kept.tolist()
        return math.sqrt(squares / total)


@dataclass(frozen=True)
class MAE(Metric):
    """Mean absolute error over all values.

    Examples
    --------
    >>> mae = MAE()
    >>> mae.value(mae.look(np.array([[3.0], [0.0]]), np.array([[0.0], [0.0]])))
    1.5
    """

    name, more_is_better = "mae", False

    def look(self, scores: Any, y: Any) -> Any:
        errors = _errors(self.name, scores, y)
        return np.array([errors.size, np.abs(errors).sum()])

    def value(self, kept: Any) -> float:
        total, errors = kept.tolist()
        return errors / total


@dataclass(frozen=True)
class R2(Metric):
    """Coefficient of determination, 1 - sum((y - scores)**2) / sum((y - mean(y))**2), the mean over a
    sample's values. Where all y are equal it is 1 without an error, else 0.

    Examples
    --------
    >>> r2 = R2()
    >>> r2.value(r2.look(np.array([[1.0], [2.0], [2.0]]), np.array([[1.0], [2.0], [3.0]])))
    0.5
    """

    name = "r2"

    def look(self, scores: Any, y: Any) -> Any:
        errors = _errors(self.name, scores, y)
        values = np.asarray(y, np.float64).reshape(errors.shape)
        mean = values.mean(axis=0)
        deviations = values - mean
        return len(errors), mean, (deviations**2).sum(axis=0), (errors**2).sum(axis=0)

    def merge(self, first: Any, second: Any) -> Any:
        """Sums of squared deviations join as in Chan, Golub and LeVeque (1979)."""
        n, mean, deviations, errors = first
        m, other, more_deviations, more_errors = second
        step = other - mean
        joint = deviations + more_deviations + step**2 * (n * m / (n + m))
        return n + m, mean + step * (m / (n + m)), joint, errors + more_errors

    def value(self, kept: Any) -> float:
        _, _, deviations, errors = kept
        constant = deviations == 0
        shares = errors / np.where(constant, 1.0, deviations)
        return float(np.mean(1 - np.where(constant, errors > 0, shares)))


@dataclass(frozen=True)
class PSNR(Metric):
    """Peak signal-to-noise ratio in dB, 10 log10(range**2 / mean squared error), the mean over the images.

    `range` is the difference between the largest and the smallest value that images can have.

    Examples
    --------
    >>> psnr = PSNR()
    >>> round(psnr.value(psnr.look(np.full((1, 1, 2, 2), 0.1), np.zeros((1, 1, 2, 2)))), 6)
    20.0
    """

    range: float = 1.0
    name = "psnr"

    def __post_init__(self) -> None:
        if number("psnr", "range", self.range, 0) == 0:
            raise ValueError("psnr: range must be above 0")

    def look(self, scores: Any, y: Any) -> Any:
        squares = (_errors(self.name, scores, y) ** 2).mean(axis=1)
        with np.errstate(divide="ignore"):
            return np.array([len(squares), (10 * np.log10(self.range**2 / squares)).sum()])

    def value(self, kept: Any) -> float:
        total, ratios = kept.tolist()
        return ratios / total
