"""A graph compiled for images of one size: shapes, memory, and the steps that the C++ core runs."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cnnlib import _core
from cnnlib._typing import Array, Outputs
from cnnlib.graph.graph import ACTIVATIONS, ROW_NORMS, Graph, Node, rows_of
from cnnlib.graph.lowering import core_call
from cnnlib.graph.shapes import shapes
from cnnlib.inference.fold import statistics
from cnnlib.inference.fusion import fuse_inverted_residuals, fuse_sums, operations, rectified
from cnnlib.inference.quantization.images import BYTE_RULES, ByteSteps, byte_images, floats_of

_EMITTED_BY = {
    **dict.fromkeys(ROW_NORMS, "_row_norm"),
    "spatial_batchnorm": "_batchnorm",
}


class Compiled(ByteSteps):
    """A network ready to run on samples of one shape.

    Of one sample `input_shape` and `output_shape` (of several outputs that of the row of all), the shapes of
    several `outputs`, those of all values in `shapes`, and `arena_bytes`, what the values between input and
    output take at a time. `packed_bytes` is what the packed weights take.
    """

    def __init__(
        self, graph: Graph, arrays: Mapping[str, Array], input_shape: tuple[int, ...], dtype: np.dtype
    ) -> None:
        self.input_shape, self.dtype, self._arrays = input_shape, dtype, arrays
        self.shapes = shapes(graph, arrays, input_shape, "prepare", BYTE_RULES)
        nodes = operations(graph)
        self.outputs = {name: self.shapes[name] for name in graph.outputs}
        self.output_shape = self.shapes.get(graph.output, ())
        if self.outputs:
            rows = [(math.prod(shape),) for shape in self.outputs.values()]
            self.shapes |= dict(zip(nodes[-1].inputs, rows, strict=True))
            self.output_shape = (sum(size for (size,) in rows),)
        self.shapes.setdefault(nodes[-1].output, self.output_shape)
        nodes = fuse_inverted_residuals(fuse_sums(nodes, self.shapes, arrays, dtype), arrays)
        on_bytes = any(node.layer in BYTE_RULES for node in nodes)
        self._images = byte_images(nodes, arrays, self.shapes) if on_bytes else {}
        room = {name: math.prod(shape) for name, shape in self.shapes.items()}
        room |= {name: floats_of(image) for name, image in self._images.items()}
        layout = Layout(nodes, room, graph.input, nodes[-1].output)
        read, written = math.prod(input_shape), math.prod(self.output_shape)
        self._core: Any = _core.Program(dtype, layout.values, read, written, layout.arena)
        for node in nodes:
            layer, bound = rectified(node)
            ids, out = [layout.id(name) for name in node.inputs], layout.id(node.output)
            before, after = self.shapes[node.inputs[0]], self.shapes[node.output]
            call = core_call("prepare", node, before, after, dtype)
            if call is not None:
                method, arguments = call
                getattr(self._core, method)(node.label, ids[0], out, *arguments)
                continue
            emit = getattr(self, _EMITTED_BY.get(layer, f"_{layer}"))
            emit(node, ids, out, before, bound)
        self.arena_bytes = layout.arena * dtype.itemsize
        self.packed_bytes: int = self._core.packed_bytes
        del self._arrays

    def __call__(self, x: Array) -> Outputs:
        """x (N, *input_shape), C-contiguous and of the network's dtype."""
        out = self._core.run(x, [len(x), *self.output_shape])
        return self._parts(out) if self.outputs else out

    def of_bytes(self, x: np.ndarray, mean: Array, std: Array) -> Outputs:
        """x (N, C, H, W) of uint8, C-contiguous; mean and std (C,)."""
        planes = x.reshape(*x.shape[:2], -1) if x.size else np.empty((len(x), x.shape[1], 0), np.uint8)
        out = self._core.run_bytes(planes, mean, std, [len(x), *self.output_shape])
        return self._parts(out) if self.outputs else out

    def _parts(self, rows: Array) -> dict[str, Array]:
        """The outputs by their names, of rows that hold them one behind the other."""
        ends = np.cumsum([math.prod(shape) for shape in self.outputs.values()])[:-1]
        parts = zip(self.outputs.items(), np.split(rows, ends, axis=1), strict=True)
        return {name: np.ascontiguousarray(part).reshape(len(rows), *shape) for (name, shape), part in parts}

    def profile(self, x: Array, repeats: int) -> list[tuple[str, float, float]]:
        """The steps, the least seconds that each took with all threads on it, and its operations."""
        return self._core.profile(x, [len(x), *self.output_shape], repeats)

    # A method for each kind of operation. It takes the node, the numbers of the values that it reads and of
    # the one that it makes, the shape of the first, and the bound of the ReLU behind it, if there is one.

    def _array(self, name):
        return None if name is None else self._arrays[name]

    def _conv(self, node, ids, out, shape, bound, method="conv"):
        like, (w, b) = np.empty((0, *shape), self.dtype), map(self._array, node.params)
        activation = (bound is not None, bound or math.inf)
        arguments = node.label, ids[0], out, like, w, b, node.args[0], len(ids) == 2, *activation
        getattr(self._core, method)(*arguments)

    _conv_transpose = functools.partialmethod(_conv, method="conv_transpose")

    def _inverted_residual(self, node, ids, out, shape, bound):
        like, arrays = np.empty((0, *shape), self.dtype), [*map(self._array, node.params)]
        conv_param, bounds = node.args
        parts = zip(arrays[::2], arrays[1::2], bounds, strict=True)
        layers = [(w, b, most is not None, most or math.inf) for w, b, most in parts]
        other = ids[1] if len(ids) == 2 else -1
        self._core.inverted_residual(node.label, ids[0], other, out, like, layers, conv_param)

    def _affine(self, node, ids, out, shape, bound):
        self._core.affine(node.label, ids[0], out, *map(self._array, node.params), bound is not None)

    def _batchnorm(self, node, ids, out, shape, bound):
        arrays = *statistics(node, shape[0]), *map(self._array, node.params)
        self._core.normalize(node.label, ids[0], out, math.prod(shape[1:]), *arrays, bound is not None)

    def _scale(self, node, ids, out, shape, bound):
        C = shape[0]
        gamma = np.full(C, node.args[0], self.dtype)
        arrays = np.zeros(C), np.ones(C), gamma, np.zeros(C, self.dtype)
        self._core.normalize(node.label, ids[0], out, math.prod(shape[1:]), *arrays, False)

    def _row_norm(self, node, ids, out, shape, bound):
        gamma, beta = (self._arrays[name].reshape(-1) for name in node.params)
        eps = node.args[-1].get("eps", 1e-5)
        self._core.row_norm(node.label, ids[0], out, rows_of(node, shape), eps, gamma, beta)

    def _add(self, node, ids, out, shape, bound):
        self._core.sum(node.label, *ids, out, shape[0], bound is not None)

    def _multiply(self, node, ids, out, shape, bound):
        self._core.product(node.label, *ids, out, shape[0])

    def _concat(self, node, ids, out, shape, bound):
        self._core.concat(node.label, ids, out)

    def _flatten(self, node, ids, out, shape, bound):
        """Nothing to do: the numbers stay where they are."""


