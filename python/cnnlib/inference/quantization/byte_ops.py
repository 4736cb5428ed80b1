"""Operations on bytes that stand for operations in floats, by the scales of the values around them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from cnnlib._typing import Params
from cnnlib.graph.fusion import rectified
from cnnlib.graph.graph import Graph, Node, fresh
from cnnlib.graph.ops import OPS, Op, op_of
from cnnlib.inference.quantization.calibration import evaluate
from cnnlib.inference.quantization.weights import MOST_BYTES, MOST_TERMS, ByteWeights, Scale

Shapes = Mapping[str, tuple[int, ...]]
Bytes = tuple[str, Scale]  # a value of bytes: its name, and what they stand for


def byte_form(layer: str) -> Op | None:
    """The op on bytes that stands for a layer; None if there is none."""
    return OPS.get("byte_table" if op_of(layer).elementwise else f"byte_{layer}")


def weighted_layer(node: Node) -> str:
    """'conv' or 'affine', without the ReLU behind it; empty for other operations."""
    layer = rectified(node)[0]
    form = byte_form(layer)
    return layer if form is not None and form.weighted_axis is not None else ""


def can_be_bytes(node: Node, w: np.ndarray, shapes: Shapes) -> bool:
    """Whether there is an eight-bit layer for an operation with weights w."""
    if weighted_layer(node) == "affine":
        return len(w) <= MOST_TERMS
    F, C_group, KH, KW = w.shape
    groups = node.args[0].get("groups", 1)
    depthwise = C_group == 1 and groups == F == shapes[node.inputs[0]][0] and KH * KW <= 128
    return C_group * KH * KW <= MOST_TERMS and (groups == 1 or depthwise or C_group % 4 == 0)


def bytes_serve(node: Node, shapes: Shapes) -> bool:
    """Whether there is an eight-bit layer for an operation without weights, views apart."""
    layer, x = rectified(node)[0], shapes[node.inputs[0]]
    if layer == "add":
        return node.inputs[0] != node.inputs[1] and x == shapes[node.inputs[1]]
    if byte_form(layer) is None:
        return False
    if op_of(layer).pool:
        dilated = layer == "avg_pool" and node.args[0].get("dilation", 1) not in (1, (1, 1))
        return len(x) == 3 and not dilated and (layer == "max_pool" or math.prod(x[1:]) <= MOST_BYTES)
    return True


def gives_scores(node: Node, graph: Graph, output: str, shapes: Shapes, readers: Counter[str]) -> bool:
    """Whether an operation with weights may write the network's output in float32: numbers, of one pixel.

    Images of another size may give a convolution's output more pixels. One of each channel by itself writes
    bytes alone.
    """
    alone = node.output == output and readers[output] == 1 and rectified(node)[1] is None
    if not alone or int(np.prod(shapes[output][1:])) != 1:
        return False
    if weighted_layer(node) == "affine":
        return True
    if node.args[0].get("groups", 1) == shapes[node.inputs[0]][0] > 1:
        return False
    return bool(graph.why_fixed()) or output not in graph.following()


class ByteGraph:
    """A graph of operations on bytes in the making; `arrays` are those that its nodes name."""

    def __init__(self, graph: Graph, arrays: Params) -> None:
        self.graph, self.arrays = graph, dict(arrays)

    def keep(self, node: Node) -> None:
        """Append an operation in floats, its ReLU as a node of its own."""
        layer, bound = rectified(node)
        made = node.output if bound is None else f"{node.output} (before its activation)"
        self.graph.append(replace(node, layer=layer, output=made))
        if bound is not None:
            self.graph.append(Node("relu6" if bound == 6 else "relu", (made,), node.output))

    def append(
        self, layer: str, inputs: Sequence[str], output: str, label: str, options: Any, **arrays: Any
    ) -> Node:
        """Append an operation on bytes."""
        names = {role: fresh(f"{output}.{role}", self.arrays) for role in arrays}
        self.arrays |= {names[role]: array for role, array in arrays.items()}
        params = tuple(names.get(role) for role in op_of(layer).roles)
        node = Node(layer, tuple(inputs), output, params, (options,), label)
        self.graph.append(node)
        return node

    def weighted(
        self,
        node: Node,
        xs: Sequence[Bytes],
        output: str,
        y: Scale | None,
        weights: ByteWeights,
        total: Node | None = None,
    ) -> Node:
        """Append a convolution or fully connected layer.

        Of two `xs` it adds the second, as `total`, the sum behind it, does; y is None for scores, which are
        float32.
        """
        label = node.label if total is None else f"{node.label} + {total.label}"
        to, layer = y or Scale(1.0, 0), weighted_layer(node)
        options: dict[str, Any] = {
            **({"conv_param": node.args[0]} if layer == "conv" else {}),
            "numbers": (*_bounds(total or node, to), weights.shift),
            "x_zero": xs[0][1].zero,
            "scores": y is None,
            "scale": to.scale,
        }
        arrays: dict[str, Any] = {"w": weights.w, "b": weights.b, "multiplier": weights.multiplier}
        if total is not None:
            arrays["factor"], options["other_zero"] = weights.factor, xs[1][1].zero
        return self.append(f"byte_{layer}", [name for name, _ in xs], output, label, options, **arrays)

    def unweighted(self, node: Node, xs: Sequence[Bytes], output: str, y: Scale) -> Node:
        """Append a sum, pool, concatenation or function of bytes; maxima and joins keep the scale."""
        layer, x = rectified(node)[0], xs[0][1]
        if node.op.elementwise:
            return self.table(node, xs[0], output, y)
        options: dict[str, Any] = {"scale": y.scale}
        if layer in ("max_pool", "avg_pool"):
            options["pool_param"] = node.args[0]
        if layer == "add":
            options["factors"], options["multiplier"] = _factors([scale for _, scale in xs], y)
            options["numbers"] = _bounds(node, y)
        else:
            options["zero"] = y.zero
        if layer in ("avg_pool", "global_avg_pool"):
            options["x_zero"], options["ratio"] = x.zero, float(np.float32(x.scale / y.scale))
        return self.append(f"byte_{layer}", [name for name, _ in xs], output, node.label, options)

    def table(self, node: Node | None, x: Bytes, output: str, y: Scale) -> Node:
        """Append the byte that a function makes of each byte, by float64; None: in another scale."""
        reals = (np.arange(256) - x[1].zero) * x[1].scale
        options: dict[str, Any] = {"zero": y.zero, "scale": y.scale}
        if node is not None:
            reals = evaluate(node, {}, [reals.reshape(256, 1, 1, 1)]).reshape(256)
            options["function"] = node.layer, node.arguments()
        steps = np.clip(np.rint(reals / y.scale), -y.zero, 255 - y.zero) + y.zero
        label = "requantize" if node is None else node.label
        return self.append("byte_table", [x[0]], output, label, options, table=steps.astype(np.uint8))


def _bounds(node: Node, y: Scale) -> tuple[int, int, int]:
    """The zero point, and the least and the largest byte behind the ReLU that an operation ends with."""
    bound = rectified(node)[1]
    if bound is None:
        return y.zero, 0, 255
    return y.zero, y.zero, 255 if np.isinf(bound) else min(255, y.zero + int(np.rint(bound / y.scale)))


def _factors(xs: Sequence[Scale], y: Scale) -> tuple[tuple[int, int, int], float]:
    """Two factors of 15 bits and the constant of a sum of two values, and its multiplier."""
    unit = max(x.scale for x in xs) / 2**14
    a, b = (int(np.rint(x.scale / unit)) for x in xs)
    return (a, b, -a * xs[0].zero - b * xs[1].zero), float(np.float32(unit / y.scale))
