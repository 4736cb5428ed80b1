"""A graph rewritten for inference: its nodes as operations with their own arrays, fewer and larger ones.

Batch norms become part of the weights before them, ReLUs and sums part of the operation that makes their
input, and what training alone needs goes.
"""

from __future__ import annotations

import copy
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from cnnlib import _core
from cnnlib._typing import Array
from cnnlib.graph.graph import Graph, Node

ACTIVATIONS = (
    "relu6",
    "sigmoid",
    "tanh",
    "silu",
    "hard_sigmoid",
    "hard_swish",
    "gelu",
    "gelu_tanh",
    "elu",
)
_NORMS = ("batchnorm", "spatial_batchnorm")
_WEIGHTED = ("conv", "conv_transpose", "affine")
_TAKE_RELU = ("conv", "affine", "normalize", "add")
_TAKE_RELU6 = ("conv",)
_MOST = {"relu": math.inf, "relu6": 6.0}


@dataclass
class Op:
    """One operation: ``output = kind(*inputs)``, then its activation.

    Attributes
    ----------
    kind : str
        A layer's name, 'normalize' for a batch norm that stands alone, or a join of the graph.
    arrays : dict
        Its own: w and b, or gamma, beta, mean and inv_std.
    options : dict
        What else it takes, of plain values: conv_param, pool_param, eps, ...
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


def rewrite(graph: Graph, params: Mapping[str, Array], dtype: np.dtype) -> tuple[list[Op], str]:
    """The operations of a graph in their order, and the name of the value that is its output.

    Their arrays and options are copies: what changes in the model later does not reach them.
    """
    graph.check("prepare")
    ops = [_op(node, params) for node in graph]
    names = _names(graph)
    for op in ops:
        op.inputs = [names.get(name, name) for name in op.inputs]
        op.output = names.get(op.output, op.output)
    output = names.get(graph.output, graph.output)
    for step in (_drop_dropout, _fold_norms, _fuse_relu):
        ops, output = step(ops, output)
    if not ops or _comes_from_input(ops, output):
        ops.append(Op("copy", [output], "output", label="copy"))
        output = "output"
    for op in ops:
        op.arrays = {
            name: np.array(value, np.float64 if name in ("mean", "inv_std") else dtype, order="C")
            for name, value in op.arrays.items()
        }
    return ops, output


def _names(graph: Graph) -> dict[str, str]:
    """What values are called here, where it is not what the graph calls them: its input is 'input'."""
    if graph.input == "input":
        return {}
    return {graph.input: "input", "input": f"{graph.input} (input)"}


def _op(node: Node, params: Mapping[str, Array]) -> Op:
    make = _MAKERS.get(node.layer)
    if make is None:
        raise ValueError(f"prepare: {node.title}: {node.layer} has no place in a prepared network yet")
    values = [None if name is None else params[name] for name in node.params]
    op = make(node, *values, **_copied(node.arguments()))
    op.label = node.label or node.layer
    return op


def _copied(value: Any) -> Any:
    """A deep copy of a layer's arguments; NumPy's numbers become Python's, which files can hold."""
    if isinstance(value, dict):
        return {key: _copied(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return type(value)(map(_copied, value))
    return value.item() if isinstance(value, np.generic) else copy.deepcopy(value)


def _plain(node, **options):
    """An operation without arrays."""
    return Op(node.layer, list(node.inputs), node.output, options=options)


def _weighted(node, w, b, **options):
    arrays = {"w": w} if b is None else {"w": w, "b": b}
    return Op(node.layer, list(node.inputs), node.output, arrays, options)


def _norm(node, gamma, beta, bn_param):
    C = gamma.size
    mean, var = (
        np.zeros(C) if bn_param.get(name) is None else np.asarray(bn_param[name], np.float64)
        for name in ("running_mean", "running_var")
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        inv_std = 1 / np.sqrt(var + bn_param.get("eps", 1e-5))
    arrays = {"gamma": gamma.reshape(C), "beta": beta.reshape(C), "mean": mean, "inv_std": inv_std}
    return Op("normalize", list(node.inputs), node.output, arrays)


def _row_norm(node, gamma, beta, groups, param):
    options = {"groups": int(groups), "eps": param.get("eps", 1e-5)}
    return Op("row_norm", list(node.inputs), node.output, {"gamma": gamma, "beta": beta}, options)


def _layernorm(node, gamma, beta, ln_param):
    return _row_norm(node, gamma, beta, 1, ln_param)


def _groupnorm(node, gamma, beta, G, gn_param):
    return _row_norm(node, gamma, beta, G, gn_param)


def _instancenorm(node, gamma, beta, in_param):
    return _row_norm(node, gamma, beta, gamma.size, in_param)


def _pixel_norm(node, gamma, beta, ln_param):
    arrays = {"gamma": gamma.reshape(-1), "beta": beta.reshape(-1)}
    return Op("pixel_norm", list(node.inputs), node.output, arrays, {"eps": ln_param.get("eps", 1e-5)})


def _gelu(node, approximate):
    kind = "gelu_tanh" if approximate == "tanh" else "gelu"
    return Op(kind, list(node.inputs), node.output)


_MAKERS: dict[str, Callable[..., Op]] = {
    **dict.fromkeys(_WEIGHTED, _weighted),
    **dict.fromkeys(_NORMS, _norm),
    "layernorm": _layernorm,
    "spatial_groupnorm": _groupnorm,
    "spatial_instancenorm": _instancenorm,
    "spatial_layernorm": _pixel_norm,
    **dict.fromkeys(("relu", "add", "multiply", "concat", "flatten", "scale", "dropout"), _plain),
    **dict.fromkeys(("relu6", "sigmoid", "tanh", "silu", "hard_sigmoid", "hard_swish"), _plain),
    **dict.fromkeys(("elu", "leaky_relu", "softmax", "max_pool", "avg_pool", "global_avg_pool"), _plain),
    **dict.fromkeys(("adaptive_avg_pool", "adaptive_max_pool", "upsample"), _plain),
    "gelu": _gelu,
}


def _comes_from_input(ops, output):
    """Whether the output is the caller's input itself, in another shape at most."""
    makers = {op.output: op for op in ops}
    while output in makers and makers[output].kind == "flatten":
        output = makers[output].inputs[0]
    return output not in makers


PREPARED_LAYERS = frozenset(_MAKERS)


def _readers(ops, output):
    """How often each value is read; leaving the network counts."""
    return Counter([name for op in ops for name in op.inputs] + [output])


def _drop_dropout(ops, output):
    same: dict[str, str] = {}
    kept = []
    for op in ops:
        op.inputs = [same.get(name, name) for name in op.inputs]
        if op.kind == "dropout":
            same[op.output] = op.inputs[0]
        else:
            kept.append(op)
    return kept, same.get(output, output)


def _fold_norms(ops, output):
    """Put norms and scales into the weights whose output they alone read."""
    readers, makers, kept = _readers(ops, output), {}, []
    for op in ops:
        before = makers.get(op.inputs[0])
        alone = before is not None and readers[op.inputs[0]] == 1 and before.kind in _WEIGHTED
        if op.kind == "normalize" and alone:
            scale = op.arrays["gamma"] * op.arrays["inv_std"]
            _rescale(before, scale, op.arrays["beta"] - op.arrays["mean"] * scale, op)
        elif op.kind == "scale" and alone:
            _rescale(before, np.float64(op.options["factor"]), 0, op)
        else:
            kept.append(op)
            makers[op.output] = op
            continue
        makers[op.output] = before
    return kept, output


def _rescale(op, scale, shift, by):
    """What `op` makes, times scale, plus shift (of each channel)."""
    w = op.arrays["w"].astype(np.float64)
    b = np.asarray(op.arrays.get("b", 0), np.float64)
    if op.kind == "conv":
        w = w * np.reshape(scale, (-1, 1, 1, 1))
    elif op.kind == "affine":
        w = w * scale
    else:  # conv_transpose: w (C, F / groups, KH, KW)
        groups = op.options["conv_param"].get("groups", 1)
        C, F, KH, KW = w.shape
        by_group = np.broadcast_to(scale, (groups * F,)).reshape(groups, 1, F, 1, 1)
        w = (w.reshape(groups, C // groups, F, KH, KW) * by_group).reshape(w.shape)
    op.arrays["w"] = w
    if "b" in op.arrays or np.any(shift):
        op.arrays["b"] = b * scale + shift
    op.output = by.output
    op.label += f" + {by.label}"


def _fuse_relu(ops, output):
    readers, makers, kept = _readers(ops, output), {}, []
    for op in ops:
        before = makers.get(op.inputs[0])
        most = _MOST.get(op.kind)
        takes = _TAKE_RELU if most == math.inf else _TAKE_RELU6
        alone = before is not None and before.kind in takes and readers[op.inputs[0]] == 1
        if most is None or not alone or before.most is not None:
            kept.append(op)
            makers[op.output] = op
            continue
        before.most, before.output = most, op.output
        before.label += f" + {op.kind}"
        makers[op.output] = before
    return kept, output


def fuse_sums(
    ops: Sequence[Op], output: str, shapes: Mapping[str, tuple[int, ...]], dtype: np.dtype
) -> list[Op]:
    """Let a convolution add its result to the other term of a sum, if it can and nothing else needs that.

    Such a convolution has two inputs, and writes to the place of the second: it may not read that itself, nor
    may what comes between it and the sum.
    """
    readers = _readers(ops, output)
    makers = {op.output: i for i, op in enumerate(ops)}
    fused: list[Op | None] = list(ops)
    for i, op in enumerate(ops):
        if op.kind != "add" or shapes[op.inputs[0]] != shapes[op.inputs[1]]:
            continue
        for own, other in (op.inputs, op.inputs[::-1]):
            k = makers.get(own, -1)
            conv = fused[k] if k >= 0 else None
            if conv is None or conv.kind != "conv" or conv.most is not None or len(conv.inputs) > 1:
                continue
            free = readers[own] == 1 and makers.get(other, i) < k and _read_before(ops, other, output, k, i)
            like = np.empty((0, *shapes[conv.inputs[0]]), dtype)
            if free and _core.conv_adds(like, conv.arrays["w"], conv.options["conv_param"]):
                label = f"{conv.label} + {op.label}"
                fused[k] = replace(
                    conv, inputs=[*conv.inputs, other], output=op.output, most=op.most, label=label
                )
                fused[i] = None
                break
    return [op for op in fused if op is not None]


def _read_before(ops, name, output, k, i):
    """Whether nothing but operation `i` reads a value from operation `k` on, which could write over it."""
    return name != output and all(j < k or j == i for j, op in enumerate(ops) if name in op.inputs)
