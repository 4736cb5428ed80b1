"""A graph as plain data, for files: dicts, lists and tuples of numbers and strings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cnnlib.graph.graph import BATCH_NORMS, Graph, Node
from cnnlib.typing import BatchNormParam


def describe(graph: Graph, bn_params: Sequence[BatchNormParam]) -> dict[str, Any]:
    """Describe a graph without its arrays; a model's snapshot holds those of the batch norms' dicts."""
    places = {id(bn_param): place for place, bn_param in enumerate(bn_params)}
    nodes = []
    for node in graph:
        args: Any = node.args
        if node.layer in BATCH_NORMS:
            args = places[id(args[0])]
        elif node.layer == "dropout":
            args = ({"p": args[0]["p"], "mode": "train"},)  # and not the seed of the last mask
        nodes.append([node.layer, node.inputs, node.output, node.params, args, node.label])
    settings = [
        {name: value for name, value in bn_param.items() if not isinstance(value, np.ndarray)}
        for bn_param in bn_params
    ]
    return {
        "nodes": nodes,
        "input": graph.input,
        "output": graph.output,
        "outputs": list(graph.outputs),
        "bn_params": settings,
        "fixed_by": graph.fixed_by,
    }


def described_graph(description: Mapping[str, Any]) -> tuple[Graph, list[BatchNormParam]]:
    """The inverse of :func:`describe`: a graph, and the dicts of its batch norms without their statistics."""
    bn_params: list[BatchNormParam] = [settings.copy() for settings in description["bn_params"]]
    graph = Graph([], description["input"], fixed_by=str(description["fixed_by"]))
    for layer, inputs, output, params, args, label in description["nodes"]:
        values = (bn_params[args],) if layer in BATCH_NORMS else tuple(args)
        graph.append(Node(layer, tuple(inputs), output, tuple(params), values, label))
    graph.output, graph.outputs = description["output"], tuple(description["outputs"])
    return graph, bn_params
