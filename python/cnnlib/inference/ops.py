"""Operations with arrays of their own: how quantisation sees a prepared network's nodes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from cnnlib._typing import Array, Params
from cnnlib.graph.graph import Graph, Node, parameters_of, positional
from cnnlib.inference.fusion import ACTIVATIONS, RECTIFIED, operations
from cnnlib.inference.quantization.parts import BYTE_PARTS

__all__ = ["ACTIVATIONS", "Op", "graph_of", "op_of", "ops_of", "with_named_input"]


@dataclass
class Op:
    """One operation: ``output = kind(*inputs)``, then its activation.

    Attributes
    ----------
    kind : str
        A layer's name, or that of an operation on bytes.
    arrays : dict
        By their roles in the layer: w and b, gamma and beta.
    options : dict
        What else it takes: conv_param, pool_param, ...
    most : float or None
        The activation: None for none, else ``min(max(v, 0), most)``; infinity for ReLU, 6 for ReLU6.
    label : str
        For people.
    """

    kind: str
    inputs: list[str]
    output: str
    arrays: dict[str, Array] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    most: float | None = None
    label: str = ""


def op_of(node: Node, arrays: Mapping[str, Array]) -> Op:
    """A node, of :func:`cnnlib.inference.fusion.operations`, with its arrays."""
    layer, most = RECTIFIED.get(node.layer, (node.layer, None))
    roles = _roles(layer)
    own = {role: arrays[name] for role, name in zip(roles, node.params, strict=True) if name is not None}
    plain = Node(layer, node.inputs, node.output, node.params, node.args, node.label)
    options = node.args[0] if layer in BYTE_PARTS else plain.arguments()
    return Op(layer, list(node.inputs), node.output, own, dict(options), most, node.label)


def ops_of(graph: Graph, arrays: Mapping[str, Array]) -> list[Op]:
    """A prepared network's operations; the last one makes its output."""
    return [op_of(node, arrays) for node in operations(graph)]


def with_named_input(graph: Graph) -> Graph:
    """The graph with its input called 'input'."""
    if graph.input == "input":
        return graph
    names = {graph.input: "input", "input": f"{graph.input} (input)"}
    made = Graph([], "input", fixed_by=graph.fixed_by)
    for node in graph:
        inputs = tuple(names.get(name, name) for name in node.inputs)
        made.append(replace(node, inputs=inputs, output=names.get(node.output, node.output)))
    made.output = names.get(graph.output, graph.output)
    return made


def graph_of(ops: Sequence[Op], output: str, fixed_by: str) -> tuple[Graph, Params]:
    """The graph of operations, and its arrays."""
    graph, arrays = Graph([], fixed_by=fixed_by), dict[str, Array]()
    for op in ops:
        names = tuple(f"{op.output}.{role}" if role in op.arrays else None for role in _roles(op.kind))
        arrays |= {f"{op.output}.{role}": array for role, array in op.arrays.items()}
        args = (op.options,) if op.kind in BYTE_PARTS else positional(op.kind, op.options)
        made = op.output if op.most is None else f"{op.output} (before its activation)"
        graph.append(Node(op.kind, tuple(op.inputs), made, names, args, op.label))
        if op.most is not None:
            graph.append(Node("relu6" if op.most == 6 else "relu", (made,), op.output))
    graph.output = output
    return graph, arrays


def _roles(kind: str) -> tuple[str, ...]:
    return (
        tuple(BYTE_PARTS[kind][0].replace("[", "").replace("]", "").split())
        if kind in BYTE_PARTS
        else parameters_of(kind)
    )
