"""Convolution, with filters packed at each call or once, and transposed convolution."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from cnnlib import _core
from cnnlib._params import positive_int, real_dtype, wanted
from cnnlib._params.arrays import prepare, prepare_backward, prepare_out, result, unpack
from cnnlib._typing import Array, ArrayLike, Cache, Needs, Wanted
from cnnlib.layers.axes import window_spans
from cnnlib.typing import ConvParam, ConvTransposeParam

__all__ = ["conv_backward", "conv_forward", "conv_transpose_backward", "conv_transpose_forward"]


class PreparedConv:
    """
    Filters ready for many batches; `prepare_conv` makes it.

    They are packed, or transformed, when images of a size are met first, and kept for 16 sizes: a call with
    images of yet another size packs them for itself. May be called from many threads, pickled, and used after
    a fork.

    Attributes
    ----------
    w : array, (F, C / groups, KH, KW)
    b : array, (F,), or None
    conv_param : dict
        Copies of what was given; the arrays are read-only.

    Examples
    --------
    >>> filters = prepare_conv(np.ones((8, 3, 3, 3), np.float32), conv_param={"pad": 1})
    >>> filters
    <PreparedConv 3->8 3x3 float32 {'pad': 1}, packed: nothing yet>
    """

    __slots__ = ("_packed", "b", "conv_param", "w")

    def __init__(
        self,
        w: ArrayLike,
        b: ArrayLike | None = None,
        conv_param: ConvParam | None = None,
        dtype: DTypeLike | None = None,
    ) -> None:
        (w, b), own = prepare("prepare_conv", ("w", "b"), w, b)
        own = real_dtype("prepare_conv", own if dtype is None else dtype, TypeError)
        self.w, self.b = _frozen(w, own), _frozen(b, own)
        self.conv_param = {} if conv_param is None else copy.deepcopy(dict(conv_param))
        # What is wrong with weights and parameters shows without images, but for an unfit algorithm.
        groups = positive_int("prepare_conv", "groups", self.conv_param.get("groups", 1))
        channels = groups * (self.w.shape[1] if self.w.ndim == 4 else 1)
        taps = self.w.shape[2:] if self.w.ndim == 4 else (1, 1)
        spans = window_spans("prepare_conv", taps, self.conv_param.get("dilation", 1))
        none = np.empty((0, max(channels, 1), *(max(span, 1) for span in spans)), own)
        _core.conv_forward("prepare_conv", none, self.w, self.b, {**self.conv_param, "algorithm": "auto"})
        self._packed = _core.PreparedConv(self.w, self.b, self.conv_param)

    def forward(
        self,
        function: str,
        x: ArrayLike,
        b: ArrayLike | None,
        conv_param: ConvParam | None,
        relu: bool = False,
        out: Array | None = None,
    ) -> tuple[Array, Cache]:
        """`conv_forward` of these filters, for the layers of cnnlib; the cache holds the converted images."""
        if b is not None or conv_param is not None:
            raise ValueError(f"{function}: b and conv_param belong to the prepared w, and must be None here")
        (x,), _ = prepare(function, ("x",), x)
        x = np.require(x, self.w.dtype, ("C", "A"))
        y = self._packed.forward(function, x, relu, prepare_out(function, out, self.w.dtype, x))
        return y, (x, self.w, self.b, self.conv_param)

    def __reduce__(self) -> tuple[Any, ...]:
        return PreparedConv, (self.w, self.b, self.conv_param)

    def __repr__(self) -> str:
        F, C, KH, KW = self.w.shape
        packed = ", ".join(f"{method} {size} B" for method, size in self._packed.packed())
        text = f"{C}->{F} {KH}x{KW} {self.w.dtype} {self.conv_param}"
        return f"<PreparedConv {text}, packed: {packed or 'nothing yet'}>"


def prepare_conv(
    w: ArrayLike,
    b: ArrayLike | None = None,
    conv_param: ConvParam | None = None,
    dtype: DTypeLike | None = None,
) -> PreparedConv:
    """
    Pack the filters of a convolution once, for many batches.

    The result goes in place of `w` into `conv_forward`, `conv_relu_forward` and `conv_relu_pool_forward`,
    where `b` and `conv_param` are None then; images are converted to its dtype. Results are the bits that
    unprepared filters give.

    Parameters
    ----------
    w : array, (F, C / groups, KH, KW)
    b : array, (F,), optional
    conv_param : dict, optional
        As in `conv_forward`.
    dtype : dtype, optional
        float32 or float64; by default that of `w` and `b`.

    Returns
    -------
    PreparedConv

    Raises
    ------
    ValueError, TypeError
        As in `conv_forward`, or another dtype.

    Examples
    --------
    >>> import numpy as np
    >>> import cnnlib
    >>> filters = cnnlib.prepare_conv(np.ones((8, 3, 3, 3), np.float32), conv_param={"pad": 1})
    >>> out, _ = cnnlib.conv_forward(np.ones((2, 3, 16, 16), np.float32), filters)
    >>> out.shape
    (2, 8, 16, 16)
    """
    return PreparedConv(w, b, conv_param, dtype)


def _frozen(array, dtype):
    if array is None:
        return None
    array = np.array(array, dtype, order="C")
    array.flags.writeable = False
    return array


_GRADIENTS = ("dx", "dw", "db")
_CACHE = ("x", "w", "b", "conv_param")


def conv_forward(
    x: ArrayLike,
    w: ArrayLike | PreparedConv,
    b: ArrayLike | None = None,
    conv_param: ConvParam | None = None,
    *,
    out: Array | None = None,
) -> tuple[Array, Cache]:
    """
    Convolve (cross-correlate) images with filters.

    Parameters
    ----------
    x : array, (N, C, H, W)
        Images.
    w : array, (F, C / groups, KH, KW), or PreparedConv
        Filters; where `prepare_conv` made them, `b` and `conv_param` must be None.
    b : array, (F,), or None
        Biases.
    conv_param : dict or None
        `stride` (1), `pad` (0), `dilation` (1): an int or (vertical, horizontal); `pad` may also be
        ((top, bottom), (left, right)), 'same' or 'valid'. `groups` (1) divides C and F.
        `algorithm` ('auto'): 'auto', 'direct' (anything but Winograd's), 'winograd' (at stride 1
        all kernels but 1x1, 1x2 and 2x1; at stride 2 3x3 to 5x5 without dilation), or any method that
        `cnnlib.explain` names.
    out : array, (N, F, OH, OW), optional
        C-contiguous buffer of the result's dtype to write the result to.

    Returns
    -------
    out : array, (N, F, OH, OW)
        OH = 1 + (H + pad_top + pad_bottom - dilation * (KH - 1) - 1) // stride, OW alike.
    cache : tuple
        (x, w, b, conv_param), for `conv_backward`.

    Raises
    ------
    ValueError
        A window larger than the padded image.

    Examples
    --------
    The sum of each 2x2 window, and how often each pixel takes part in one:

    >>> import numpy as np
    >>> x = np.arange(9.0).reshape(1, 1, 3, 3)
    >>> out, cache = conv_forward(x, np.ones((1, 1, 2, 2)))
    >>> out[0, 0]
    array([[ 8., 12.],
           [20., 24.]])
    >>> dx, dw, _ = conv_backward(np.ones_like(out), cache)
    >>> dx[0, 0]
    array([[1., 2., 1.],
           [2., 4., 2.],
           [1., 2., 1.]])
    """
    if isinstance(w, PreparedConv):
        return w.forward("conv_forward", x, b, conv_param, out=out)
    conv_param = {} if conv_param is None else conv_param
    return _conv("conv_forward", x, w, b, conv_param, out=out), (x, w, b, conv_param)


def _conv(function, x, w, b, conv_param, relu=False, out=None):
    if out is None:
        y = _core.ready_conv_forward(function, x, w, b, conv_param, relu)
        if y is not None:  # most calls
            return y
    (x, w, b), dtype = prepare(function, ("x", "w", "b"), x, w, b)
    out = prepare_out(function, out, dtype, x, w, b)
    return result(_core.conv_forward(function, x, w, b, conv_param, relu, out), dtype)


def conv_backward(dout: ArrayLike, cache: Cache, *, needs: Needs = None) -> tuple[Wanted, Wanted, Wanted]:
    """
    Gradients of `conv_forward`.

    Parameters
    ----------
    dout : array, (N, F, OH, OW)
    cache : tuple
        (x, w, b, conv_param).
    needs : tuple of 'dx', 'dw', 'db', optional
        The gradients wanted, all by default; the others come back as None and cost nothing.

    Returns
    -------
    dx, dw, db : arrays of the shapes of x, w and b
        `db` is None where b was.

    Raises
    ------
    ValueError, TypeError
        As in `conv_forward`, or `dout` of another shape than the output.
    """
    return _conv_backward("conv_backward", dout, cache, needs)


def _conv_backward(function, dout, cache, needs):
    grads = _core.ready_conv_backward(function, dout, cache, needs)
    if grads is not None:  # most calls
        return grads
    (dout, x, w, _), conv_param, need, dtype = _unpacked(function, dout, cache, needs)
    grads = _core.conv_backward(function, dout, x, w, conv_param, need)
    return tuple(result(grad, dtype) for grad in grads)


def _unpacked(function, dout, cache, needs):
    """dout, x, w and b as the kernels take them; conv_param; which gradients to compute, in what dtype."""
    x, w, b, conv_param = unpack(function, cache, *_CACHE)
    need_dx, need_dw, need_db = wanted(function, needs, _GRADIENTS)
    arrays, dtype = prepare_backward(function, dout, ("x", "w", "b"), x, w, b)
    return arrays, conv_param, (need_dx, need_dw, need_db and b is not None), dtype


def conv_transpose_forward(
    x: ArrayLike,
    w: ArrayLike,
    b: ArrayLike | None = None,
    conv_param: ConvTransposeParam | None = None,
    *,
    out: Array | None = None,
) -> tuple[Array, Cache]:
    """
    Apply a transposed convolution: the input gradient of a convolution, as a layer.

    Parameters
    ----------
    x : array, (N, C, H, W)
        Images.
    w : array, (C, F / groups, KH, KW)
        Filters.
    b : array, (F,), or None
        Biases.
    conv_param : dict or None
        As in `conv_forward`, except that `pad` (cut off the result) cannot be 'same'; and `output_pad`
        (0), rows and columns added below and right, smaller than stride or dilation.
    out : array, (N, F, OH, OW), optional
        C-contiguous buffer of the result's dtype to write the result to.

    Returns
    -------
    out : array, (N, F, OH, OW)
        OH = (H - 1) * stride - pad_top - pad_bottom + dilation * (KH - 1) + 1 + output_pad, OW alike.
    cache : tuple
        (x, w, b, conv_param), for `conv_transpose_backward`.

    Raises
    ------
    ValueError
        Padding that leaves no output.

    Examples
    --------
    Each pixel adds the filter times its value; at stride 2 the copies lie side by side:

    >>> x, w = np.array([[[[1.0, 2.0]]]]), np.array([[[[1.0, 10.0]]]])
    >>> out, cache = conv_transpose_forward(x, w, conv_param={"stride": 2})
    >>> out
    array([[[[ 1., 10.,  2., 20.]]]])
    >>> conv_transpose_backward(np.ones_like(out), cache)[0]
    array([[[[11., 11.]]]])
    """
    function = "conv_transpose_forward"
    conv_param = {} if conv_param is None else conv_param
    arrays, dtype = prepare(function, ("x", "w", "b"), x, w, b)
    images, filters, bias = arrays
    buffer = prepare_out(function, out, dtype, *arrays)
    y = _core.conv_transpose_forward(function, images, filters, bias, conv_param, False, buffer)
    return result(y, dtype), (x, w, b, conv_param)


def conv_transpose_backward(
    dout: ArrayLike, cache: Cache, *, needs: Needs = None
) -> tuple[Wanted, Wanted, Wanted]:
    """
    Gradients of `conv_transpose_forward`.

    Parameters
    ----------
    dout : array, (N, F, OH, OW)
    cache : tuple
        (x, w, b, conv_param).
    needs : tuple of 'dx', 'dw', 'db', optional
        The gradients wanted, all by default; the others come back as None and cost nothing.

    Returns
    -------
    dx, dw, db : arrays of the shapes of x, w and b
        `db` is None where b was.

    Raises
    ------
    ValueError, TypeError
        As in `conv_transpose_forward`, or `dout` of another shape than the output.
    """
    function = "conv_transpose_backward"
    (dy, x, w, _), conv_param, need, dtype = _unpacked(function, dout, cache, needs)
    dx, dw, db = _core.conv_transpose_backward(function, dy, x, w, conv_param, need)
    return result(dx, dtype), result(dw, dtype), result(db, dtype)
