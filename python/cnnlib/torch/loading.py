"""`load`: a PyTorch module as a graph of cnnlib's layers.

The network is read from what ``torch.export`` records when the module runs in eval mode: one list of ATen
operators, whether the module calls layers, functions or methods, and whatever Python decides on the way. The
module tree would not say how layers are connected, and ``torch.fx`` stops at such decisions.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from cnnlib._params import positive_int
from cnnlib.models.graph import Graph, Node
from cnnlib.models.graph_net import GraphNet
from cnnlib.torch.aliases import refuse_changed_views
from cnnlib.torch.aten import IGNORED, LAYOUTS, OPERATORS, PASSED_ON, Call
from cnnlib.torch.modules import OWN

__all__ = ["load"]

_EXAMPLES = 2  # the batch of the recorded run; one sample alone would be taken for a special case


def load(module: nn.Module, input_dim: int | Sequence[int]) -> GraphNet:
    """
    A PyTorch network as a cnnlib model with its weights.

    Parameters
    ----------
    module : torch.nn.Module
        Takes one batch of samples and returns one tensor. It is run once, in eval mode, and not changed.
    input_dim : int or sequence of int
        Shape of a sample: (C, H, W) of images, or (D,).

    Returns
    -------
    GraphNet
        ``net.loss(X)`` equals ``module.eval()(X)`` up to rounding. `net.params` are copies under PyTorch's
        names ('layer1.0.conv1.weight'), in PyTorch's layout but for the weights of ``Linear``, which are
        transposed; parameters without ``requires_grad`` are `frozen`. float64 if a parameter is, else
        float32. What is trained is what eval mode shows: batch norm and dropout change with the mode, and
        whatever else differs in training (stochastic depth, auxiliary heads) is left out.

    Raises
    ------
    ValueError
        An operator, or an option of one, that has no counterpart here; the message names it and the layer
        that called it. A module that ``torch.export`` cannot record.
    TypeError
        `module` is no ``torch.nn.Module``.

    Examples
    --------
    >>> from torch import nn
    >>> module = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 6 * 6, 10))
    >>> net = load(module, (3, 8, 8))
    >>> net.loss(np.zeros((5, 3, 8, 8))).shape, list(net.params)
    ((5, 10), ['0.weight', '0.bias', '3.weight', '3.bias'])
    """
    if not isinstance(module, nn.Module):
        raise TypeError(f"load: module must be a torch.nn.Module, got {type(module).__name__}")
    shape = [positive_int("load", "input_dim", size) for size in np.atleast_1d(input_dim).tolist()]
    _refuse_cumulative_averages(module)
    floating = [tensor for tensor in module.parameters() if tensor.is_floating_point()]
    double = any(tensor.dtype == torch.float64 for tensor in floating)
    exported = _exported(
        module, torch.zeros(_EXAMPLES, *shape).to(floating[0] if floating else torch.float32)
    )
    reader = _Reader(exported)
    return GraphNet(
        reader.graph, reader.params, shape, frozen=reader.frozen, dtype=np.float64 if double else np.float32
    )


def _exported(module, example):
    with _for_reading(module), torch.no_grad():
        try:
            return torch.export.export(module, (example,), strict=False)
        except Exception as error:  # it can raise nearly anything, and so can the module
            reason = str(error).partition("\n")[0]
            raise ValueError(
                f"load: torch.export cannot record the module on samples {tuple(example.shape[1:])}: {reason}"
            ) from error


def _refuse_cumulative_averages(module):
    """The record does not show them: in eval mode nothing is averaged."""
    for name, layer in module.named_modules():
        if getattr(layer, "track_running_stats", False) and getattr(layer, "momentum", 0) is None:
            raise ValueError(
                f"load: {type(layer).__name__} {name!r}: momentum=None, the mean over all batches, has no "
                "counterpart; set a number"
            )


@contextlib.contextmanager
def _for_reading(module: nn.Module) -> Iterator[None]:
    """Within the block the module is in eval mode, and cnnlib's modules in it are PyTorch's again."""
    original = {own: theirs for theirs, own in OWN.items()}
    before = [(layer, layer.training, layer.__class__) for layer in module.modules()]
    try:
        for layer, _, kind in before:
            layer.training = False
            layer.__class__ = original.get(kind, kind)
        yield
    finally:
        for layer, training, kind in before:
            layer.training = training
            layer.__class__ = kind


class _Reader:
    """Turns the nodes of an exported program into nodes of a Graph.

    Attributes
    ----------
    graph : Graph
    params : dict of str to ndarray
    frozen : list of str
    """

    def __init__(self, exported: Any) -> None:
        self.params: dict[str, NDArray[Any]] = {}
        self.frozen: list[str] = []
        self.constants, self.names = _constants(exported)
        self.values: dict[Any, str] = {}  # the value that each recorded node is
        self.shapes: dict[str, tuple[int, ...]] = {}  # of values, here
        self.norms: dict[str, dict[str, Any]] = {}  # of each batch norm, by the name of its running mean
        self.channels_last: set[Any] = set()  # recorded nodes that are (N, H, W, C) in PyTorch alone
        self.pads: dict[str, tuple[str, Any]] = {}  # padded values: of which value, how much on each side
        self.made: list[Node] = []
        self._layouts: dict[str, str] = {}
        nodes = list(exported.graph.nodes)
        refuse_changed_views(nodes)
        (start,) = (node for node in nodes if node.op == "placeholder" and node not in self.constants)
        self.values[start], self.shapes["input"] = "input", tuple(start.meta["val"].shape)
        for node in nodes:
            if node.op == "call_function":
                self._read(node)
        self.graph = self._leading_to(_output(nodes, self.values))

    def _read(self, node):
        inputs = node.all_input_nodes
        if inputs and all(n in self.constants for n in inputs):  # a parametrized weight, say
            args, kwargs = torch.fx.map_arg((node.args, node.kwargs), self.constants.__getitem__)
            self.constants[node], self.names[node] = node.target(*args, **kwargs), node.name
            return
        call = Call(self, node)
        if call.operator in PASSED_ON:
            call.pass_on(call.value(0))
        elif call.operator in OPERATORS:
            OPERATORS[call.operator](call)
        elif call.operator not in IGNORED:
            call.refuse(f"the operator {node.target} has no counterpart")

    def parameter(self, name: str, tensor: torch.Tensor, layout: str = "") -> str:
        """Take a tensor in as a parameter, in one of `LAYOUTS`."""
        if self._layouts.setdefault(name, layout) != layout:
            raise ValueError(f"load: {name!r} is a parameter of two kinds of layers")
        if name not in self.params:
            array = tensor.detach().numpy(force=True)
            self.params[name] = np.array(LAYOUTS[layout](array), order="C")
            if not tensor.requires_grad:
                self.frozen.append(name)
        return name

    def _leading_to(self, output):
        """The graph without what does not lead to its output."""
        needed, kept = {output}, []
        for node in reversed(self.made):
            if node.output in needed:
                kept.append(node)
                needed.update(node.inputs)
        used = {name for node in kept for name in node.params}
        self.params = {name: array for name, array in self.params.items() if name in used}
        self.frozen = [name for name in self.frozen if name in used]
        return Graph(kept[::-1], output=output)


def _constants(exported):
    """Parameters, buffers and constants by their node, and what the module calls them."""
    signature = exported.graph_signature
    named = {
        **signature.inputs_to_parameters,
        **signature.inputs_to_buffers,
        **signature.inputs_to_lifted_tensor_constants,
    }
    tensors, names = {}, {}
    for node in exported.graph.nodes:
        if node.op == "placeholder" and node.name in named:
            names[node] = named[node.name]
            kept = exported.state_dict if names[node] in exported.state_dict else exported.constants
            tensors[node] = kept[names[node]]
    return tensors, names


def _output(nodes, values):
    (results,) = nodes[-1].args
    if len(results) != 1 or results[0] not in values:
        raise ValueError(f"load: the module must return one tensor computed from its input, got {results}")
    return values[results[0]]
