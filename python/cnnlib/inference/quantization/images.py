"""How values of bytes lie in memory, channels last and with a border, and the steps that read them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np

from cnnlib._typing import Array
from cnnlib.graph import shapes
from cnnlib.graph.graph import Node
from cnnlib.graph.lowering import pool_arguments
from cnnlib.inference.quantization.parts import BYTE_KINDS, makes_bytes
from cnnlib.inference.quantization.weights import folded_bias
from cnnlib.layers.axes import conv_axes

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


def _size(shape: tuple[int, ...]) -> tuple[int, ...]:
    return shape if len(shape) == 3 else (math.prod(shape), 1, 1)


def _border(node: Node, w: Array, shape: tuple[int, ...]) -> tuple[int, ...]:
    """How far a convolution's windows reach beyond their image."""
    x = shapes.samples_like(shape)
    axes, _ = conv_axes("prepare", node.args[0]["conv_param"], x, w, None, 2)
    return tuple(side for axis in axes for side in (axis.before, max(0, axis.reach)))


def floats_of(image: ByteImage) -> int:
    """The float32 that take as much room as an image: the core's ByteImage::bytes over 4."""
    C, H, W, top, bottom, left, right = image
    size = (top + H + bottom) * (left + W + right) * (-(-C // 4) * 4) + 64
    return -(-size // 64) * 16


def shape_behind(
    node: Node, inputs: Sequence[tuple[int, ...]], params: Sequence[Array | None]
) -> tuple[int, ...]:
    """The shape of a sample of an operation's output."""
    options, kind = node.args[0], node.layer.removeprefix("byte_")
    args = tuple(options[name] for name in ("conv_param", "pool_param") if name in options)
    plain = replace(node, layer=kind, args=args)
    if kind in ("conv", "affine"):
        return shapes.shape_behind(plain, inputs[:1], (params[0], None))
    if kind.endswith("_pool") or kind == "concat":
        return shapes.shape_behind(plain, inputs, ())
    return inputs[0]


BYTE_RULES = dict.fromkeys(BYTE_KINDS, shape_behind)


class ByteSteps:
    """A method for each kind of operation on bytes; :class:`Compiled` has the others."""

    _core: Any
    _images: Mapping[str, ByteImage]
    _array: Callable[..., Any]

    def _images_of(self, node):
        return [self._images[name] for name in (*node.inputs, node.output)]

    def _quantize(self, node, ids, out, shape, bound):
        options = node.args[0]
        image = self._images[node.output]
        self._core.quantize(node.label, ids[0], out, image, options["scale"], options["zero"])

    def _dequantize(self, node, ids, out, shape, bound):
        options = node.args[0]
        image = self._images[node.inputs[0]]
        self._core.dequantize(node.label, ids[0], out, image, options["scale"], options["zero"])

    def _byte_conv(self, node, ids, out, shape, bound):
        w, b, multiplier, factor = map(self._array, node.params)
        self._weighted(node, ids, out, w, b, multiplier, factor)

    def _byte_affine(self, node, ids, out, shape, bound):
        w, b, multiplier = map(self._array, node.params)
        filters = np.ascontiguousarray(w.T).reshape(-1, *self._images[node.inputs[0]][:3])
        self._weighted(node, ids, out, filters, b, multiplier)

    def _weighted(self, node, ids, out, w, b, multiplier, factor=None):
        options, other = node.args[0], ids[1] if len(ids) == 2 else -1
        term = None if factor is None else (factor, options["other_zero"])
        numbers = options["numbers"]
        bias = folded_bias(w, b, options["x_zero"], numbers[3], term)
        images = (self._images.get(name) for name in (node.inputs[0], node.inputs[-1], node.output))
        conv_param = dict(options.get("conv_param", {}))
        weights = w, bias, multiplier, factor, numbers, conv_param
        self._core.byte_conv(node.label, ids[0], other, out, *images, *weights)

    def _byte_max_pool(self, node, ids, out, shape, bound):
        like, options = np.empty((0, *shape), np.float32), node.args[0]
        geometry = pool_arguments("prepare", "max_pool", options["pool_param"], like)
        images = self._images_of(node)
        self._core.byte_max_pool(node.label, ids[0], out, *images, options["zero"], *geometry)

    def _byte_avg_pool(self, node, ids, out, shape, bound):
        like, param = np.empty((0, *shape), np.float32), node.args[0]["pool_param"]
        self._mean(node, ids, out, *pool_arguments("prepare", "avg_pool", param, like))

    def _byte_global_avg_pool(self, node, ids, out, shape, bound):
        H, W = shape[1:]
        self._mean(node, ids, out, (H, W, H, W, 0, 0, 0, 0, 1, 1), False, True)

    def _mean(self, node, ids, out, *windows):
        numbers = (node.args[0][name] for name in ("x_zero", "ratio", "zero"))
        images = self._images_of(node)
        self._core.byte_avg_pool(node.label, ids[0], out, *images, *numbers, *windows)

    def _byte_add(self, node, ids, out, shape, bound):
        numbers = (node.args[0][name] for name in ("factors", "multiplier", "numbers"))
        self._core.byte_add(node.label, *ids, out, *self._images_of(node), *numbers)

    def _byte_table(self, node, ids, out, shape, bound):
        table, zero = self._array(node.params[0]), node.args[0]["zero"]
        self._core.byte_table(node.label, ids[0], out, *self._images_of(node), table, zero)

    def _byte_concat(self, node, ids, out, shape, bound):
        *images, image = self._images_of(node)
        self._core.byte_concat(node.label, ids, out, images, image, node.args[0]["zero"])
