"""A graph compiled for samples of one shape: :class:`CompiledGraph`."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from cnnlib._params import type_name
from cnnlib._typing import Array, Gradients, Outputs
from cnnlib.graph.bfloat16 import NarrowPart, narrow_operations, with_conversions
from cnnlib.graph.fusion import fuse_inverted_residuals, fuse_sums, fused, operations, without_identities
from cnnlib.graph.graph import Graph, Node
from cnnlib.graph.ops.sizes import Shape
from cnnlib.graph.run import Run
from cnnlib.graph.shapes import shapes
from cnnlib.graph.targets import InferenceTarget, Target, TrainingTarget, is_plain


class CompiledGraph:
    """A network that the core runs by itself, for samples of one shape.

    Parameters
    ----------
    graph : Graph
    params : mapping
        The arrays that its nodes name. A prepared network keeps what it needs of them; one in training, or a
        live one, runs on any arrays of their shapes and dtype, see :meth:`fits`.
    shape : tuple of int
        Of one sample.
    dtype : np.dtype
        float32 or float64.
    train : bool
        For :meth:`forward` and :meth:`backward`, with the bits of the layers' functions; the graph must be
        one that :func:`why_interpreted` finds nothing against.
    live : bool
        For :meth:`weights` and :meth:`scores`, which read a model's arrays and running statistics at each
        call, with the bits of the layers' functions in test mode; the graph must be one that
        :func:`why_not_scored` finds nothing against. Else, if it is not to `train` either, for calls, which
        give scores by the arrays of now; the graph must be one that
        :func:`cnnlib.graph.fusion.refuse_unprepared` passes.
    frozen : collection of str
        Parameters that get no gradient.
    where : str
        What messages about arrays and options begin with.
    bfloat16 : bool
        Compute on bfloat16 what has such a form; the processor must have instructions for it.

    Attributes
    ----------
    shapes : dict
        Of one sample of each value.
    output_shape : tuple of int
        Of one sample; of several `outputs`, whose shapes that dict has, that of the row of all.
    names : list of str
        Of its operations.
    inputs : list of tuple of int
        The shapes of one sample of what these read first.
    """

    _target: Any

    def __init__(
        self,
        graph: Graph,
        params: Mapping[str, Array],
        shape: Shape,
        dtype: np.dtype[Any],
        *,
        train: bool = False,
        live: bool = False,
        frozen: Collection[str] = (),
        where: str = "prepare",
        bfloat16: bool = False,
    ) -> None:
        self.train = train
        self.shapes = shapes(graph, params, shape, where)
        self.outputs = {name: self.shapes[name] for name in graph.outputs}
        self.output_shape = self.shapes.get(graph.output, ())
        if train:
            nodes, narrow = fused(graph, "training"), None
            if bfloat16:
                made = narrow_operations(nodes, self.shapes, params, trained=True)
                results = graph.results()
                nodes, narrow = with_conversions(nodes, made, graph.input, results, self.shapes, params, True)
            self._target = TrainingTarget(where, graph, nodes, self.shapes, params, dtype, frozen, narrow)
        else:
            graph = without_identities(graph)
            nodes, narrow = self._operations(graph, params, dtype, live, bfloat16)
            self._target = InferenceTarget(graph, nodes, self.shapes, params, dtype, live, where, narrow)
        self.names = [node.label or node.layer for node in nodes]
        self.inputs = [self.shapes[node.inputs[0]] for node in nodes]
        _emit(nodes, self._target)

    def _operations(
        self, graph: Graph, params: Mapping[str, Array], dtype: np.dtype[Any], live: bool, bfloat16: bool
    ) -> tuple[list[Node], NarrowPart | None]:
        """The operations of a network that gives scores, and what of them is computed on bfloat16.

        Adds the shapes of values that only they have.
        """
        nodes = operations(graph)
        if self.outputs:
            rows = [(math.prod(shape),) for shape in self.outputs.values()]
            self.shapes |= dict(zip(nodes[-1].inputs, rows, strict=True))
            self.output_shape = (sum(size for (size,) in rows),)
        self.shapes.setdefault(nodes[-1].output, self.output_shape)
        if live:  # what follows has bits of its own
            return nodes, None
        made = narrow_operations(nodes, self.shapes, params) if bfloat16 else set()
        nodes = fuse_sums(nodes, self.shapes, params, dtype, made)
        if bfloat16:
            return with_conversions(nodes, made, graph.input, [nodes[-1].output], self.shapes, params)
        return fuse_inverted_residuals(nodes, params), None

    # Of a prepared network.

    def __call__(self, x: Array) -> Outputs:
        """x (N, *shape), C-contiguous and of the network's dtype."""
        out = self._target.run(x)
        return self._parts(out) if self.outputs else out

    def of_bytes(self, x: np.ndarray, mean: Array, std: Array) -> Outputs:
        """x (N, C, H, W) of uint8, C-contiguous; mean and std (C,)."""
        out = self._target.run_bytes(x, mean, std)
        return self._parts(out) if self.outputs else out

    def _parts(self, rows: Array) -> dict[str, Array]:
        """The outputs by their names, of rows that hold them one behind the other."""
        ends = np.cumsum([math.prod(shape) for shape in self.outputs.values()])[:-1]
        parts = zip(self.outputs.items(), np.split(rows, ends, axis=1), strict=True)
        return {name: np.ascontiguousarray(part).reshape(len(rows), *shape) for (name, shape), part in parts}

    def profile(self, x: Array, repeats: int) -> list[tuple[str, float, float]]:
        """The steps, the least seconds that each took with all threads on it, and its operations."""
        steps: list[tuple[str, float, float]] = self._target.profile(x, repeats)
        return steps

    @property
    def arena_bytes(self) -> int:
        """What the values between input and output take at a time, of one sample."""
        return int(self._target.arena_bytes)

    @property
    def packed_bytes(self) -> int:
        """What the packed weights take."""
        return int(self._target.packed_bytes)

    # Of a live network, and of one in training.

    def fits(self, params: Mapping[str, Array]) -> bool:
        """Whether the arrays are those that it is for."""
        return bool(self._target.fits(params))

    # Of a live network.

    def weights(self, run: Run, before: Any = None) -> Any:
        """The packed copies that :meth:`scores` takes, of arrays that fit and of the run's statistics.

        It is `before`, which an earlier call made, if all of them have the bits of then.
        """
        return self._target.weights(run, before)

    def scores(self, x: Array, weights: Any) -> Outputs:
        """x (N, *shape); several outputs by their names."""
        out = self._target.scores(x, weights)
        return self._parts(out) if self.outputs else out

    # Of a network in training.

    def forward(self, run: Run, x: Array, timed: bool = False) -> tuple[Any, list[Array]]:
        """What :meth:`backward` takes, and the outputs, of arrays that fit.

        The batch of a `timed` one measures each operation; :meth:`seconds` says how long they took.
        """
        made: tuple[Any, list[Array]] = self._target.forward(run, x, timed)
        return made

    def seconds(self, batch: Any) -> list[tuple[float, float]]:
        """Seconds of each operation of a timed batch, forward and backward, in the order of `names`."""
        seconds: list[tuple[float, float]] = batch.seconds
        return seconds

    def backward(self, batch: Any, douts: Sequence[Any], grads: Gradients) -> None:
        """Write the gradients of the trained parameters to `grads`; `batch` is used up.

        `douts` are those of the outputs, each like its output.
        """
        self._target.backward(batch, douts, grads)


