"""Plain-loop losses: each returns its value, a float, and the gradient dx in the shape of x.

Targets y have the shape of x, unless they are labels.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnlib._typing import Array
from cnnlib.naive.windows import _float_dtype, _in_float, _refuse_empty

__all__ = ["bce_loss_naive", "cross_entropy_naive", "dice_loss_naive", "huber_loss_naive", "l1_loss_naive"]
__all__ += ["mse_loss_naive", "softmax_loss_naive", "svm_loss_naive"]


def softmax_loss_naive(
    x: Array, y: NDArray[np.integer[Any]], *, weights: Array | None = None, ignore: int | None = None
) -> tuple[float, Array]:
    """Mean cross-entropy of the softmax probabilities, for samples or pixels with labels.

    ``p[n, c] = exp(x[n, c]) / sum over k of exp(x[n, k])``, ``loss = mean over n of -log p[n, y[n]]``.
    Its gradient is simple: ``dx[n, c] = (p[n, c] - [c == y[n]]) / N``. Pixels are so many samples more. With
    weights the mean is weighted by those of the labels; a label to ignore has weight 0.

    Parameters
    ----------
    x : ndarray (N, C) or (N, C, ...)
        A score for each image (or pixel) and class.
    y : ndarray (N,) or (N, ...)
        The right classes, integers in 0 .. C - 1, or `ignore`.
    weights : ndarray (C,), optional
    ignore : int, optional
    """
    if x.shape[1] == 0:  # of images without pixels nothing counts
        _refuse_empty("softmax_loss_naive", "x", x)
    C = x.shape[1]
    targets = np.zeros((y.size, C))
    for n, label in enumerate(y.flat):
        if label != ignore:
            targets[n, label] = 1 if weights is None else weights[label]
    return _softmax_of_rows(x, targets, targets.sum())


def cross_entropy_naive(x: Array, y: Array, *, weights: Array | None = None) -> tuple[float, Array]:
    """Mean cross-entropy of the softmax probabilities and those of ``y``.

    ``loss = mean over n of sum over c of weights[c] * y[n, c] * -log p[n, c]``,
    ``dx[n, c] = (p[n, c] * sum over k of weights[k] * y[n, k] - weights[c] * y[n, c]) / N``.

    Parameters
    ----------
    x : ndarray (N, C) or (N, C, ...)
        A score for each image (or pixel) and class.
    y : ndarray, shape of x
        A probability for each class.
    weights : ndarray (C,), optional
    """
    if x.shape[1] == 0:  # of images without pixels nothing counts
        _refuse_empty("cross_entropy_naive", "x", x)
    x, y = _alike(x, y)
    targets = _rows(y) * (1 if weights is None else weights)
    return _softmax_of_rows(x, targets, len(targets))


def _alike(x, y):
    """Scores and targets in the dtype of the result."""
    dtype = _float_dtype(x, y)
    return x.astype(dtype), y.astype(dtype)


def _rows(x):
    """(N, C, ...) as (N * ..., C): a row of scores for each pixel."""
    return np.moveaxis(x, 1, -1).reshape(-1, x.shape[1])


def _softmax_of_rows(x, targets, divisor):
    """Loss and gradient for targets (rows, C); the sum of the losses is divided by `divisor`."""
    rows = _in_float(_rows(x))
    loss, dx = 0.0, np.zeros(rows.shape, rows.dtype)
    for n, target in enumerate(targets):
        if not target.any():
            continue
        shifted = rows[n] - np.max(rows[n])  # the same probabilities, and exp cannot overflow
        total = np.sum(np.exp(shifted))
        for c in np.flatnonzero(target):
            loss += target[c] * (np.log(total) - shifted[c]) / divisor
        dx[n] = (np.exp(shifted) / total * target.sum() - target) / divisor
    shape = (x.shape[0], *x.shape[2:], x.shape[1])
    return float(loss), np.ascontiguousarray(np.moveaxis(dx.reshape(shape), -1, 1))


def mse_loss_naive(x: Array, y: Array) -> tuple[float, Array]:
    """Mean squared error: ``loss = mean of (x - y)**2``, ``dx = 2 * (x - y) / size of x``."""
    return _mean_of_values(x, y, lambda d: d**2, lambda d: 2 * d)


def l1_loss_naive(x: Array, y: Array) -> tuple[float, Array]:
    """Mean absolute error: ``loss = mean of |x - y|``, ``dx = sign(x - y) / size of x``."""
    return _mean_of_values(x, y, abs, np.sign)


def huber_loss_naive(x: Array, y: Array, delta: float = 1.0) -> tuple[float, Array]:
    """Mean Huber loss: with ``d = x - y`` it is ``d**2 / 2`` up to ``delta``, then a line of that slope.

    ``delta * (|d| - delta / 2)`` goes on where the square stops, with its slope: ``dx = d / size of x``, cut
    to ``-delta .. delta``.
    """

    def value(d):
        return d**2 / 2 if abs(d) <= delta else delta * (abs(d) - delta / 2)

    return _mean_of_values(x, y, value, lambda d: np.clip(d, -delta, delta))


def bce_loss_naive(x: Array, y: Array, *, pos_weight: Any = None) -> tuple[float, Array]:
    """Mean binary cross-entropy of ``p = sigmoid(x)``: ``-pos_weight * y * log p - (1 - y) * log(1 - p)``.

    ``-log p = log(1 + exp(-x))`` and ``-log(1 - p) = log(1 + exp(x))``; their slopes are ``p - 1`` and ``p``.
    ``pos_weight`` is a number, or one for each channel (C,).
    """
    factor = np.ones(x.shape[1:2] or 1) if pos_weight is None else np.asarray(pos_weight)
    if factor.ndim:
        factor = factor.reshape(-1, *[1] * (x.ndim - 2))
    x, y = _alike(x, y)
    loss, dx = 0.0, np.zeros(x.shape, x.dtype)
    for place, (logit, target, weight) in enumerate(np.broadcast(x, y, factor)):
        tail = np.log1p(np.exp(-abs(logit)))
        p = 1 / (1 + np.exp(-logit)) if logit >= 0 else np.exp(logit) / (1 + np.exp(logit))
        loss += weight * target * (max(-logit, 0) + tail) + (1 - target) * (max(logit, 0) + tail)
        dx.flat[place] = ((1 - target) * p - weight * target * (1 - p)) / x.size
    return float(loss / max(x.size, 1)), dx


def dice_loss_naive(x: Array, y: Array) -> tuple[float, Array]:
    """Mean Dice loss of maps: ``1 - overlap``, ``overlap = (2 * sum(p * y) + 1) / (sum(p) + sum(y) + 1)``.

    ``p = sigmoid(x)``. A map is a channel of a sample (N, C, ...), or a row (N, D). The derivative of the
    overlap by ``p`` is ``(2 * y - overlap) / (sum(p) + sum(y) + 1)``, and that of ``p`` by ``x`` is
    ``p * (1 - p)``.
    """
    x, y = _alike(x, y)
    loss, dx = 0.0, np.zeros(x.shape, x.dtype)
    channels = x.shape[: max(1, min(2, x.ndim - 1))]
    maps = int(np.prod(channels))
    for n in np.ndindex(*channels):
        p = 1 / (1 + np.exp(-x[n]))
        divisor = p.sum() + y[n].sum() + 1
        overlap = (2 * (p * y[n]).sum() + 1) / divisor
        loss += (1 - overlap) / maps
        dx[n] = -(2 * y[n] - overlap) / divisor * p * (1 - p) / maps
    return float(loss), dx


def _mean_of_values(x, y, value, slope):
    """Mean of value(x - y) and its gradient, one element after the other."""
    x, y = _alike(x, y)
    loss, dx = 0.0, np.zeros(x.shape, x.dtype)
    for place, (a, b) in enumerate(zip(x.flat, y.flat, strict=True)):
        loss += value(a - b)
        dx.flat[place] = slope(a - b) / x.size
    return float(loss / max(x.size, 1)), dx


def svm_loss_naive(x: Array, y: NDArray[np.integer[Any]]) -> tuple[float, Array]:
    """Multi-class hinge loss: each wrong class should score at least 1 below the right one.

    ``margin[n, c] = max(0, x[n, c] - x[n, y[n]] + 1)`` for ``c != y[n]``, ``loss = sum of margins / N``. A
    positive margin pushes its class down and the right class up by ``1 / N``.

    Parameters
    ----------
    x : ndarray (N, C)
        A score for each image and class.
    y : ndarray (N,)
        The right classes, integers in 0 .. C - 1.
    """
    _refuse_empty("svm_loss_naive", "x", x)
    N, C = x.shape
    loss = 0.0
    x = _in_float(x)
    dx = np.zeros((N, C), dtype=x.dtype)
    for n, c in np.ndindex(N, C):
        if c == y[n]:
            continue
        margin = np.maximum(0, x[n, c] - x[n, y[n]] + 1)
        loss += margin / N
        if margin > 0:
            dx[n, c] += 1 / N
            dx[n, y[n]] -= 1 / N
    return float(loss), dx
