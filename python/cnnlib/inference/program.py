"""Operations compiled for images of one size: shapes, memory, and the steps that the C++ core runs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from cnnlib import _core
from cnnlib._typing import Array
from cnnlib.inference.inverted_residual import PARTS, fuse_inverted_residuals
from cnnlib.inference.layout import Layout, shapes_of
from cnnlib.inference.ops import ACTIVATIONS, Op, fuse_sums
from cnnlib.inference.quantization.images import byte_images, floats_of
from cnnlib.inference.quantization.steps import ByteSteps
from cnnlib.layers.pool import _AVG_KEYS, _MAX_KEYS, _geometry

_EMITTED_AS = {
    **dict.fromkeys(ACTIVATIONS, "activation"),
    **dict.fromkeys(("adaptive_avg_pool", "adaptive_max_pool"), "adaptive_pool"),
}


class Program(ByteSteps):
    """
    Operations ready to run on samples of one shape.

    Attributes
    ----------
    input_shape, output_shape : tuple of int
        Of one sample.
    shapes : dict
        Of each value, one sample's.
    arena_bytes : int
        What the values between input and output take at a time, for one sample.
    packed_bytes : int
        What the packed weights take.
    """

    def __init__(self, ops: Sequence[Op], output: str, input_shape: tuple[int, ...], dtype: np.dtype) -> None:
        self.input_shape, self.dtype = input_shape, dtype
        self.shapes = shapes_of(ops, input_shape, dtype)
        self.output_shape = self.shapes[output]
        ops = fuse_inverted_residuals(fuse_sums(ops, output, self.shapes, dtype), output)
        self._images = byte_images(ops, self.shapes)
        self._layout = Layout(ops, self.shapes, output, {k: floats_of(v) for k, v in self._images.items()})
        make = _core.ProgramFloat if dtype == np.float32 else _core.ProgramDouble
        sizes = math.prod(input_shape), math.prod(self.output_shape)
        self._core: Any = make(self._layout.values, *sizes, self._layout.arena)
        for op in ops:
            if op.kind != "flatten":
                ids = [self._layout.id(name) for name in op.inputs]
                emit = getattr(self, f"_emit_{_EMITTED_AS.get(op.kind, op.kind)}")
                emit(op, ids, self._layout.id(op.output), self.shapes[op.inputs[0]])
        self.arena_bytes = self._layout.arena * dtype.itemsize
        self.packed_bytes: int = self._core.packed_bytes

    def __call__(self, x: Array) -> Array:
        """x (N, *input_shape), C-contiguous and of the program's dtype."""
        return self._core.run(x, [len(x), *self.output_shape])

    def of_bytes(self, x: np.ndarray, mean: Array, std: Array) -> Array:
        """x (N, C, H, W) of uint8, C-contiguous; mean and std (C,)."""
        planes = x.reshape(*x.shape[:2], -1) if x.size else np.empty((len(x), x.shape[1], 0), np.uint8)
        return self._core.run_bytes(planes, mean, std, [len(x), *self.output_shape])

    def profile(self, x: Array, repeats: int) -> list[tuple[str, float, float]]:
        """The steps, the least seconds that each took with all threads on it, and its operations."""
        return self._core.profile(x, [len(x), *self.output_shape], repeats)

    # A method for each kind of operation ---------------------------------------------------------------

    def _emit_conv(self, op, ids, out, shape):
        like = np.empty((0, *shape), self.dtype)
        b = op.arrays.get("b")
        adds, most = len(ids) == 2, op.most
        activation = (most is not None, math.inf if most is None else most)
        conv_param = op.options["conv_param"]
        self._core.conv(op.label, ids[0], out, like, op.arrays["w"], b, conv_param, adds, *activation)

    def _emit_inverted_residual(self, op, ids, out, shape):
        like = np.empty((0, *shape), self.dtype)
        layers = [
            (op.arrays[f"{part}_w"], op.arrays.get(f"{part}_b"), most is not None, most or math.inf)
            for part, most in zip(PARTS, op.options["mosts"], strict=True)
        ]
        other = ids[1] if len(ids) == 2 else -1
        self._core.inverted_residual(op.label, ids[0], other, out, like, layers, op.options["conv_param"])

    def _emit_conv_transpose(self, op, ids, out, shape):
        like = np.empty((0, *shape), self.dtype)
        b = op.arrays.get("b")
        self._core.conv_transpose(op.label, ids[0], out, like, op.arrays["w"], b, op.options["conv_param"])

    def _emit_affine(self, op, ids, out, shape):
        self._core.affine(op.label, ids[0], out, op.arrays["w"], op.arrays.get("b"), op.most is not None)

    def _emit_max_pool(self, op, ids, out, shape):
        like = np.empty((0, *shape), self.dtype)
        geometry = _geometry("prepare", op.options["pool_param"], like, _MAX_KEYS)
        self._core.max_pool(op.label, ids[0], out, like, *geometry)

    def _emit_avg_pool(self, op, ids, out, shape):
        like = np.empty((0, *shape), self.dtype)
        pool_param = op.options["pool_param"]
        geometry = _geometry("prepare", pool_param, like, _AVG_KEYS)
        self._core.avg_pool(op.label, ids[0], out, like, *geometry, pool_param.get("count_include_pad", True))

    def _emit_global_avg_pool(self, op, ids, out, shape):
        self._core.global_avg_pool(op.label, ids[0], out, shape[0], math.prod(shape[1:]))

    def _emit_normalize(self, op, ids, out, shape):
        arrays = (op.arrays[name] for name in ("mean", "inv_std", "gamma", "beta"))
        self._core.normalize(op.label, ids[0], out, math.prod(shape[1:]), *arrays, op.most is not None)

    def _emit_scale(self, op, ids, out, shape):
        C = shape[0]
        gamma = np.full(C, op.options["factor"], self.dtype)
        arrays = np.zeros(C), np.ones(C), gamma, np.zeros(C, self.dtype)
        self._core.normalize(op.label, ids[0], out, math.prod(shape[1:]), *arrays, op.most is not None)

    def _emit_row_norm(self, op, ids, out, shape):
        C, S, groups = shape[0], math.prod(shape[1:]), op.options["groups"]
        gamma, beta = (op.arrays[name].reshape(-1) for name in ("gamma", "beta"))
        rows = (groups, C // groups, S, C)
        self._core.row_norm(op.label, ids[0], out, rows, op.options["eps"], gamma, beta)

    def _emit_pixel_norm(self, op, ids, out, shape):
        gamma, beta = op.arrays["gamma"], op.arrays["beta"]
        self._core.pixel_norm(op.label, ids[0], out, math.prod(shape[1:]), op.options["eps"], gamma, beta)

    def _emit_activation(self, op, ids, out, shape):
        self._core.activation(op.label, ids[0], out, op.kind, op.options.get("alpha", 1.0))

    def _emit_softmax(self, op, ids, out, shape):
        self._core.softmax(op.label, ids[0], out, shape[0], math.prod(shape[1:]))

    def _emit_adaptive_pool(self, op, ids, out, shape):
        sizes = (*shape, *self.shapes[op.output][1:])
        self._core.adaptive_pool(op.label, ids[0], out, sizes, op.kind == "adaptive_max_pool")

    def _emit_upsample(self, op, ids, out, shape):
        C, H, W = shape
        _, OH, OW = self.shapes[op.output]
        bilinear = op.options.get("mode", "nearest") == "bilinear"
        corners = bool(op.options.get("align_corners", False))
        self._core.upsample(op.label, ids[0], out, (C, H, W, OH // H, OW // W), bilinear, corners)

    def _emit_relu(self, op, ids, out, shape):
        self._core.relu(op.label, ids[0], out)

    def _emit_add(self, op, ids, out, shape):
        self._core.sum(op.label, *ids, out, shape[0], op.most is not None)

    def _emit_multiply(self, op, ids, out, shape):
        self._core.product(op.label, *ids, out, shape[0])

    def _emit_leaky_relu(self, op, ids, out, shape):
        self._core.leaky_relu(op.label, ids[0], out, op.options["alpha"])

    def _emit_copy(self, op, ids, out, shape):
        self._core.concat("copy", ids, out)

    def _emit_concat(self, op, ids, out, shape):
        self._core.concat(op.label, ids, out)
