"""From a graph to what runs: chains of nodes that are one function, and what the core is told of a layer."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, TypeAlias

import numpy as np

from cnnlib.graph.graph import ACTIVATIONS, Graph, Node
from cnnlib.layers.pool import _AVG_KEYS, _MAX_KEYS, _geometry

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

# The layers that `core_call` knows.
CORE_CALLS = frozenset(
    (
        *("relu", *ACTIVATIONS, "leaky_relu", "softmax", "max_pool", "avg_pool", "upsample"),
        *("global_avg_pool", "adaptive_avg_pool", "adaptive_max_pool"),
    )
)


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


def core_call(
    where: str, node: Node, before: tuple[int, ...], after: tuple[int, ...], dtype: np.dtype[Any]
) -> tuple[str, tuple[Any, ...]] | None:
    """The core's method for a layer in `CORE_CALLS`, and its arguments behind the values.

    None for layers that training and inference tell the core each in its own way.
    """
    layer, plane = node.layer, before[1:]
    like = np.empty((0, *before), dtype)
    if layer in ("relu", *ACTIVATIONS):
        kind = "gelu_tanh" if node.args[:1] == ("tanh",) else layer
        return "activation", (like, kind, float(node.args[0]) if layer == "elu" and node.args else 1.0)
    if layer == "leaky_relu":
        return "activation", (like, layer, node.arguments()["alpha"])
    if layer in ("max_pool", "avg_pool"):
        return layer, (like, *pool_arguments(where, layer, node.args[0], like))
    if layer in ("global_avg_pool", "adaptive_avg_pool", "adaptive_max_pool"):
        method = "adaptive_avg_pool" if layer == "global_avg_pool" else layer
        return method, (like, after[1:] or (1, 1))
    if layer == "upsample":
        _, mode, corners = node.arguments().values()
        factors = tuple(m // n for n, m in zip(plane, after[1:], strict=True))
        return layer, (like, factors, mode == "bilinear", bool(corners))
    return (layer, (like,)) if layer == "softmax" else None


def pool_arguments(where: str, layer: str, pool_param: dict[str, Any], like: Any) -> tuple[Any, ...]:
    """A pool's windows, ceil_mode, and, of a mean, count_include_pad."""
    if layer == "max_pool":
        return _geometry(where, pool_param, like, _MAX_KEYS)
    return *_geometry(where, pool_param, like, _AVG_KEYS), pool_param.get("count_include_pad", True)
