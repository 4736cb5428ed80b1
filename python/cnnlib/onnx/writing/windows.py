"""Convolutions and pools of images, sequences and volumes, adaptive pools among them.

The layers have checked their parameters when the shapes behind them were found.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnlib._params import pair
from cnnlib.graph.graph import Node
from cnnlib.graph.shapes import samples_like
from cnnlib.layers.axes import Axis, conv_axes, conv_transpose_axes, pool_axes
from cnnlib.onnx.writing.writer import Writer

_WHERE = "cnnlib.onnx.save"


def conv(writer: Writer, node: Node, inputs: list[str], output: str) -> None:
    x, w = _input(writer, node), writer.params[str(node.params[0])]
    axes, groups = conv_axes(_WHERE, node.args[0], x, w, None, w.ndim - 2)
    _convolution("Conv", writer, node, inputs, output, group=groups, **_windows(writer, node, axes))


def conv_transpose(writer: Writer, node: Node, inputs: list[str], output: str) -> None:
    x, w = _input(writer, node), writer.params[str(node.params[0])]
    axes, extras, groups = conv_transpose_axes(_WHERE, node.args[0], x, w)
    attributes = {"group": groups, "output_padding": extras, **_windows(writer, node, axes)}
    _convolution("ConvTranspose", writer, node, inputs, output, **attributes)


def _input(writer, node):
    return samples_like(writer.shapes[node.inputs[0]])


def _convolution(kind, writer, node, inputs, output, **attributes):
    names = [name for param in node.params for name in writer.parameter(param)]
    writer.operator(kind, node, [*inputs, *names], output, **attributes)


def max_pool(writer: Writer, node: Node, inputs: list[str], output: str) -> None:
    writer.operator("MaxPool", node, inputs, output, **_pool(writer, node, "max"))


def avg_pool(writer: Writer, node: Node, inputs: list[str], output: str) -> None:
    attributes = _pool(writer, node, "avg")
    del attributes["dilations"]
    writer.operator("AveragePool", node, inputs, output, **attributes)


def global_avg_pool(writer: Writer, node: Node, inputs: list[str], output: str) -> None:
    pooled = writer.operator("GlobalAveragePool", node, inputs)
    writer.operator("Flatten", node, [pooled], output, axis=1)


def _pool(writer: Writer, node: Node, kind: str) -> dict[str, Any]:
    """The attributes of a pool."""
    x = _input(writer, node)
    axes, counted, ceil_mode = pool_axes(_WHERE, node.args[0], x, x.ndim - 2, kind)
    attributes = {**_windows(writer, node, axes), "kernel_shape": [axis.taps for axis in axes]}
    if kind == "avg":
        attributes["count_include_pad"] = int(counted)
    return _with_ceil(writer, node, axes, attributes) if ceil_mode else attributes


def _with_ceil(
    writer: Writer, node: Node, axes: Sequence[Axis], attributes: dict[str, Any]
) -> dict[str, Any]:
    """Windows that hang over the end as padding there.

    Programs differ in whether `ceil_mode` has a last window that starts in the padding, so it is written only
    where a mean counts padding and not what hangs over, or where so much padding is not admitted.
    """
    if any(axis.stride > 1 for axis in axes):
        writer.fix(node, "ceil_mode")
    before, kept = [axis.before for axis in axes], [max(0, axis.reach) for axis in axes]
    over = any(axis.reach > axis.after for axis in axes)
    apart = over and attributes.get("count_include_pad") and any(attributes["pads"])
    if not apart and all(high < axis.taps for high, axis in zip(kept, axes, strict=True)):
        if over and "count_include_pad" in attributes:
            attributes["count_include_pad"] = 0
        return {**attributes, "pads": [*before, *kept]}
    ends = [min(axis.reach, axis.after) for axis in axes]
    if min(ends) < 0:
        raise ValueError(
            f"{_WHERE}: {node.title}: ceil_mode, where windows of one axis hang over the end and "
            "those of another one leave pixels over, has no operator"
        )
    return {**attributes, "pads": [*before, *ends], "ceil_mode": 1}


def _windows(writer: Writer, node: Node, axes: Sequence[Axis]) -> dict[str, Any]:
    """strides, dilations and pads; 'same' as what it is for images of this size, which fixes the size."""
    pad = node.args[0].get("pad")
    if isinstance(pad, str) and pad == "same" and any(axis.span > 1 and axis.stride > 1 for axis in axes):
        writer.fix(node, "pad 'same' at a stride")
    return {
        "strides": [axis.stride for axis in axes],
        "dilations": [axis.dilation for axis in axes],
        "pads": [*(axis.before for axis in axes), *(axis.after for axis in axes)],
    }


def adaptive_avg_pool(writer: Writer, node: Node, inputs: list[str], output: str) -> None:
    """Even windows as a pool; uneven ones as a product with a matrix of the windows for each axis."""
    if _even("AveragePool", writer, node, inputs, output):
        return
    (_, H, W), (OH, OW) = writer.shapes[node.inputs[0]], pair(node.layer, "size", node.args[0])
    rows = writer.constant(node, "rows", _means(H, OH))
    columns = writer.constant(node, "columns", _means(W, OW).T)
    pooled = writer.operator("MatMul", node, [rows, *inputs])
    writer.operator("MatMul", node, [pooled, columns], output)


def adaptive_max_pool(writer: Writer, node: Node, inputs: list[str], output: str) -> None:
    """Even windows as a pool; uneven ones gathered, and reduced, along each axis."""
    if _even("MaxPool", writer, node, inputs, output):
        return
    (_, H, W), (OH, OW) = writer.shapes[node.inputs[0]], pair(node.layer, "size", node.args[0])
    for axis, (n, m) in ((2, (H, OH)), (3, (W, OW))):
        pixels = writer.constant(node, "pixels", _pixels(n, m), np.int64)
        gathered = writer.operator("Gather", node, [*inputs, pixels], axis=axis)
        last = writer.constant(node, "axis", [axis + 1], np.int64)
        inputs = [
            writer.operator("ReduceMax", node, [gathered, last], output if axis == 3 else "", keepdims=0)
        ]


def _even(kind: str, writer: Writer, node: Node, inputs: list[str], output: str) -> bool:
    """Write a pool of whole images, or one whose windows tile them; False if they do not."""
    (_, H, W), (OH, OW) = writer.shapes[node.inputs[0]], pair(node.layer, "size", node.args[0])
    if (OH, OW) == (1, 1):
        writer.operator(f"Global{kind}", node, inputs, output)
        return True
    writer.fix(node, f"size {(OH, OW)}")
    if H % OH or W % OW:
        return False
    window = (H // OH, W // OW)
    writer.operator(kind, node, inputs, output, kernel_shape=window, strides=window)
    return True


def _adaptive_windows(n: int, m: int) -> list[range]:
    return [range(i * n // m, -(-(i + 1) * n // m)) for i in range(m)]


def _means(n: int, m: int) -> NDArray[np.float64]:
    """(m, n): what the mean of each window takes of each pixel."""
    matrix = np.zeros((m, n))
    for row, window in zip(matrix, _adaptive_windows(n, m), strict=True):
        row[window.start : window.stop] = 1 / len(window)
    return matrix


def _pixels(n: int, m: int) -> NDArray[np.int64]:
    """(m, longest window): each window's pixels, the last one repeated."""
    windows = _adaptive_windows(n, m)
    longest = max(map(len, windows))
    return np.array([[min(window.start + i, window.stop - 1) for i in range(longest)] for window in windows])
