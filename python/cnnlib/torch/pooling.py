"""`max_pool2d`: keeps which pixel of each window won, not the images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from cnnlib import _core
from cnnlib.layers.pool import _MAX_KEYS, _geometry
from cnnlib.torch.tensors import as_array, from_array, operator, pair, prepare, torch_threads

_GEOMETRY = "int[] kernel, int[] stride, int[] pad, int[] dilation, bool ceil_mode"
_NO_GRADIENTS = (None, None, None, None, None)  # of the geometry
_WIDE = 255  # positions of a window from which a winner takes 4 bytes


def max_pool2d(
    x: torch.Tensor,
    kernel_size: int | Sequence[int],
    stride: int | Sequence[int] | None = None,
    padding: int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    ceil_mode: bool = False,
) -> torch.Tensor:
    """
    Take the maximum of each window, as ``torch.nn.functional.max_pool2d`` does; NaN beats every number.

    The gradient goes to the maximum, of equals to the first in row-major order. It has derivatives of its
    own, through PyTorch's operators.

    Parameters
    ----------
    x : Tensor, (N, C, H, W) or (C, H, W)
        Images. Any strides; what is not contiguous is copied.
    kernel_size : int or (vertical, horizontal)
        The window.
    stride : int or (vertical, horizontal), or None
        None: the window's size.
    padding : int or (vertical, horizontal)
        At most half of `kernel_size`; padding never wins.
    dilation : int or (vertical, horizontal)
    ceil_mode : bool
        Whether a last window may hang over the end.

    Returns
    -------
    Tensor, (N, C, OH, OW) or (C, OH, OW)

    Raises
    ------
    ValueError
        A window larger than the padded image, padding of more than half of the window, tensors that are not
        on the CPU.
    TypeError
        A tensor or parameters of an unsupported type.

    Examples
    --------
    >>> max_pool2d(torch.tensor([[[1.0, 2.0, 5.0, 3.0], [4.0, 0.0, 1.0, 2.0]]]), 2)
    tensor([[[4., 5.]]])
    """
    (x,), dtype = prepare("max_pool2d", ("x",), x)
    kernel = pair("max_pool2d", "kernel_size", kernel_size)
    # PyTorch's own operator says [] where its Python function says None.
    steps = kernel if stride is None or stride == [] else pair("max_pool2d", "stride", stride)
    pad, spread = pair("max_pool2d", "padding", padding), pair("max_pool2d", "dilation", dilation)
    if any(2 * p > k for p, k in zip(pad, kernel)):
        raise ValueError(
            f"max_pool2d: padding must be at most half of kernel_size, got {tuple(pad)} and {tuple(kernel)}"
        )
    images = x.unsqueeze(0) if x.dim() == 3 else x
    out, _ = _max_pool2d(images, kernel, steps, pad, spread, ceil_mode)
    return (out.squeeze(0) if x.dim() == 3 else out).to(dtype)


def _arguments(x, kernel, stride, pad, dilation, ceil_mode):
    """The compiled layer's geometry, checked, and ceil_mode."""
    param = {"size": tuple(kernel), "stride": tuple(stride), "pad": tuple(pad)}
    param |= {"dilation": tuple(dilation), "ceil_mode": ceil_mode}
    return _geometry("max_pool2d", param, x, _MAX_KEYS)


@operator("max_pool2d", f"Tensor x, {_GEOMETRY}", 2)
def _max_pool2d(x, *geometry):
    """The maxima, and the position kh * KW + kw of each in its window (for none the largest number)."""
    images = as_array(x)
    with torch_threads():
        out, winners = _core.max_pool_forward("max_pool2d", images, *_arguments(images, *geometry))
    return from_array(out), from_array(winners)


@operator("max_pool2d_backward", f"Tensor dout, Tensor winners, SymInt[] size, {_GEOMETRY}")
def _max_pool2d_backward(dout, winners, size, *geometry):
    """`size` is (H, W)."""
    dy, winning = as_array(dout.contiguous()), as_array(winners)
    x = np.empty((*dy.shape[:2], *size), dy.dtype)  # its shape alone is needed, since the winners are known
    windows, ceil_mode = _arguments(x, *geometry)
    with torch_threads():
        return from_array(_core.max_pool_backward("max_pool2d", dy, x, windows, ceil_mode, winning))


@_max_pool2d.register_fake
def _(x, kernel, stride, pad, dilation, ceil_mode):
    maxima = torch.nn.functional.max_pool2d(x, kernel, stride, pad, dilation, ceil_mode)
    out = x.new_empty(maxima.shape)
    wide = kernel[0] * kernel[1] >= _WIDE
    return out, out.new_empty(out.shape, dtype=torch.uint32 if wide else torch.uint8)


@_max_pool2d_backward.register_fake
def _(dout, winners, size, kernel, stride, pad, dilation, ceil_mode):
    return dout.new_empty((*dout.shape[:2], *size))


def _keep(ctx, inputs, output):
    x, *ctx.geometry = inputs
    ctx.size = x.shape[2:]
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(output[1])


def _gradient(ctx, dout, _):
    (winners,) = ctx.saved_tensors
    return _max_pool2d_backward(dout, winners, ctx.size, *ctx.geometry), *_NO_GRADIENTS


def _keep_backward(ctx, inputs, output):
    _, winners, ctx.size, *ctx.geometry = inputs
    ctx.save_for_backward(winners)


def _backward_gradient(ctx, g):
    (winners,) = ctx.saved_tensors
    return _taken(g, winners, *ctx.geometry), None, None, *_NO_GRADIENTS


def _taken(g, winners, kernel, stride, pad, dilation, ceil_mode):
    """The values of g (N, C, H, W) at the windows' winners, 0 for a window without."""
    position = winners.to(torch.int64)
    rows, columns = torch.meshgrid(
        *(torch.arange(n) * s - p for n, s, p in zip(winners.shape[2:], stride, pad)), indexing="ij"
    )
    rows = rows + position // kernel[1] * dilation[0]
    columns = columns + position % kernel[1] * dilation[1]
    none = position >= kernel[0] * kernel[1]
    place = (rows * g.shape[3] + columns).masked_fill(none, 0)
    values = g.flatten(2).gather(2, place.flatten(2)).reshape(winners.shape)
    return values.masked_fill(none, 0)


_max_pool2d.register_autograd(_gradient, setup_context=_keep)
_max_pool2d_backward.register_autograd(_backward_gradient, setup_context=_keep_backward)
