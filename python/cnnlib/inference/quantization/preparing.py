"""A float network's operations to those of an eight-bit one, by what calibration images show."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from cnnlib._typing import Array
from cnnlib.inference.ops import Op
from cnnlib.inference.quantization.byte_ops import (
    POOLS,
    TABLES,
    WEIGHTED,
    Shapes,
    bytes_serve,
    can_be_bytes,
    gives_scores,
    unweighted,
    weighted,
)
from cnnlib.inference.quantization.calibration import evaluate, observe, values_of
from cnnlib.inference.quantization.table import Quantization, Row
from cnnlib.inference.quantization.weights import Observed, Scale, byte_weights, scale_of

_MOST_TOLD = 5
_LEAST_SNR = 12.0  # dB: a layer whose own error is a quarter of what it makes


def quantized(
    ops: Sequence[Op],
    output: str,
    shapes: dict[str, tuple[int, ...]],
    batches: Iterable[Array],
    kept: Collection[str],
    method: str,
) -> tuple[list[Op], str, Quantization]:
    """Operations on bytes, the name of their output, and what became of each layer.

    Layers that `kept` names stay in float32, and those whose own quantisation costs them too much.
    """
    weighted = [op for op in ops if op.kind in WEIGHTED]
    unknown = set(kept) - {name for op in weighted for name in _names(op)}
    if unknown:
        known = ", ".join(_names(op)[0] for op in weighted)
        raise ValueError(f"prepare: float32 names no layer {sorted(unknown)[0]!r}; there are: {known}")
    chosen = {
        op.output for op in weighted if can_be_bytes(op, shapes) and not set(kept).intersection(_names(op))
    }
    seen, sample = observe(ops, output, batches)
    scales = _scales(ops, chosen, shapes, seen, method)[1]
    noise = _noise(ops, output, chosen, scales, sample)
    chosen -= {name for name, decibels in noise.items() if decibels < _LEAST_SNR}
    made, scales = _scales(ops, chosen, shapes, seen, method)
    rewritten, result = Rewriter(ops, output, shapes, made, scales).run()
    rows, guessed = [], []
    for op in ops:
        if op.kind == "flatten" or (op.kind not in WEIGHTED and op.output not in made):
            continue
        low, high = seen[op.output].low, seen[op.output].high
        if op.output in made and op.kind in WEIGHTED:
            guessed += _doubts(op.label, seen[op.output])
        precision = "int8" if op.output in made else "float32"
        rows.append(
            Row(op.label, precision, (low, high), _covered(scales.get(op.output)), noise.get(op.output))
        )
    if guessed:
        more = f"; and {len(guessed) - _MOST_TOLD} layers more" if len(guessed) > _MOST_TOLD else ""
        warnings.warn(
            "prepare: calibration says little of the ranges of some layers, more images like those to come "
            f"would: {'; '.join(guessed[:_MOST_TOLD])}{more}",
            UserWarning,
            stacklevel=4,
        )
    return rewritten, result, Quantization(rows)


def _doubts(label: str, seen: Observed) -> list[str]:
    """Why a layer's range may not hold for other images."""
    if seen.low == seen.high:
        return [f"{label} had the one value {seen.low:g}"]
    found = seen.outlier()
    if found is None:
        return []
    (low, high), reached = found[1], found[0]
    return [f"{label} reaches {reached:.3g} in one image alone, in all others {low:.3g} to {high:.3g}"]


def _names(op: Op) -> tuple[str, ...]:
    """What a layer may be called: its label, and its first part without the norm and activation behind it."""
    return op.label, op.label.split(" + ")[0]


def _covered(scale: Scale | None) -> tuple[float, float] | None:
    return None if scale is None else scale.range


def _scales(
    ops: Sequence[Op],
    chosen: set[str],
    shapes: dict[str, tuple[int, ...]],
    seen: dict[str, Observed],
    method: str,
) -> tuple[set[str], dict[str, Scale]]:
    """The outputs that bytes compute, and the scale of each value that has bytes."""
    made, roots = byte_operations(ops, chosen, shapes)
    ranges: dict[str, tuple[float, float]] = {}
    for name, root in roots.items():
        low, high = seen[name].range(method)
        before = ranges.get(root, (low, high))
        ranges[root] = min(low, before[0]), max(high, before[1])
    return made, {name: scale_of(*ranges[root]) for name, root in roots.items()}


def _noise(
    ops: Sequence[Op], output: str, chosen: set[str], scales: dict[str, Scale], x: Array
) -> dict[str, float]:
    """Of each layer the signal over the error that its own quantisation makes, in dB: images' median."""
    found = {}
    for op, inputs, out in values_of(ops, output, x):
        if op.output not in chosen:
            continue
        s, y = scales[op.inputs[0]], scales[op.output]
        axis = 1 if op.kind == "affine" else 0
        own = byte_weights(op.arrays["w"], op.arrays.get("b"), axis, s, y.scale)
        steps = (own.multiplier * y.scale / s.scale).astype(np.float32)
        w = own.w * (steps if axis == 1 else steps.reshape(-1, 1, 1, 1))
        rough = Op(op.kind, op.inputs, op.output, {**op.arrays, "w": w}, op.options, op.most)
        error = _rounded(evaluate(rough, [_rounded(inputs[0], s)]), y) - out
        signal, lost = (np.square(v, dtype=np.float64).reshape(len(v), -1).sum(axis=1) for v in (out, error))
        decibels = 10 * np.log10(np.maximum(signal, 1e-300) / np.maximum(lost, 1e-300))
        found[op.output] = float(np.median(np.where(lost == 0, np.inf, decibels)))
    return found


def _rounded(x: Array, s: Scale) -> Array:
    """x in the steps of a scale."""
    q = np.clip(np.rint(x / np.float32(s.scale)), -s.zero, 255 - s.zero)
    return q * np.float32(s.scale)


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
