"""What ops tell the core of a network: the same calls for one in training, and for a prepared one."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import astuple
from typing import Any

import numpy as np

from cnnlib import _core
from cnnlib._params import number
from cnnlib._typing import Array, Gradients
from cnnlib.graph.bfloat16 import NarrowPart
from cnnlib.graph.graph import Graph, Node, last_reads, trained_values
from cnnlib.graph.layout import Layout
from cnnlib.graph.ops.narrow_images import NarrowImage, byte_images, bytes_of
from cnnlib.graph.ops.norm import statistics
from cnnlib.graph.ops.pieces import Piece
from cnnlib.graph.ops.sizes import Shape
from cnnlib.graph.options import plain
from cnnlib.graph.run import Run
from cnnlib.layers.dense import dropout_mask
from cnnlib.layers.norm.batch import batch_options, running_statistics

_BYTES_OF_BFLOAT16 = 2


class Target(ABC):
    """A network in the core, which the ops of `nodes` are told to in their order.

    `shapes` are those of one sample of each value, `arrays` those that the nodes name; messages about options
    begin with `where`. The methods take a node; `bound` is that of the ReLU that it ends with, None for none.
    `narrow` is what it computes on bfloat16.
    """

    where: str
    core: Any

    def __init__(
        self,
        shapes: Mapping[str, Shape],
        arrays: Mapping[str, Array],
        dtype: np.dtype[Any],
        narrow: NarrowPart | None,
    ) -> None:
        self.shapes, self.arrays, self.dtype = shapes, arrays, dtype
        self._narrow = narrow or NarrowPart()

    def before(self, node: Node) -> Shape:
        """The shape of one sample of its first input."""
        return self.shapes[node.inputs[0]]

    def after(self, node: Node) -> Shape:
        """The shape of one sample of its output."""
        return self.shapes[node.output]

    def like(self, node: Node) -> Array:
        """No samples like those of its first input."""
        return np.empty((0, *self.before(node)), self.dtype)

    def array(self, name: str | None) -> Any:
        """A parameter; None for None."""
        return None if name is None else self.arrays[name]

    def is_narrow(self, node: Node) -> bool:
        """Whether an operation is computed on bfloat16."""
        return node.output in self._narrow.operations and node.op.narrow is not None

    @abstractmethod
    def finish(self) -> None:
        """Drop what only telling takes."""

    @abstractmethod
    def reads(self, node: Node) -> list[int]:
        """The core's numbers of its inputs."""

    @abstractmethod
    def call(self, node: Node, method: str, *arguments: Any, reads: Sequence[Any] | None = None) -> None:
        """A method of the core that both kinds of networks have, or one of prepared networks alone.

        `reads` are the inputs that it is told, by default the first one.
        """

    @abstractmethod
    def conv(self, node: Node, method: str, bound: float | None) -> None:
        """A convolution, or a transposed one."""

    @abstractmethod
    def affine(self, node: Node, bound: float | None) -> None:
        """A fully connected layer."""

    @abstractmethod
    def batchnorm(self, node: Node, bound: float | None) -> None:
        """A norm by the batch's statistics, or the running ones."""

    @abstractmethod
    def row_norm(self, node: Node, rows: tuple[int, int, int, int, int], eps: float) -> None:
        """A norm by each sample's own statistics."""

    @abstractmethod
    def scale(self, node: Node, factor: float) -> None:
        """A product with a number."""

    @abstractmethod
    def convert(self, node: Node) -> None:
        """A value to bfloat16 ('narrow'), or from it ('widen')."""

    @abstractmethod
    def narrow(self, node: Node, method: str, *arguments: Any) -> None:
        """An operation on bfloat16 without parameters."""

    @abstractmethod
    def narrow_conv(
        self, node: Node, w: Array, b: Array | None, conv_param: Any, bound: float | None
    ) -> None:
        """A convolution on bfloat16."""

    @abstractmethod
    def narrow_norm(self, node: Node, bound: float | None) -> None:
        """A batch norm on bfloat16."""

    @abstractmethod
    def narrow_concat(self, node: Node) -> None:
        """Values of bfloat16 one behind the other."""

    def narrow_pool(
        self, node: Node, mean: bool, geometry: Any, ceil_mode: bool, padded: bool = False
    ) -> None:
        """A pool on bfloat16: means, over windows that count padding if they are `padded`, or maxima."""
        self.narrow(node, "bfloat_pool", mean, geometry, ceil_mode, padded)

    def attention(
        self, node: Node, sizes: Sequence[int], bias: Array | None, scale: float, causal: bool
    ) -> None:
        """Attention of heads, kv_heads, L, S, D and Dv.

        The bias has the shape (1, heads, L, S), or 1 in place of a size.
        """
        self.call(node, "attention", sizes, bias, scale, causal, reads=(self.reads(node),))

    @abstractmethod
    def add(self, node: Node, bound: float | None) -> None:
        """A sum of two values."""

    @abstractmethod
    def concat(self, node: Node) -> None:
        """Values one behind the other."""

    @abstractmethod
    def flatten(self, node: Node) -> None:
        """The same numbers as rows."""


