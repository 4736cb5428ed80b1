"""What notebooks of older courses call: numerical gradients of functions of blobs, grids of images."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cnnlib.gradient_check import eval_numerical_gradient_array


class Blob(Protocol):
    """Values, and the gradient of the loss with respect to them."""

    vals: Any
    diffs: Any


def eval_numerical_gradient_blobs(
    f: Callable[..., Any], inputs: Sequence[Blob], output: Blob, h: float = 1e-5
) -> list[NDArray[np.float64]]:
    """Compute numerical gradients of ``sum(output.vals * output.diffs)`` by the values of each input.

    Parameters
    ----------
    f : callable
        Called as ``f(*inputs, output)``; writes its result to ``output.vals``.
    inputs : sequence of objects with arrays `vals` and `diffs`
        Where to take the gradients: `vals` is float64, changed during the work and restored after it.
    output : object with arrays `vals` and `diffs`
        `diffs`, the gradient of the loss with respect to the result, has the result's shape.
    h : float
        Step, above 0.

    Returns
    -------
    list of ndarray
        For each input an array in the shape of its `vals`.

    Raises
    ------
    ValueError, TypeError
        As in :func:`cnnlib.gradient_check.eval_numerical_gradient_array`.

    Examples
    --------
    >>> from types import SimpleNamespace as Blob
    >>> x, out = Blob(vals=np.array([3.0]), diffs=None), Blob(vals=None, diffs=np.array([1.0]))
    >>> def square(x, out):
    ...     out.vals = x.vals**2
    >>> eval_numerical_gradient_blobs(square, [x], out)[0].round(6)
    array([6.])
    """

    def result(_: object) -> Any:
        f(*inputs, output)
        return output.vals

    return [eval_numerical_gradient_array(result, blob.vals, output.diffs, h) for blob in inputs]


def eval_numerical_gradient_net(
    net: Any, inputs: Sequence[Blob], output: Blob, h: float = 1e-5
) -> list[NDArray[np.float64]]:
    """Compute them for an object whose method ``forward()`` reads the inputs and writes the output.

    Parameters
    ----------
    net : object with a method ``forward()``
    inputs, output, h
        As in :func:`eval_numerical_gradient_blobs`.

    Returns
    -------
    list of ndarray

    Examples
    --------
    >>> from types import SimpleNamespace as Blob
    >>> x, out = Blob(vals=np.array([3.0]), diffs=None), Blob(vals=None, diffs=np.array([1.0]))
    >>> class Square:
    ...     def forward(self):
    ...         out.vals = x.vals**2
    >>> eval_numerical_gradient_net(Square(), [x], out)[0].round(6)
    array([6.])
    """
    return eval_numerical_gradient_blobs(lambda *_: net.forward(), inputs, output, h)


def visualize_grid(Xs: ArrayLike, ubound: float = 255.0, padding: int = 1) -> NDArray[np.float64]:
    """Lay images out in a square grid on black, each stretched to 0 .. ubound.

    (:func:`cnnlib.plots.image_grid` is the one to use elsewhere.)

    Parameters
    ----------
    Xs : array, (N, H, W, C)
        Images or filters with channels last: ``W1.transpose(0, 2, 3, 1)`` of filters (F, C, KH, KW).
    ubound : float
        What the largest value of each image becomes; the smallest becomes 0.
    padding : int
        Black pixels between images.

    Returns
    -------
    array, (K * (H + padding) - padding, K * (W + padding) - padding, C)
        With ``K = ceil(sqrt(N))``; float64, so that pictures ask for ``.astype('uint8')``.

    Raises
    ------
    ValueError
        Images of another shape.

    Examples
    --------
    >>> visualize_grid(np.random.rand(5, 7, 7, 3)).shape
    (23, 23, 3)
    """
    images = np.asarray(Xs, dtype=np.float64)
    if images.ndim != 4:
        raise ValueError(f"visualize_grid: Xs must be (N, H, W, C), got shape {images.shape}")
    N, H, W, C = images.shape
    K = math.ceil(math.sqrt(N))
    grid = np.zeros((max(K * (H + padding) - padding, 0), max(K * (W + padding) - padding, 0), C))
    for n, image in enumerate(images):
        top, left = n // K * (H + padding), n % K * (W + padding)
        span = np.ptp(image) if image.size else 0
        if span > 0:
            grid[top : top + H, left : left + W] = ubound * ((image - image.min()) / span)
    return grid
