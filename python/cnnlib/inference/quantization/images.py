"""How values of bytes lie in memory, channels last and with a border, and the steps that read them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np

from cnnlib._params import pads, pair
from cnnlib._typing import Array
from cnnlib.graph import shapes
from cnnlib.graph.graph import Node
from cnnlib.inference.ops import Op
from cnnlib.inference.quantization.parts import BYTE_KINDS
from cnnlib.inference.quantization.weights import folded_bias
from cnnlib.layers.pool import _AVG_KEYS, _MAX_KEYS, _geometry

ByteImage = tuple[int, int, int, int, int, int, int]
"""C, H, W, and pixels of border: top, bottom, left, right."""


def byte_images(ops: Sequence[Op], shapes: Mapping[str, tuple[int, ...]]) -> dict[str, ByteImage]:
    """Of each value of bytes, how an image of it lies."""
    borders: dict[str, tuple[int, ...]] = {}
    for op in ops:
        if op.kind in BYTE_KINDS and op.kind != "dequantize" and not op.options.get("scores"):
            borders[op.output] = (0, 0, 0, 0)
        if op.kind == "byte_conv":
            name = op.inputs[0]
            need = _border(op, shapes[name], shapes[op.output])
            borders[name] = tuple(map(max, borders[name], need))
    return {name: cast(ByteImage, (*_size(shapes[name]), *border)) for name, border in borders.items()}


def _size(shape: tuple[int, ...]) -> tuple[int, ...]:
    return shape if len(shape) == 3 else (math.prod(shape), 1, 1)


def _border(op: Op, shape: tuple[int, ...], out: tuple[int, ...]) -> tuple[int, int, int, int]:
    """How far a convolution's windows reach beyond their image."""
    kernel, param = op.arrays["w"].shape[2:], op.options["conv_param"]
    strides, dilations = (pair("prepare", name, param.get(name, 1)) for name in ("stride", "dilation"))
    windows = dilations[0] * (kernel[0] - 1) + 1, dilations[1] * (kernel[1] - 1) + 1
    top, _, left, _ = pads("prepare", param.get("pad", 0), (shape[1], shape[2]), windows, strides)
    ends = (
        max(0, (outputs - 1) * step + window - first - size)
        for outputs, step, window, first, size in zip(
            out[1:], strides, windows, (top, left), shape[1:], strict=True
        )
    )
    return top, next(ends), left, next(ends)


