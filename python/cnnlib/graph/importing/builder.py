"""A graph in the making: its nodes, their shapes and parameters, and what follows the size of images."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
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
    """

    name: str
    shape: tuple[int, ...]
    view: tuple[int, ...]
    channels_last: bool = False
    pad: Sides | None = None
    pad_value: float = 0.0
    alone: bool = True

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
        return replace(self, view=other.view, channels_last=other.channels_last)

    def padded(self, sides: Sides, value: float) -> Feature:
        """With constant pixels around the images of its view."""
        C, H, W = self.view
        return replace(self, view=(C, H + sum(sides[0]), W + sum(sides[1])), pad=sides, pad_value=value)

    def bare(self) -> Feature:
        """The graph's value, without the pixels around it."""
        return replace(self, view=self.shape, pad=None)


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
        self.runs = True

    def begin(self, name: str, shape: tuple[int, ...]) -> Feature:
        """Name the input, and the shape of its samples."""
        self.input = Feature(name, shape, shape)
        self._shapes[name] = shape
        if len(shape) == 3:
            self._following.add(name)
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
        return self.value_of(node.output)

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
