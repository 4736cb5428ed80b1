"""Check a gradient against numbers: move one value a little, and see how the loss moves.

``df/dx[i] = (f(x with x[i] + h) - f(x with x[i] - h)) / (2 * h)``, the central difference, whose error
shrinks with the square of ``h``. Below about ``h = 1e-6`` the rounding of float64 takes over.

All three functions change ``x`` in place while they work, so ``f`` may ignore its argument and read the
array it knows (a model's parameter, say). They put every value back, also if ``f`` raises. ``x`` has to be
float64: beside the rounding of float32 nothing would be left of a difference this small. Anything else is a
TypeError; a ValueError refuses an x that is read-only, an ``h`` that is not positive or too small to change
x, and shapes that do not fit each other.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cnnlib._params import above_0, at_least

__all__ = ["eval_numerical_gradient", "eval_numerical_gradient_array", "grad_check_sparse", "rel_error"]


def eval_numerical_gradient(
    f: Callable[[NDArray[np.float64]], Any], x: NDArray[np.float64], verbose: bool = False, h: float = 1e-5
) -> NDArray[np.float64]:
    """Compute the numerical gradient of a function that returns a number.

    Parameters
    ----------
    f : callable
        Called as ``f(x)``; returns a number.
    x : ndarray of float64, any shape
        Where to take the gradient; changed during the work, restored after it.
    verbose : bool
        Print the index and the derivative of every value.
    h : float
        Step, above 0.

    Returns
    -------
    ndarray in the shape of x

    Raises
    ------
    TypeError
        x is not a float64 array.
    ValueError
        x is read-only, h is not positive or too small to change x, or f does not return a number.

    Examples
    --------
    >>> eval_numerical_gradient(lambda x: np.sum(x**2), np.array([1.0, -3.0]), verbose=False).round(6)
    array([ 2., -6.])
    """
    _check("eval_numerical_gradient", x, h)
    gradient = np.zeros(x.shape)
    for index in np.ndindex(x.shape):
        gradient[index] = _slope("eval_numerical_gradient", f, x, index, h)
        if verbose:
            print(index, gradient[index])
    return gradient


def eval_numerical_gradient_array(
    f: Callable[[NDArray[np.float64]], Any], x: NDArray[np.float64], df: ArrayLike, h: float = 1e-5
) -> NDArray[np.float64]:
    """Compute the numerical gradient of ``sum(f(x) * df)``, for a function that returns an array.

    With ``df = dout`` this is what a layer's backward pass computes.

    Parameters
    ----------
    f : callable
        Called as ``f(x)``; returns an array.
    x : ndarray of float64, any shape
        Where to take the gradient; changed during the work, restored after it.
    df : ndarray
        Gradient of the loss with respect to ``f(x)``, in its shape.
    h : float
        Step, above 0.

    Returns
    -------
    ndarray in the shape of x

    Raises
    ------
    TypeError
        x is not a float64 array.
    ValueError
        x is read-only, h is not positive or too small to change x, or df has another shape than f(x).

    Examples
    --------
    >>> from cnnlib.layers import affine_backward, affine_forward
    >>> x, w, dout = np.random.randn(3, 4), np.random.randn(4, 2), np.random.randn(3, 2)
    >>> _, cache = affine_forward(x, w, None)
    >>> dx, dw, _ = affine_backward(dout, cache)
    >>> rel_error(dx, eval_numerical_gradient_array(lambda x: affine_forward(x, w, None)[0], x, dout)) < 1e-6
    True
    """
    _check("eval_numerical_gradient_array", x, h)
    df = np.asarray(df, dtype=np.float64)

    gradient = np.zeros(x.shape)
    for index in np.ndindex(x.shape):
        upper, lower, step = _two_sides("eval_numerical_gradient_array", f, x, index, h)
        for out in (upper, lower):
            if out.shape != df.shape:
                raise ValueError(
                    f"eval_numerical_gradient_array: df has shape {df.shape}, but f(x) has shape {out.shape}"
                )
        # Subtract before summing: the other way round the difference drowns in the sum.
        gradient[index] = np.sum((upper - lower) * df) / step
    return gradient


def grad_check_sparse(
    f: Callable[[NDArray[np.float64]], Any],
    x: NDArray[np.float64],
    analytic_grad: ArrayLike,
    num_checks: int = 10,
    h: float = 1e-5,
) -> NDArray[np.float64]:
    """Compare a gradient with numerical derivatives at a few random places.

    Prints a line for each place: both values and their relative error. ``np.random`` draws the places,
    so ``np.random.seed`` repeats them.

    Parameters
    ----------
    f : callable
        Called as ``f(x)``; returns a number.
    x : ndarray of float64, any shape
        Where the gradient was taken; changed during the work, restored after it.
    analytic_grad : ndarray in the shape of x
        The gradient to check.
    num_checks : int
        How many places.
    h : float
        Step, above 0.

    Returns
    -------
    ndarray (num_checks,)
        The relative errors (:func:`rel_error`) that were printed.

    Raises
    ------
    TypeError
        x is not a float64 array.
    ValueError
        x is read-only or empty, h is not positive or too small to change x, f does not return a number, or
        analytic_grad has another shape than x.

    Examples
    --------
    >>> x = np.array([2.0])
    >>> errors = grad_check_sparse(lambda x: np.sum(x**2), x, 2 * x, num_checks=1)
    numerical: 4.000000 analytic: 4.000000, relative error: 0.000000e+00
    """
    _check("grad_check_sparse", x, h)
    analytic_grad = np.asarray(analytic_grad)
    if analytic_grad.shape != x.shape:
        raise ValueError(
            f"grad_check_sparse: analytic_grad has shape {analytic_grad.shape}, but x has shape {x.shape}"
        )
    if x.size == 0:
        raise ValueError(f"grad_check_sparse: x of shape {x.shape} has no value to check")

    errors = np.zeros(at_least(0, "grad_check_sparse", "num_checks", num_checks))
    for k in range(len(errors)):
        index = tuple(np.random.randint(length) for length in x.shape)
        numerical = _slope("grad_check_sparse", f, x, index, h)
        analytic = float(analytic_grad[index])
        errors[k] = rel_error(numerical, analytic)
        print(f"numerical: {numerical:f} analytic: {analytic:f}, relative error: {errors[k]:e}")
    return errors


def rel_error(x: ArrayLike, y: ArrayLike) -> float:
    """Return the largest relative difference: ``max(|x - y| / max(1e-8, |x| + |y|))``.

    0 means equal, 1 that one of them is 0 or has the wrong sign. Good gradients in float64 come below
    1e-6. NaN if either holds a NaN.

    Parameters
    ----------
    x, y : array_like of one shape

    Returns
    -------
    float
        0.0 for empty arrays.

    Raises
    ------
    ValueError
        The shapes differ.

    Examples
    --------
    >>> rel_error([1.0, 2.0], [1.0, 2.5])
    0.1111111111111111
    """
    x = np.asarray(x, dtype=np.float64)
    y = np.asarray(y, dtype=np.float64)
    if x.shape != y.shape:
        raise ValueError(f"rel_error: x has shape {x.shape}, but y has shape {y.shape}")
    with np.errstate(invalid="ignore"):  # infinities give NaN; that says enough
        errors = np.abs(x - y) / np.maximum(1e-8, np.abs(x) + np.abs(y))
    return float(np.max(errors, initial=0.0))


def _check(function, x, h):
    if not isinstance(x, np.ndarray):
        raise TypeError(
            f"{function}: x has to be an ndarray, which is changed in place, not {type(x).__name__}"
        )
    if x.dtype != np.float64:
        raise TypeError(
            f"{function}: x has to be float64, not {x.dtype}, whose rounding would hide the difference; "
            "use x.astype(np.float64)"
        )
    if not x.flags.writeable:
        raise ValueError(f"{function}: x is read-only, but is changed in place and restored; pass a copy")
    above_0(function, "h", h)


def _two_sides(function, f, x, index, h):
    """f with x[index] moved up and down by h, and the step between the two as float64 holds it."""
    middle = x[index]
    above, below = middle + h, middle - h
    if above == below:
        raise ValueError(f"{function}: h = {h} is too small to change x{list(index)} = {middle}")
    try:
        x[index] = above
        upper = _values(function, f(x))
        x[index] = below
        lower = _values(function, f(x))
    finally:
        x[index] = middle
    return upper, lower, above - below


def _values(function, values):
    """What f returned, in float64: a copy, because f may hand out the same memory at every call."""
    if values is None or isinstance(values, tuple):
        what = f"numbers, not {type(values).__name__}: of a layer's (out, cache) or a (loss, grads) the first"
        raise TypeError(f"{function}: f has to return {what}")
    return np.array(values, dtype=np.float64)


def _slope(function, f, x, index, h):
    upper, lower, step = _two_sides(function, f, x, index, h)
    if upper.size != 1 or lower.size != 1:
        raise ValueError(f"{function}: f has to return a number, not an array of shape {upper.shape}")
    return (upper.item() - lower.item()) / step