def floats_of(image: ByteImage) -> int:
    """The float32 that take as much room as an image: the core's ByteImage::bytes over 4."""
    C, H, W, top, bottom, left, right = image
    size = (top + H + bottom) * (left + W + right) * (-(-C // 4) * 4) + 64
    return -(-size // 64) * 16


def shape_behind(
    node: Node, inputs: Sequence[tuple[int, ...]], params: Sequence[Array | None]
) -> tuple[int, ...]:
    """The shape of a sample of an operation's output."""
    x, w = inputs[0], params[0] if params else None
    options = node.args[0]
    if node.layer == "byte_conv":
        plain = replace(node, layer="conv", inputs=node.inputs[:1], args=(options["conv_param"],))
        return shapes.shape_behind(plain, inputs[:1], (w, None))
    if node.layer == "byte_affine":
        return shapes.shape_behind(replace(node, layer="affine", args=()), inputs, (w, None))
    if node.layer.endswith("_pool"):
        args = (options["pool_param"],) if "pool_param" in options else ()
        return shapes.shape_behind(
            replace(node, layer=node.layer.removeprefix("byte_"), args=args), inputs, ()
        )
    if node.layer == "byte_concat":
        return shapes.shape_behind(replace(node, layer="concat", args=()), inputs, ())
    return x


BYTE_RULES = dict.fromkeys(BYTE_KINDS, shape_behind)


class ByteSteps:
    """A method for each kind of operation on bytes; `Program` has the others."""

    _core: Any
    _images: Mapping[str, ByteImage]

    def _emit_quantize(self, op: Op, ids: list[int], out: int, shape: tuple[int, ...]) -> None:
        self._core.quantize(
            op.label, ids[0], out, self._images[op.output], op.options["scale"], op.options["zero"]
        )

    def _emit_dequantize(self, op: Op, ids: list[int], out: int, shape: tuple[int, ...]) -> None:
        image = self._images[op.inputs[0]]
        self._core.dequantize(op.label, ids[0], out, image, op.options["scale"], op.options["zero"])

    def _emit_byte_conv(self, op: Op, ids: list[int], out: int, shape: tuple[int, ...]) -> None:
        self._weighted(op, ids, out, op.arrays["w"], op.options["conv_param"])

    def _emit_byte_affine(self, op: Op, ids: list[int], out: int, shape: tuple[int, ...]) -> None:
        C, H, W = self._images[op.inputs[0]][:3]
        self._weighted(op, ids, out, np.ascontiguousarray(op.arrays["w"].T).reshape(-1, C, H, W), {})

    def _weighted(
        self, op: Op, ids: list[int], out: int, w: np.ndarray, conv_param: Mapping[str, Any]
    ) -> None:
        factor, other = op.arrays.get("factor"), ids[1] if len(ids) == 2 else -1
        term = None if factor is None else (factor, op.options["other_zero"])
        numbers = op.options["numbers"]
        bias = folded_bias(w, 0, op.arrays["b"], op.options["x_zero"], numbers[3], term)
        x, y = self._images[op.inputs[0]], self._images.get(op.output)
        other_image = self._images[op.inputs[-1]]
        weights = w, bias, op.arrays["multiplier"], factor
        self._core.byte_conv(
            op.label, ids[0], other, out, x, other_image, y, *weights, numbers, dict(conv_param)
        )

    def _emit_byte_max_pool(self, op: Op, ids: list[int], out: int, shape: tuple[int, ...]) -> None:
        like = np.empty((0, *shape), np.float32)
        geometry = _geometry("prepare", op.options["pool_param"], like, _MAX_KEYS)
        images = self._images[op.inputs[0]], self._images[op.output]
        self._core.byte_max_pool(op.label, ids[0], out, *images, op.options["zero"], *geometry)

    def _emit_byte_avg_pool(self, op: Op, ids: list[int], out: int, shape: tuple[int, ...]) -> None:
        like, param = np.empty((0, *shape), np.float32), op.options["pool_param"]
        self._mean(
            op, ids, out, _geometry("prepare", param, like, _AVG_KEYS), param.get("count_include_pad", True)
        )

    def _emit_byte_global_avg_pool(self, op: Op, ids: list[int], out: int, shape: tuple[int, ...]) -> None:
        H, W = shape[1:]
        self._mean(op, ids, out, ((H, W, H, W, 0, 0, 0, 0, 1, 1), False), True)

    def _mean(self, op: Op, ids: list[int], out: int, geometry: Any, count_include_pad: bool) -> None:
        images = self._images[op.inputs[0]], self._images[op.output]
        numbers = (op.options[name] for name in ("x_zero", "ratio", "zero"))
        self._core.byte_avg_pool(op.label, ids[0], out, *images, *numbers, *geometry, count_include_pad)

    def _emit_byte_add(self, op: Op, ids: list[int], out: int, shape: tuple[int, ...]) -> None:
        images = [self._images[name] for name in (*op.inputs, op.output)]
        numbers = (op.options[name] for name in ("factors", "multiplier", "numbers"))
        self._core.byte_add(op.label, *ids, out, *images, *numbers)

    def _emit_byte_table(self, op: Op, ids: list[int], out: int, shape: tuple[int, ...]) -> None:
        images = self._images[op.inputs[0]], self._images[op.output]
        self._core.byte_table(op.label, ids[0], out, *images, op.arrays["table"], op.options["zero"])

    def _emit_byte_concat(self, op: Op, ids: list[int], out: int, shape: tuple[int, ...]) -> None:
        images = [self._images[name] for name in op.inputs]
        self._core.byte_concat(op.label, ids, out, images, self._images[op.output], op.options["zero"])
