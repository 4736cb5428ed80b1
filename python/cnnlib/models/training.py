"""Training steps that the C++ core runs by itself, one call forward and one backward."""

from __future__ import annotations

import functools
import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from cnnlib import _core
from cnnlib._params import number, type_name
from cnnlib._typing import Array, Gradients
from cnnlib.graph.graph import BATCH_NORMS, ROW_NORMS, Graph, Node, last_reads, rows_of, trained_values
from cnnlib.graph.lowering import CORE_CALLS, SANDWICHES, core_call, fused
from cnnlib.graph.shapes import Shape
from cnnlib.layers.dense import dropout_mask
from cnnlib.layers.norm.batch import batch_options, running_statistics

_TABLE = {
    **{chain: name for chain, name in SANDWICHES.items() if not {"max_pool", "batchnorm"} & {*chain}},
    ("batchnorm", "relu"): "batchnorm_relu",
}
_WHERE = "loss"


def why_interpreted(graph: Graph, found: Mapping[str, Shape], frozen: Collection[str]) -> str:
    """Why the core cannot train a graph as a whole, by the title of a node; empty if it can.

    `found` are the shapes of the graph's values, `frozen` the names of parameters that are not trained.
    """
    if not graph.nodes:
        return "it has no layers"
    owners: dict[str, str] = {}
    norms: dict[int, str] = {}  # titles by the identity of running statistics
    for node in graph:
        if not _runs_in_core(node.layer):
            return f"{node.title} is computed in Python"
        if node.layer in (*BATCH_NORMS, *ROW_NORMS) and any(name in frozen for name in node.params):
            return f"{node.title} has frozen parameters"
        if node.layer in BATCH_NORMS and norms.setdefault(id(node.args[0]), node.title) != node.title:
            return f"{node.title} has the running statistics of {norms[id(node.args[0])]}"
        if node.layer == "add" and len({found[name] for name in node.inputs}) > 1:
            return f"{node.title} spreads values over images"
        for name in node.params:
            if name is not None and owners.setdefault(name, node.title) != node.title:
                return f"{node.title} has the parameter {name!r} of {owners[name]}"
    return ""


def why_not_ready(graph: Graph, params: Mapping[str, Any], dtype: np.dtype[Any]) -> str:
    """Why the core cannot take parameters as they are; empty if it can."""
    for node in graph:
        for name in filter(None, node.params):
            array = params[name]
            if not _is_plain(array):
                return f"the parameter {name!r} of {node.title} is {type_name(array)}, and no plain array"
            if array.dtype != dtype:
                return f"the parameter {name!r} of {node.title} has dtype {array.dtype}, the samples {dtype}"
            if not (array.flags.c_contiguous and array.flags.aligned):
                return f"the parameter {name!r} of {node.title} is not C-contiguous and aligned"
    return ""


def _is_plain(array: Any) -> bool:
    """Whether it is an array whose values all count."""
    return isinstance(array, np.ndarray) and not isinstance(array, np.ma.MaskedArray)


def _runs_in_core(layer: str) -> bool:
    """Whether the core trains a layer."""
    return layer in CORE_CALLS or hasattr(CompiledTraining, _method_of(layer))


def _method_of(layer: str) -> str:
    """The name of the method that tells the core of a layer."""
    return "_row_norm" if layer in ROW_NORMS else f"_{layer}"


