"""Operations on bytes as layers of floats between DequantizeLinear and QuantizeLinear.

A convolution that adds another value has one rounding here, and so in the file: its result is added before it
is quantised.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from cnnlib.graph.graph import Graph, Node
from cnnlib.graph.ops import op_of
from cnnlib.graph.ops.narrow_images import makes_bytes
from cnnlib.inference.quantization.weights import Scale
from cnnlib.onnx.writing.writer import Writer


def scales_of(graph: Graph) -> dict[str, Scale]:
    """The scale of each value of bytes."""
    scales = {}
    for node in graph:
        if makes_bytes(node):
            options = node.args[0]
            zero = options["zero"] if "zero" in options else options["numbers"][0]
            scales[node.output] = Scale(options["scale"], zero)
    return scales


class EightBits:
    """Writes the nodes of a graph that work on bytes.

    `scales` are those of :func:`scales_of`.
    """

    def __init__(self, writer: Writer, scales: dict[str, Scale]) -> None:
        self._writer, self._scales = writer, scales

    def write(self, node: Node, inputs: list[str], output: str) -> None:
        """Add the operators of a node; its inputs and its output by their names in the file."""
        if node.layer == "quantize":
            self._rounding("QuantizeLinear", node, node.output, inputs[0], output)
        elif node.layer == "dequantize":
            self._rounding("DequantizeLinear", node, node.inputs[0], inputs[0], output)
        else:
            pairs = zip(node.inputs, inputs, strict=True)
            floats = [self._rounding("DequantizeLinear", node, value, name) for value, name in pairs]
            scores = node.output not in self._scales
            made = self._layer(node, floats, output if scores else "")
            if not scores:
                self._rounding("QuantizeLinear", node, node.output, made, output)

    def _layer(self, node: Node, inputs: list[str], output: str) -> str:
        """The layer in floats; returns its value."""
        options = node.args[0]
        if node.layer == "byte_table":
            kind, arguments = options.get("function", (None, {}))
            if kind is None:
                return inputs[0]
            return self._plain(node, kind, inputs, op_of(kind).positional(arguments))
        kind = node.layer.removeprefix("byte_")
        if kind in ("conv", "affine"):
            return self._weighted(node, kind, inputs, output)
        args = (options["pool_param"],) if "pool_param" in options else ()
        made = self._plain(node, kind, inputs, args)
        return self._bounded(node, made) if kind == "add" else made

    def _plain(
        self, node: Node, kind: str, inputs: list[str], args: tuple[Any, ...] = (), output: str = ""
    ) -> str:
        output = output or self._writer.fresh(f"{node.output}.float")
        read = node.inputs[: len(inputs)]
        params = node.params[:2] if kind in ("conv", "affine") else ()
        self._writer.layer(Node(kind, read, node.output, params, args, node.label), inputs, output)
        return output

    def _weighted(self, node: Node, kind: str, inputs: list[str], output: str) -> str:
        options, writer = node.args[0], self._writer
        own = node.label.split(" + ")[: 1 - len(inputs) or None]  # without the sum
        node = replace(node, label=" + ".join(own[:-1] if own[-1].startswith("relu") else own))
        x, y = self._scales[node.inputs[0]].scale, options["scale"]
        w, b, multiplier = (writer.params[str(name)] for name in node.params[:3])
        unit = 2.0 ** options["numbers"][3]
        # Rounded to float32, they give these multipliers again: the coarser of both grids decides.
        steps = (multiplier.astype(np.float64) * y * unit / x).astype(np.float32)
        exact = x * steps.astype(np.float64) / unit
        bias_steps = exact.astype(np.float32)
        if min(steps.min(), bias_steps.min()) < np.finfo(np.float32).tiny:
            raise ValueError(f"cnnlib.onnx.save: {node.title}: its scales are below what float32 holds")
        b = np.rint(b * (exact / bias_steps)).astype(np.int32)  # of a small filter it has more than 24 bits
        axis = 1 if kind == "affine" else 0
        for name, array, scale, along in (
            (node.params[0], w, steps, axis),
            (node.params[1], b, bias_steps, 0),
        ):
            codes = writer.constant(node, f"{name} (codes)", array, array.dtype)
            scales = writer.constant(node, f"{name} (scales)", scale, np.float32)
            writer.operator(
                "DequantizeLinear", node, [codes, scales], writer.as_parameter(str(name)), axis=along
            )
        args = (options["conv_param"],) if kind == "conv" else ()
        made = self._plain(node, kind, inputs[:1], args, output if len(inputs) == 1 else "")
        if len(inputs) == 2:
            made = writer.operator("Add", replace(node, label="add"), [made, inputs[1]])
        return made if output else self._bounded(node, made)

    def _bounded(self, node: Node, made: str) -> str:
        """With the activation that the bounds of bytes stand for, unless bytes begin at its 0 anyway."""
        zero, low, high = node.args[0]["numbers"][:3]
        if low != zero or (zero == 0 and high == 255):
            return made
        kind = "relu" if high == 255 else "relu6"
        return self._plain(replace(node, label=kind), kind, [made])

    def _rounding(self, kind: str, node: Node, value: str, name: str, output: str = "") -> str:
        """QuantizeLinear or DequantizeLinear of `name`, in the scale of a value of the graph."""
        s, constant = self._scales[value], self._writer.constant
        scale, zero = constant(node, "scale", s.scale, np.float32), constant(node, "zero", s.zero, np.uint8)
        return self._writer.operator(kind, node, [name, scale, zero], output)
