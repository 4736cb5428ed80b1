"""Convolutions and pools of images, sequences and volumes.

The layers have checked their parameters when the shapes behind them were found.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cnnlib.models.graph import Node
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
    attributes = _pool(writer, node)
    del attributes["dilations"]
    attributes["count_include_pad"] = int(node.args[0].get("count_include_pad", True))
    writer.operator("AveragePool", node, inputs, output, **attributes)


def global_avg_pool(writer: Writer, node: Node, inputs: list[str], output: str) -> None:
    pooled = writer.operator("GlobalAveragePool", node, inputs)
    writer.operator("Flatten", node, [pooled], output, axis=1)


def _pool(writer, node):
    param = node.args[0]
    window = [param[axis] for axis in _POOL_AXES if axis in param]
    attributes = _windows(writer, node, param, window, window)
    return {**attributes, "kernel_shape": window, "ceil_mode": int(param.get("ceil_mode", False))}


def _windows(
    writer: Writer, node: Node, param: Any, window: Sequence[int], default_stride: int | Sequence[int]
) -> dict[str, Any]:
    """strides, dilations and pads; 'same' as what it is for images of this size."""
    count = len(window)
    strides = _each(default_stride if param.get("stride") is None else param["stride"], count)
    dilations = _each(param.get("dilation", 1), count)
    spans = [d * (k - 1) + 1 for d, k in zip(dilations, window, strict=True)]
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
        axes = zip(sizes, spans, strides, strict=True)
        totals = [max(0, (-(-n // step) - 1) * step + span - n) for n, span, step in axes]
        return [(total // 2, total - total // 2) for total in totals]
    return [
        (side[0], side[1]) if isinstance(side, (tuple, list)) else (side, side)
        for side in _each(pad, len(spans))
    ]
