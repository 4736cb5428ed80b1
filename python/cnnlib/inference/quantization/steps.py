"""Steps on bytes, as the core's program takes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from cnnlib.inference.ops import Op
from cnnlib.inference.quantization.images import ByteImage
from cnnlib.inference.quantization.weights import folded_bias
from cnnlib.layers.pool import _AVG_KEYS, _MAX_KEYS, _geometry


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
