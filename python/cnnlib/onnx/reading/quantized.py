"""Quantised networks: QuantizeLinear and DequantizeLinear, of constants and of what the images make.

What a file computes in floats between bytes is joined to eight-bit layers, where these give the same numbers
(cnnlib.inference.quantization.joining).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from cnnlib._typing import Array, Params
from cnnlib.graph.fusion import operations
from cnnlib.graph.graph import Graph, Node
from cnnlib.graph.importing import Feature
from cnnlib.graph.shapes import shapes
from cnnlib.inference.fold import fold
from cnnlib.inference.predictor import Predictor
from cnnlib.inference.quantization.byte_ops import weighted_layer
from cnnlib.inference.quantization.joining import Joiner
from cnnlib.inference.quantization.table import Quantization
from cnnlib.inference.quantization.weights import GivenWeights
from cnnlib.onnx.reading.files import Constant
from cnnlib.onnx.reading.operator import Operator

_BYTES = {2: np.uint8, 3: np.int8}  # of TensorProto.DataType
_MIDDLE = {"uint8": 128, "int8": 0, "int32": 0}  # the zero point of symmetric numbers
# What gives another shape to bytes, or asks for it; all others read floats.
OF_BYTES = "DequantizeLinear Identity Flatten Reshape Squeeze Unsqueeze Transpose Shape".split()
_OPERATOR_FORM = ("QLinear", "ConvInteger", "MatMulInteger", "DynamicQuantize", "QGemm")


@dataclass(frozen=True)
class Quantized:
    """A constant of a file that DequantizeLinear made of the integers `q`.

    These are less the middle of their range where they are `symmetric`. The scales, in float64, lie along
    `axis`; None: there is one.
    """

    q: Constant
    scale: Constant
    axis: int | None
    symmetric: bool


def quantize(op: Operator) -> Feature:
    """Bytes of what the images make, in one scale."""
    x = op.feature()
    kind, zero = _zero_point(op, None)
    scale = _one_scale(op)
    op.ignore("axis", "saturate")  # of single scales, and of floats of 8 bits
    out = op.emit("quantize", x, args=({"scale": scale, "zero": zero + 128 * (kind == "int8")},))
    op.net.codes[out.name] = kind
    return out.seen_like(x)


def dequantize(op: Operator) -> Feature:
    x = op.feature()
    kind = op.net.codes.get(x.name)
    if kind is None:
        op.fail("its input has not been quantised by QuantizeLinear")
    _, zero = _zero_point(op, kind)
    scale = _one_scale(op)
    op.ignore("axis")
    out = op.emit("dequantize", x, args=({"scale": scale, "zero": zero + 128 * (kind == "int8")},))
    return out.seen_like(x)


def _one_scale(op: Operator) -> float:
    _plain_form(op)
    scale = op.constant(1, "scale")
    if scale.size != 1:
        op.fail(f"scale has the shape {scale.shape}; a value that the images make has one scale here")
    return float(_positive(op, scale).reshape(()))


def _positive(op: Operator, scale: Constant) -> Constant:
    """Scales, if float32 holds them and their quotients."""
    if scale.dtype.kind != "f":
        op.fail(f"scale has type {scale.dtype}")
    steps = np.asarray(scale, np.float32)
    if not (np.isfinite(steps) & (steps >= np.finfo(np.float32).tiny)).all():
        op.fail(f"scale is {steps.reshape(-1)[:4].tolist()}; it has to be positive and finite")
    return steps


def _zero_point(op: Operator, kind: str | None) -> tuple[str, int]:
    """The type of the bytes, and their zero point."""
    named = op["output_dtype"] if op.kind == "QuantizeLinear" else 0
    if named and named not in _BYTES:
        op.fail(f"attribute output_dtype is {named}; here only uint8 (2) and int8 (3)")
    own = np.dtype(_BYTES[named]).name if named else None
    if not op.has(2):
        return kind or own or "uint8", 0
    zero = op.constant(2, "zero_point")
    if zero.dtype.name not in _MIDDLE or zero.dtype.name == "int32":
        op.fail(f"zero_point has type {zero.dtype}; here only uint8 and int8")
    if zero.size != 1:
        op.fail(f"zero_point has the shape {zero.shape}; a value that the images make has one here")
    if zero.dtype.name != (kind or own or zero.dtype.name):
        op.fail(f"zero_point has type {zero.dtype}, what it belongs to {kind or own}")
    return zero.dtype.name, int(zero.reshape(()))


def _plain_form(op: Operator) -> None:
    """Refuse scales of blocks, and other types of result than float32, the scale's."""
    op.choice("precision", 0, 1)
    op.choice("block_size", 0)
    if op.kind == "DequantizeLinear":
        op.choice("output_dtype", 0, 1)


def fold_quantize(op: Operator, x: Constant, scale: Constant, zero: Constant | None = None) -> Constant:
    """The integers of a constant."""
    named = op["output_dtype"]
    dtype = np.dtype(_BYTES.get(named, np.uint8)) if zero is None else zero.dtype
    if dtype.name not in ("uint8", "int8") or (named and named not in _BYTES):
        op.fail(f"makes numbers of {dtype if zero is not None else f'type {named}'}; only uint8 and int8")
    op.ignore("saturate")
    _, steps, zeros = _spread(op, x, scale, zero)
    bounds = np.iinfo(dtype)
    codes = np.rint(np.asarray(x, np.float32) / steps) + zeros
    return np.nan_to_num(np.clip(codes, bounds.min, bounds.max)).astype(dtype)


