"""A float network to one of eight bits, by what calibration images show."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from cnnlib._typing import Array, Params
from cnnlib.graph.fusion import operations, readers_of, rectified
from cnnlib.graph.graph import Graph, Node
from cnnlib.graph.ops import op_of
from cnnlib.graph.shapes import shapes as shapes_of
from cnnlib.inference.quantization.byte_ops import (
    Shapes,
    byte_form,
    bytes_serve,
    can_be_bytes,
    gives_scores,
    weighted_layer,
)
from cnnlib.inference.quantization.calibration import evaluate, observe, values_of
from cnnlib.inference.quantization.joining import Joiner
from cnnlib.inference.quantization.table import Quantization, Row
from cnnlib.inference.quantization.weights import (
    GivenWeights,
    Observed,
    Scale,
    in_steps,
    rounded_weights,
    scale_of,
)

_MOST_TOLD = 5
_LEAST_SNR = 12.0  # dB: a layer whose own error is a quarter of what it makes


def quantized(
    graph: Graph,
    params: Params,
    input_dim: tuple[int, ...],
    batches: Iterable[Array],
    kept: Collection[str],
    method: str,
) -> tuple[Graph, Params, Quantization]:
    """A graph of operations on bytes, its arrays, and what became of each layer.

    Layers that `kept` names stay in float32, and those whose own quantisation costs them too much.
    """
    nodes = operations(graph)
    output, shapes = nodes[-1].output, shapes_of(graph, params, input_dim, "prepare")
    shapes.setdefault(output, shapes[graph.output])
    weighted = [node for node in nodes if weighted_layer(node)]
    unknown = set(kept) - {name for node in weighted for name in _names(node)}
    if unknown:
        known = ", ".join(_names(node)[0] for node in weighted)
        raise ValueError(f"prepare: float32 names no layer {sorted(unknown)[0]!r}; there are: {known}")
    chosen = {
        node.output
        for node in weighted
        if can_be_bytes(node, params[str(node.params[0])], shapes)
        and not set(kept).intersection(_names(node))
    }
    seen, sample = observe(nodes, params, graph.input, batches)
    scales = _scales(nodes, chosen, shapes, seen, method)[1]
    noise = _noise(values_of(nodes, params, graph.input, sample), params, chosen, scales)
    chosen -= {name for name, decibels in noise.items() if decibels < _LEAST_SNR}
    made, scales = _scales(nodes, chosen, shapes, seen, method)
    _warn_of_doubts([node for node in weighted if node.output in made], seen)
    table = Quantization([*_rows(nodes, made, scales, seen, noise)])
    if not made:
        return graph, params, table
    return *with_roundings(graph, nodes, params, shapes, made, scales).run(), table


def _rows(
    nodes: Sequence[Node],
    made: set[str],
    scales: Mapping[str, Scale],
    seen: Mapping[str, Observed],
    noise: Mapping[str, float],
) -> Iterator[Row]:
    """What became of each layer with weights, and of what else is `made` of bytes."""
    for node in nodes:
        name = node.output
        if not node.op.view and (weighted_layer(node) or name in made):
            precision = "int8" if name in made else "float32"
            covered = scales[name].range if name in scales else None
            yield Row(node.label, precision, (seen[name].low, seen[name].high), covered, noise.get(name))


def _warn_of_doubts(nodes: Sequence[Node], seen: Mapping[str, Observed]) -> None:
    """Warn of layers whose ranges may not hold for other images, behind whoever called `prepare`."""
    doubts = [doubt for node in nodes for doubt in _doubts(node.label, seen[node.output])]
    if doubts:
        more = f"; and {len(doubts) - _MOST_TOLD} layers more" if len(doubts) > _MOST_TOLD else ""
        warnings.warn(
            "prepare: calibration says little of the ranges of some layers, more images like those to come "
            f"would: {'; '.join(doubts[:_MOST_TOLD])}{more}",
            UserWarning,
            stacklevel=5,
        )


def _doubts(label: str, seen: Observed) -> list[str]:
    """Why a layer's range may not hold for other images."""
    if seen.low == seen.high:
        return [f"{label} had the one value {seen.low:g}"]
    found = seen.outlier()
    if found is None:
        return []
    reached, (low, high) = found
    return [f"{label} reaches {reached:.3g} in one image alone, in all others {low:.3g} to {high:.3g}"]


def _names(node: Node) -> tuple[str, ...]:
    """What a layer may be called: its label, and its first part without the norm and activation behind it."""
    return node.label, node.label.split(" + ")[0]


def _scales(
    nodes: Sequence[Node], chosen: set[str], shapes: Shapes, seen: dict[str, Observed], method: str
) -> tuple[set[str], dict[str, Scale]]:
    """The outputs that bytes compute, and the scale of each value that has bytes."""
    made, roots = byte_operations(nodes, chosen, shapes)
    ranges: dict[str, tuple[float, float]] = {}
    for name, root in roots.items():
        low, high = seen[name].range(method)
        before = ranges.get(root, (low, high))
        ranges[root] = min(low, before[0]), max(high, before[1])
    return made, {name: scale_of(*ranges[root]) for name, root in roots.items()}