class InferenceTarget(Target):
    """A network that gives scores: the values between input and output share an arena.

    A prepared one keeps its arrays. A `live` one reads those of a model at each call, and messages about the
    options of its norms begin with `model`. `arena_bytes` is what the values take at a time, of one sample;
    `packed_bytes` what the packed weights take. `images` says how values of bytes, or of bfloat16, lie in
    memory.
    """

    where = "prepare"

    def __init__(
        self,
        graph: Graph,
        nodes: Sequence[Node],
        shapes: Mapping[str, Shape],
        arrays: Mapping[str, Array],
        dtype: np.dtype[Any],
        live: bool = False,
        model: str = "",
        narrow: NarrowPart | None = None,
    ) -> None:
        super().__init__(shapes, arrays, dtype, narrow)
        self._live = live
        self._names = _names(nodes)
        self._norms = _norms(model, graph, nodes, shapes) if live else []
        on_bytes = any(node.op.eight_bits for node in nodes)
        self.images = byte_images(nodes, arrays, shapes) if on_bytes else self._narrow.images
        room = {name: math.prod(shape) * dtype.itemsize for name, shape in shapes.items()}
        item = _BYTES_OF_BFLOAT16 if self._narrow.images else 1
        room |= {name: bytes_of(image, item) for name, image in self.images.items()}
        output = nodes[-1].output
        self._layout = layout = Layout(nodes, room, graph.input, output, self._narrow.images)
        self._output_shape = shapes[output]
        self.core = _core.Program(dtype, layout.values, room[graph.input], room[output], layout.arena, live)
        self.arena_bytes = layout.arena
        self.packed_bytes = 0

    def finish(self) -> None:
        """Drop what only telling takes."""
        self.packed_bytes = self.core.packed_bytes
        self.arrays = {}

    def run(self, x: Array) -> Array:
        """The output of samples x, C-contiguous and of the network's dtype."""
        return self.core.run(x, [len(x), *self._output_shape])

    def run_bytes(self, x: np.ndarray, mean: Array, std: Array) -> Array:
        """The output of x (N, C, H, W) of uint8, C-contiguous; mean and std (C,)."""
        planes = x.reshape(*x.shape[:2], -1) if x.size else np.empty((len(x), x.shape[1], 0), np.uint8)
        return self.core.run_bytes(planes, mean, std, [len(x), *self._output_shape])

    def fits(self, params: Mapping[str, Array]) -> bool:
        """Whether the arrays are those that a live network is for."""
        return _fit(self.core, params, self._names)

    def weights(self, run: Run, before: Any) -> Any:
        """What a live network reads of arrays that fit; `before`, of an earlier call, if they are as then."""
        states = []
        for layer, key, C in self._norms:
            bn_param = run.bn_param(key, train=False)
            _, eps, _ = batch_options(layer, bn_param)
            states.append((eps, *running_statistics(layer, bn_param, (C,), self.dtype)))
        return self.core.weights([run.params[name] for name in self._names], states, before)

    def scores(self, x: Array, weights: Any) -> Array:
        """The output of samples x with what :meth:`weights` made."""
        x = np.require(x, self.dtype, ["C", "A"])
        return self.core.scores(x, weights, [len(x), *self._output_shape])

    def profile(self, x: Array, repeats: int) -> list[tuple[str, float, float]]:
        """The steps, the least seconds that each took with all threads on it, and its operations."""
        return self.core.profile(x, [len(x), *self._output_shape], repeats)

    def reads(self, node: Node) -> list[int]:
        return [self._layout.id(name) for name in node.inputs]

    def image(self, name: str) -> NarrowImage | None:
        """How a value of bytes or of bfloat16 lies in memory; None for one of floats."""
        return self.images.get(name)

    def convert(self, node: Node) -> None:
        image = self.images[node.output if node.layer == "narrow" else node.inputs[0]]
        self.call(node, node.layer, image)

    def narrow_norm(self, node: Node, bound: float | None) -> None:
        """A depthwise 1x1 convolution, whose weights stay floats."""
        C = self.before(node)[0]
        gamma, beta = (self.array(name).reshape(-1).astype(np.float64) for name in node.params)
        mean, inv_std = statistics(node.args[0], C)
        scale = gamma * inv_std
        w, b = (array.astype(np.float32) for array in (scale.reshape(C, 1, 1, 1), beta - mean * scale))
        self.narrow_conv(node, w, b, {"groups": C}, bound)

    def narrow_concat(self, node: Node) -> None:
        images = [self.images[name] for name in node.inputs]
        self.call(node, "bfloat_concat", images, self.images[node.output], reads=(self.reads(node),))

    def narrow(self, node: Node, method: str, *arguments: Any) -> None:
        images = [self.images[name] for name in (*node.inputs, node.output)]
        self.call(node, method, *images, *arguments, reads=self.reads(node))

    def narrow_conv(
        self, node: Node, w: Array, b: Array | None, conv_param: Any, bound: float | None
    ) -> None:
        """One with two inputs adds the second."""
        images = [self.image(name) for name in (node.inputs[0], node.inputs[-1], node.output)]
        reads = (*self.reads(node), -1)[:2]
        self.call(node, "bfloat_conv", *images, w, b, conv_param, bound, reads=reads)

    def call(self, node: Node, method: str, *arguments: Any, reads: Sequence[Any] | None = None) -> None:
        inputs = self.reads(node)[:1] if reads is None else reads
        getattr(self.core, method)(node.label, *inputs, self._layout.id(node.output), *arguments)

    def conv(self, node: Node, method: str, bound: float | None) -> None:
        w, b = map(self.array, node.params)
        self.call(node, method, self.like(node), w, b, plain(node.args[0]), len(node.inputs) == 2, bound)

    def inverted_residual(self, node: Node) -> None:
        """A 1x1 convolution, a depthwise one behind it and a 1x1 one behind that."""
        arrays, (conv_param, bounds) = [*map(self.array, node.params)], node.args
        layers = list(zip(arrays[::2], arrays[1::2], bounds, strict=True))
        ids = self.reads(node)
        reads = ids[0], ids[1] if len(ids) == 2 else -1
        self.call(node, "inverted_residual", self.like(node), layers, plain(conv_param), reads=reads)

    def affine(self, node: Node, bound: float | None) -> None:
        self.call(node, "affine", *map(self.array, node.params), bound)

    def batchnorm(self, node: Node, bound: float | None) -> None:
        C, *plane = self.before(node)
        own = (None, None) if self._live else statistics(node.args[0], C)
        arrays = map(self.array, node.params)
        self.call(node, "normalize", math.prod(plane), *own, *arrays, bound)

    def scale(self, node: Node, factor: float) -> None:
        self.call(node, "scale", factor)

    def row_norm(self, node: Node, rows: tuple[int, int, int, int, int], eps: float) -> None:
        self.call(node, "row_norm", rows, eps, *map(self.array, node.params))

    def add(self, node: Node, bound: float | None) -> None:
        self.call(node, "sum", self.before(node)[0], bound is not None, reads=self.reads(node))

    def multiply(self, node: Node) -> None:
        """A product of two values."""
        self.call(node, "product", self.before(node)[0], reads=self.reads(node))

    def copy(self, node: Node, pieces: Sequence[Piece], filled: float | None = None) -> None:
        """Pieces of its inputs at their places in its output, and a number where there is none."""
        self.call(node, "copy", list(map(astuple, pieces)), filled, reads=(self.reads(node),))

    def concat(self, node: Node) -> None:
        self.call(node, "concat", reads=(self.reads(node),))

    def flatten(self, node: Node) -> None:
        """Nothing to do: the numbers stay where they are."""


