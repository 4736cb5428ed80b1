"""An ONNX graph in the making."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from cnnlib._typing import Array
from cnnlib.graph.graph import Graph, Node, numbered
from cnnlib.graph.ops import OnnxForm
from cnnlib.graph.shapes import shapes


class Writer:
    """Collects the operators (`nodes`) and tensors of a file.

    `shapes` are those of one sample of each of the graph's values. `fixed_by` says why the file computes what
    the graph does for images of this size alone: the graph's own reason, or that of the first layer whose
    operator follows no size; it is empty if there is none.
    """

    def __init__(
        self,
        onnx: Any,
        params: Mapping[str, Array],
        dtype: np.dtype[Any],
        graph: Graph,
        input_dim: tuple[int, ...],
        output: str,
    ) -> None:
        self.onnx, self.params, self.dtype = onnx, params, dtype
        self.nodes: list[Any] = []
        self.tensors: list[Any] = []
        self.shapes = shapes(graph, params, input_dim, "cnnlib.onnx.save")
        # A value of the graph may be called what a parameter is; in a file all names are different, and those
        # of several outputs stay.
        self._taken = {*params} - {*graph.outputs}
        self._written: set[str] = set()
        self.fixed_by = graph.fixed_by
        self._following = graph.following()
        own = {} if graph.outputs else {graph.output: self.fresh(output)}
        names = (*graph.outputs, graph.input, *(node.output for node in graph))
        self._names = {name: self.fresh(name) for name in dict.fromkeys(names)} | own
        self._tensors = {name: self.fresh(name) if name in graph.outputs else name for name in params}

    def value(self, name: str) -> str:
        """What a value of the graph is called in the file."""
        return self._names[name]

    def fix(self, node: Node, text: str) -> None:
        """Note that a layer is written for images of this size, if its input follows their size."""
        if node.inputs[0] in self._following:
            self.fixed_by = self.fixed_by or f"{node.title}: {text}, as written to ONNX"

    def layer(self, node: Node, inputs: list[str], output: str) -> None:
        """Add the operators of a layer of floats.

        ValueError for one that has none.
        """
        form = node.op.onnx
        if form is None:
            raise ValueError(
                f"cnnlib.onnx.save: {node.title}: there is no operator for the layer {node.layer!r}"
            )
        write = form.write if isinstance(form, OnnxForm) else form
        write(self, node, inputs, output)

    def operator(
        self, kind: str, node: Node, inputs: Sequence[str], output: str = "", **attributes: Any
    ) -> str:
        """Add an operator on the way from a node's inputs to `output`, by default a value in between."""
        output = output or self.fresh(f"{node.output}.{kind}")
        name = f"{node.label or node.layer} ({output})"
        self.nodes.append(self.onnx.helper.make_node(kind, list(inputs), [output], name=name, **attributes))
        return output

    def parameter(self, name: str | None) -> list[str]:
        """The name of a parameter's tensor; an empty list for a bias that does not exist."""
        if name is None:
            return []
        if name not in self._written:
            self._written.add(name)
            self._add(self._tensors[name], np.asarray(self.params[name], self.dtype))
        return [self._tensors[name]]

    def as_parameter(self, name: str) -> str:
        """The name of a parameter that operators make, instead of a tensor."""
        self._written.add(name)
        return self._tensors[name]

    def constant(self, node: Node, role: str, value: ArrayLike, dtype: Any = None) -> str:
        """A tensor that is no parameter, in the network's dtype or another one."""
        name = self.fresh(f"{node.output}.{role}")
        self._add(name, np.asarray(value, dtype or self.dtype))
        return name

    def _add(self, name, array):
        self.tensors.append(
            self.onnx.numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape), name)
        )

    def fresh(self, name: str) -> str:
        """A name that nothing in the file has."""
        unique = numbered(name, self._taken)
        self._taken.add(unique)
        return unique
