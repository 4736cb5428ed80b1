"""Losses: a value and its gradient in one call."""

from __future__ import annotations

import math

import numpy as np

from cnnlib import _core
from cnnlib._params import above_0, integer, number
from cnnlib._params.arrays import as_array, labels, prepare, reals, result
from cnnlib._typing import Array, ArrayLike

__all__ = ["bce_loss", "cross_entropy", "dice_loss", "huber_loss", "l1_loss", "mse_loss", "softmax_loss"]
__all__ += ["svm_loss"]


def softmax_loss(
    x: ArrayLike, y: ArrayLike, *, weights: ArrayLike | None = None, ignore: int | None = None
) -> tuple[float, Array]:
    """
    Compute the mean cross-entropy of the softmax of the scores, for each sample or each pixel.

    Parameters
    ----------
    x : array, (N, C) or (N, C, ...)
        Scores: of samples, or of the positions of signals (N, C, W), images (N, C, H, W) or volumes.
    y : array of int, (N,) or (N, ...)
        Labels in [0, C), or `ignore`.
    weights : array, (C,), optional
        Not below 0: how much each class counts.
    ignore : int, optional
        A label that does not count: its gradient is 0, whatever the scores.

    Returns
    -------
    loss : float
        mean over n of log(sum_c exp(x[n, c])) - x[n, y[n]], over the pixels as well. With weights both sums
        of the mean are weighted by those of the labels; 0.0 if nothing counts.
    dx : array, shape of x

    Raises
    ------
    ValueError
        Shapes that do not fit, labels out of range, weights that are negative or not finite.
    TypeError
        Labels that are not integers, scores of an unsupported type.

    Notes
    -----
    As PyTorch's ``cross_entropy``, except that it gives NaN where nothing counts.

    Examples
    --------
    >>> loss, dx = softmax_loss(np.zeros((2, 4)), np.array([0, 3]))
    >>> np.isclose(loss, np.log(4)).item()
    True
    >>> dx
    array([[-0.375,  0.125,  0.125,  0.125],
           [ 0.125,  0.125,  0.125, -0.375]])

    Two signals of three positions, one of which has no label:

    >>> loss, dx = softmax_loss(np.zeros((2, 4, 3)), np.array([[0, 1, 2], [3, 0, -1]]), ignore=-1)
    >>> dx[1, :, 2]
    array([0., 0., 0., 0.])
    """
    scores, dtype = _scores("softmax_loss", x)
    shape = (len(scores), *scores.shape[2:])
    right = labels("softmax_loss", y, shape, scores.shape[1] if ignore is None else None)
    none = -1 if ignore is None else integer("softmax_loss", "ignore", ignore, 2**63)
    return _softmax_loss("softmax_loss", scores, right, weights, none, dtype)


def cross_entropy(x: ArrayLike, y: ArrayLike, *, weights: ArrayLike | None = None) -> tuple[float, Array]:
    """
    Compute the mean cross-entropy of the softmax of the scores and probabilities of the classes.

    Parameters
    ----------
    x : array, (N, C) or (N, C, ...)
        Scores: of samples, or of the positions of signals (N, C, W), images (N, C, H, W) or volumes.
    y : array, shape of x
        The probability of each class, or any other factor. Labels are for :func:`softmax_loss`.
    weights : array, (C,), optional
        Not below 0: how much each class counts.

    Returns
    -------
    loss : float
        mean over n, and over the pixels, of sum_c weights[c] * y[n, c] * -log p[n, c] with p = softmax(x);
        0.0 for an empty batch.
    dx : array, shape of x

    Raises
    ------
    ValueError
        Shapes that do not fit, weights that are negative or not finite.
    TypeError
        Arrays of an unsupported type.

    Notes
    -----
    As PyTorch's ``cross_entropy`` of probabilities, except that it gives NaN for an empty batch, and for
    scores of minus infinity where y is 0.

    Examples
    --------
    >>> loss, dx = cross_entropy(np.zeros((1, 4)), np.array([[0.5, 0.5, 0.0, 0.0]]))
    >>> np.isclose(loss, np.log(4)).item()
    True
    >>> dx
    array([[-0.25, -0.25,  0.25,  0.25]])
    """
    (scores, targets), dtype = prepare("cross_entropy", ("x", "y"), x, y)
    _check_scores("cross_entropy", scores)
    _same_shape("cross_entropy", scores, targets)
    return _softmax_loss("cross_entropy", scores, targets, weights, -1, dtype)


