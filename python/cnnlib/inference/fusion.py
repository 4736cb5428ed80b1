"""Which nodes of a prepared network run as one operation."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from cnnlib import _core
from cnnlib._typing import Array
from cnnlib.graph.fusion import Table, fused
from cnnlib.graph.graph import BATCH_NORMS, JOINS, Graph, Node
from cnnlib.inference.quantization.parts import BYTE_KINDS

ACTIVATIONS = ("relu6", "sigmoid", "tanh", "silu", "hard_sigmoid", "hard_swish", "gelu", "elu")
_TABLE: Table = {
    **{(layer, "relu"): f"{layer}_relu" for layer in ("conv", "affine", "add", *BATCH_NORMS)},
    ("conv", "relu6"): "conv_relu6",
}
_OPERATIONS = frozenset(
    (
        *("conv", "conv_transpose", "affine", "softmax", "relu", "leaky_relu", *ACTIVATIONS, *BATCH_NORMS),
        *("layernorm", "spatial_layernorm", "spatial_groupnorm", "spatial_instancenorm", *JOINS),
        *("max_pool", "avg_pool", "global_avg_pool", "adaptive_avg_pool", "adaptive_max_pool", "upsample"),
    )
)
PREPARED_LAYERS = _OPERATIONS | {"dropout"}  # of a model that can be prepared: dropout is left out
# Of these operations the layer, and the bound of ``min(max(v, 0), bound)`` that comes behind it.
RECTIFIED = {name: (parts[0], math.inf if parts[1] == "relu" else 6.0) for parts, name in _TABLE.items()}


def operations(graph: Graph) -> list[Node]:
    """The graph's nodes with ReLUs in the layers before them; at least one makes the output.

    Several outputs leave the network as one row, one behind the other.
    """
    nodes = [replace(node, label=node.label or node.layer) for node in fused(graph, table=_TABLE)]
    if graph.outputs:
        new = f"{max(graph.readers(), key=len)}."  # begins no value's name
        rows = [Node("flatten", (name,), new + name, label=f"{name} as a row") for name in graph.outputs]
        return [*nodes, *rows, Node("concat", tuple(row.output for row in rows), new, label="outputs")]
    makers, name = {node.output: node for node in nodes}, graph.output
    while name in makers and makers[name].layer == "flatten":
        name = makers[name].inputs[0]
    if name == graph.input:  # in another shape at most
        nodes.append(Node("concat", (graph.output,), f"{graph.output} (copy)", label="copy"))
    return nodes


def refuse_unprepared(where: str, graph: Graph) -> None:
    """Raise a ValueError for a layer that the core has no operation for."""
    for node in graph:
        if node.layer not in _OPERATIONS and node.layer not in BYTE_KINDS:
            raise ValueError(f"{where}: {node.title}: {node.layer} has no place in a prepared network yet")


def fuse_sums(
    nodes: Sequence[Node], shapes: Mapping[str, tuple[int, ...]], arrays: Mapping[str, Array], dtype: np.dtype
) -> list[Node]:
    """Let a convolution add its result to the other term of a sum, if it can and nothing else needs that.

    Such a convolution has two inputs, and writes to the place of the second: it may not read that itself, nor
    may what comes between it and the sum.
    """
    readers, output = readers_of(nodes), nodes[-1].output
    makers = {node.output: i for i, node in enumerate(nodes)}
    made: list[Node | None] = list(nodes)
    for i, node in enumerate(nodes):
        if node.layer not in ("add", "add_relu") or shapes[node.inputs[0]] != shapes[node.inputs[1]]:
            continue
        for own, other in (node.inputs, node.inputs[::-1]):
            k = makers.get(own, -1)
            conv = made[k] if k >= 0 else None
            if conv is None or conv.layer != "conv" or len(conv.inputs) > 1:
                continue
            # Nothing but the sum may read the other term from the convolution on, which writes over it.
            last = all(j < k or j == i for j, reader in enumerate(nodes) if other in reader.inputs)
            free = readers[own] == 1 and makers.get(other, i) < k and other != output and last
            like = np.empty((0, *shapes[conv.inputs[0]]), dtype)
            if free and _core.conv_adds(like, arrays[str(conv.params[0])], conv.args[0]):
                layer = "conv_relu" if node.layer == "add_relu" else "conv"
                label = f"{conv.label} + {node.label}"
                inputs = (*conv.inputs, other)
                made[k] = replace(conv, layer=layer, inputs=inputs, output=node.output, label=label)
                made[i] = None
                break
    return [node for node in made if node is not None]


def readers_of(nodes):
    """How often each value is read; leaving the network counts."""
    return Counter([name for node in nodes for name in node.inputs] + [nodes[-1].output])
