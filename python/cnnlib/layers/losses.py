"""Losses: a value and its gradient in one call."""

from __future__ import annotations

import numpy as np

from cnnlib import _core
from cnnlib._arrays import labels, prepare, result


def _scores(function, x, y):
    (x,), dtype = prepare(function, ("x",), x)
    if x.ndim != 2 or x.shape[1] == 0:
        raise ValueError(f"{function}: x must have shape (N, C) with C >= 1, got {x.shape}")
    return x, labels(function, y, *x.shape), dtype


def softmax_loss(x, y):
    """
    Mean cross-entropy of the softmax of the scores.

    Parameters
    ----------
    x : array, (N, C)
        Scores.
    y : array of int, (N,)
        Labels in [0, C).

    Returns
    -------
    loss : float
        mean over n of log(sum_c exp(x[n, c])) - x[n, y[n]]; 0.0 for an empty batch.
    dx : array, (N, C)

    Raises
    ------
    ValueError
        Shapes that do not fit, labels out of range.
    TypeError
        Labels that are not integers, scores of an unsupported type.
    """
    x, y, dtype = _scores("softmax_loss", x, y)
    N = len(x)
    if N == 0:
        return 0.0, np.zeros(x.shape, dtype)
    losses, dx = _core.softmax_loss(x, np.require(y, np.int64, ("C", "A")))
    return float(losses.mean()), result(dx, dtype)


def svm_loss(x, y):
    """
    Mean multiclass hinge loss with margin 1 [1]_.

    Parameters
    ----------
    x : array, (N, C)
        Scores.
    y : array of int, (N,)
        Labels in [0, C).

    Returns
    -------
    loss : float
        mean over n of sum over c != y[n] of max(0, x[n, c] - x[n, y[n]] + 1); 0.0 for an empty batch.
    dx : array, (N, C)

    Raises
    ------
    ValueError
        Shapes that do not fit, labels out of range.
    TypeError
        Labels that are not integers, scores of an unsupported type.

    References
    ----------
    .. [1] J. Weston, C. Watkins, "Support Vector Machines for Multi-Class Pattern Recognition", 1999.
    """
    x, y, dtype = _scores("svm_loss", x, y)
    N = len(x)
    if N == 0:
        return 0.0, np.zeros(x.shape, dtype)
    rows = np.arange(N)
    with np.errstate(invalid="ignore"):
        margins = np.maximum(0, x - x[rows, y][:, None] + 1)
    margins[rows, y] = 0
    dx = (margins > 0).astype(x.dtype)
    dx[rows, y] -= dx.sum(axis=1)
    dx /= N
    return float(margins.sum(dtype=np.float64) / N), result(dx, dtype)
