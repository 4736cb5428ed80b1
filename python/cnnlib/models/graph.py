"""A network as a graph of layers: what the models hand to training, inference and exchange alike."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Node:
    """One layer of a graph: ``output = layer(*inputs, *params, *args)``.

    Attributes
    ----------
    layer : str
        The name of a layer of :mod:`cnnlib.layers` without ``_forward`` ('conv', 'spatial_batchnorm',
        'relu', 'max_pool', ...), or of what joins and reshapes values: 'add' and 'multiply' of two inputs,
        'concat' of several along the channels, 'scale' by a number, 'flatten' to (N, D).
    inputs : tuple of str
        The names of the values it reads.
    output : str
        The name of the value it makes; each value is made once.
    params : tuple of (str or None)
        The names of its parameters in the model's `params`, in the order of the layer's arguments; None for
        a bias that it does not have.
    args : tuple
        What follows them in the layer's signature: parameter dicts, numbers. A batch norm's dict is the
        model's own, with its running statistics.
    label : str
        For people: 'conv 16 3x3', or the node's name in the file that it came from.
    """

    layer: str
    inputs: tuple[str, ...]
    output: str
    params: tuple[str | None, ...] = ()
    args: tuple[Any, ...] = ()
    label: str = ""


@dataclass
class Graph:
    """Nodes in an order in which they can run, from the value `input` to the value `output`."""

    nodes: list[Node] = field(default_factory=list)
    input: str = "input"
    output: str = "input"

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes)

    def append(self, node: Node) -> str:
        """Put a node at the end, as the graph's output; return the name of its value."""
        self.nodes.append(node)
        self.output = node.output
        return node.output

    def readers(self) -> dict[str, list[Node]]:
        """The nodes that read each value."""
        found: dict[str, list[Node]] = {self.input: [], **{node.output: [] for node in self.nodes}}
        for node in self.nodes:
            for name in node.inputs:
                found[name].append(node)
        return found
