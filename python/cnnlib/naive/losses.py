"""Plain-loop losses."""

import numpy as np

from cnnlib.naive.dtypes import _float_dtype
from cnnlib.naive.windows import _refuse_empty


def softmax_loss_naive(x, y):
    """Mean cross-entropy of the softmax probabilities.

    ``p[n, c] = exp(x[n, c]) / sum over k of exp(x[n, k])``, ``loss = mean over n of -log p[n, y[n]]``.
    Its gradient is simple: ``dx[n, c] = (p[n, c] - [c == y[n]]) / N``.

    Parameters
    ----------
    x : ndarray (N, C)
        A score for each image and class.
    y : ndarray (N,)
        The right classes, integers in 0 .. C - 1.

    Returns
    -------
    loss : float
    dx : ndarray (N, C)
    """
    _refuse_empty("softmax_loss_naive", "x", x)
    N, C = x.shape
    loss = 0.0
    dx = np.zeros((N, C), dtype=_float_dtype(x))
    for n in range(N):
        shifted = x[n] - np.max(x[n])  # the same probabilities, and exp cannot overflow
        total = np.sum(np.exp(shifted))
        loss += (np.log(total) - shifted[y[n]]) / N
        dx[n] = np.exp(shifted) / total / N
        dx[n, y[n]] -= 1 / N
    return float(loss), dx


def svm_loss_naive(x, y):
    """Multi-class hinge loss: each wrong class should score at least 1 below the right one.

    ``margin[n, c] = max(0, x[n, c] - x[n, y[n]] + 1)`` for ``c != y[n]``, ``loss = sum of margins / N``. A
    positive margin pushes its class down and the right class up by ``1 / N``.

    Parameters
    ----------
    x : ndarray (N, C)
        A score for each image and class.
    y : ndarray (N,)
        The right classes, integers in 0 .. C - 1.

    Returns
    -------
    loss : float
    dx : ndarray (N, C)
    """
    _refuse_empty("svm_loss_naive", "x", x)
    N, C = x.shape
    loss = 0.0
    dx = np.zeros((N, C), dtype=_float_dtype(x))
    for n in range(N):
        for c in range(C):
            if c == y[n]:
                continue
            margin = np.maximum(0, x[n, c] - x[n, y[n]] + 1)
            loss += margin / N
            if margin > 0:
                dx[n, c] += 1 / N
                dx[n, y[n]] -= 1 / N
    return float(loss), dx