def mse_loss(x: ArrayLike, y: ArrayLike) -> tuple[float, Array]:
    """
    Compute the mean squared error.

    Parameters
    ----------
    x : array, any shape
    y : array, shape of x
        Targets.

    Returns
    -------
    loss : float
        mean of (x - y)**2 over all values; 0.0 if there are none.
    dx : array, shape of x
        2 * (x - y) / size of x.

    Raises
    ------
    ValueError
        Shapes that differ.
    TypeError
        Arrays of an unsupported type.

    Examples
    --------
    >>> mse_loss(np.array([1.0, 2.0]), np.array([0.0, 4.0]))
    (2.5, array([ 1., -2.]))
    """
    return _pointwise("mse_loss", x, y)


def l1_loss(x: ArrayLike, y: ArrayLike) -> tuple[float, Array]:
    """
    Compute the mean absolute error.

    Parameters
    ----------
    x : array, any shape
    y : array, shape of x
        Targets.

    Returns
    -------
    loss : float
        mean of \\|x - y| over all values; 0.0 if there are none.
    dx : array, shape of x
        sign(x - y) / size of x; 0 where both are equal, NaN where one is NaN (PyTorch gives 0).

    Raises
    ------
    ValueError
        Shapes that differ.
    TypeError
        Arrays of an unsupported type.

    Examples
    --------
    >>> l1_loss(np.array([1.0, 2.0]), np.array([0.0, 4.0]))
    (1.5, array([ 0.5, -0.5]))
    """
    return _pointwise("l1_loss", x, y)


def huber_loss(x: ArrayLike, y: ArrayLike, delta: float = 1.0) -> tuple[float, Array]:
    """
    Compute the mean Huber loss, a squared error that goes on as a line [1]_.

    Parameters
    ----------
    x : array, any shape
    y : array, shape of x
        Targets.
    delta : float
        Above 0: where the line begins.

    Returns
    -------
    loss : float
        mean over all values d = x - y of d**2 / 2 where \\|d| <= delta, else of delta * (\\|d| - delta / 2);
        0.0 if there are none.
    dx : array, shape of x
        min(max(d, -delta), delta) / size of x.

    Raises
    ------
    ValueError
        Shapes that differ, delta out of range.
    TypeError
        Arrays of an unsupported type.

    References
    ----------
    .. [1] P. J. Huber, "Robust Estimation of a Location Parameter", 1964.

    Examples
    --------
    >>> huber_loss(np.array([1.0, 2.0]), np.array([0.5, 5.0]))
    (1.3125, array([ 0.25, -0.5 ]))
    """
    return _pointwise("huber_loss", x, y, above_0("huber_loss", "delta", delta))


def bce_loss(x: ArrayLike, y: ArrayLike, *, pos_weight: ArrayLike | None = None) -> tuple[float, Array]:
    """
    Compute the mean binary cross-entropy of the sigmoid of logits: each value is a yes or no of its own.

    Parameters
    ----------
    x : array, any shape
        Logits, as of several labels (N, C) or of a mask (N, 1, H, W).
    y : array, shape of x
        Targets in [0, 1], which is not checked.
    pos_weight : float or array, (C,), optional
        Not below 0: what y counts beside 1 - y; an array has a factor for each channel x[:, c].

    Returns
    -------
    loss : float
        mean over all values of pos_weight * y * log(1 + exp(-x)) + (1 - y) * log(1 + exp(x)); 0.0 if there
        are none.
    dx : array, shape of x
        ((1 - y) * p - pos_weight * y * (1 - p)) / size of x, with p = sigmoid(x).

    Raises
    ------
    ValueError
        Shapes that do not fit, pos_weight out of range.
    TypeError
        Arrays of an unsupported type.

    Notes
    -----
    As PyTorch's ``binary_cross_entropy_with_logits``, with two differences: logits of minus infinity give the
    limit for y = 1 (PyTorch: NaN), and pos_weight belongs to axis 1 (PyTorch: to the last one).

    Examples
    --------
    >>> loss, dx = bce_loss(np.zeros((1, 2)), np.array([[0.0, 1.0]]))
    >>> np.isclose(loss, np.log(2)).item()
    True
    >>> dx
    array([[ 0.25, -0.25]])
    """
    if pos_weight is None or as_array("bce_loss", "pos_weight", pos_weight).ndim == 0:
        factor = 1.0 if pos_weight is None else number("bce_loss", "pos_weight", pos_weight, 0)
        return _pointwise("bce_loss", x, y, factor)
    (logits, targets), dtype = prepare("bce_loss", ("x", "y"), x, y)
    shape = logits.shape
    if len(shape) < 2:
        raise ValueError(f"bce_loss: pos_weight for each channel needs x (N, C, ...), got x {shape}")
    each = _weights("bce_loss", "pos_weight", pos_weight, logits)
    each = np.ascontiguousarray(np.broadcast_to(each.reshape(-1, *[1] * (len(shape) - 2)), shape))
    loss, dx = _pointwise("bce_loss", logits, targets, weights=each)
    return loss, result(dx, dtype)