# Where the values lie: those not needed at the same time, or written in place, share room.

ALIGNMENT = 16  # elements: the start of a cache line, whatever the dtype


@dataclass
class Block:
    """A piece of the arena in use from step `first` to step `last`, inclusive."""

    size: int
    first: int
    last: int
    offset: int = 0

    @property
    def room(self) -> int:
        """Its size up to the next multiple of the alignment."""
        return -(-self.size // ALIGNMENT) * ALIGNMENT


def place(blocks: list[Block]) -> int:
    """Give each block an offset; return the size of the arena that they need.

    The largest first, each into the smallest gap that it fits between those placed before that are in use at
    the same time (Pisarchyk and Lee 2020, arXiv:2001.03288, "greedy by size").
    """
    placed: list[Block] = []
    for block in sorted(blocks, key=lambda block: -block.size):
        at, best = 0, None
        others = sorted(
            (other for other in placed if other.first <= block.last and block.first <= other.last),
            key=lambda other: other.offset,
        )
        for other in others:
            gap = other.offset - at
            if gap >= block.room and (best is None or gap < best[0]):
                best = gap, at
            at = max(at, other.offset + other.room)
        block.offset = at if best is None else best[1]
        placed.append(block)
    return max((block.offset + block.room for block in placed), default=0)


# May write to their first input.
_NORMS = ("batchnorm", "batchnorm_relu", "spatial_batchnorm", "spatial_batchnorm_relu")
_JOINS = ("add", "add_relu", "multiply", "scale")
_IN_PLACE = (*_NORMS, *_JOINS, "relu", "leaky_relu", "gelu", *ACTIVATIONS)
_INPUT, _OUTPUT, _ARENA = range(3)  # the core's Value::Place


class Layout:
    """Where the values lie: at the caller's input or output, or in an arena of `arena` elements a sample.

    `values` are (place, size, offset) for the core: 0 for the input, 1 for the output, 2 for the arena;
    elements of one sample.
    """

    def __init__(self, nodes: Sequence[Node], sizes: Mapping[str, int], input: str, output: str) -> None:
        self._home, blocks = _homes(nodes, sizes, input, output)
        inside = {name: block for name, block in blocks.items() if name not in (input, self._home[output])}
        self.arena = place(list(inside.values()))
        self.values: list[tuple[int, int, int]] = []
        self._ids: dict[str, int] = {}
        for name, block in blocks.items():
            self._ids[name] = len(self.values)
            where = _ARENA if name in inside else _INPUT if name == input else _OUTPUT
            self.values.append((where, block.size, block.offset))

    def id(self, name: str) -> int:
        """The index in `values` of a value of the network."""
        return self._ids[self._home[name]]


def _homes(
    nodes: Sequence[Node], sizes: Mapping[str, int], input: str, output: str
) -> tuple[dict[str, str], dict[str, Block]]:
    """Map each value to the value whose buffer it lies in, and list the buffers.

    Operations in place reuse a dead input's; a convolution that adds to its second input has to.
    """
    last_read = {name: i for i, node in enumerate(nodes) for name in node.inputs}
    last_read[output] = len(nodes)
    home = {input: input}
    blocks = {input: Block(sizes[input], 0, len(nodes))}
    for i, node in enumerate(nodes):
        adds = node.layer.startswith("conv") and len(node.inputs) == 2
        source = home[node.inputs[1 if adds else 0]]
        free = node.layer in _IN_PLACE and blocks[source].last <= i
        if node.layer == "flatten" or adds or free:
            home[node.output] = source
            blocks[source].last = max(blocks[source].last, last_read[node.output])
        else:
            home[node.output] = node.output
            blocks[node.output] = Block(sizes[node.output], i, last_read[node.output])
    return home, blocks
