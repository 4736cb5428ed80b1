"""How values of bytes lie in memory: channels last and with a border."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, cast

from cnnlib._typing import Array
from cnnlib.graph.ops.sizes import samples_like
from cnnlib.layers.axes import conv_axes

if TYPE_CHECKING:
    from cnnlib.graph.graph import Node

ByteImage = tuple[int, int, int, int, int, int, int]
"""C, H, W, and pixels of border: top, bottom, left, right."""


def byte_images(
    nodes: Sequence[Node], arrays: Mapping[str, Array], sizes: Mapping[str, tuple[int, ...]]
) -> dict[str, ByteImage]:
    """How an image of each value of bytes lies in memory."""
    borders: dict[str, tuple[int, ...]] = {}
    for node in nodes:
        if makes_bytes(node):
            borders[node.output] = (0, 0, 0, 0)
        if node.layer == "byte_conv":
            name = node.inputs[0]
            need = _border(node, arrays[str(node.params[0])], sizes[name])
            borders[name] = tuple(map(max, borders[name], need))
    return {name: cast(ByteImage, (*_size(sizes[name]), *border)) for name, border in borders.items()}


def makes_bytes(node: Node) -> bool:
    """Whether what an operation makes consists of bytes."""
    return node.op.eight_bits and node.layer != "dequantize" and not node.args[0].get("scores")


def _size(shape: tuple[int, ...]) -> tuple[int, ...]:
    return shape if len(shape) == 3 else (math.prod(shape), 1, 1)


def _border(node: Node, w: Array, shape: tuple[int, ...]) -> tuple[int, ...]:
    """How far a convolution's windows reach beyond their image."""
    axes, _ = conv_axes("prepare", node.args[0]["conv_param"], samples_like(shape), w, None, 2)
    return tuple(side for axis in axes for side in (axis.before, max(0, axis.reach)))


def bytes_of(image: ByteImage) -> int:
    """Return the room that an image takes, as the core's ByteImage::bytes."""
    C, H, W, top, bottom, left, right = image
    size = (top + H + bottom) * (left + W + right) * (-(-C // 4) * 4) + 64
    return -(-size // 64) * 64
