"""How values of bytes and of bfloat16 lie in memory: channels last and with a border."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from cnnlib._typing import Array
from cnnlib.graph.ops.sizes import samples_like
from cnnlib.layers.axes import conv_axes

if TYPE_CHECKING:
    from cnnlib.graph.graph import Node

NarrowImage = tuple[int, int, int, int, int, int, int]
"""C, H, W, and pixels of border: top, bottom, left, right."""
Border = tuple[int, int, int, int]

NO_BORDER: Border = (0, 0, 0, 0)
_GROUP = 4  # bytes that one instruction multiplies and adds: a pixel's channels are padded to whole groups
_SLACK = 64  # bytes behind an image, where whole vectors may be read


def byte_images(
    nodes: Sequence[Node], arrays: Mapping[str, Array], sizes: Mapping[str, tuple[int, ...]]
) -> dict[str, NarrowImage]:
    """How an image of each value of bytes lies in memory."""
    borders: dict[str, Border] = {}
    for node in nodes:
        if makes_bytes(node):
            borders[node.output] = NO_BORDER
        if node.layer == "byte_conv":
            name, w = node.inputs[0], arrays[str(node.params[0])]
            borders[name] = wider(borders[name], border_of(node.args[0]["conv_param"], w, sizes[name]))
    return {name: image_of(sizes[name], border) for name, border in borders.items()}


def makes_bytes(node: Node) -> bool:
    """Whether what an operation makes consists of bytes."""
    return node.op.eight_bits and node.layer != "dequantize" and not node.args[0].get("scores")


def image_of(shape: tuple[int, ...], border: Border) -> NarrowImage:
    """An image of a value's shape; numbers are the channels of one pixel."""
    C, H, W = shape if len(shape) == 3 else (math.prod(shape), 1, 1)
    return (C, H, W, *border)


def wider(a: Border, b: Border) -> Border:
    """The border that has room for both."""
    return cast(Border, tuple(map(max, a, b)))


def border_of(conv_param: Any, w: Array, shape: tuple[int, ...]) -> Border:
    """How far a convolution's windows reach beyond their image."""
    axes, _ = conv_axes("prepare", conv_param, samples_like(shape), w, None, 2)
    return cast(Border, tuple(side for axis in axes for side in (axis.before, max(0, axis.reach))))


def gradient_border_of(conv_param: Any, w: Array, shape: tuple[int, ...]) -> Border:
    """How far the windows of the gradient of its input reach beyond a convolution's output.

    At stride s the gradient falls apart into s phases, each a correlation with every s-th tap, as the core's
    GradientPhase has it.
    """
    axes, _ = conv_axes("prepare", conv_param, samples_like(shape), w, None, 2)
    sides: list[int] = []
    for axis in axes:
        before = after = 0
        for phase in range(min(axis.stride, axis.size)):
            first = (phase + axis.before) % axis.stride
            taps = len(range(first, axis.taps, axis.stride))
            if not taps:
                continue
            pad = (taps - 1) * axis.dilation - (phase + axis.before - first) // axis.stride
            outputs = -(-(axis.size - phase) // axis.stride)
            reach = outputs - 1 - pad + (taps - 1) * axis.dilation - (axis.outputs - 1)
            before, after = max(before, pad), max(after, reach)
        sides += [before, after]
    return cast(Border, tuple(sides))


def bytes_of(image: NarrowImage, item: int) -> int:
    """Return the room of an image of values of `item` bytes, as the core's NarrowImage::bytes."""
    C, H, W, top, bottom, left, right = image
    pixel = -(-C * item // _GROUP) * _GROUP
    size = (top + H + bottom) * (left + W + right) * pixel + _SLACK
    return -(-size // _SLACK) * _SLACK