class TrainingTarget(Target):
    """A network in training, for arrays of the shapes and dtype of `arrays`.

    Parameters that are `frozen` get no gradient. Messages about the options of norms and dropout layers begin
    with `model`.
    """

    where = "loss"

    def __init__(
        self,
        model: str,
        graph: Graph,
        nodes: Sequence[Node],
        shapes: Mapping[str, Shape],
        arrays: Mapping[str, Array],
        dtype: np.dtype[Any],
        frozen: Collection[str],
        narrow: NarrowPart | None = None,
    ) -> None:
        super().__init__(shapes, arrays, dtype, narrow)
        self._names = _names(nodes)
        self._trained_names = [name for name in self._names if name not in frozen]
        trained = trained_values(nodes, graph.input, frozen)
        self._values = {name: number for number, name in enumerate(trained)}
        # Max pools leave a gradient at few places: their input is kept, and no mask of it made.
        self._pooled = {node.inputs[0] for node in nodes if node.layer == "max_pool"}
        self.outputs = [(self._values[name], list(shapes[name])) for name in graph.results()]
        # What is read at each step, in the order in which the core learns of it.
        self._norms = _norms(model, graph, nodes, shapes)
        self._dropouts = [
            (f"{model}: {node.title}: dropout_forward", node, shapes[node.output])
            for node in nodes
            if node.layer == "dropout"
        ]
        self.core = _core.Training(
            dtype,
            [math.prod(shapes[name]) for name in self._values],
            list(trained.values()),
            [arrays[name].shape for name in self._names],
            [name not in frozen for name in self._names],
            [[self._values[name] for name in names] for names in last_reads(nodes, graph.results())],
            [self._narrow.images.get(name) for name in self._values],
        )

    def finish(self) -> None:
        """Drop what only telling takes."""
        self.arrays = {}

    def fits(self, params: Mapping[str, Array]) -> bool:
        """Whether the arrays are those that it is for."""
        return _fit(self.core, params, self._names)

    def forward(self, run: Run, x: Array, timed: bool) -> tuple[Any, list[Array]]:
        """What :meth:`backward` takes, and the outputs, of arrays that fit.

        A `timed` batch has the seconds of each operation, forward and backward.
        """
        states = []
        for layer, key, C in self._norms:
            bn_param = run.bn_param(key, train=True)
            _, eps, momentum = batch_options(layer, bn_param)
            states.append((eps, momentum, *running_statistics(layer, bn_param, (C,), self.dtype)))
        masks = [
            dropout_mask(run.dropout_param(node.output, node.args[0]), (len(x), *shape), self.dtype, layer)
            for layer, node, shape in self._dropouts
        ]
        x = np.require(x, self.dtype, ["C", "A"])
        arrays = [run.params[name] for name in self._names]
        batch, outputs, moved = self.core.forward(x, arrays, states, masks, self.outputs, timed)
        for (_, key, _), (mean, var) in zip(self._norms, moved, strict=True):
            run.move(key, mean, var)
        return batch, outputs

    def backward(self, batch: Any, douts: Sequence[Any], grads: Gradients) -> None:
        """Write the gradients of the trained parameters to `grads`; `batch` is used up.

        `douts` are those of the outputs, each like its output.
        """
        given = [(value, dout) for (value, _), dout in zip(self.outputs, douts, strict=True)]
        grads.update(zip(self._trained_names, self.core.backward(batch, given), strict=True))

    def reads(self, node: Node) -> list[int]:
        return [self._values[name] for name in node.inputs]

    def call(self, node: Node, method: str, *arguments: Any, reads: Sequence[Any] | None = None) -> None:
        inputs = self.reads(node)[:1] if reads is None else reads
        getattr(self.core, method)(*inputs, self._values[node.output], *arguments)

    def _numbers(self, *names: str | None) -> list[int]:
        return [-1 if name is None else self._names.index(name) for name in names]

    def conv(self, node: Node, method: str, bound: float | None) -> None:
        w = self.array(node.params[0])
        numbers, kept = self._numbers(*node.params), node.output not in self._pooled
        self.call(node, method, self.like(node), w, *numbers, plain(node.args[0]), bound is not None, kept)

    def conv_bn_relu(self, node: Node) -> None:
        """A convolution, a batch norm and a ReLU."""
        w, numbers = self.array(node.params[0]), self._numbers(*node.params)
        self.call(node, "conv_bn_relu", self.like(node), w, *numbers, plain(node.args[0]))

    def affine(self, node: Node, bound: float | None) -> None:
        D, M = self.array(node.params[0]).shape
        self.call(node, "affine", D, M, *self._numbers(*node.params), bound is not None)

    def batchnorm(self, node: Node, bound: float | None) -> None:
        C, *plane = self.after(node)
        self.call(node, "batchnorm", C, math.prod(plane), *self._numbers(*node.params), bound is not None)

    def row_norm(self, node: Node, rows: tuple[int, int, int, int, int], eps: float) -> None:
        self.call(node, "row_norm", rows, *self._numbers(*node.params), number(self.where, "eps", eps, 0))

    def scale(self, node: Node, factor: float) -> None:
        self.call(node, "scale", factor)

    def dropout(self, node: Node) -> None:
        """A product with a mask that each step draws."""
        self.call(node, "dropout")

    def add(self, node: Node, bound: float | None) -> None:
        self.call(node, "add", bound is not None, reads=(self.reads(node),))

    def concat(self, node: Node) -> None:
        self.call(node, "concat", reads=(self.reads(node),))

    def flatten(self, node: Node) -> None:
        self.call(node, "flatten")

    def convert(self, node: Node) -> None:
        self.call(node, node.layer)

    def narrow(self, node: Node, method: str, *arguments: Any) -> None:
        reads = self.reads(node)
        self.call(node, method, *arguments, reads=(reads if len(reads) > 1 else reads[0],))

    def narrow_conv(self, node: Node, w: Array, b: Any, conv_param: Any, bound: float | None) -> None:
        self.call(node, "bfloat_conv", w, *self._numbers(*node.params), conv_param, bound)

    def narrow_conv_bn_relu(self, node: Node) -> None:
        """A convolution, a batch norm and a ReLU on bfloat16."""
        w, numbers = self.array(node.params[0]), self._numbers(*node.params)
        self.call(node, "bfloat_conv_bn_relu", w, *numbers, plain(node.args[0]))

    def narrow_norm(self, node: Node, bound: float | None) -> None:
        self.call(node, "bfloat_norm", *self._numbers(*node.params), bound is not None)

    def narrow_concat(self, node: Node) -> None:
        self.call(node, "bfloat_concat", reads=(self.reads(node),))


def _names(nodes: Sequence[Node]) -> list[str]:
    """The parameters in the order in which the core learns of them."""
    return [name for node in nodes for name in node.params if name]


def _norms(
    model: str, graph: Graph, nodes: Sequence[Node], shapes: Mapping[str, Shape]
) -> list[tuple[str, str, int]]:
    """Of each batch norm, in that order, what messages call its layer, its key, and its channels."""
    owners = {node.statistics_of: node for node in graph if node.op.statistics}
    own = [owners[node.statistics_of] for node in nodes if node.statistics_of in owners]
    return [
        (f"{model}: {node.title}: {node.layer}_forward", node.statistics_of, shapes[node.output][0])
        for node in own
    ]


def _fit(core: Any, params: Mapping[str, Array], names: Sequence[str]) -> bool:
    arrays = [params.get(name) for name in names]
    return all(map(is_plain, arrays)) and bool(core.fits(arrays))


def is_plain(array: Any) -> bool:
    """Whether it is an array whose values all count."""
    return isinstance(array, np.ndarray) and not isinstance(array, np.ma.MaskedArray)
