"""A graph as plain data, for files: dicts, lists and tuples of numbers and strings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cnnlib.graph.graph import Graph, Node
from cnnlib.graph.ops import op_of
from cnnlib.graph.options import plain


def batch_norms(graph: Graph) -> dict[str, Node]:
    """The first node with each name of running statistics, in the order of the graph."""
    found: dict[str, Node] = {}
    for node in graph:
        if node.op.statistics:
            found.setdefault(node.statistics_of, node)
    return found


def describe(graph: Graph) -> dict[str, Any]:
    """Describe a graph without its arrays; batch norms name their place in the order of the graph."""
    norms = batch_norms(graph)
    places = {name: place for place, name in enumerate(norms)}
    nodes = []
    for node in graph:
        args: Any = places[node.statistics_of] if node.op.statistics else tuple(map(plain, node.args))
        nodes.append([node.layer, node.inputs, node.output, node.params, args, node.label])
    settings = [
        {name: value for name, value in norm.args[0].items() if not isinstance(value, np.ndarray)}
        for norm in norms.values()
    ]
    return {
        "nodes": nodes,
        "input": graph.input,
        "output": graph.output,
        "outputs": list(graph.outputs),
        "bn_params": settings,
        "fixed_by": graph.fixed_by,
    }


def described_graph(description: Mapping[str, Any], statistics: Sequence[Mapping[str, Any]] = ()) -> Graph:
    """The inverse of :func:`describe`; `statistics` are those of the batch norms, in their order."""
    settings: list[dict[str, Any]] = [dict(each) for each in description["bn_params"]]
    for bn_param, arrays in zip(settings, statistics):
        bn_param.update(arrays)
    graph = Graph([], description["input"], fixed_by=str(description["fixed_by"]))
    owners: dict[int, str] = {}
    for layer, inputs, output, params, args, label in description["nodes"]:
        shared = ""
        if op_of(layer).statistics:
            owner = owners.setdefault(args, output)
            args, shared = (settings[args],), "" if owner == output else owner
        graph.append(Node(layer, tuple(inputs), output, tuple(params), tuple(args), label, shared))
    graph.output, graph.outputs = description["output"], tuple(description["outputs"])
    return graph