def _emit(nodes: Sequence[Node], target: Target) -> None:
    """Tell the core of each operation."""
    for node in nodes:
        op = node.op
        emit = op.narrow.emit if op.narrow is not None and target.is_narrow(node) else op.emit
        if emit is None:
            raise AssertionError(f"{node.title}: the op {op.name} says nothing to the core")
        emit(target, node, op.bound)
    target.finish()


def why_interpreted(graph: Graph, found: Mapping[str, Shape], frozen: Collection[str]) -> str:
    """Why the core cannot train a graph as a whole, by the title of a node; empty if it can.

    `found` are the shapes of the graph's values, `frozen` the names of parameters that are not trained.
    """
    if not graph.nodes:
        return "it has no layers"
    owners: dict[str, str] = {}
    norms: dict[str, str] = {}  # titles by the keys of running statistics
    for node in graph:
        op = node.op
        if op.not_trained:
            return f"{node.title} is computed in Python"
        if op.norm and any(name in frozen for name in node.params):
            return f"{node.title} has frozen parameters"
        key = node.statistics_of
        if op.statistics and norms.setdefault(key, node.title) != node.title:
            return f"{node.title} has the running statistics of {norms[key]}"
        if op.trained_alike and len({found[name] for name in node.inputs}) > 1:
            return f"{node.title} spreads values over images"
        for name in node.params:
            if name is not None and owners.setdefault(name, node.title) != node.title:
                return f"{node.title} has the parameter {name!r} of {owners[name]}"
    return ""


def why_not_scored(graph: Graph) -> str:
    """Why the core cannot give a graph's scores, by the title of a node; empty if it can."""
    for node in graph:
        if node.op.not_prepared or node.op.own_bits:
            return f"{node.title} is computed in Python"
    return ""


def why_not_ready(graph: Graph, params: Mapping[str, Any], dtype: np.dtype[Any]) -> str:
    """Why the core cannot take parameters as they are; empty if it can."""
    for node in graph:
        for name in filter(None, node.params):
            array = params[name]
            if not is_plain(array):
                return f"the parameter {name!r} of {node.title} is {type_name(array)}, and no plain array"
            if array.dtype != dtype:
                return f"the parameter {name!r} of {node.title} has dtype {array.dtype}, the samples {dtype}"
            if not (array.flags.c_contiguous and array.flags.aligned):
                return f"the parameter {name!r} of {node.title} is not C-contiguous and aligned"
    return ""