def dice_loss(x: ArrayLike, y: ArrayLike) -> tuple[float, Array]:
    """
    Compute the mean Dice loss of maps of logits: 1 less the overlap of two masks, whatever their size [1]_.

    Parameters
    ----------
    x : array, (N, C, ...) or (N, D)
        Logits. A map is a channel of a sample, or all D values of a sample.
    y : array, shape of x
        Targets in [0, 1], which is not checked.

    Returns
    -------
    loss : float
        mean over the maps of 1 - (2 * sum(p * y) + 1) / (sum(p) + sum(y) + 1), with p = sigmoid(x); 0.0 for
        an empty batch. The 1 makes an empty mask the right answer to an empty target.
    dx : array, shape of x

    Raises
    ------
    ValueError
        Shapes that do not fit.
    TypeError
        Arrays of an unsupported type.

    References
    ----------
    .. [1] F. Milletari, N. Navab, S.-A. Ahmadi, "V-Net: Fully Convolutional Neural Networks for Volumetric
           Medical Image Segmentation", 2016 (there with squares in the divisor).

    Examples
    --------
    >>> mask = np.array([[[0.0, 1.0, 1.0]]])
    >>> loss, dx = dice_loss(np.zeros((1, 1, 3)), mask)
    >>> round(loss, 6)  # 1 - (2 + 1) / (1.5 + 2 + 1)
    0.333333
    """
    (logits, targets), dtype = prepare("dice_loss", ("x", "y"), x, y)
    if logits.ndim < 2:
        raise ValueError(f"dice_loss: x must have shape (N, C, ...) or (N, D), got {logits.shape}")
    _same_shape("dice_loss", logits, targets)
    if logits.size == 0:
        return 0.0, np.zeros(logits.shape, dtype)
    maps = math.prod(logits.shape[: min(2, logits.ndim - 1)])
    loss, dx = _core.dice_loss("dice_loss", logits, targets, maps)
    return loss, result(dx, dtype)


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
    scores, dtype = _scores("svm_loss", x)
    if scores.ndim != 2:
        raise ValueError(f"svm_loss: x must have shape (N, C), got {scores.shape}")
    right = labels("svm_loss", y, scores.shape[:1], scores.shape[1])
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


def _scores(function, x):
    (x,), dtype = prepare(function, ("x",), x)
    _check_scores(function, x)
    return x, dtype


def _check_scores(function, x):
    if x.ndim < 2 or x.shape[1] == 0:
        raise ValueError(f"{function}: x must have shape (N, C) or (N, C, ...) with C >= 1, got {x.shape}")


def _same_shape(function, x, y):
    if x.shape != y.shape:
        raise ValueError(f"{function}: y must have the shape of x, {x.shape}, got {y.shape}")


def _weights(function, name, weights, x):
    """Factors for the channels of x, in its dtype."""
    weights = reals(function, name, weights)
    if weights.shape != (x.shape[1],):
        raise ValueError(f"{function}: {name} must have shape ({x.shape[1]},), got {weights.shape}")
    weights = np.array(weights, x.dtype)
    if not (np.isfinite(weights).all() and (weights >= 0).all()):
        raise ValueError(f"{function}: {name} must be finite and not below 0")
    return weights


def _softmax_loss(function, scores, targets, weights, ignore, dtype):
    weights = None if weights is None else _weights(function, "weights", weights, scores)
    if scores.size == 0:
        return 0.0, np.zeros(scores.shape, dtype)
    loss, dx = _core.softmax_loss(function, scores, targets, weights, ignore)
    return loss, result(dx, dtype)


def _pointwise(function, x, y, option=1.0, weights=None):
    (x, y), dtype = prepare(function, ("x", "y"), x, y)
    _same_shape(function, x, y)
    if x.size == 0:
        return 0.0, np.zeros(x.shape, dtype)
    loss, dx = _core.pointwise_loss(function, x, y, option, weights)
    return loss, result(dx, dtype)
