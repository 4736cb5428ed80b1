"""Convolutions and pools of images, sequences and volumes, adaptive pools among them.

The layers have checked their parameters when the shapes behind them were found.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnlib._params import pair, same_sides
from cnnlib.graph.graph import Node
from cnnlib.onnx.writing.writer import Writer

_POOL_AXES = ("pool_depth", "pool_height", "pool_width")


def conv(writer: Writer, node: Node, inputs: list[str], output: str) -> None:
    param, w = node.args[0], writer.params[str(node.params[0])]
    attributes = _windows(writer, node, param, w.shape[2:], 1)
    _convolution("Conv", writer, node, inputs, output, group=param.get("groups", 1), **attributes)


def conv_transpose(writer: Writer, node: Node, inputs: list[str], output: str) -> None:
    param, w = node.args[0], writer.params[str(node.params[0])]
    attributes = _windows(writer, node, param, w.shape[2:], 1)
    attributes["output_padding"] = _each(param.get("output_pad", 0), 2)
    _convolution("ConvTranspose", writer, node, inputs, output, group=param.get("groups", 1), **attributes)


def _convolution(kind, writer, node, inputs, output, **attributes):
    names = [name for param in node.params for name in writer.parameter(param)]
    writer.operator(kind, node, [*inputs, *names], output, **attributes)


def max_pool(writer: Writer, node: Node, inputs: list[str], output: str) -> None:
    writer.operator("MaxPool", node, inputs, output, **_pool(writer, node))


def avg_pool(writer: Writer, node: Node, inputs: list[str], output: str) -> None:
    counted = bool(node.args[0].get("count_include_pad", True))
    attributes = _pool(writer, node, counted)
    del attributes["dilations"]
    writer.operator("AveragePool", node, inputs, output, **attributes)


def global_avg_pool(writer: Writer, node: Node, inputs: list[str], output: str) -> None:
    pooled = writer.operator("GlobalAveragePool", node, inputs)
    writer.operator("Flatten", node, [pooled], output, axis=1)


def _pool(writer: Writer, node: Node, counted: bool | None = None) -> dict[str, Any]:
    """The attributes of a pool; `counted` is count_include_pad of an average."""
    param = node.args[0]
    window = [param[axis] for axis in _POOL_AXES if axis in param]
    attributes = {**_windows(writer, node, param, window, window), "kernel_shape": window}
    if counted is not None:
        attributes["count_include_pad"] = int(counted)
    return _with_ceil(writer, node, attributes) if param.get("ceil_mode", False) else attributes


def _with_ceil(writer: Writer, node: Node, attributes: dict[str, Any]) -> dict[str, Any]:
    """Windows that hang over the end as padding there.

    Programs differ in whether `ceil_mode` has a last window that starts in the padding, so it is written only
    where a mean counts padding and not what hangs over, or where so much padding is not admitted.
    """
    strides, window, count = attributes["strides"], attributes["kernel_shape"], len(attributes["strides"])
    sizes, outputs = (writer.shapes[name][1:] for name in (node.inputs[0], node.output))
    before, behind = attributes["pads"][:count], attributes["pads"][count:]
    if any(step > 1 for step in strides):
        writer.fix(node, "ceil_mode")
    spans = [d * (k - 1) + 1 for d, k in zip(attributes["dilations"], window, strict=True)]
    axes = zip(outputs, strides, spans, sizes, before, strict=True)
    # Padding that the last window of each axis reaches; negative where it leaves pixels over.
    reached = [(made - 1) * step + span - n - low for made, step, span, n, low in axes]
    kept = [max(0, high) for high in reached]
    over = any(high > own for high, own in zip(reached, behind, strict=True))
    apart = over and attributes.get("count_include_pad") and any(attributes["pads"])
    if not apart and all(high < k for high, k in zip(kept, window, strict=True)):
        if over and "count_include_pad" in attributes:
            attributes["count_include_pad"] = 0
        return {**attributes, "pads": [*before, *kept]}
    ends = [min(high, own) for high, own in zip(reached, behind, strict=True)]
    if min(ends) < 0:
        raise ValueError(
            f"cnnlib.onnx.save: {node.title}: ceil_mode, where windows of one axis hang over the end and "
            "those of another one leave pixels over, has no operator"
        )
    return {**attributes, "pads": [*before, *ends], "ceil_mode": 1}


def _windows(
    writer: Writer, node: Node, param: Any, window: Sequence[int], default_stride: int | Sequence[int]
) -> dict[str, Any]:
    """strides, dilations and pads; 'same' as what it is for images of this size, which fixes the size."""
    count = len(window)
    strides = _each(default_stride if param.get("stride") is None else param["stride"], count)
    dilations = _each(param.get("dilation", 1), count)
    spans = [d * (k - 1) + 1 for d, k in zip(dilations, window, strict=True)]
    if param.get("pad") == "same" and any(k > 1 and s > 1 for k, s in zip(spans, strides, strict=True)):
        writer.fix(node, "pad 'same' at a stride")
    sides = _sides(param.get("pad", 0), writer.shapes[node.inputs[0]][1:], spans, strides)
    return {
        "strides": strides,
        "dilations": dilations,
        "pads": [*(a for a, _ in sides), *(b for _, b in sides)],
    }


def _each(value: Any, count: int) -> list[Any]:
    """A number for all axes, or one for each, as a list."""
    return list(value) if isinstance(value, (tuple, list)) else [value] * count


def _sides(
    pad: Any, sizes: Sequence[int], spans: Sequence[int], strides: Sequence[int]
) -> list[tuple[int, int]]:
    """Padding before and behind on each axis."""
    if pad == "valid":
        pad = 0
    if pad == "same":
        return [same_sides(*axis) for axis in zip(sizes, spans, strides, strict=True)]
    return [
        (side[0], side[1]) if isinstance(side, (tuple, list)) else (side, side)
        for side in _each(pad, len(spans))
    ]


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
    if H % OH == 0 and W % OW == 0:
        window = (H // OH, W // OW)
        writer.operator(kind, node, inputs, output, kernel_shape=window, strides=window)
    else:
        return False
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
