"""A graph rewritten for inference: batch norms and scales become part of the weights before them."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from cnnlib._typing import Array, Params
from cnnlib.graph.fusion import refuse_unprepared, without_identities
from cnnlib.graph.graph import Graph, Node, fresh
from cnnlib.graph.ops.norm import STATISTICS, statistics
from cnnlib.graph.shapes import shapes


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
    graph.check("prepare", eight_bits=True)
    shapes(graph, params, input_dim, "prepare")
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
        if (node.op.statistics or node.layer == "scale") and read in places and len(readers[read]) == 1:
            place = places[read]
            if node.output not in results:
                places[node.output] = place
            made.nodes[place] = _rescaled(made.nodes[place], node, arrays)
            continue
        if node.op.rescaled is not None and node.output not in results:
            places[node.output] = len(made.nodes)
        made.append(node)
    made.output = graph.output
    used = dict.fromkeys(name for node in made for name in node.params if name is not None)
    return made, {name: np.array(arrays[name], dtype, order="C") for name in used}


def _copied(graph: Graph, params: Mapping[str, Array], algorithm: str) -> Graph:
    """The graph with options of its own, without dropout, and without the names of biases that are None."""
    copied = replace(without_identities(graph), fixed_by=graph.why_fixed())
    for place, node in enumerate(copied.nodes):
        names = tuple(None if name is None or params[name] is None else name for name in node.params)
        copied.nodes[place] = replace(node, params=names, args=_arguments(node, algorithm))
    return copied


def _arguments(node: Node, algorithm: str) -> tuple[Any, ...]:
    if node.op.eight_bits:
        return (_plain(node.args[0]),)
    arguments = _plain(node.arguments())
    if node.op.statistics:
        given = arguments["bn_param"]
        kept = {key: given[key] for key in ("eps", *STATISTICS) if given.get(key) is not None}
        arguments["bn_param"] = {key: _as_float64(key, item) for key, item in kept.items()}
    elif "conv_param" in arguments and algorithm != "auto":
        arguments["conv_param"].setdefault("algorithm", algorithm)
    return node.op.positional(arguments)


def _as_float64(key: str, value: Any) -> Any:
    return np.array(value, np.float64) if key in STATISTICS else value


def _plain(value: Any) -> Any:
    """A deep copy of a layer's arguments; NumPy's numbers and arrays become Python's, as files hold them."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return type(value)(map(_plain, value))
    return value.tolist() if hasattr(value, "tolist") else copy.deepcopy(value)


def _rescaled(node: Node, by: Node, arrays: dict[str, Array]) -> Node:
    """A layer with weights that makes what the norm or scale `by` made of its output."""
    scale: Any
    shift: Any
    if by.layer == "scale":
        scale, shift = np.float64(by.args[0]), 0
    else:
        gamma, beta = (arrays[str(name)].reshape(-1) for name in by.params)
        mean, inv_std = statistics(by.args[0], gamma.size)
        scale = gamma * inv_std
        shift = beta - mean * scale
    w_name, b_name = node.params
    w: Array = arrays[str(w_name)].astype(np.float64)
    b = np.zeros(()) if b_name is None else np.asarray(arrays[b_name], np.float64)
    assert node.op.rescaled is not None  # only such layers take others in
    w = node.op.rescaled(w, scale, node.args)
    w_name = fresh(f"{by.output}.w", arrays)
    arrays[w_name] = w
    if b_name is not None or np.any(shift):
        b_name = fresh(f"{by.output}.b", arrays)
        arrays[b_name] = b * scale + shift
    label = f"{node.label or node.layer} + {by.label or by.layer}"
    return replace(node, output=by.output, params=(w_name, b_name), label=label)
