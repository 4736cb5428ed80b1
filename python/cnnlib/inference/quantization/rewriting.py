"""Operations in float32 rewritten to operations on bytes, where those can compute them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from cnnlib.inference.ops import Op
from cnnlib.inference.quantization.byte_ops import (
    POOLS,
    TABLES,
    WEIGHTED,
    Shapes,
    bytes_serve,
    gives_scores,
    unweighted,
    weighted,
)
from cnnlib.inference.quantization.ranges import Scale
from cnnlib.inference.quantization.weights import byte_weights

_GLUE = (*TABLES, *POOLS, "add", "concat", "flatten")


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
    if op.kind != "flatten":
        return bytes_serve(op, shapes)
    # Bytes lie channels last: what reads them has its weights in that order.
    own = sum(op.output in other.inputs and other.output in chosen for other in ops if other.kind == "affine")
    return own == readers[op.output] > 0 and len(shapes[op.inputs[0]]) == 3


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
        inputs = [self._byte(name) for name in op.inputs]
        if op.kind == "flatten":
            self._bytes[op.output] = inputs[0]
            return
        xs, y = [self.scales[name] for name in op.inputs], self.scales[op.output]
        self.rewritten.append(unweighted(op, inputs, self._made_of(op.output), xs, y))

    def _add_weighted(self, op: Op) -> None:
        total, term = self._terms.get(op.output, (None, ""))
        x, output = self.scales[op.inputs[0]], op.output if total is None else total.output
        inputs, other = [self._byte(op.inputs[0])], None
        if total is not None:
            inputs.append(self._byte(term))
            other = self.scales[term]
        scores = total is None and gives_scores(op, self._output, self._shapes, self._readers)
        y = None if scores else self.scales[output]
        axis = 1 if op.kind == "affine" else 0
        w, b = op.arrays["w"], op.arrays.get("b")
        made = byte_weights(w, b, axis, x, 1.0 if y is None else y.scale, other)
        if scores:
            self._floats.add(output)
        name = output if scores else self._made_of(output)
        self.rewritten.append(weighted(op, inputs, name, x, y, made, total, other))
