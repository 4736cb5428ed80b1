"""Layers in floats between bytes joined to layers on bytes.

Files (QuantizeLinear, DequantizeLinear) say what is computed in floats, with roundings to bytes in between:
``quantize(conv(dequantize(x)))``; so does what calibration makes of a network. Where integers give the same,
they do; the rest is computed as it says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cnnlib._typing import Params
from cnnlib.graph.fusion import readers_of, rectified
from cnnlib.graph.graph import Graph, Node, fresh
from cnnlib.inference.quantization.byte_ops import (
    ByteGraph,
    Bytes,
    Shapes,
    bytes_serve,
    can_be_bytes,
    gives_scores,
    weighted_layer,
)
from cnnlib.inference.quantization.table import Row
from cnnlib.inference.quantization.weights import GivenWeights, Scale, in_steps, sums_fit


class Joiner:
    """Puts the operations together: layers in floats, 'quantize' and 'dequantize', whose arrays are `arrays`.

    The graph gives the input and what fixes the size of images. `shapes` are those of the values; `weights`
    stand by the outputs of the operations whose weights are quantised.
    """

    def __init__(
        self,
        graph: Graph,
        nodes: Sequence[Node],
        arrays: Params,
        shapes: Shapes,
        weights: Mapping[str, GivenWeights],
    ) -> None:
        self._nodes, self._output, self._shapes, self._weights = nodes, nodes[-1].output, shapes, weights
        self._graph = graph
        self._makers = {node.output: node for node in nodes}
        self._behind: dict[str, list[Node]] = {}
        for node in nodes:
            for name in node.inputs:
                self._behind.setdefault(name, []).append(node)
        self._readers = readers_of(nodes)
        self._bytes: dict[str, Bytes] = {}  # that a dequantised value is made of
        self._same: dict[str, str] = {}  # bytes by another name
        self._floats: set[str] = set()  # dequantised values that are made
        self._waiting: dict[str, Node] = {}  # convolutions, for a sum that takes them in
        self._ends: set[str] = set()  # outputs of 'quantize' that a layer makes
        self._made = ByteGraph(Graph([], graph.input, fixed_by=graph.why_fixed()), arrays)
        self.rows: list[Row] = []

    def run(self) -> tuple[Graph, Params]:
        """The graph and its arrays; `rows` has then what became of each layer."""
        for node in self._nodes:
            if node.layer == "dequantize":
                name = node.inputs[0]
                self._bytes[node.output] = self._same.get(name, name), Scale(**node.args[0])
            elif node.layer == "quantize":
                self._quantize(node)
            elif not self._on_bytes(node):
                self._keep(node)
        self._need(self._output)
        graph, arrays = self._made.graph, self._made.arrays
        graph.output = self._output
        used = dict.fromkeys(name for node in graph for name in node.params if name is not None)
        return graph, {name: arrays[name] for name in used}

    def _quantize(self, node: Node) -> None:
        """Bytes of floats, or of bytes in another scale."""
        if node.output in self._ends:
            return
        if node.inputs[0] not in self._bytes:
            self._made.keep(node)
            return
        x, y = self._bytes[node.inputs[0]], Scale(**node.args[0])
        if x[1] == y:
            self._same[node.output] = x[0]
        else:
            self._made.table(None, x, node.output, y)

    def _keep(self, node: Node) -> None:
        """An operation as it is, in floats."""
        for name in node.inputs:
            if name in self._waiting:
                self._keep(self._waiting.pop(name))
            self._need(name)
        self._made.keep(node)
        self._note(node, node.label, "float32", None)

    def _need(self, name: str) -> None:
        if name in self._bytes and name not in self._floats:
            self._floats.add(name)
            source, scale = self._bytes[name]
            self._made.append("dequantize", [source], name, "dequantize", dict(vars(scale)))

    def _note(self, node: Node, label: str, precision: str, y: Scale | None) -> None:
        if weighted_layer(node) or precision == "int8":
            self.rows.append(Row(label, precision, None, None if y is None else y.range, None))

    def _end(self, node: Node) -> Node | None:
        """The 'quantize' that alone reads what an operation makes; several of one scale count as one."""
        behind = self._behind.get(node.output, [])
        alike = all(each.layer == "quantize" and each.args == behind[0].args for each in behind)
        return behind[0] if behind and alike and node.output != self._output else None

    def _on_bytes(self, node: Node) -> bool:
        """Put a layer on bytes at the end, if there is one that computes what `node` and its ends do."""
        if weighted_layer(node):
            return self._fits(node) and (self._wait(node) or self._weighted(node, None))
        waiting = [name for name in node.inputs if name in self._waiting]
        if waiting:
            conv = self._waiting[waiting[0]]
            if self._weighted(conv, node):
                del self._waiting[waiting[0]]
                return True
            return False
        if not self._bytes.keys() >= set(node.inputs):
            return False
        if node.op.view:
            return self._flatten(node)
        end = self._end(node)
        if end is None or not bytes_serve(node, self._shapes):
            return False
        y = Scale(**end.args[0])
        xs = [self._bytes[name] for name in node.inputs]
        if node.layer == "max_pool" and xs[0][1] != y:
            return False
        if node.layer == "concat":
            xs = [self._rescaled(x, y) for x in xs]
        self._finish(node, end, self._made.unweighted(node, xs, end.output, y))
        return True

    def _fits(self, node: Node) -> bool:
        """Whether an operation with weights has them and its input in bytes, and not too many."""
        known = node.output in self._weights and node.inputs[0] in self._bytes
        return known and can_be_bytes(node, self._weights[node.output].q, self._shapes)

    def _flatten(self, node: Node) -> bool:
        """Rows of an image's bytes, channels last, for layers that have their weights in that order."""
        behind = self._behind.get(node.output, [])
        ready = all(weighted_layer(each) == "affine" and each.output in self._weights for each in behind)
        if not behind or not ready or len(self._shapes[node.inputs[0]]) != 3 or node.output == self._output:
            return False
        self._bytes[node.output] = self._bytes[node.inputs[0]]
        return True

    def _rescaled(self, x: Bytes, y: Scale) -> Bytes:
        """Bytes in another scale."""
        if x[1] == y:
            return x
        output = fresh(f"{x[0]} (rescaled)", {node.output for node in self._made.graph})
        return self._made.table(None, x, output, y).output, y

    def _wait(self, conv: Node) -> bool:
        """Whether a convolution is left to the sum that alone reads it."""
        behind = self._behind.get(conv.output, [])
        if conv.layer != "conv" or len(behind) != 1 or conv.output == self._output:
            return False
        total = behind[0]
        if rectified(total)[0] != "add" or self._end(total) is None or not bytes_serve(total, self._shapes):
            return False
        (other,) = (name for name in total.inputs if name != conv.output)
        maker = self._makers.get(other)
        if maker is None or maker.layer != "dequantize":
            return False
        self._waiting[conv.output] = conv
        return True

    def _weighted(self, node: Node, total: Node | None) -> bool:
        given, last = self._weights[node.output], total or node
        end = self._end(last)
        written = self._graph, self._output, self._shapes, self._readers
        if end is None and (total is not None or not gives_scores(node, *written)):
            return False
        xs = [self._bytes[node.inputs[0]]]
        if total is not None:
            xs += [self._bytes[name] for name in total.inputs if name != node.output]
        y = None if end is None else Scale(**end.args[0])
        scales = xs[0][1], 1.0 if y is None else y.scale, xs[1][1] if total else None
        if not given.fit and not sums_fit(given, *scales):
            return False
        output = node.output if end is None else end.output
        made = self._made.weighted(node, xs, output, y, in_steps(given, *scales), total)
        self._finish(last, end, made)
        return True

    def _finish(self, node: Node, end: Node | None, joined: Node) -> None:
        if end is None:
            self._note(node, joined.label, "int8", None)
            return
        for each in self._behind[end.inputs[0]]:
            self._ends.add(each.output)
            if each is not end:
                self._same[each.output] = end.output
        self._note(node, joined.label, "int8", Scale(**end.args[0]))