def fold_dequantize(op: Operator, x: Constant, scale: Constant, zero: Constant | None = None) -> Constant:
    """The floats of a constant's integers, which are remembered: they may be weights."""
    if x.dtype.name not in _MIDDLE:
        op.fail(f"its input has type {x.dtype}; here only uint8, int8 and int32")
    if zero is not None and zero.dtype != x.dtype:
        op.fail(f"zero_point has type {zero.dtype}, its input {x.dtype}")
    axis, steps, zeros = _spread(op, x, scale, zero)
    middle = _MIDDLE[x.dtype.name]
    symmetric = middle == 0 if zero is None else bool((zero == middle).all())
    codes = x.astype(np.int64) - zeros
    own = np.asarray(scale, np.float64).reshape(() if axis is None else -1)
    op.net.source.quantized[op.output] = Quantized(codes, own, axis, symmetric)
    return (codes.astype(np.float32) * steps).astype(np.float32)


def _spread(
    op: Operator, x: Constant, scale: Constant, zero: Constant | None
) -> tuple[int | None, Constant, Constant]:
    """The axis of the scales, scales and zero points as they spread over a constant."""
    _plain_form(op)
    axis = 1 if op["axis"] is None else op["axis"]
    steps, zeros = _positive(op, scale), np.zeros((), np.int64) if zero is None else zero.astype(np.int64)
    if zeros.size not in (1, steps.size):
        op.fail(f"zero_point has the shape {zeros.shape}, scale {steps.shape}")
    if steps.size == 1 and steps.ndim < 2:
        return None, steps.reshape(()), zeros.reshape(())
    if steps.ndim != 1 or not -x.ndim <= axis < x.ndim or x.shape[axis] != len(steps):
        op.fail(f"scale has the shape {scale.shape}, axis is {axis}, and its input has the shape {x.shape}")
    shape = [1] * x.ndim
    shape[axis] = -1
    return axis % x.ndim, steps.reshape(shape), zeros.reshape(shape if zeros.size > 1 else ())


def refuse_operator_form(op: Operator) -> None:
    """Say of QLinearConv and the like which form is read."""
    if op.kind.startswith(_OPERATOR_FORM):
        op.fail(
            "the operator form of quantised networks is not read; that of QuantizeLinear and "
            "DequantizeLinear (QDQ) is"
        )


def predictor_of(
    title: str, graph: Graph, params: Params, input_dim: tuple[int, ...], known: Mapping[str, Quantized]
) -> Predictor:
    """The eight-bit network of a graph with nodes 'quantize' and 'dequantize'.

    ValueError, which begins with `title`, if it cannot be prepared.
    """
    dtype = np.dtype(np.float32)
    try:
        graph, params = fold(graph, params, input_dim, dtype)
        nodes = operations(graph)
        found = shapes(graph, params, input_dim, "prepare")
        found.setdefault(nodes[-1].output, found[graph.output])
        weights = {node.output: given for node in nodes if (given := _given(node, params, known))}
        joiner = Joiner(graph, nodes, params, found, weights)
        made, arrays = joiner.run()
        predictor = Predictor(made, arrays, input_dim, dtype, quantization=Quantization(joiner.rows))
        predictor._network(input_dim)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{title}: {error.args[0]}") from error
    return predictor


def _given(node: Node, params: Params, known: Mapping[str, Quantized]) -> GivenWeights | None:
    """A layer's weights as integers, if they came as such and nothing has changed them."""
    kind = weighted_layer(node)
    if not kind:
        return None
    w_name, b_name = node.params
    w, own = params[str(w_name)], known.get(str(w_name))
    if own is None:
        return None
    axis = 1 if kind == "affine" else 0
    F = w.shape[axis]
    if own.scale.size not in (1, F):
        return None
    scales = np.broadcast_to(np.asarray(own.scale, np.float32), F)
    shape = [1] * w.ndim
    shape[axis] = F
    q = np.rint(w / scales.reshape(shape))
    if not np.array_equal(q * scales.reshape(shape), w) or not (
        -128 <= q.min(initial=0) <= q.max(initial=0) <= 127
    ):
        return None
    return GivenWeights(q.astype(np.int8), scales.astype(np.float64), _bias(F, b_name, params, known), axis)


def _bias(F: int, name: str | None, params: Params, known: Mapping[str, Quantized]) -> Array:
    """A bias (F,) in float64: exact where the file has it as integers, zeros for none."""
    if name is None:
        return np.zeros(F)
    b, own = params[name].astype(np.float64), known.get(name)
    if own is not None and own.q.shape == b.shape:
        exact = own.q * own.scale
        if np.allclose(exact, b, rtol=1e-6, atol=0):  # float32 has fewer digits than int32
            return exact
    return b


OPERATORS = {"QuantizeLinear": quantize, "DequantizeLinear": dequantize}
FOLDED: dict[str, Any] = {"QuantizeLinear": fold_quantize, "DequantizeLinear": fold_dequantize}
