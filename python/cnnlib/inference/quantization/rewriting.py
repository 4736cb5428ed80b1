"""Operations in float32 rewritten to operations on bytes, where those can compute them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from cnnlib.inference.ops import ACTIVATIONS, Op
from cnnlib.inference.quantization.calibration import evaluate
from cnnlib.inference.quantization.ranges import Scale
from cnnlib.inference.quantization.weights import MOST_TERMS, byte_weights

WEIGHTED = ("conv", "affine")
_TABLES = ("relu", "leaky_relu", "scale", *ACTIVATIONS)
_POOLS = ("max_pool", "avg_pool", "global_avg_pool")
_GLUE = (*_TABLES, *_POOLS, "add", "concat", "flatten")
Shapes = Mapping[str, tuple[int, ...]]


def can_be_bytes(op: Op, shapes: Shapes) -> bool:
    """Whether there is an eight-bit layer for an operation with weights."""
    if op.kind == "affine":
        return len(op.arrays["w"]) <= MOST_TERMS
    F, C_group, KH, KW = op.arrays["w"].shape
    groups = op.options["conv_param"].get("groups", 1)
    depthwise = C_group == 1 and groups == F == shapes[op.inputs[0]][0] and KH * KW <= 128
    return C_group * KH * KW <= MOST_TERMS and (groups == 1 or depthwise or C_group % 4 == 0)


def byte_operations(ops: Sequence[Op], chosen: set[str], shapes: Shapes) -> tuple[set[str], dict[str, str]]:
    """The outputs of the operations that bytes compute, where the weighted ones that are `chosen` do.

    Also, of each value that has bytes, the one whose scale it has: joined values have one, and maxima and
    views keep theirs.
    """
    made: set[str] = set()
    valued: set[str] = set()
    root: dict[str, str] = {}

    def find(name: str) -> str:
        while root.get(name, name) != name:
            name = root[name]
        return name

    readers = Counter(name for op in ops for name in op.inputs)
    for op in ops:
        if op.kind in WEIGHTED:
            if op.output not in chosen:
                continue
        elif op.kind not in _GLUE or not valued.issuperset(op.inputs):
            continue
        elif not _serves(op, shapes, ops, chosen, readers):
            continue
        made.add(op.output)
        valued.update((*op.inputs, op.output))
        if op.kind in ("max_pool", "concat", "flatten"):
            for name in op.inputs:
                root[find(name)] = find(op.output)
    return made, {name: find(name) for name in valued}


def _serves(op, shapes, ops, chosen, readers):
    """Whether bytes serve an operation without weights."""
    if op.kind == "add":
        return op.inputs[0] != op.inputs[1] and shapes[op.inputs[0]] == shapes[op.inputs[1]]
    if op.kind == "flatten":  # bytes lie channels last: what reads them has its weights in that order
        own = sum(
            op.output in other.inputs and other.output in chosen for other in ops if other.kind == "affine"
        )
        return own == readers[op.output] > 0 and len(shapes[op.inputs[0]]) == 3
    if op.kind in _POOLS:
        param = op.options.get("pool_param", {})
        return len(shapes[op.inputs[0]]) == 3 and not (
            op.kind == "avg_pool" and param.get("dilation", 1) != 1
        )
    return True


class Rewriter:
    """Puts the operations on bytes together.

    Parameters
    ----------
    made : set of str
        The outputs of operations that bytes compute, of :func:`byte_operations`.
    scales : dict
        Of each value that has bytes.
    """

    def __init__(
        self, ops: Sequence[Op], output: str, shapes: Shapes, made: set[str], scales: Mapping[str, Scale]
    ) -> None:
        self._ops, self._output, self._shapes, self._made, self.scales = ops, output, shapes, made, scales
        self._readers = Counter([name for op in ops for name in op.inputs] + [output])
        self._terms = self._fused_sums()
        self.rewritten: list[Op] = []
        self._bytes: dict[str, str] = {}  # the bytes of a value, where they are made
        self._floats = {"input"}

    def run(self) -> tuple[list[Op], str]:
        """The operations, and the name of the output, in float32."""
        sums = {total.output for total, _ in self._terms.values()}
        for op in self._ops:
            if op.output in sums:
                continue  # its convolution makes it
            if op.output not in self._made:
                inputs = [self._float(name) for name in op.inputs]
                self.rewritten.append(replace(op, inputs=inputs))
                self._floats.add(op.output)
            elif op.kind in WEIGHTED:
                self._add_weighted(op)
            else:
                self._add_glue(op)
        return self.rewritten, self._float(self._output)

    def _fused_sums(self) -> dict[str, tuple[Op, str]]:
        """Sums that a convolution makes: by its own output, the sum and the other term."""
        makers = {op.output: i for i, op in enumerate(self._ops)}
        terms: dict[str, tuple[Op, str]] = {}
        for op in self._ops:
            if op.kind != "add" or op.output not in self._made:
                continue
            for own, other in sorted((op.inputs, op.inputs[::-1]), key=lambda pair: -makers.get(pair[0], -1)):
                k = makers.get(own, -1)
                if k < 0 or self._readers[own] > 1 or makers.get(other, -1) > k or own not in self._made:
                    continue
                if self._ops[k].kind == "conv" and self._ops[k].most is None:
                    terms[own] = op, other
                    break
        return terms

    def _float(self, name: str) -> str:
        """The value in float32, made of its bytes where there is nothing else."""
        if name not in self._floats:
            self._append("dequantize", [self._bytes[name]], name, "dequantize", **vars(self.scales[name]))
            self._floats.add(name)
        return name

    def _byte(self, name: str) -> str:
        if name not in self._bytes:
            self._bytes[name] = f"{name} (int8)"
            self._append("quantize", [name], self._bytes[name], "quantize", **vars(self.scales[name]))
        return self._bytes[name]

    def _append(self, kind: str, inputs: list[str], output: str, label: str, /, **options: Any) -> Op:
        self.rewritten.append(Op(kind, inputs, output, {}, options, None, label))
        return self.rewritten[-1]

    def _made_of(self, name: str) -> str:
        """The name of the bytes of an operation's output."""
        self._bytes[name] = f"{name} (int8)"
        return self._bytes[name]

    def _add_glue(self, op: Op) -> None:
        if op.kind == "flatten":
            self._bytes[op.output] = self._byte(op.inputs[0])
            return
        inputs, label = [self._byte(name) for name in op.inputs], op.label
        xs, y = [self.scales[name] for name in op.inputs], self.scales[op.output]
        if op.kind in _TABLES:
            made = self._append("byte_table", inputs, self._made_of(op.output), label, zero=y.zero)
            made.arrays["table"] = _table(op, xs[0], y)
        elif op.kind == "add":
            factors, multiplier = _factors(xs, y)
            numbers = y.zero, y.zero if op.most is not None else 0, _high(op.most, y)
            self._append(
                "byte_add",
                inputs,
                self._made_of(op.output),
                label,
                factors=factors,
                multiplier=multiplier,
                numbers=numbers,
            )
        elif op.kind in ("max_pool", "concat"):
            self._append(
                f"byte_{op.kind}", inputs, self._made_of(op.output), label, zero=y.zero, **op.options
            )
        else:
            ratio = float(np.float32(xs[0].scale / y.scale))
            means = {"x_zero": xs[0].zero, "ratio": ratio, "zero": y.zero}
            self._append(f"byte_{op.kind}", inputs, self._made_of(op.output), label, **means, **op.options)

    def _add_weighted(self, op: Op) -> None:
        total = self._terms.get(op.output)
        source = op.inputs[0]
        inputs, x = [self._byte(source)], self.scales[source]
        label, output, most, other = op.label, op.output, op.most, None
        if total is not None:
            label, output, most = f"{label} + {total[0].label}", total[0].output, total[0].most
            inputs.append(self._byte(total[1]))
            other = self.scales[total[1]]
        scores = output == self._output and self._readers[output] == 1 and most is None and other is None
        scores = scores and int(np.prod(self._shapes[output][1:])) == 1
        y = Scale(1.0, 0) if scores else self.scales[output]
        made = byte_weights(
            op.arrays["w"], op.arrays.get("b"), 1 if op.kind == "affine" else 0, x, y.scale, other
        )
        low = y.zero if most is not None else 0
        high = _high(most, y)
        options: dict[str, Any] = {
            **op.options,
            "numbers": (y.zero, low, high, made.shift),
            "x_zero": x.zero,
            "scores": bool(scores),
        }
        arrays: dict[str, Any] = {"w": made.w, "b": made.b, "multiplier": made.multiplier}
        if other is not None:
            arrays["factor"], options["other_zero"] = made.factor, other.zero
        if scores:
            self._floats.add(output)
        name = output if scores else self._made_of(output)
        self.rewritten.append(Op(f"byte_{op.kind}", inputs, name, arrays, options, None, label))


def _high(most: float | None, y: Scale) -> int:
    """The byte of an activation's largest value."""
    return 255 if most is None or np.isinf(most) else min(255, y.zero + int(np.rint(most / y.scale)))


def _factors(xs: Sequence[Scale], y: Scale) -> tuple[tuple[int, int, int], float]:
    """Two factors of 15 bits and the constant of a sum of two values, and its multiplier."""
    unit = max(x.scale for x in xs) / 2**14
    a, b = (int(np.rint(x.scale / unit)) for x in xs)
    return (a, b, -a * xs[0].zero - b * xs[1].zero), float(np.float32(unit / y.scale))


def _table(op: Op, x: Scale, y: Scale) -> np.ndarray:
    """The byte that a function makes of each byte, computed in float64."""
    reals = ((np.arange(256) - x.zero) * x.scale).reshape(256, 1, 1, 1)
    steps = evaluate(op, [reals]).reshape(256) / y.scale
    return (np.clip(np.rint(steps), -y.zero, 255 - y.zero) + y.zero).astype(np.uint8)
