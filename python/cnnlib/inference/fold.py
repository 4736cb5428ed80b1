"""A graph rewritten for inference: batch norms and scales become part of the weights before them."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from cnnlib._typing import Array, Params
from cnnlib.graph.graph import BATCH_NORMS, Graph, Node, fresh, positional
from cnnlib.graph.shapes import shapes
from cnnlib.inference.fusion import refuse_unprepared
from cnnlib.inference.quantization.images import BYTE_RULES
from cnnlib.inference.quantization.parts import BYTE_CHECKS

_STATISTICS = ("eps", "running_mean", "running_var")
_WEIGHTED = ("conv", "conv_transpose", "affine")


def fold(
    graph: Graph,
    params: Mapping[str, Array],
    input_dim: tuple[int, ...],
    dtype: np.dtype[Any],
    algorithm: str = "auto",
) -> tuple[Graph, Params]:
    """Make the graph of a prepared network for samples like `input_dim`, and its arrays.

    Options and arrays are copies: what changes in the model later does not reach them. Values keep their
    names, so that of a layer with what was folded into it is the last one's. Arrays have the `dtype`, running
    statistics are float64. Convolutions that name no algorithm get `algorithm`.

    ValueError, TypeError or KeyError for arrays and options that the model's own layers refuse.
    """
    graph.check("prepare", BYTE_CHECKS)
    shapes(_in_test_mode(graph), params, input_dim, "prepare", BYTE_RULES)
    graph = _copied(graph, params, algorithm)
    refuse_unprepared("prepare", graph)
    readers, results = graph.readers(), graph.results()
    made = Graph([], graph.input, fixed_by=graph.fixed_by, outputs=graph.outputs)
    named = {name for node in graph for name in node.params if name is not None}
    arrays: Params = {
        name: np.asarray(params[name]) for name in named
    }  # float64 where something is folded in
    places: dict[str, int] = {}  # of weighted nodes by their output
    for node in graph:
        read = node.inputs[0]
        if node.layer in (*BATCH_NORMS, "scale") and read in places and len(readers[read]) == 1:
            place = places[read]
            if node.output not in results:
                places[node.output] = place
            made.nodes[place] = _rescaled(made.nodes[place], node, arrays)
            continue
        if node.layer in _WEIGHTED and node.output not in results:
            places[node.output] = len(made.nodes)
        made.append(node)
    made.output = graph.output
    used = dict.fromkeys(name for node in made for name in node.params if name is not None)
    return made, {name: np.array(arrays[name], dtype, order="C") for name in used}


def _in_test_mode(graph: Graph) -> Graph:
    """The graph with the mode that its layers have in inference, whatever the last call has left."""
    nodes = []
    for node in graph:
        if node.layer in (*BATCH_NORMS, "dropout") and isinstance(node.args[0], Mapping):
            node = replace(node, args=({**node.args[0], "mode": "test"},))
        nodes.append(node)
    return replace(graph, nodes=nodes)


def _copied(graph: Graph, params: Mapping[str, Array], algorithm: str) -> Graph:
    """The graph with options of its own, without dropout, and without the names of biases that are None."""
    copied, same = Graph([], graph.input, fixed_by=graph.why_fixed(), outputs=graph.outputs), dict[str, str]()
    for node in graph:
        inputs = tuple(same.get(name, name) for name in node.inputs)
        if node.layer == "dropout" and node.output in graph.outputs:  # whose name stays
            copied.append(Node("scale", inputs, node.output, (), (1.0,), node.label))
        elif node.layer == "dropout":
            same[node.output] = inputs[0]
        else:
            names = tuple(None if name is None or params[name] is None else name for name in node.params)
            copied.append(replace(node, inputs=inputs, params=names, args=_arguments(node, algorithm)))
    copied.output = same.get(graph.output, graph.output)
    return copied


def _arguments(node: Node, algorithm: str) -> tuple[Any, ...]:
    if node.layer in BYTE_CHECKS:
        return (_plain(node.args[0]),)
    arguments = _plain(node.arguments())
    if node.layer in BATCH_NORMS:
        kept = {
            key: item
            for key, item in arguments["bn_param"].items()
            if key in _STATISTICS and item is not None
        }
        for key in kept.keys() & _STATISTICS[1:]:
            kept[key] = np.array(kept[key], np.float64)
        arguments["bn_param"] = {"mode": "test", **kept}
    elif node.layer in ("conv", "conv_transpose") and algorithm != "auto":
        arguments["conv_param"].setdefault("algorithm", algorithm)
    return positional(node.layer, arguments)


def _plain(value: Any) -> Any:
    """A deep copy of a layer's arguments; NumPy's numbers and arrays become Python's, as files hold them."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return type(value)(map(_plain, value))
    return value.tolist() if hasattr(value, "tolist") else copy.deepcopy(value)


def statistics(node: Node, C: int) -> tuple[np.ndarray, np.ndarray]:
    """The running mean of a batch norm, and 1 / sqrt(variance + eps), in float64."""
    bn_param = node.args[0]
    mean, var = (
        np.zeros(C) if bn_param.get(name) is None else np.asarray(bn_param[name], np.float64)
        for name in ("running_mean", "running_var")
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        return mean, 1 / np.sqrt(var + bn_param.get("eps", 1e-5))


def _rescaled(node: Node, by: Node, arrays: dict[str, Array]) -> Node:
    """A layer with weights that makes what the norm or scale `by` made of its output."""
    scale: Any
    shift: Any
    if by.layer == "scale":
        scale, shift = np.float64(by.args[0]), 0
    else:
        gamma, beta = (arrays[str(name)].reshape(-1) for name in by.params)
        mean, inv_std = statistics(by, gamma.size)
        scale = gamma * inv_std
        shift = beta - mean * scale
    w_name, b_name = node.params
    w = arrays[str(w_name)].astype(np.float64)
    b = np.zeros(()) if b_name is None else np.asarray(arrays[b_name], np.float64)
    if node.layer == "conv":
        w = w * np.reshape(scale, (-1, 1, 1, 1))
    elif node.layer == "affine":
        w = w * scale
    else:  # conv_transpose: w (C, F / groups, KH, KW)
        groups = node.args[0].get("groups", 1)
        C, F, KH, KW = w.shape
        by_group = np.broadcast_to(scale, (groups * F,)).reshape(groups, 1, F, 1, 1)
        w = (w.reshape(groups, C // groups, F, KH, KW) * by_group).reshape(w.shape)
    w_name = fresh(f"{by.output}.w", arrays)
    arrays[w_name] = w
    if b_name is not None or np.any(shift):
        b_name = fresh(f"{by.output}.b", arrays)
        arrays[b_name] = b * scale + shift
    label = f"{node.label or node.layer} + {by.label or by.layer}"
    return replace(node, output=by.output, params=(w_name, b_name), label=label)
