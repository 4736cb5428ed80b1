"""A graph in the making: its nodes, their shapes and parameters, and what follows the size of images."""

from __future__ import annotations

import copy
import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np

from cnnlib._typing import Array, Params
from cnnlib.graph.graph import Graph, Node, numbered
from cnnlib.graph.ops.sizes import batch_of
from cnnlib.graph.shapes import shape_behind

Sides: TypeAlias = tuple[tuple[int, int], ...]  # of each axis: ((top, bottom), (left, right)) of images


@dataclass(frozen=True)
class Feature:
    """A value that depends on the images.

    What only gives another shape to the same numbers in the same order (Flatten, Reshape, Squeeze, ...), or
    spreads a number for each channel over images, makes no node: it changes `view`.

    Attributes
    ----------
    name : str
        The graph's value.
    shape, view : tuple of int
        Of one sample: of the graph's value, and of the source's.
    channels_last : bool
        The source's value is the graph's with the channels moved to the end.
    pad : tuple of (int, int), or None
        Constant pixels around it (top, bottom), (left, right), which the layer behind takes in; they are part
        of `view`.
    pad_value : float
    alone : bool
        Nothing else reads what leads from the graph's value to this one.
    batch_axis, before, behind : int
        Where the samples are in the source's value: axis `batch_axis` is ``before * N * behind`` long, and
        `view` has the other axes. In the graph the samples come first, and what shares their axis has axes of
        its own: see :meth:`natural`.
    """

    name: str
    shape: tuple[int, ...]
    view: tuple[int, ...]
    channels_last: bool = False
    pad: Sides | None = None
    pad_value: float = 0.0
    alone: bool = True
    batch_axis: int = 0
    before: int = 1
    behind: int = 1

    @property
    def by_samples(self) -> bool:
        """True if the source's first axis is that of the samples, and of nothing else."""
        return (self.batch_axis, self.before, self.behind) == (0, 1, 1)

    @property
    def natural(self) -> tuple[int, ...]:
        """The shape of a sample that has the axes of the source in their order, without that of the batch."""
        inner = (n for n in (self.before, self.behind) if n > 1)
        return (*self.view[: self.batch_axis], *inner, *self.view[self.batch_axis :])

    def source_shape(self, N: int) -> tuple[int, ...]:
        """The source's shape, of N samples."""
        samples = self.before * N * self.behind
        return (*self.view[: self.batch_axis], samples, *self.view[self.batch_axis :])

    @property
    def channel_axis(self) -> int:
        """The axis of `view` that the channels are."""
        return len(self.view) - 1 if self.channels_last else 0

    @property
    def one_pixel(self) -> bool:
        """Whether the source sees images of one row and one column, or (N, D)."""
        return math.prod(self.view) == self.view[0]

    def seen_as(self, view: tuple[int, ...]) -> Feature:
        """The same numbers in the same order, in another shape."""
        return replace(self, view=view, channels_last=False)

    def seen_like(self, other: Feature) -> Feature:
        """The graph's value as the source sees another one."""
        return replace(
            self,
            view=other.view,
            channels_last=other.channels_last,
            batch_axis=other.batch_axis,
            before=other.before,
            behind=other.behind,
        )

    def padded(self, sides: Sides, value: float) -> Feature:
        """With constant pixels around the images of its view."""
        C, H, W = self.view
        return replace(self, view=(C, H + sum(sides[0]), W + sum(sides[1])), pad=sides, pad_value=value)

    def bare(self) -> Feature:
        """The graph's value, without the pixels around it."""
        return replace(self, view=self.shape, pad=None)


# Attributes with all that a builder has read so far: see `Builder.state`.
_STATE = (
    *("nodes", "params", "frozen", "fixed_by", "runs", "materialised"),
    *("_places", "_variants", "_shapes", "_following", "_others"),
)
_HIGHER, _WIDER = 64, 128  # pixels by which images are tried larger: multiples of what strides come to
LARGEST_SAMPLE = 2**31  # numbers of one sample's value: 8 GiB in float32


