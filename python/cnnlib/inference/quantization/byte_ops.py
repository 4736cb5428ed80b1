"""Operations on bytes that stand for operations in floats, by the scales of the values around them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cnnlib.inference.ops import ACTIVATIONS, Op
from cnnlib.inference.quantization.calibration import evaluate
from cnnlib.inference.quantization.weights import MOST_TERMS, ByteWeights, Scale

WEIGHTED = ("conv", "affine")
TABLES = ("relu", "leaky_relu", "scale", *ACTIVATIONS)
POOLS = ("max_pool", "avg_pool", "global_avg_pool")
Shapes = Mapping[str, tuple[int, ...]]


def can_be_bytes(op: Op, shapes: Shapes) -> bool:
    """Whether there is an eight-bit layer for an operation with weights."""
    if op.kind == "affine":
        return len(op.arrays["w"]) <= MOST_TERMS
    F, C_group, KH, KW = op.arrays["w"].shape
    groups = op.options["conv_param"].get("groups", 1)
    depthwise = C_group == 1 and groups == F == shapes[op.inputs[0]][0] and KH * KW <= 128
    return C_group * KH * KW <= MOST_TERMS and (groups == 1 or depthwise or C_group % 4 == 0)


def bytes_serve(op: Op, shapes: Shapes) -> bool:
    """Whether there is an eight-bit layer for an operation without weights, views apart."""
    if op.kind == "add":
        return op.inputs[0] != op.inputs[1] and shapes[op.inputs[0]] == shapes[op.inputs[1]]
    if op.kind in POOLS:
        param = op.options.get("pool_param", {})
        return len(shapes[op.inputs[0]]) == 3 and not (
            op.kind == "avg_pool" and param.get("dilation", 1) not in (1, (1, 1))
        )
    return op.kind in TABLES or op.kind == "concat"


def gives_scores(op: Op, output: str, shapes: Shapes, readers: Counter[str]) -> bool:
    """Whether an operation with weights may write the network's output in float32."""
    alone = op.output == output and readers[output] == 1 and op.most is None
    return alone and int(np.prod(shapes[output][1:])) == 1


def weighted(
    op: Op,
    inputs: Sequence[str],
    output: str,
    x: Scale,
    y: Scale | None,
    weights: ByteWeights,
    total: Op | None = None,
    other: Scale | None = None,
) -> Op:
    """A convolution or fully connected layer.

    Parameters
    ----------
    inputs : sequence of str
        The bytes that it reads: of the second, if there is one, it adds.
    y : Scale or None
        None for scores, which are float32.
    total : Op or None
        The sum that it makes at once, of its own result and `other`.
    """
    label, most = (op.label, op.most) if total is None else (f"{op.label} + {total.label}", total.most)
    to = y or Scale(1.0, 0)
    low = to.zero if most is not None else 0
    options: dict[str, Any] = {
        **op.options,
        "numbers": (to.zero, low, _high(most, to), weights.shift),
        "x_zero": x.zero,
        "scores": y is None,
        "scale": to.scale,
    }
    arrays: dict[str, Any] = {"w": weights.w, "b": weights.b, "multiplier": weights.multiplier}
    if other is not None:
        arrays["factor"], options["other_zero"] = weights.factor, other.zero
    return Op(f"byte_{op.kind}", list(inputs), output, arrays, options, None, label)


def unweighted(op: Op, inputs: Sequence[str], output: str, xs: Sequence[Scale], y: Scale) -> Op:
    """A sum, pool, concatenation or function of bytes; maxima and concatenations keep their scale."""
    if op.kind in TABLES:
        return table(op, inputs[0], output, xs[0], y)
    options: dict[str, Any] = {**op.options, "scale": y.scale}
    if op.kind == "add":
        options["factors"], options["multiplier"] = _factors(xs, y)
        options["numbers"] = y.zero, y.zero if op.most is not None else 0, _high(op.most, y)
    else:
        options["zero"] = y.zero
    if op.kind in ("avg_pool", "global_avg_pool"):
        options["x_zero"], options["ratio"] = xs[0].zero, float(np.float32(xs[0].scale / y.scale))
    return Op(f"byte_{op.kind}", list(inputs), output, {}, options, None, op.label)


def table(op: Op | None, name: str, output: str, x: Scale, y: Scale) -> Op:
    """The byte that a function makes of each byte, computed in float64; None: in another scale."""
    reals = (np.arange(256) - x.zero) * x.scale
    options: dict[str, Any] = {"zero": y.zero, "scale": y.scale}
    if op is not None:
        reals = evaluate(op, [reals.reshape(256, 1, 1, 1)]).reshape(256)
        options["function"] = op.kind, op.options
    steps = np.clip(np.rint(reals / y.scale), -y.zero, 255 - y.zero) + y.zero
    label = "requantize" if op is None else op.label
    return Op("byte_table", [name], output, {"table": steps.astype(np.uint8)}, options, None, label)


def _high(most: float | None, y: Scale) -> int:
    """The byte of an activation's largest value."""
    return 255 if most is None or np.isinf(most) else min(255, y.zero + int(np.rint(most / y.scale)))


def _factors(xs: Sequence[Scale], y: Scale) -> tuple[tuple[int, int, int], float]:
    """Two factors of 15 bits and the constant of a sum of two values, and its multiplier."""
    unit = max(x.scale for x in xs) / 2**14
    a, b = (int(np.rint(x.scale / unit)) for x in xs)
    return (a, b, -a * xs[0].zero - b * xs[1].zero), float(np.float32(unit / y.scale))
