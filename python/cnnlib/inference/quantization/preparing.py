"""A float network's operations to those of an eight-bit one, by what calibration images show."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterable, Sequence

import numpy as np

from cnnlib._typing import Array
from cnnlib.inference.ops import Op
from cnnlib.inference.quantization.byte_ops import WEIGHTED, can_be_bytes
from cnnlib.inference.quantization.calibration import evaluate, observe, values_of
from cnnlib.inference.quantization.ranges import Observed, Scale, scale_of
from cnnlib.inference.quantization.rewriting import Rewriter, byte_operations
from cnnlib.inference.quantization.table import Quantization, Row
from cnnlib.inference.quantization.weights import byte_weights

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
