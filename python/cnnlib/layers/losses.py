"""Losses: a value and its gradient in one call."""

from __future__ import annotations

import numpy as np

from cnnlib import _core
from cnnlib._arrays import labels, prepare, result
from cnnlib._typing import Array, ArrayLike


def _scores(function, x, y):
    (x,), dtype = prepare(function, ("x",), x)
    if x.ndim != 2 or x.shape[1] == 0:
        raise ValueError(f"{function}: x must have shape (N, C) with C >= 1, got {x.shape}")
    return x, labels(function, y, *x.shape), dtype


def softmax_loss(x: ArrayLike, y: ArrayLike) -> tuple[float, Array]:
    """
    Compute the mean cross-entropy of the softmax of the scores.

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

    Examples
    --------
    >>> loss, dx = softmax_loss(np.zeros((2, 4)), [0, 3])
    >>> np.isclose(loss, np.log(4)).item()
    True
    >>> dx
    array([[-0.375,  0.125,  0.125,  0.125],
           [ 0.125,  0.125,  0.125, -0.375]])
    """
    scores, right, dtype = _scores("softmax_loss", x, y)
    N = len(scores)
    if N == 0:
        return 0.0, np.zeros(scores.shape, dtype)
    losses, dx = _core.softmax_loss(scores, np.require(right, np.int64, ("C", "A")))
    return float(losses.mean()), result(dx, dtype)


def svm_loss(x: ArrayLike, y: ArrayLike) -> tuple[float, Array]:
    """
    Compute the mean multiclass hinge loss with margin 1 [1]_.

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

    Examples
    --------
    Class 1 scores within the margin of the right class 0, class 2 does not:

    >>> svm_loss(np.array([[2.0, 1.5, -3.0]]), [0])
    (0.5, array([[-1.,  1.,  0.]]))
    """
    scores, right, dtype = _scores("svm_loss", x, y)
    N = len(scores)
    if N == 0:
        return 0.0, np.zeros(scores.shape, dtype)
    rows = np.arange(N)
    with np.errstate(invalid="ignore"):
        margins = np.maximum(0, scores - scores[rows, right][:, None] + 1)
    margins[rows, right] = 0
    dx = (margins > 0).astype(scores.dtype)
    dx[rows, right] -= dx.sum(axis=1)
    dx /= N
    return float(margins.sum(dtype=np.float64) / N), result(dx, dtype)
