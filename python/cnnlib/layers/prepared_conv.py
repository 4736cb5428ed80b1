"""A convolution whose weights are packed once."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from cnnlib import _core
from cnnlib._params.arrays import prepare, prepare_out
from cnnlib._typing import Array, ArrayLike, Cache
from cnnlib.typing import ConvParam

_LARGE = (1 << 20, 1 << 20)  # rows and columns, so that any kernel fits


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
        own = np.dtype(own if dtype is None else dtype)
        if own not in (np.float32, np.float64):
            raise TypeError(f"prepare_conv: dtype must be float32 or float64, got {own}")
        self.w, self.b = _frozen(w, own), _frozen(b, own)
        self.conv_param = {} if conv_param is None else dict(conv_param)
        # What is wrong with weights and parameters shows without images, but for an unfit algorithm.
        groups = self.conv_param.get("groups", 1)
        channels = self.w.shape[1] * groups if self.w.ndim == 4 and isinstance(groups, int) else 1
        none = np.empty((0, channels, *_LARGE), own)
        _core.conv_forward("prepare_conv", none, self.w, self.b, {**self.conv_param, "algorithm": "auto"})
        make = _core.PreparedConvFloat if own == np.float32 else _core.PreparedConvDouble
        self._packed = make(self.w, self.b, self.conv_param)

    def forward(
        self,
        function: str,
        x: ArrayLike,
        b: ArrayLike | None,
        conv_param: ConvParam | None,
        relu: bool = False,
        out: Array | None = None,
    ) -> Array:
        """`conv_forward` of these filters, for the layers of cnnlib."""
        if b is not None or conv_param is not None:
            raise ValueError(f"{function}: b and conv_param belong to the prepared w, and must be None here")
        (x,), _ = prepare(function, ("x",), x)
        x = np.require(x, self.w.dtype, ("C", "A"))
        return self._packed.forward(function, x, relu, prepare_out(function, out, self.w.dtype, x))

    def cache(self, x: ArrayLike) -> Cache:
        """`conv_forward`'s cache."""
        return x, self.w, self.b, self.conv_param

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

    The result goes in place of `w` into `conv_forward` and `conv_relu_forward`, where `b` and
    `conv_param` are None then; images are converted to its dtype. Results are the bits that unprepared
    filters give.

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
    >>> out, _ = cnnlib.conv_forward(np.ones((2, 3, 16, 16), np.float32), filters, None, None)
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
