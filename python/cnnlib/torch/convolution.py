"""`conv2d`: the convolution as three operators that are each other's derivatives.

The output is linear in x and in w, so each gradient is a convolution again, and so are the gradients'
gradients: with g of dx's shape, and v of dw's, the gradient of ``<dx, g>`` is ``conv(g, w)`` for dout and
``dw(dout, g)`` for w, that of ``<dw, v>`` is ``conv(x, v)`` for dout and ``dx(dout, v)`` for x. Derivatives
of any order are compiled.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from cnnlib._params import same_sides
from cnnlib.layers.conv import _conv, _conv_backward
from cnnlib.torch.tensors import as_array, from_array, operator, pair, prepare, torch_threads

_GEOMETRY = "int[] stride, int[] pad, int[] dilation, int groups"
_NO_GRADIENTS = (None, None, None, None)  # of the geometry


def conv2d(
    x: torch.Tensor,
    w: torch.Tensor,
    b: torch.Tensor | None = None,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] | str = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
) -> torch.Tensor:
    """
    Convolve images, as ``torch.nn.functional.conv2d`` does, with derivatives of any order.

    Parameters
    ----------
    x : Tensor, (N, C, H, W) or (C, H, W)
        Images. Any strides; what is not contiguous (channels last, say) is copied.
    w : Tensor, (F, C / groups, KH, KW)
        Filters.
    b : Tensor, (F,), or None
        Biases.
    stride, dilation : int or (vertical, horizontal)
    padding : int, (vertical, horizontal), 'same' or 'valid'
        'same' keeps H and W; at stride 1 only.
    groups : int
        Divides C and F.

    Returns
    -------
    Tensor, (N, F, OH, OW) or (F, OH, OW)
        Contiguous, in the arguments' dtype (of several, their common one).

    Raises
    ------
    ValueError
        Shapes that do not fit, a window larger than the padded image, tensors that are not on the CPU.
    TypeError
        Tensors or parameters of an unsupported type.

    Examples
    --------
    >>> x, w = torch.ones(1, 1, 3, 3), torch.ones(1, 1, 3, 3, requires_grad=True)
    >>> out = conv2d(x, w, padding=1)
    >>> out.detach()[0, 0]
    tensor([[4., 6., 4.],
            [6., 9., 6.],
            [4., 6., 4.]])
    >>> out.sum().backward()
    >>> w.grad[0, 0, 1]
    tensor([6., 9., 6.])
    """
    (x, w, b), dtype = prepare("conv2d", ("x", "w", "b"), x, w, b)
    if w.dim() != 4:
        raise ValueError(
            f"conv2d: w must have 4 dimensions (F, C / groups, KH, KW), got shape {tuple(w.shape)}"
        )
    steps, spread = pair("conv2d", "stride", stride), pair("conv2d", "dilation", dilation)
    around = sides(padding, w.shape[2:], steps, spread)
    images = x.unsqueeze(0) if x.dim() == 3 else x
    out = _conv2d(images, w, b, steps, around, spread, groups)
    return (out.squeeze(0) if x.dim() == 3 else out).to(dtype)


def sides(
    padding: int | Sequence[int] | str, kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int]
) -> list[int]:
    """Padding as [top, bottom, left, right]."""
    if padding == "same":
        if list(stride) != [1, 1]:
            raise ValueError(f"conv2d: padding='same' is defined at stride 1, got stride {tuple(stride)}")
        return [side for d, k in zip(dilation, kernel) for side in same_sides(1, d * (k - 1) + 1, 1)]
    if isinstance(padding, str) and padding != "valid":
        raise ValueError(f"conv2d: padding must be 'same', 'valid' or numbers, got {padding!r}")
    vertical, horizontal = pair("conv2d", "padding", 0 if padding == "valid" else padding)
    return [vertical, vertical, horizontal, horizontal]


def _conv_param(stride, pad, dilation, groups):
    sides = (tuple(pad[:2]), tuple(pad[2:]))
    return {"stride": tuple(stride), "pad": sides, "dilation": tuple(dilation), "groups": groups}


@operator("conv2d", f"Tensor x, Tensor w, Tensor? b, {_GEOMETRY}")
def _conv2d(x, w, b, *geometry):
    bias = None if b is None else as_array(b)
    with torch_threads():
        return from_array(_conv("conv2d", as_array(x), as_array(w), bias, _conv_param(*geometry)))


@operator("conv2d_input_gradient", f"Tensor dout, Tensor w, SymInt[] size, {_GEOMETRY}")
def _input_gradient(dout, w, size, *geometry):
    """`size` is (H, W)."""
    dy, filters, param = as_array(dout), as_array(w), _conv_param(*geometry)
    # Of x this gradient needs the shape alone: its memory is never touched.
    x = np.empty((dy.shape[0], filters.shape[1] * param["groups"], *size), dy.dtype)
    with torch_threads():
        return from_array(_conv_backward("conv2d", dy, (x, filters, None, param), ("dx",))[0])


@operator("conv2d_weight_gradient", f"Tensor dout, Tensor x, SymInt[] kernel, bool bias, {_GEOMETRY}", 2)
def _weight_gradient(dout, x, kernel, bias, *geometry):
    """dw and, with `bias`, db, which is empty without; `kernel` is (KH, KW)."""
    dy, images, param = as_array(dout), as_array(x), _conv_param(*geometry)
    F = dy.shape[1]
    # Of w and b these gradients need the shapes alone.
    w = np.empty((F, images.shape[1] // param["groups"], *kernel), dy.dtype)
    b = np.empty(F, dy.dtype) if bias else None
    with torch_threads():
        _, dw, db = _conv_backward("conv2d", dy, (images, w, b, param), ("dw", "db"))
    return from_array(dw), from_array(db) if bias else dout.new_empty(0)


@_conv2d.register_fake
def _(x, w, b, stride, pad, dilation, groups):
    padded = torch.nn.functional.pad(x, [*pad[2:], *pad[:2]])
    return x.new_empty(torch.nn.functional.conv2d(padded, w, b, stride, 0, dilation, groups).shape)


@_input_gradient.register_fake
def _(dout, w, size, stride, pad, dilation, groups):
    return dout.new_empty((dout.shape[0], w.shape[1] * groups, *size))


@_weight_gradient.register_fake
def _(dout, x, kernel, bias, stride, pad, dilation, groups):
    F = dout.shape[1]
    return dout.new_empty((F, x.shape[1] // groups, *kernel)), dout.new_empty(F if bias else 0)


def _keep(ctx, inputs, saved):
    """What the backward pass needs of an operator's first two arguments, which it is linear in."""
    for_second, for_first = inputs[:2]
    needed = ctx.needs_input_grad
    ctx.save_for_backward(for_second if needed[1] else None, for_first if needed[0] else None)
    ctx.geometry = inputs[-4:]
    ctx.sizes = saved


