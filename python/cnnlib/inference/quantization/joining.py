"""Layers in floats between bytes, as files have them, joined to layers on bytes.

Files (QuantizeLinear, DequantizeLinear) say what is computed in floats, with roundings to bytes in between:
``quantize(conv(dequantize(x)))``. Where integers give the same, they do; the rest is computed as it says.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from cnnlib._typing import Array
from cnnlib.inference.ops import Op
from cnnlib.inference.quantization.byte_ops import (
    WEIGHTED,
    Shapes,
    bytes_serve,
    can_be_bytes,
    gives_scores,
    table,
    unweighted,
    weighted,
)
from cnnlib.inference.quantization.table import Quantization, Row
from cnnlib.inference.quantization.weights import Scale, in_steps, sums_fit


@dataclass(frozen=True)
class GivenWeights:
    """Weights that are quantised already.

    Attributes
    ----------
    q : ndarray of int8
        In the shape of the float weights.
    scales, bias : ndarray of float64 (F,)
    """

    q: np.ndarray
    scales: Array
    bias: Array


class Joiner:
    """Puts the operations together.

    Parameters
    ----------
    ops : sequence of Op
        Layers in floats, 'quantize' and 'dequantize'.
    weights : mapping
        By the outputs of the operations whose weights are quantised.
    """

    def __init__(
        self, ops: Sequence[Op], output: str, shapes: Shapes, weights: Mapping[str, GivenWeights]
    ) -> None:
        self._ops, self._output, self._shapes, self._weights = ops, output, shapes, weights
        self._makers = {op.output: op for op in ops}
        self._behind: dict[str, list[Op]] = {}
        for op in ops:
            for name in op.inputs:
                self._behind.setdefault(name, []).append(op)
        self._readers = Counter([name for op in ops for name in op.inputs] + [output])
        self._bytes: dict[str, tuple[str, Scale]] = {}  # that a dequantised value is made of
        self._same: dict[str, str] = {}  # bytes by another name
        self._floats: set[str] = set()  # dequantised values that are made
        self._waiting: dict[str, Op] = {}  # convolutions, for a sum that takes them in
        self._ends: set[str] = set()  # outputs of 'quantize' that a layer makes
        self.joined: list[Op] = []
        self.rows: list[Row] = []

    def run(self) -> tuple[list[Op], str, Quantization]:
        """The operations, the name of their output, and the table of layers."""
        for op in self._ops:
            if op.kind == "dequantize":
                name = op.inputs[0]
                self._bytes[op.output] = self._same.get(name, name), Scale(**op.options)
            elif op.kind == "quantize":
                self._quantize(op)
            elif not self._on_bytes(op):
                self._keep(op)
        self._need(self._output)
        return self.joined, self._output, Quantization(self.rows)

    def _quantize(self, op: Op) -> None:
        """Bytes of floats, or of bytes in another scale."""
        if op.output in self._ends:
            return
        if op.inputs[0] not in self._bytes:
            self.joined.append(op)
            return
        name, x = self._bytes[op.inputs[0]]
        y = Scale(**op.options)
        if x == y:
            self._same[op.output] = name
        else:
            self.joined.append(table(None, name, op.output, x, y))

    def _keep(self, op: Op) -> None:
        """An operation as it is, in floats."""
        for name in op.inputs:
            if name in self._waiting:
                self._keep(self._waiting.pop(name))
            self._need(name)
        self.joined.append(op)
        self._note(op, "float32", None)

    def _need(self, name: str) -> None:
        if name in self._bytes and name not in self._floats:
            self._floats.add(name)
            source, scale = self._bytes[name]
            self.joined.append(Op("dequantize", [source], name, {}, dict(vars(scale)), None, "dequantize"))

    def _note(self, op: Op, precision: str, y: Scale | None) -> None:
        if op.kind in WEIGHTED or precision == "int8":
            self.rows.append(Row(op.label, precision, None, None if y is None else y.range, None))

    def _end(self, op: Op) -> Op | None:
        """The 'quantize' that alone reads what an operation makes; several of one scale count as one."""
        behind = self._behind.get(op.output, [])
        alike = all(each.kind == "quantize" and each.options == behind[0].options for each in behind)
        return behind[0] if behind and alike and op.output != self._output else None

    def _on_bytes(self, op: Op) -> bool:
        """Put a layer on bytes at the end, if there is one that computes what `op` and its ends do."""
        if op.kind in WEIGHTED:
            known = op.output in self._weights and op.inputs[0] in self._bytes
            return known and can_be_bytes(op, self._shapes) and (self._wait(op) or self._weighted(op, None))
        waiting = [name for name in op.inputs if name in self._waiting]
        if waiting:
            conv = self._waiting[waiting[0]]
            if self._weighted(conv, op):
                del self._waiting[waiting[0]]
                return True
            return False
        end = self._end(op)
        if end is None or not bytes_serve(op, self._shapes) or not self._bytes.keys() >= set(op.inputs):
            return False
        y = Scale(**end.options)
        names, scales = zip(*(self._bytes[name] for name in op.inputs), strict=True)
        if op.kind == "max_pool" and scales[0] != y:
            return False
        if op.kind == "concat":
            names = tuple(self._rescaled(name, x, y) for name, x in zip(names, scales, strict=True))
        self._finish(op, end, unweighted(op, names, end.output, scales, y))
        return True

    def _rescaled(self, name: str, x: Scale, y: Scale) -> str:
        """The name of bytes in a scale."""
        if x == y:
            return name
        output, taken = f"{name} (rescaled)", {op.output for op in self.joined}
        while output in taken:
            output += "'"
        self.joined.append(table(None, name, output, x, y))
        return output

    def _wait(self, conv: Op) -> bool:
        """Whether a convolution is left to the sum that alone reads it."""
        behind = self._behind.get(conv.output, [])
        if conv.kind != "conv" or conv.most is not None or len(behind) != 1 or conv.output == self._output:
            return False
        total = behind[0]
        if total.kind != "add" or self._end(total) is None or not bytes_serve(total, self._shapes):
            return False
        (other,) = (name for name in total.inputs if name != conv.output)
        maker = self._makers.get(other)
        if maker is None or maker.kind != "dequantize":
            return False
        self._waiting[conv.output] = conv
        return True

    def _weighted(self, op: Op, total: Op | None) -> bool:
        given, last = self._weights[op.output], total or op
        end = self._end(last)
        if end is None and (
            total is not None or not gives_scores(op, self._output, self._shapes, self._readers)
        ):
            return False
        name, x = self._bytes[op.inputs[0]]
        names, other = [name], None
        if total is not None:
            (term,) = (name for name in total.inputs if name != op.output)
            further, other = self._bytes[term]
            names.append(further)
        y = None if end is None else Scale(**end.options)
        numbers = given.q, given.scales, given.bias, 1 if op.kind == "affine" else 0, x
        step = 1.0 if y is None else y.scale
        if not sums_fit(*numbers, step, other):
            return False
        made = in_steps(*numbers, step, other)
        output = op.output if end is None else end.output
        joined = weighted(op, names, output, x, y, made, total, other)
        self._finish(replace(last, label=joined.label), end, joined)
        return True

    def _finish(self, op: Op, end: Op | None, joined: Op) -> None:
        self.joined.append(joined)
        if end is None:
            self._note(op, "int8", None)
            return
        for each in self._behind[end.inputs[0]]:
            self._ends.add(each.output)
            if each is not end:
                self._same[each.output] = end.output
        self._note(op, "int8", Scale(**end.options))
