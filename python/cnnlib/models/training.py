"""Training steps that the C++ core runs by itself, one call forward and one backward."""

from __future__ import annotations

import functools
import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from cnnlib import _core
from cnnlib._params import number
from cnnlib._typing import Array, Gradients
from cnnlib.graph.graph import ROW_NORMS, Graph, Node, last_reads, rows_of, trained_values
from cnnlib.graph.lowering import SANDWICHES, core_call, fused
from cnnlib.graph.shapes import shapes
from cnnlib.layers.dense import dropout_mask
from cnnlib.layers.norm.batch import batch_options, running_statistics

_TABLE = {
    **{chain: name for chain, name in SANDWICHES.items() if not {"max_pool", "batchnorm"} & {*chain}},
    ("batchnorm", "relu"): "batchnorm_relu",
}
_EMITTED_BY = dict.fromkeys(ROW_NORMS, "_row_norm")
_WHERE = "loss"


class CompiledTraining:
    """The forward and backward pass of a graph for samples of one shape, with the bits of its layers'
    functions.

    For arrays of the shapes and dtype of `params`; those that are `frozen` get no gradient. LookupError if
    the graph has layers that only Python runs.
    """

    def __init__(
        self,
        graph: Graph,
        params: Mapping[str, Array],
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        frozen: Collection[str] = (),
    ) -> None:
        nodes = fused(graph, table=_TABLE)
        if not nodes:
            raise LookupError("no layers")
        self._names = [name for node in nodes for name in node.params if name]
        if len(set(self._names)) < len(self._names):
            raise LookupError("parameters of several layers")
        self.dtype, self._params, self._frozen = dtype, params, frozen
        self._shapes = shapes(graph, params, shape, _WHERE)
        self._trained_names = [name for name in self._names if name not in frozen]
        self._trained = trained_values(nodes, graph.input, frozen)
        self._values = {name: number for number, name in enumerate(self._trained)}
        # Max pools leave a gradient at few places: their input is kept, and no mask of it made.
        self._pooled = {node.inputs[0] for node in nodes if node.layer == "max_pool"}
        self._norms: list[tuple[str, Any, int]] = []
        self._dropouts: list[tuple[Any, tuple[int, ...]]] = []
        self.outputs = [(self._values[name], list(self._shapes[name])) for name in graph.results()]
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
        # As they were when the layers were made, lists and arrays in them too; what norms and dropout hold is
        # read at each step.
        later = [param for _, param, _ in self._norms] + [param for param, _ in self._dropouts]
        held = [arg for node in nodes for arg in node.args]
        self._read = [(arg, repr(arg)) for arg in held if not any(arg is param for param in later)]

    def fits(self, params: Mapping[str, Array]) -> bool:
        """Whether the arrays are those that it is for, and its layers' arguments as they were."""
        try:
            arrays = [params[name] for name in self._names]
        except KeyError:
            return False
        return bool(self._core.fits(arrays)) and all(repr(now) == then for now, then in self._read)

    def forward(self, params: Mapping[str, Array], x: Array) -> tuple[Any, list[Array]] | None:
        """What :meth:`backward` takes, and the outputs, of arrays that fit.

        None where only the layers' functions can run it, or say what is wrong.
        """
        states = []
        for function, bn_param, C in self._norms:
            try:
                mode, eps, momentum = batch_options(function, bn_param)
                running = running_statistics(function, bn_param, (C,), self.dtype)
            except (TypeError, ValueError):
                return None
            if mode != "train":
                return None
            states.append((eps, momentum, *running))
        if any(param.get("mode") != "train" for param, _ in self._dropouts):
            return None
        masks = [dropout_mask(param, (len(x), *shape), self.dtype) for param, shape in self._dropouts]
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
        emit = getattr(self, _EMITTED_BY.get(node.layer, f"_{node.layer}"), None)
        if call is not None:
            method, arguments = call
            getattr(self._core, method)(x, out, *arguments)
        elif emit is not None:
            emit(node, x, out)
        else:
            raise LookupError(f"{node.layer} runs in Python alone")

    # A method for each layer. It takes the node and the numbers of its first input and of its output.

    def _like(self, node: Node) -> Array:
        return np.empty((0, *self._shapes[node.inputs[0]]), self.dtype)

    def _numbers(self, *names: str | None) -> list[int]:
        return [-1 if name is None else self._names.index(name) for name in names]

    def _norm(self, function, node, C):
        bn_param = node.args[-1]
        if any(name in self._frozen for name in node.params[-2:]):
            raise LookupError("a norm that is frozen")
        if any(bn_param is other for _, other, _ in self._norms):
            raise LookupError("norms of the same running statistics, which the second moves on")
        self._norms.append((function, bn_param, C))

    def _conv(self, node, x, out, relu=False, method="conv"):
        numbers = self._numbers(*node.params)
        arguments = self._like(node), self._params[node.params[0]], *numbers, node.args[0]
        getattr(self._core, method)(x, out, *arguments, relu, node.output not in self._pooled)

    _conv_transpose = functools.partialmethod(_conv, method="conv_transpose")
    _conv_relu = functools.partialmethod(_conv, relu=True)

    def _conv_bn_relu(self, node, x, out):
        conv_param, weights = node.args[0], self._params[node.params[0]]
        self._norm("conv_bn_relu_forward", node, len(weights))
        numbers = self._numbers(*node.params)
        self._core.conv_bn_relu(x, out, self._like(node), weights, *numbers, conv_param)

    def _spatial_batchnorm(self, node, x, out, function="spatial_batchnorm_forward", relu=False):
        C, *plane = self._shapes[node.output]
        self._norm(function, node, C)
        self._core.batchnorm(x, out, C, math.prod(plane), *self._numbers(*node.params[-2:]), relu)

    _batchnorm = functools.partialmethod(_spatial_batchnorm, function="batchnorm_forward")
    _batchnorm_relu = functools.partialmethod(_spatial_batchnorm, function="batchnorm_forward", relu=True)

    def _row_norm(self, node, x, out):
        if any(name in self._frozen for name in node.params):
            raise LookupError("a norm that is frozen")
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
        self._dropouts.append((node.args[0], self._shapes[node.output]))
        self._core.dropout(x, out)

    def _add(self, node, x, out, relu=False):
        if len({self._shapes[name] for name in node.inputs}) > 1:
            raise LookupError("a sum over planes")
        self._core.add([self._values[name] for name in node.inputs], out, relu)

    _add_relu = functools.partialmethod(_add, relu=True)

    def _concat(self, node, x, out):
        self._core.concat([self._values[name] for name in node.inputs], out)

    def _flatten(self, node, x, out):
        self._core.flatten(x, out)
