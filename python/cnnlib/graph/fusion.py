"""Nodes of a graph that the library has one function for, put together."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TypeAlias

from cnnlib.graph.graph import Graph, Node

Table: TypeAlias = Mapping[tuple[str, ...], str]  # chains of layers, and what each becomes

SANDWICHES: Table = {
    ("conv", "spatial_batchnorm", "relu", "max_pool"): "conv_bn_relu_pool",
    ("conv", "spatial_batchnorm", "relu"): "conv_bn_relu",
    ("conv", "relu", "max_pool"): "conv_relu_pool",
    ("conv", "relu"): "conv_relu",
    ("affine", "batchnorm", "relu"): "affine_bn_relu",
    ("affine", "relu"): "affine_relu",
    ("add", "relu"): "add_relu",
}


def fused(graph: Graph, apart: Collection[str] = (), table: Table = SANDWICHES) -> list[Node]:
    """The graph's nodes with the longest entry of the table in place of each chain that it fits.

    A chain is of nodes that alone read what the one before makes. Layers in `apart` stay by themselves.
    """
    longest = max(map(len, table))
    readers, results = graph.readers(), graph.results()
    inside: set[str] = set()
    result = []
    for node in graph:
        if node.output in inside:
            continue
        chain = [node]
        while len(chain) < longest and chain[-1].output not in results:
            behind = readers[chain[-1].output]
            if len(behind) != 1 or len(behind[0].inputs) != 1:
                break
            chain.append(behind[0])
        for length in range(len(chain), 0, -1):
            run = chain[:length]
            kinds = tuple(part.layer for part in run)
            if length == 1 or (kinds in table and not any(kind in apart for kind in kinds)):
                break
        inside.update(part.output for part in run)
        result.append(node if len(run) == 1 else _joined(table[kinds], run))
    return result


def _joined(layer: str, run: list[Node]) -> Node:
    """One node for a chain of them, parameters and arguments one behind the other."""
    params = tuple(name for node in run for name in node.params)
    args = tuple(arg for node in run for arg in node.args)
    label = " + ".join(node.label or node.layer for node in run)
    return Node(layer, run[0].inputs, run[-1].output, params, args, label)
