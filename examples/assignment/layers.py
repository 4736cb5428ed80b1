"""Assignment: three layers, forward and backward, with loops. Fill in what raises NotImplementedError.

Use NumPy alone. The docstrings have shapes and formulas; check gradients against numbers before you hand in.
"""

import numpy as np  # noqa: F401


def affine_forward(x, w, b):
    """out = x w + b with each sample of x as a row: x (N, d1, ..., dk), w (D, M), b (M,), out (N, M).

    Returns out and a cache for the backward pass.
    """
    raise NotImplementedError


def affine_backward(dout, cache):
    """dx, dw, db, in the shapes of x, w and b, for dout (N, M)."""
    raise NotImplementedError


def conv_forward(x, w, b, conv_param):
    """Correlate x (N, C, H, W) with the filters w (F, C, KH, KW), add b (F,).

    conv_param has 'stride' and 'pad', both numbers. out is (N, F, OH, OW) with
    OH = 1 + (H + 2 * pad - KH) // stride, OW alike. Returns out and a cache.
    """
    raise NotImplementedError


def conv_backward(dout, cache):
    """dx, dw, db, in the shapes of x, w and b, for dout (N, F, OH, OW)."""
    raise NotImplementedError


def max_pool_forward(x, pool_param):
    """The maximum of each window of x (N, C, H, W); pool_param has 'pool_height', 'pool_width', 'stride'.

    Returns out and a cache.
    """
    raise NotImplementedError


def max_pool_backward(dout, cache):
    """dx in the shape of x: each window's gradient goes to its maximum."""
    raise NotImplementedError