class Builder:
    """A graph in the making, in `dtype`; parameters that are `frozen` are not to be trained.

    `runs` is False where a layer refused the shapes of what it reads, or no memory holds what it makes.
    """

    input: Feature
    dtype: np.dtype[Any]

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.params: Params = {}
        self.frozen: set[str] = set()
        self._places: dict[str, int] = {}  # of the node that makes a value
        self._variants: dict[str, dict[bytes, str]] = {}  # of parameters of one name, by their content
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._following: set[str] = set()  # values whose shape follows the size of the images
        self._others: dict[str, tuple[int, ...] | None] = {}  # shapes for larger images; None: refused
        self.materialised: dict[Feature, Feature] = {}  # values as the source has them, which nodes make
        self.fixed_by = ""  # as in the graph
        self.runs = True

    def state(self) -> dict[str, Any]:
        """Copy all that is read so far, so that :meth:`go_back` takes back what follows."""
        kept = {name: copy.copy(getattr(self, name)) for name in _STATE}
        return kept | {"_variants": {name: dict(known) for name, known in self._variants.items()}}

    def go_back(self, state: Mapping[str, Any]) -> None:
        """Become what :meth:`state` saw; each state serves once."""
        for name, value in state.items():
            setattr(self, name, value)

    def begin(self, name: str, shape: tuple[int, ...]) -> Feature:
        """Name the input, and the shape of its samples."""
        self.input = Feature(name, shape, shape)
        self._shapes[name] = self._others[name] = shape
        if len(shape) == 3:
            self._following.add(name)
            self._others[name] = (shape[0], shape[1] + _HIGHER, shape[2] + _WIDER)
        return self.input

    def append(self, node: Node) -> Feature:
        """Put a node at the end; it stays if its layer refuses it: a ValueError or TypeError says what."""
        self._places[node.output] = len(self.nodes)
        self.nodes.append(node)
        shapes = [self._shapes[name] for name in node.inputs]
        values = [None if key is None else self.params[key] for key in node.params]
        shape = shape_behind(node, shapes, values)
        if math.prod(shape) > LARGEST_SAMPLE:
            raise ValueError(f"makes {batch_of(shape)}, which no memory holds")
        if not node.op.own_size and not self._following.isdisjoint(node.inputs):
            self._following.add(node.output)
        self._shapes[node.output] = shape
        self._others[node.output] = self._other_shape(node, values)
        return self.value_of(node.output)

    def _other_shape(self, node: Node, values: Sequence[Array | None]) -> tuple[int, ...] | None:
        """The shape for larger images; None where a layer refuses these."""
        others = [self._others[name] for name in node.inputs]
        known = [shape for shape in others if shape is not None]
        if len(known) < len(others):
            return None
        if node.op.own_size or self._following.isdisjoint(node.inputs):
            return self._shapes[node.output]
        try:
            return shape_behind(node, known, values)
        except ValueError:
            return None

    def stands_for(self, name: str, shape: tuple[int, ...]) -> Feature:
        """A value that no node makes: what an operator that is refused would have made."""
        name = self.free_output(name)
        self._shapes[name] = self._others[name] = shape
        return self.value_of(name)

    def open_axis(self, name: str, place: int) -> bool:
        """Tell if an axis of a value, not counting that of the samples, follows the size of the images."""
        other = self._others[name]
        return other is None or other[place] != self._shapes[name][place]

    def open_sizes(self, name: str, shape: tuple[int, ...]) -> tuple[int, ...] | None:
        """A value's new shape of as many numbers, with -1 for the one size that follows that of the images.

        None where several do, so that no one list of sizes says it.
        """
        own, other = self._shapes[name], self._others[name]
        if other == own:
            return shape
        if other is None:
            return None
        sizes, i, j = list(shape), 0, 0
        while i < len(own) or j < len(shape):  # the shortest runs of axes of as many numbers
            first, start = i, j
            n = m = 1
            while i < len(own) and (n < m or i == first):
                n, i = n * own[i], i + 1
            while j < len(shape) and (m < n or j == start):
                m, j = m * shape[j], j + 1
                while n < m and i < len(own):
                    n, i = n * own[i], i + 1
            if math.prod(other[first:i]) != math.prod(own[first:i]):
                if j - start != 1 or -1 in sizes:
                    return None
                sizes[start] = -1
        return tuple(sizes)

    def fix(self, why: str) -> None:
        """Note why images must have the size that is read; the first reason counts."""
        self.fixed_by = self.fixed_by or why

    def value_of(self, name: str) -> Feature:
        """A value as it is in the graph."""
        return Feature(name, self._shapes[name], self._shapes[name])

    def free_output(self, wanted: str) -> str:
        """A name that no value has: the wanted one, or that with a number."""
        return numbered(wanted, self._shapes)

    def parameter(self, name: str, array: Array) -> str:
        """Add a parameter; one that is there in another form stays, and the new one gets another name."""
        if name not in self.params:
            self.params[name] = array
            return name
        variants = self._variants.setdefault(name, {_digest(self.params[name]): name})
        digest = _digest(array)
        if digest not in variants:
            variants[digest] = numbered(name, self.params)
            self.params[variants[digest]] = array
        return variants[digest]

    def follows(self, feature: Feature) -> bool:
        """Whether the shape of a value follows the size of the images."""
        return feature.name in self._following

    def maker(self, feature: Feature) -> tuple[int, Node] | None:
        """The node that makes a value, and its place."""
        place = self._places.get(feature.name)
        return None if place is None else (place, self.nodes[place])

    def graph(self, outputs: Mapping[str, Feature]) -> Graph:
        """The nodes that the outputs need; parameters that these do not name are dropped.

        Several outputs get the names that they have here.
        """
        several = len(outputs) > 1
        taken = {name for name, value in outputs.items() if several and value.name != name} & {*self._shapes}
        inner = {name: f"{name} (inner)" for name in taken}  # values within that an output is called by
        nodes = [
            replace(n, inputs=tuple(inner.get(i, i) for i in n.inputs), output=inner.get(n.output, n.output))
            for n in self.nodes
        ]
        graph = Graph(nodes, inner.get(self.input.name, self.input.name))
        for name, value in outputs.items():
            of = inner.get(value.name, value.name)
            if several and of != name:
                graph.append(Node("scale", (of,), name, (), (1.0,), f"output {name}"))
        graph = graph.cut(tuple(outputs) if len(outputs) > 1 else next(iter(outputs.values())).name)
        used = {name for node in graph for name in node.params}
        self.params = {name: array for name, array in self.params.items() if name in used}
        self.frozen &= used
        return graph


def _digest(array: Array) -> bytes:
    content = hashlib.blake2b(repr((array.shape, array.dtype)).encode(), digest_size=16)
    content.update(np.ascontiguousarray(array).data.cast("B") if array.size else b"")
    return content.digest()
