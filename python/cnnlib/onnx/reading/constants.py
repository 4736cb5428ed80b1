"""Operators between constants, computed while a file is read: above all the arithmetic of shapes.

The onnx package's own evaluator computes them; here it is seen to that their results are no larger than a
file of such a size can ask for.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np

from cnnlib.onnx.reading.files import Constant
from cnnlib.onnx.reading.operator import Operator

_MOST = 2**24  # values that all operators between constants may make
_EACH = 16  # and as many times those that the file holds
_Rule: TypeAlias = Callable[..., Sequence[int]]


def fold(op: Operator) -> Constant:
    """The value of an operator whose inputs are constants."""
    if op.kind in ("Min", "Max") or (op.kind == "Equal" and not any((x < 0).all() for x in op.inputs)):
        op.net.choices.append((f"node {op.label!r} ({op.kind})", op.inputs))
    if op.record.made is not None:
        op.ignore()  # attributes that were read before
    return op.once(lambda *xs: _folded(op, *xs), *op.inputs)


def _folded(op, *xs):
    sizes = [int(size) for size in FOLDED[op.kind](*xs)]
    most = _MOST + _EACH * op.net.source.values
    if min(sizes, default=0) < 0 or op.net.folded + math.prod(sizes) > most:
        op.fail(
            f"makes a constant of shape {tuple(sizes)}; {most} values are the limit of what is computed from "
            "the constants of this file"
        )
    with np.errstate(all="ignore"):
        made = np.asarray(BY_HAND.get(op.kind, _evaluated)(op, *xs))
    if made.dtype.name in ("float16", "bfloat16"):
        made = made.astype(np.float32)
    if made.dtype.kind not in "fiub":
        op.fail(f"makes values of type {made.dtype}, which have no use here")
    op.net.folded += made.size
    return made


def _evaluated(op, *xs):
    from onnx.reference import ReferenceEvaluator

    if FOLDED[op.kind] is not _spread:  # before version 7 attributes say how: these are left to be refused
        op.ignore()
    onnx = op.net.source.onnx
    # A graph: of an operator alone the evaluator takes the newest version, whatever it is told.
    graph = onnx.GraphProto(node=[op.record.proto], output=[onnx.ValueInfoProto(name=op.output)])
    graph.node[0].domain = ""  # the one name of the standard operators that it knows
    given = {name: x for name, x in zip(op.names, xs, strict=True) if name}
    (made,) = ReferenceEvaluator(graph, opsets={"": op.opset}).run(None, given)
    return made


def _constant(op):
    for name in ("value", "value_float", "value_int", "value_floats", "value_ints"):
        if (value := op[name]) is not None:
            if name == "value":
                return op.net.source.array(value)
            return np.asarray(value, np.float32 if "float" in name else np.int64)
    op.fail("has no value that is numbers")


def _filled(op, shape):
    value = op["value"] if "value" in op.arguments else None
    number = np.zeros(1, np.float32) if value is None else op.net.source.array(value)
    return np.full(shape.tolist(), number.reshape(-1)[0], number.dtype)


def _reshaped(op, x, *_):
    shape, kept = op.integers(1, "shape") or [], op["allowzero"]
    return x.reshape([x.shape[i] if n == 0 and not kept else n for i, n in enumerate(shape)])


def _squeezed(op, x, *_):
    axes = op.axes()
    return np.squeeze(x, None if axes is None else tuple(axes))


# What the evaluator gets wrong: tensors in files of their own, and lists that were attributes once.
BY_HAND: dict[str, Callable[..., Any]] = {
    "Constant": _constant,
    "ConstantOfShape": _filled,
    "Reshape": _reshaped,
    "Squeeze": _squeezed,
    "Unsqueeze": lambda op, x, *_: np.expand_dims(x, tuple(op.integers(1, "axes") or ())),
}


def _spread(*xs):
    return np.broadcast_shapes(*(x.shape for x in xs))


def whole(*xs: Constant | None) -> Sequence[int]:
    """As large as all inputs together."""
    return (sum(x.size for x in xs if x is not None),)


FOLDED: dict[str, _Rule] = {
    **dict.fromkeys(("Add", "Sub", "Mul", "Div", "Pow", "Min", "Max", "Equal", "Where"), _spread),
    **dict.fromkeys(("Mod", "And", "Or", "Less", "Greater", "LessOrEqual", "GreaterOrEqual"), _spread),
    **dict.fromkeys(("Not", "Sin", "Cos", "Log", "Sigmoid", "Softplus", "Round", "Trilu"), whole),
    **dict.fromkeys(("ScatterND", "MatMul", "ReduceSum", "ReduceMax", "Split"), whole),
    **dict.fromkeys(("Floor", "Ceil", "Neg", "Sqrt", "Exp", "Abs", "Reciprocal", "Cast", "Identity"), whole),
    **dict.fromkeys(("Constant", "Shape", "Concat", "Slice", "Squeeze", "Unsqueeze", "Reshape"), whole),
    **dict.fromkeys(("Transpose", "Flatten", "ReduceProd"), whole),
    "ConstantOfShape": lambda shape: shape.reshape(-1),
    "Expand": lambda x, shape: np.broadcast_shapes(x.shape, tuple(shape.tolist())),
    # As Python's numbers: those of a file may be too far apart for their own type.
    "Range": lambda start, end, step: (max(0, math.ceil((end.item() - start.item()) / step.item())),),
    "Gather": lambda x, indices: (indices.size, x.size),
}
"""For each operator: from its inputs a shape that is at least as large as its result."""