def _noise(
    values: Iterable[tuple[Node, list[Array], Array]],
    params: Params,
    chosen: set[str],
    scales: Mapping[str, Scale],
) -> dict[str, float]:
    """Signal to noise in dB of quantising each layer alone: the median over the images.

    Where a function behind it makes less of its bytes, that of the function.
    """
    found: dict[str, float] = {}
    for node, inputs, out in values:
        name, read = node.output, node.inputs[0]
        if name in chosen:
            s, y = scales[read], scales[name]
            w_name, (w, b), axis = str(node.params[0]), _weights(node, params), _axis(node)
            own = in_steps(rounded_weights(w, b, axis, s), s, y.scale)
            steps = (own.multiplier * y.scale / s.scale).astype(np.float32)
            rough = own.w * (steps if axis == 1 else steps.reshape(-1, 1, 1, 1))
            changed = {**params, w_name: rough}
        elif read in found and name in scales and op_of(rectified(node)[0]).elementwise:
            name, s, y, changed = read, scales[read], scales[name], params
        else:
            continue
        error = _rounded(evaluate(node, changed, [_rounded(inputs[0], s)]), y) - out
        signal, lost = (np.square(v, dtype=np.float64).reshape(len(v), -1).sum(axis=1) for v in (out, error))
        decibels = 10 * np.log10(np.maximum(signal, 1e-300) / np.maximum(lost, 1e-300))
        own_snr = float(np.median(np.where(lost == 0, np.inf, decibels)))
        found[name] = min(own_snr, found.get(name, np.inf))
    return found


def _axis(node: Node) -> int:
    """The axis of the weights along which the filters lie."""
    return 1 if weighted_layer(node) == "affine" else 0


def _weights(node: Node, params: Params) -> tuple[Array, Array | None]:
    w, b = node.params
    return params[str(w)], None if b is None else params[b]


def _rounded(x: Array, s: Scale) -> Array:
    """x in the steps of a scale."""
    q = x / np.float32(s.scale)  # each step in its memory: a new array costs more
    np.clip(np.rint(q, out=q), -s.zero, 255 - s.zero, out=q)
    q *= np.float32(s.scale)
    return q


def byte_operations(
    nodes: Sequence[Node], chosen: set[str], shapes: Shapes
) -> tuple[set[str], dict[str, str]]:
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

    readers = Counter(name for node in nodes for name in node.inputs)
    for node in nodes:
        if weighted_layer(node):
            if node.output not in chosen:
                continue
        elif not (node.op.view or byte_form(rectified(node)[0])) or not valued.issuperset(node.inputs):
            continue
        elif not _serves(node, shapes, nodes, chosen, readers):
            continue
        made.add(node.output)
        valued.update((*node.inputs, node.output))
        if node.op.selects:
            for name in node.inputs:
                root[find(name)] = find(node.output)
    return made, {name: find(name) for name in valued}


def _serves(node, shapes, nodes, chosen, readers):
    """Whether bytes serve an operation without weights."""
    if not node.op.view:
        return bytes_serve(node, shapes)
    # Bytes lie channels last: what reads them has its weights in that order.
    affine = [other for other in nodes if weighted_layer(other) == "affine" and other.output in chosen]
    own = sum(node.output in other.inputs for other in affine)
    return own == readers[node.output] > 0 and len(shapes[node.inputs[0]]) == 3


def with_roundings(
    graph: Graph,
    nodes: Sequence[Node],
    params: Params,
    shapes: Shapes,
    made: set[str],
    scales: Mapping[str, Scale],
) -> Joiner:
    """What joins the operations on bytes, with 'quantize' and 'dequantize' around them.

    `made` are the outputs of operations that bytes compute, of :func:`byte_operations`; `scales` those of
    each value that has bytes.
    """
    readers, shapes = readers_of(nodes), dict(shapes)
    terms = _fused_sums(nodes, made, readers)
    weights: dict[str, GivenWeights] = {}
    names: dict[str, str] = {}  # what operations on bytes read in a value's place
    rounded: list[Node] = []

    def append_rounding(source: str, name: str, target: str) -> None:
        bytes_, options = f"{name} (int8)", dict(vars(scales[name]))
        shapes[bytes_] = shapes[target] = shapes[source]
        rounded.append(Node("quantize", (source,), bytes_, (), (options,), "quantize"))
        rounded.append(Node("dequantize", (bytes_,), target, (), (options,), "dequantize"))

    for node in nodes:
        if node.output not in made:
            rounded.append(node)
            continue
        for name in node.inputs:
            if name not in names:  # an operation in floats has made it
                names[name] = f"{name} (rounded)"
                append_rounding(name, name, names[name])
        layer, name = weighted_layer(node), node.output
        scores = layer and gives_scores(node, graph, nodes[-1].output, shapes, readers)
        whole = scores or node.op.view or name in terms
        exact = name if whole else f"{name} (exact)"
        shapes[exact], names[name] = shapes[name], name
        if layer:
            other = scales[terms[name]] if name in terms else None
            given = rounded_weights(*_weights(node, params), _axis(node), scales[node.inputs[0]], other)
            weights[exact] = given
        rounded.append(replace(node, inputs=tuple(names[i] for i in node.inputs), output=exact))
        if not whole:
            append_rounding(exact, name, name)
    return Joiner(graph, rounded, params, shapes, weights)


def _fused_sums(nodes: Sequence[Node], made: set[str], readers: Counter[str]) -> dict[str, str]:
    """Map the output of each convolution that computes a sum at once to the sum's other term."""
    makers = {node.output: i for i, node in enumerate(nodes)}
    terms: dict[str, str] = {}
    for node in nodes:
        if rectified(node)[0] != "add" or node.output not in made:
            continue
        pairs = (node.inputs, node.inputs[::-1])
        for own, other in sorted(pairs, key=lambda pair: -makers.get(pair[0], -1)):
            k = makers.get(own, -1)
            if k < 0 or readers[own] > 1 or makers.get(other, -1) > k or own not in made:
                continue
            if nodes[k].layer == "conv":
                terms[own] = other
                break
    return terms
