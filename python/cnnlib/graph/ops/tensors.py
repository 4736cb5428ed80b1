"""What rearranges and combines tensors of any rank; run layer by layer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from cnnlib._typing import Array
from cnnlib.graph.ops import tensor_functions
from cnnlib.graph.ops.op import Op
from cnnlib.graph.ops.sizes import Shape, batch_of, same, same_by_number
from cnnlib.layers.axes import check_shape


def _refuse(function: str, text: str, *shapes: Shape) -> None:
    raise ValueError(f"{function}: {text}, got x {', '.join(map(batch_of, shapes))}")


def _transpose(function: str, x: Shape, axes: Sequence[int]) -> Shape:
    if sorted(axes) != list(range(len(x) + 1)) or axes[0] != 0:
        _refuse(function, f"axes must be an order of the axes of x that begins with 0, got {axes!r}", x)
    return tuple(x[axis - 1] for axis in axes[1:])


def _reshape(function: str, x: Shape, shape: Sequence[int]) -> Shape:
    known = math.prod(size for size in shape if size != -1)
    if list(shape).count(-1) > 1 or min(shape, default=1) < -1 or (-1 in shape and not known):
        _refuse(function, f"shape must be sizes, of which one may be -1, got {shape!r}", x)
    made = tensor_functions._filled(shape, x)
    if math.prod(made) != math.prod(x):
        _refuse(function, f"shape {tuple(shape)} does not hold the numbers of x", x)
    return made


def _slice(function: str, x: Shape, start: int | None, stop: int | None, step: int, axis: int) -> Shape:
    _check_axes(function, x, (axis,))
    if not step:
        _refuse(function, "step must not be 0", x)
    size = len(range(x[axis - 1])[start:stop:step])
    return (*x[: axis - 1], size, *x[axis:])


def _check_axes(function: str, x: Shape, axes: Sequence[int]) -> None:
    if len(set(axes)) != len(axes) or any(not 0 < axis <= len(x) for axis in axes):
        _refuse(function, f"axis must be one or several behind that of the samples, got {axes!r}", x)


def _pad(function: str, x: Shape, widths: Sequence[Sequence[int]], mode: str, value: float) -> Shape:
    if mode not in tensor_functions._NUMPY_MODES or len(widths) != len(x):
        _refuse(function, f"widths must be (before, after) for each axis, got {widths!r} in mode {mode!r}", x)
    if any(
        min(side) < 0 or (mode == "reflect" and max(side) >= n) for side, n in zip(widths, x, strict=True)
    ):
        _refuse(function, f"widths {widths!r} in mode {mode!r} do not fit", x)
    return tuple(n + sum(side) for n, side in zip(x, widths, strict=True))


def _expand(function: str, x: Shape, shape: Sequence[int]) -> Shape:
    if len(shape) != len(x) or any(n != 1 and m not in (-1, n) for n, m in zip(x, shape)):
        _refuse(function, f"shape {tuple(shape)} is none that x spreads to", x)
    return tuple(n if m == -1 else m for n, m in zip(x, shape, strict=True))


def _along(function: str, x: Shape, *args: Any) -> Shape:
    _check_axes(function, x, args[-1])
    return x


def _gather(function: str, x: Shape, indices: Any, axis: int) -> Shape:
    _check_axes(function, x, (axis,))
    indices = np.asarray(indices)
    if indices.size and not -x[axis - 1] <= indices.min() <= indices.max() < x[axis - 1]:
        _refuse(function, f"indices must lie in axis {axis}, got {indices.min()} to {indices.max()}", x)
    return (*x[: axis - 1], *indices.shape, *x[axis:])


def _constant(function: str, x: Shape, w: Array) -> Shape:
    return w.shape


def _linear(function: str, x: Shape, w: Array, b: Array | None) -> Shape:
    if w.ndim != 2 or w.shape[0] != x[-1]:
        raise ValueError(f"{function}: x is {batch_of(x)}, so w must be ({x[-1]}, M), got {w.shape}")
    check_shape(function, "b", b, w.shape[1:])
    return (*x[:-1], w.shape[1])


def _trailing(function: str, x: Shape, gamma: Array, beta: Array, eps: float) -> Shape:
    if x[len(x) - gamma.ndim :] != gamma.shape or gamma.shape != beta.shape:
        raise ValueError(
            f"{function}: x is {batch_of(x)}, got gamma {gamma.shape} and beta {beta.shape} for its last axes"
        )
    return x


def _alike(function: str, x: Shape, y: Shape) -> Shape:
    if x != y:
        _refuse(function, "the inputs must have one shape", x, y)
    return x


def _clip(function: str, x: Shape, low: float, high: float) -> Shape:
    return x


def _reduce(function: str, x: Shape, axis: Sequence[int], keepdims: bool) -> Shape:
    _check_axes(function, x, axis)
    return tuple(1 if i in axis else n for i, n in enumerate(x, start=1) if keepdims or i not in axis)


def _matmul(function: str, x: Shape, y: Shape) -> Shape:
    if len(x) < 2 or x[:-2] != y[:-2] or x[-1] != y[-2]:
        _refuse(function, "the inputs must be matrices that fit, and alike in the axes before", x, y)
    return (*x[:-1], y[-1])


def _op(name: str, shape: Any, **known: Any) -> Op:
    usual: dict[str, Any] = {
        "no_onnx": "it is read, and not written yet",
        "no_aten": "its operators are translated by cnnlib.torch.aten.tensors",
        "not_trained": "the core has no operation for it",
        "not_prepared": "the core has no operation for it",
        "no_naive": "it is an expression of NumPy",
    }
    return Op(name=name, shape=shape, module=tensor_functions, **usual | known)


OPS = (
    _op("transpose", _transpose, selects=True),
    _op("reshape", _reshape, hands_on=True, selects=True),
    _op("slice", _slice, selects=True),
    _op("pad", _pad),
    _op("expand", _expand, selects=True),
    _op("roll", _along, selects=True),
    _op("flip", _along, selects=True),
    _op("gather", _gather, selects=True),
    _op("constant", _constant),
    _op("linear", _linear),
    _op("trailing_layernorm", _trailing),
    _op("divide", _alike, inputs=2),
    _op("power", same_by_number, elementwise=True),
    _op("minimum", _alike, inputs=2),
    _op("maximum", _alike, inputs=2),
    *(_op(name, same, elementwise=True) for name in ("exp", "log", "softplus", "absolute")),
    _op("clip", _clip, elementwise=True),
    _op("reduce_sum", _reduce),
    _op("reduce_max", _reduce, selects=True),
    _op("matmul", _matmul, inputs=2),
)