def _keep_conv(ctx, inputs, output):
    x, w = inputs[:2]
    _keep(ctx, inputs, (x.shape[2:], w.shape[2:]))


def _conv_gradients(ctx, dout):
    x, w = ctx.saved_tensors
    size, kernel = ctx.sizes
    need_dx, need_dw, need_db = ctx.needs_input_grad[:3]
    dx = _input_gradient(dout, w, size, *ctx.geometry) if need_dx else None
    dw = db = None
    if need_dw:
        dw, db = _weight_gradient(dout, x, kernel, need_db, *ctx.geometry)
    elif need_db:
        db = dout.sum((0, 2, 3))
    return dx, dw, db if need_db else None, *_NO_GRADIENTS


def _keep_input_gradient(ctx, inputs, output):
    _keep(ctx, inputs, inputs[1].shape[2:])


def _input_gradient_gradients(ctx, g):
    dout, w = ctx.saved_tensors
    need_dout, need_w = ctx.needs_input_grad[:2]
    for_dout = _conv2d(g, w, None, *ctx.geometry) if need_dout else None
    for_w = _weight_gradient(dout, g, ctx.sizes, False, *ctx.geometry)[0] if need_w else None
    return for_dout, for_w, None, *_NO_GRADIENTS


def _keep_weight_gradient(ctx, inputs, output):
    _keep(ctx, inputs, inputs[1].shape[2:])
    ctx.bias = inputs[3]


def _weight_gradient_gradients(ctx, v, vb):
    dout, x = ctx.saved_tensors
    need_dout, need_x = ctx.needs_input_grad[:2]
    for_dout = _conv2d(x, v, vb if ctx.bias else None, *ctx.geometry) if need_dout else None
    for_x = _input_gradient(dout, v, ctx.sizes, *ctx.geometry) if need_x else None
    return for_dout, for_x, None, None, *_NO_GRADIENTS


_conv2d.register_autograd(_conv_gradients, setup_context=_keep_conv)
_input_gradient.register_autograd(_input_gradient_gradients, setup_context=_keep_input_gradient)
_weight_gradient.register_autograd(_weight_gradient_gradients, setup_context=_keep_weight_gradient)
