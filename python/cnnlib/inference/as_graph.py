"""Operations of a prepared network as a graph of layers again, for exchange with other programs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cnnlib._typing import Array
from cnnlib.graph.graph import Graph, Node, positional
from cnnlib.inference.ops import Op

_ACTIVATIONS = {math.inf: "relu", 6.0: "relu6"}


def as_graph(
    ops: Sequence[Op], output: str, shapes: Mapping[str, tuple[int, ...]], fixed_by: str
) -> tuple[Graph, dict[str, Array]]:
    """The layers that compute what the operations do, and their parameters.

    `shapes` are those of a sample of each value, `fixed_by` is the graph's.
    """
    graph, params = Graph(fixed_by=fixed_by), dict[str, Array]()
    for number, op in enumerate(ops, start=1):
        layer, roles, args = _layer(op, shapes[op.inputs[0]])
        names = {role: f"{role}{number}" for role in roles if role in op.arrays}
        params.update((name, op.arrays[role]) for role, name in names.items())
        made = op.output if op.most is None else f"{op.output} (before its activation)"
        graph.append(
            Node(layer, tuple(op.inputs), made, tuple(names.get(role) for role in roles), args, op.label)
        )
        if op.most is not None:
            graph.append(Node(_ACTIVATIONS[op.most], (made,), op.output))
    graph.output = output
    return graph, params


def _layer(op: Op, shape: tuple[int, ...]) -> tuple[str, tuple[str, ...], tuple[Any, ...]]:
    """The layer of an operation on samples of a shape, the roles of its arrays, and its other arguments."""
    if op.kind in ("conv", "conv_transpose", "affine"):
        return op.kind, ("w", "b"), positional(op.kind, op.options)
    if op.kind == "normalize":
        with np.errstate(divide="ignore"):
            var = op.arrays["inv_std"] ** -2.0
        bn_param = {"mode": "test", "eps": 0.0, "running_mean": op.arrays["mean"], "running_var": var}
        return "spatial_batchnorm" if len(shape) == 3 else "batchnorm", ("gamma", "beta"), (bn_param,)
    if op.kind == "row_norm":
        eps = {"eps": op.options["eps"]}
        if len(shape) == 1:
            return "layernorm", ("gamma", "beta"), (eps,)
        return "spatial_groupnorm", ("gamma", "beta"), (op.options["groups"], eps)
    if op.kind == "pixel_norm":
        return "spatial_layernorm", ("gamma", "beta"), ({"eps": op.options["eps"]},)
    if op.kind in ("gelu", "gelu_tanh"):
        return "gelu", (), ("tanh" if op.kind == "gelu_tanh" else "none",)
    if op.kind == "copy":
        return "scale", (), (1.0,)
    return op.kind, (), positional(op.kind, op.options)