class CompiledTraining:
    """The forward and backward pass of a graph for samples of one shape, with the bits of its layers'
    functions.

    For a graph and arrays that :func:`why_interpreted` and :func:`why_not_ready` find nothing against, and
    other arrays of the same shapes and dtype. `found` are the shapes of the graph's values; parameters that
    are `frozen` get no gradient. Messages about options begin with `where`.
    """

    def __init__(
        self,
        where: str,
        graph: Graph,
        params: Mapping[str, Array],
        found: Mapping[str, Shape],
        dtype: np.dtype[Any],
        frozen: Collection[str] = (),
    ) -> None:
        nodes = fused(graph, table=_TABLE)
        self._names = [name for node in nodes for name in node.params if name]
        self.dtype, self._params, self._shapes = dtype, params, found
        self._trained_names = [name for name in self._names if name not in frozen]
        self._trained = trained_values(nodes, graph.input, frozen)
        self._values = {name: number for number, name in enumerate(self._trained)}
        # Max pools leave a gradient at few places: their input is kept, and no mask of it made.
        self._pooled = {node.inputs[0] for node in nodes if node.layer == "max_pool"}
        self.outputs = [(self._values[name], list(self._shapes[name])) for name in graph.results()]
        # What these hold is read at each step: the layer as messages call it, its dict, and its channels or
        # the shape of its samples.
        self._norms: list[tuple[str, Any, int]] = []
        self._dropouts: list[tuple[str, Any, Shape]] = []
        holders = {id(node.args[0]): node for node in graph if node.layer in (*BATCH_NORMS, "dropout")}
        for node in nodes:  # in the order in which the core learns of them
            for own in (holders[id(arg)] for arg in node.args if id(arg) in holders):
                function = f"{where}: {own.title}: {own.layer}_forward"
                if own.layer == "dropout":
                    self._dropouts.append((function, own.args[0], found[node.output]))
                else:
                    self._norms.append((function, own.args[0], found[own.output][0]))
        self._core: Any = _core.Training(
            dtype,
            [math.prod(self._shapes[name]) for name in self._values],
            list(self._trained.values()),
            [params[name].shape for name in self._names],
            [name not in frozen for name in self._names],
            [[self._values[name] for name in names] for names in last_reads(nodes, graph.results())],
        )
        for node in nodes:
            self._emit(node)
        del self._params
        # As they were when the layers were made, lists and arrays in them too.
        later = [param for _, param, _ in (*self._norms, *self._dropouts)]
        held = [arg for node in nodes for arg in node.args]
        self._read = [(arg, repr(arg)) for arg in held if not any(arg is param for param in later)]

    def fits(self, params: Mapping[str, Array]) -> bool:
        """Whether the arrays are those that it is for, and its layers' arguments as they were."""
        arrays = [params.get(name) for name in self._names]
        plain = all(map(_is_plain, arrays)) and self._core.fits(arrays)
        return bool(plain) and all(repr(now) == then for now, then in self._read)

    def in_train_mode(self) -> bool:
        """Whether all its batch norms and dropout layers are in 'train' mode, as the core runs them."""
        return all(param.get("mode") == "train" for _, param, _ in (*self._norms, *self._dropouts))

    def forward(self, params: Mapping[str, Array], x: Array) -> tuple[Any, list[Array]]:
        """What :meth:`backward` takes, and the outputs, of arrays that fit, in 'train' mode."""
        states = []
        for layer, bn_param, C in self._norms:
            _, eps, momentum = batch_options(layer, bn_param)
            states.append((eps, momentum, *running_statistics(layer, bn_param, (C,), self.dtype)))
        masks = [
            dropout_mask(param, (len(x), *shape), self.dtype, layer) for layer, param, shape in self._dropouts
        ]
        x = np.require(x, self.dtype, ["C", "A"])
        arrays = [params[name] for name in self._names]
        batch, outputs, moved = self._core.forward(x, arrays, states, masks, self.outputs)
        for (_, bn_param, _), statistics in zip(self._norms, moved, strict=True):
            bn_param["running_mean"], bn_param["running_var"] = statistics
        return batch, outputs

    def backward(self, batch: Any, douts: Sequence[Any], grads: Gradients) -> None:
        """Write the gradients of the trained parameters to `grads`; `batch` is used up.

        `douts` are those of the outputs, each like its output.
        """
        given = [(value, dout) for (value, _), dout in zip(self.outputs, douts, strict=True)]
        grads.update(zip(self._trained_names, self._core.backward(batch, given), strict=True))

    def _emit(self, node: Node) -> None:
        """Tell the core of a layer."""
        x, out = self._values[node.inputs[0]], self._values[node.output]
        before, after = self._shapes[node.inputs[0]], self._shapes[node.output]
        call = core_call(_WHERE, node, before, after, self.dtype)
        if call is not None:
            method, arguments = call
            getattr(self._core, method)(x, out, *arguments)
        else:
            getattr(self, _method_of(node.layer))(node, x, out)

    # A method for each layer. It takes the node and the numbers of its first input and of its output.

    def _like(self, node: Node) -> Array:
        return np.empty((0, *self._shapes[node.inputs[0]]), self.dtype)

    def _numbers(self, *names: str | None) -> list[int]:
        return [-1 if name is None else self._names.index(name) for name in names]

    def _conv(self, node, x, out, relu=False, method="conv"):
        numbers = self._numbers(*node.params)
        arguments = self._like(node), self._params[node.params[0]], *numbers, node.args[0]
        getattr(self._core, method)(x, out, *arguments, relu, node.output not in self._pooled)

    _conv_transpose = functools.partialmethod(_conv, method="conv_transpose")
    _conv_relu = functools.partialmethod(_conv, relu=True)

    def _conv_bn_relu(self, node, x, out):
        conv_param, weights = node.args[0], self._params[node.params[0]]
        numbers = self._numbers(*node.params)
        self._core.conv_bn_relu(x, out, self._like(node), weights, *numbers, conv_param)

    def _batchnorm(self, node, x, out, relu=False):
        C, *plane = self._shapes[node.output]
        self._core.batchnorm(x, out, C, math.prod(plane), *self._numbers(*node.params[-2:]), relu)

    _spatial_batchnorm = _batchnorm
    _batchnorm_relu = functools.partialmethod(_batchnorm, relu=True)

    def _row_norm(self, node, x, out):
        eps = number(_WHERE, "eps", node.args[-1].get("eps", 1e-5), 0)
        rows = rows_of(node, self._shapes[node.output])
        self._core.row_norm(x, out, rows, *self._numbers(*node.params), eps)

    def _affine(self, node, x, out, relu=False):
        D, M = self._params[node.params[0]].shape
        self._core.affine(x, out, D, M, *self._numbers(*node.params), relu)

    _affine_relu = functools.partialmethod(_affine, relu=True)

    def _scale(self, node, x, out):
        self._core.scale(x, out, node.args[0])

    def _dropout(self, node, x, out):
        self._core.dropout(x, out)

    def _add(self, node, x, out, relu=False):
        self._core.add([self._values[name] for name in node.inputs], out, relu)

    _add_relu = functools.partialmethod(_add, relu=True)

    def _concat(self, node, x, out):
        self._core.concat([self._values[name] for name in node.inputs], out)

    def _flatten(self, node, x, out):
        self._core.flatten(x, out)
