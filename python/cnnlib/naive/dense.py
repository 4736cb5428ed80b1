"""Plain-loop affine layer, activations and dropout."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cnnlib._typing import Array, Cache, Wanted
from cnnlib.naive.windows import _float_dtype
from cnnlib.typing import DropoutParam

__all__ = ["affine_backward_naive", "affine_forward_naive", "dropout_backward_naive", "dropout_forward_naive"]
__all__ += ["leaky_relu_backward_naive", "leaky_relu_forward_naive", "relu_backward_naive"]
__all__ += ["relu_forward_naive"]


def affine_forward_naive(x: Array, w: Array, b: Array | None = None) -> tuple[Array, Cache]:
    """``out[n, m] = b[m] + sum over d of x[n, d] * w[d, m]``, x[n] laid out as one row.

    Parameters
    ----------
    x : ndarray (N, d1, ..., dk)
        ``D = d1 * ... * dk``.
    w : ndarray (D, M)
    b : ndarray (M,) or None

    Returns
    -------
    out : ndarray (N, M)
    cache : tuple
        ``(x, w, b)``
    """
    D, M = w.shape
    N = x.shape[0]
    dtype = _float_dtype(x, w, b)
    rows, out = x.reshape(N, D).astype(dtype), np.zeros((N, M), dtype=dtype)
    for n, m in np.ndindex(N, M):
        out[n, m] = np.sum(rows[n] * w[:, m])
        if b is not None:
            out[n, m] += b[m]
    return out, (x, w, b)


def affine_backward_naive(dout: Array, cache: Cache) -> tuple[Array, Array, Wanted]:
    """Gradients dx, dw, db of :func:`affine_forward_naive`; db is None without a bias.

    ``dx[n, d] = sum over m of dout[n, m] * w[d, m]``, ``dw[d, m] = sum over n of x[n, d] * dout[n, m]``,
    ``db[m] = sum over n of dout[n, m]``.
    """
    x, w, b = cache
    D, M = w.shape
    N = x.shape[0]
    dtype = _float_dtype(x, w, b)
    rows, w = x.reshape(N, D).astype(dtype), w.astype(dtype)
    dx = np.zeros((N, D), dtype=dtype)
    dw = np.zeros((D, M), dtype=dtype)
    db = None if b is None else np.zeros(M, dtype=dtype)
    for n, m in np.ndindex(N, M):
        dx[n] += dout[n, m] * w[:, m]
        dw[:, m] += dout[n, m] * rows[n]
        if db is not None:
            db[m] += dout[n, m]
    return dx.reshape(x.shape), dw, db


def relu_forward_naive(x: Array) -> tuple[Array, Array]:
    """``out = max(x, 0)``, x of any shape; NaN stays NaN. The cache is x."""
    return np.asarray(np.maximum(x, 0), dtype=_float_dtype(x)), x


def relu_backward_naive(dout: Array, cache: Array) -> Array:
    """Gradient of :func:`relu_forward_naive`: dout where x > 0, else 0 (dout where x is NaN, to keep NaN)."""
    x = cache
    return np.where(x <= 0, 0, dout).astype(_float_dtype(x))


def _relu_mask(out: Array) -> tuple[tuple[int, ...], NDArray[np.uint8]]:
    """What a ReLU's gradient needs of its result: the shape, and a bit where dout passes, eight to a byte."""
    return out.shape, np.packbits(~(out <= 0), bitorder="little")


def _relu_backward_by_mask(dout: Array, mask: tuple[tuple[int, ...], NDArray[np.uint8]]) -> Array:
    """dout where the mask's bit is set, else 0."""
    shape, bits = mask
    passes = np.unpackbits(bits, count=dout.size, bitorder="little").reshape(shape)
    return np.where(passes, dout, 0)


def leaky_relu_forward_naive(x: Array, alpha: float = 0.01) -> tuple[Array, Cache]:
    """``out = x where x > 0, else alpha * x``, x of any shape. The cache is ``(x, alpha)``."""
    return np.where(x > 0, x, alpha * x).astype(_float_dtype(x)), (x, alpha)


def leaky_relu_backward_naive(dout: Array, cache: Cache) -> Array:
    """Gradient of :func:`leaky_relu_forward_naive`: dout where x > 0, else alpha * dout."""
    x, alpha = cache
    return np.where(x > 0, dout, alpha * dout).astype(_float_dtype(x))


def dropout_forward_naive(x: Array, dropout_param: DropoutParam) -> tuple[Array, Cache]:
    """Set each value to 0 with probability p and divide the others by 1 - p ("inverted" dropout).

    The division keeps the expected value of each output, so nothing is left to do in test mode.

    Parameters
    ----------
    x : ndarray, any shape
    dropout_param : dict
        ``p``: probability of dropping a value, 0 <= p <= 1. ``mode``: 'train', or 'test' for out = x.
        ``seed`` (optional): makes the mask repeatable; without it ``np.random`` draws.

    Returns
    -------
    out : ndarray in the shape of x
    cache : tuple
        ``(dropout_param, mask)``, where ``out = x * mask``: the mask holds 0 and 1 / (1 - p). None in test
        mode.
    """
    dtype = _float_dtype(x)
    if dropout_param["mode"] == "test":
        return np.array(x, dtype=dtype), (dropout_param, None)
    seed = dropout_param.get("seed")
    random = np.random if seed is None else np.random.RandomState(seed)
    keep = 1 - dropout_param["p"]
    mask = np.asarray(random.rand(*x.shape) < keep).astype(dtype)
    if keep > 0:
        mask /= keep
    return np.asarray(x * mask), (dropout_param, mask)


def dropout_backward_naive(dout: Array, cache: Cache) -> Array:
    """Gradient of :func:`dropout_forward_naive`: ``dout * mask``, or dout in test mode."""
    _, mask = cache
    return np.array(dout) if mask is None else np.asarray(dout * mask, dtype=mask.dtype)
