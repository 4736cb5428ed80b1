"""`load`: a PyTorch module as a graph of cnnlib's layers.

The network is read from what ``torch.export`` records when the module runs in eval mode: one list of ATen
operators, whether the module calls layers, functions or methods, and whatever Python decides on the way. The
module tree would not say how layers are connected, and ``torch.fx`` stops at such decisions.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from cnnlib._params import positive_int
from cnnlib.graph.graph import Graph, Node
from cnnlib.models.graph_net import GraphNet
from cnnlib.torch.aliases import refuse_changed_views
from cnnlib.torch.aten import IGNORED, LAYOUTS, OPERATORS, PASSED_ON, Call
from cnnlib.torch.aten.value import PLAIN, RETURNED, Value
from cnnlib.torch.modules import OWN
from cnnlib.torch.sizes import size_fixed_by
from cnnlib.torch.tensors import HALVES

__all__ = ["load"]

_EXAMPLES = 2  # the batch of the recorded run; one sample alone would be taken for a special case


def load(module: nn.Module, input_dim: int | Sequence[int]) -> GraphNet:
    """
    Make a cnnlib model of a PyTorch network, with its weights.

    Parameters
    ----------
    module : torch.nn.Module
        Takes one batch of samples and returns one tensor. It is run in eval mode, and not changed.
    input_dim : int or sequence of int
        Shape of a sample: (C, H, W) of images, or (D,).

    Returns
    -------
    GraphNet
        ``net.loss(X)`` equals ``module.eval()(X)`` up to rounding. `net.params` are copies under PyTorch's
        names ('layer1.0.conv1.weight'), in PyTorch's layout but for the weights of ``Linear``, which are
        transposed; parameters without ``requires_grad`` are `frozen`. float64 if the first parameter is, else
        float32: a module of 16-bit floats is computed as ``module.float()`` would be.

        What is trained is what eval mode shows: batch norm and dropout change with the mode, and whatever
        else differs in training (stochastic depth, auxiliary heads) is left out.

        Images may have another height and width if the module then makes the same calls. If a number in
        them was computed from ``x.shape``, or ``interpolate`` goes to a size instead of by a factor, the
        network refuses other sizes and names the call.

    Raises
    ------
    ValueError
        An operator, or an option of one, that has no counterpart here; the message names it and the layer
        that called it. A module that ``torch.export`` cannot record, or whose calls depend on the number of
        samples.
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
    _check_module(module)
    shape = tuple(positive_int("load", "input_dim", size) for size in np.atleast_1d(input_dim).tolist())
    _refuse_cumulative_averages(module)
    floating = [t.dtype for t in (*module.parameters(), *module.buffers()) if t.is_floating_point()]
    example = torch.zeros(_EXAMPLES, *shape, dtype=floating[0] if floating else torch.float32)
    with _for_reading(module), torch.no_grad():
        exported = _exported(module, example)
    reader = _Reader(exported, example.dtype)
    with _for_reading(module), torch.no_grad():
        fixed_by = size_fixed_by(module, example, reader.graph.why_fixed())
    if not reader.graph.why_fixed():
        reader.graph.fixed_by = fixed_by
    dtype = np.float64 if example.dtype == torch.float64 else np.float32
    return GraphNet(reader.graph, reader.params, shape, frozen=reader.frozen, dtype=dtype)


def _check_module(module):
    if isinstance(module, nn.Module):
        return
    hint = ""
    if isinstance(module, (str, os.PathLike)):
        hint = f"; read the file first: torch.load({os.fspath(module)!r})"
    elif isinstance(module, Mapping):
        hint = "; make the module that these weights belong to, and call its load_state_dict"
    raise TypeError(f"load: module must be a torch.nn.Module, got {type(module).__name__}{hint}")


def _exported(module, example):
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

    def __init__(self, exported: Any, dtype: torch.dtype) -> None:
        self.params: dict[str, NDArray[Any]] = {}
        self.frozen: list[str] = []
        self.dtype = dtype  # of the values in PyTorch
        self.constants, self.names = _constants(exported)
        self.values: dict[Any, Value] = {}  # the value that each recorded node stands for
        self.made: list[Node] = []
        self._batch_norms: dict[tuple[Any, ...], dict[str, Any]] = {}
        self._lacking: dict[tuple[str, int, float], str] = {}  # names of constants
        self._layouts: dict[str, str] = {}
        nodes = list(exported.graph.nodes)
        refuse_changed_views(nodes)
        (start,) = (node for node in nodes if node.op == "placeholder" and node not in self.constants)
        self.values[start] = Value("input", tuple(start.meta["val"].shape))
        for node in nodes:
            if node.op == "call_function":
                self._read(node)
        self.graph = self._leading_to(_output(nodes, self.values))

    def _read(self, node):
        call, inputs = Call(self, node), node.all_input_nodes
        if inputs and all(n in self.constants for n in inputs):  # a parametrized weight, say
            args, kwargs = torch.fx.map_arg((node.args, node.kwargs), self.constants.__getitem__)
            if call.in_place and node.args[0].op == "placeholder":
                call.refuse(f"it changes {self.names[node.args[0]]!r} in eval mode too")
            self.constants[node] = _widened(node.target(*args, **kwargs))
            self.names[node] = _free_name(node.name, self.names.values())
            return
        if call.operator in PASSED_ON:
            call.seen_in_shape()
            call.pass_on(call.any_value(0))
        elif call.operator in OPERATORS:
            OPERATORS[call.operator](call)
            call.check_arguments()
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

    def constant(self, name: str, size: int, value: float) -> str:
        """A frozen parameter (size,) that the module lacks; its name, which the module has for no other."""
        key = (name, size, value)
        if key not in self._lacking:
            self._lacking[key] = _free_name(name, (*self.names.values(), *self._lacking.values()))
        return self.parameter(self._lacking[key], torch.full((size,), value))

    def batch_norm(self, mean: Any, var: Any, eps: float, momentum: float) -> dict[str, Any]:
        """The parameter dict of a batch norm: one for all calls of a layer, which share its statistics."""
        key = (self.names[mean], self.names[var], eps, momentum)
        if key not in self._batch_norms:
            statistics = (self.constants[node].numpy(force=True).copy() for node in (mean, var))
            settings = {"mode": "test", "eps": eps, "momentum": 1 - momentum}
            self._batch_norms[key] = settings | dict(zip(("running_mean", "running_var"), statistics))
        return self._batch_norms[key]

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
            tensors[node] = _widened(kept[names[node]])
    return tensors, names


def _free_name(name, taken):
    """The name, made longer while it is taken."""
    while name in taken:
        name += "_"
    return name


def _widened(tensor):
    """A tensor of 16-bit floats in float32, others as they are."""
    return tensor.float() if getattr(tensor, "dtype", None) in HALVES else tensor


def _output(nodes, values):
    """The name of the graph's output."""
    (results,) = nodes[-1].args
    if len(results) != 1 or results[0] not in values:
        raise ValueError(f"load: the module must return one tensor computed from its input, got {results}")
    value = values[results[0]]
    if value.kind != PLAIN:
        raise ValueError(f"load: {results[0].name}, which the module returns, {RETURNED[value.kind]}")
    return value.name
