"""`load`: a PyTorch module as a graph of cnnlib's layers; `copy_weights`: the way back.

The network is read from what ``torch.export`` records when the module runs in eval mode: one list of ATen
operators, whether the module calls layers, functions or methods, and whatever Python decides on the way. The
module tree would not say how layers are connected, and ``torch.fx`` stops at such decisions.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from cnnlib.graph.graph import fresh, numbered
from cnnlib.graph.importing import Builder, Feature
from cnnlib.graph.ops.norm import STATISTICS
from cnnlib.graph.shapes import checked_dim
from cnnlib.models.graph_net import GraphNet
from cnnlib.torch.aten import IGNORED, OPERATORS, TENSORS, Call, Refused
from cnnlib.torch.aten.call import title
from cnnlib.torch.modules import OWN
from cnnlib.torch.sizes import attributes_kept, size_fixed_by
from cnnlib.torch.tensors import HALVES


def copy_weights(net: GraphNet, module: nn.Module) -> None:
    """
    Write a model's parameters and running statistics into the module that it was loaded from.

    ``module.state_dict()`` then has them under PyTorch's names, for ``torch.save`` or a safetensors file.
    What the module has beyond the model stays: counters of batches, layers that do not lead to its output.

    Parameters
    ----------
    net : GraphNet
        What :func:`load` made of `module`, or of one like it.
    module : torch.nn.Module

    Raises
    ------
    ValueError
        The module lacks one of the model's trained parameters (a parametrized weight, say), or has it in
        another shape; nothing is written then.

    Examples
    --------
    >>> from cnnlib.torch import from_module
    >>> module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(144, 10))
    >>> net = from_module(module, input_dim=(3, 8, 8))
    >>> net.params["0.bias"][:] = 7
    >>> copy_weights(net, module)
    >>> module[0].bias.data
    tensor([7., 7., 7., 7.])
    """
    arrays, state = _under_torchs_names(net), module.state_dict()
    for name, array in arrays.items():
        if name in state:
            arrays[name] = _in_shape(name, array, tuple(state[name].shape))
        elif name not in net.frozen:  # else it is the constant scale or shift of a norm that has none
            raise ValueError(f"copy_weights: the module has no {name!r}")
    with torch.no_grad():
        for name in arrays.keys() & state.keys():
            state[name].copy_(torch.from_numpy(np.ascontiguousarray(arrays[name])))


def _in_shape(name, array, shape):
    """A parameter as the module has it: a Linear that is a convolution here lacks the axes of length 1."""
    if [n for n in shape if n > 1] != [n for n in array.shape if n > 1]:
        raise ValueError(
            f"copy_weights: {name!r} has shape {shape} in the module, {array.shape} in the model"
        )
    return array.reshape(shape)


def _under_torchs_names(net: GraphNet) -> dict[str, NDArray[Any]]:
    """Parameters and running statistics by PyTorch's names, in its layout."""
    arrays: dict[str, NDArray[Any]] = dict(net.params)
    for node in net.graph():
        if node.layer == "affine" and node.params[0] is not None:
            arrays[node.params[0]] = net.params[node.params[0]].T
        if node.op.statistics:
            layer = "".join(str(node.params[0]).rpartition(".")[:2])  # with its dot; none of a norm alone
            arrays |= {f"{layer}{name}": np.array(node.args[0][name]) for name in STATISTICS}
    return arrays


_UNDECLARED = ("dropout", "feature_dropout")  # in eval mode they return their argument itself


# Operators that take the shape and the type alone of a value that is computed from the input.
_BY_SHAPE = (
    "type_as",
    "new_zeros",
    "new_ones",
    "new_full",
    "new_empty",
    "zeros_like",
    "ones_like",
    "full_like",
)


# Operators that take a part of a constant, which may be that of one sample.
_PARTS = ("select", "slice", "narrow", "index", "index_select")


def _fed_by(nodes: list[Any], inputs: Collection[Any]) -> set[Any]:
    """The nodes whose values are computed from the inputs; all others are constant."""
    fed = set(inputs)
    for node in nodes:
        first = node.args[0] if node.args else None
        of_shape = _operator(node) in _BY_SHAPE and not (_operator(node) == "type_as" and first in fed)
        if not of_shape and not fed.isdisjoint(node.all_input_nodes):
            fed.add(node)
    return fed


def refuse_changed_views(nodes: list[Any], inputs: Collection[Any]) -> None:
    """Refuse a record in which a value changes in place and is then read under another name.

    A value that is read under its own name is no trouble: recording makes that the new value. The ValueError
    names the operator. Constants that the module makes are changed while they are computed, and so may be.
    """
    place = {node: i for i, node in enumerate(nodes)}
    fed = _fed_by(nodes, inputs)
    root = {node: node for node in nodes}
    for node in nodes:
        if _shares_memory(node):
            root[node] = root[node.args[0]]
    for node in nodes:
        if _operator(node).endswith("_") and (node in fed or root[node].op == "placeholder"):
            changed = node.args[0]
            others = [
                n for n in nodes if root[n] is root[changed] and place[n] < place[node] and n is not changed
            ]
            if any(place[user] > place[node] for other in others for user in other.users):
                raise ValueError(
                    f"from_module: {title(node)}: it changes in place what is read under another name "
                    "later on"
                )


def _shares_memory(node):
    """Whether the result is, or may be, a view of the first argument or that argument itself."""
    schema = getattr(node.target, "_schema", None)
    if schema is None or not schema.returns:
        return False
    return schema.returns[0].alias_info is not None or _operator(node) in _UNDECLARED


def _operator(node):
    """The name of an ATen operator, '' for all else; in-place ones end with an underscore."""
    schema = getattr(node.target, "_schema", None)
    name = "" if schema is None else schema.name.removeprefix("aten::")
    return "" if name.startswith("_") else name


# The batch of the recorded run: a prime, so that of the sizes in the record those alone are its multiples
# that hold the samples. The examples take no memory, since nothing reads or writes them.
_EXAMPLES = 509


def from_module(module: nn.Module, input_dim: int | Sequence[int]) -> GraphNet:
    """
    Make a cnnlib model of a PyTorch network, with its weights.

    Parameters
    ----------
    module : torch.nn.Module
        Takes one batch of samples and returns a tensor, or several: in a dict, whose keys become the names
        of the network's outputs, or in a tuple (``output0 output1 ...``). It is run in eval mode, and not
        changed.
    input_dim : int or sequence of int
        Shape of a sample: (C, H, W) of images, or (D,).

    Returns
    -------
    GraphNet
        ``net(X)`` equals ``module.eval()(X)`` up to rounding. `net.params` are copies under PyTorch's
        names ('layer1.0.conv1.weight'), in PyTorch's layout but for the weights of ``Linear``, which are
        transposed; parameters without ``requires_grad`` are `frozen`. float64 if the first parameter is, else
        float32: a module of 16-bit floats is computed as ``module.float()`` would be.

        What is trained is what eval mode shows: batch norm and dropout change with the mode, and whatever
        else differs in training (stochastic depth, auxiliary heads) is left out. Gradients go through a
        ``detach``. A batch norm without scale and shift (``affine=False``) has nothing to train, and uses its
        running statistics in training, too.

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
    >>> net = from_module(module, (3, 8, 8))
    >>> net.loss(np.zeros((5, 3, 8, 8))).shape, list(net.params)
    ((5, 10), ['0.weight', '0.bias', '3.weight', '3.bias'])
    """
    _check_module(module)
    shape = checked_dim("from_module", input_dim)
    _refuse_cumulative_averages(module)
    floating = [t.dtype for t in (*module.parameters(), *module.buffers()) if t.is_floating_point()]
    example = torch.zeros(_EXAMPLES, *shape, dtype=floating[0] if floating else torch.float32)
    with _for_reading(module), torch.no_grad():
        exported = _exported(module, example)
    net = _Network(exported, example)
    graph = net.graph(net.outputs)
    with _for_reading(module), torch.no_grad():
        fixed_by = size_fixed_by(module, example, graph.why_fixed())
    if not graph.why_fixed():
        graph.fixed_by = net.fixed_by or fixed_by
    return GraphNet(graph, net.params, shape, frozen=net.frozen, dtype=net.dtype)


def _check_module(module):
    if isinstance(module, nn.Module):
        return
    hint = ""
    if isinstance(module, (str, os.PathLike)):
        hint = f"; read the file first: torch.load({os.fspath(module)!r})"
    elif isinstance(module, Mapping):
        hint = "; make the module that these weights belong to, and call its load_state_dict"
    raise TypeError(f"from_module: module must be a torch.nn.Module, got {type(module).__name__}{hint}")


def _exported(module, example):
    try:
        return torch.export.export(module, (example,), strict=False)
    except Exception as error:  # it can raise nearly anything, and so can the module
        reason = str(error).partition("\n")[0]
        raise ValueError(
            f"from_module: torch.export cannot record the module on samples {tuple(example.shape[1:])}: "
            f"{reason}"
        ) from error


def _refuse_cumulative_averages(module):
    """The record does not show them: in eval mode nothing is averaged."""
    for name, layer in module.named_modules():
        if getattr(layer, "track_running_stats", False) and getattr(layer, "momentum", 0) is None:
            raise ValueError(
                f"from_module: {type(layer).__name__} {name!r}: momentum=None, the mean over all batches, "
                "has no counterpart; set a number"
            )


@contextlib.contextmanager
def _for_reading(module: nn.Module) -> Iterator[None]:
    """Within the block the module is in eval mode, and cnnlib's modules in it are PyTorch's again."""
    original = {own: theirs for theirs, own in OWN.items()}
    with attributes_kept(module):
        yield from _in_eval_mode(module, original)


def _in_eval_mode(module, original):
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


def _of_unknown_size(node: Any) -> bool:
    """Tell if PyTorch knows the shape of a call's result from the numbers alone, such as those of a mask."""
    value = node.meta.get("val")
    return isinstance(value, torch.Tensor) and any(isinstance(n, torch.SymInt) for n in value.shape)


def _empty(node: Any) -> bool:
    """Tell if a call makes a tensor of no numbers, such as none of a token's features."""
    value = node.meta.get("val")
    return isinstance(value, torch.Tensor) and not value.numel()


def _random(node: Any, call: Call) -> bool:
    """Tell if a call makes other numbers each time."""
    seeded = torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ())
    return seeded and not ("train" in call.defaults and not call["train"])


def _spread_alone(node: Any) -> bool:
    """Tell if a constant is spread over the samples, and has the axes that it had."""
    before, after = (tuple(one.meta["val"].shape) for one in (node.args[0], node))
    same = [n == m or (n, m) == (1, _EXAMPLES) for n, m in zip(before, after)]
    return len(before) == len(after) and all(same) and before != after


class _Network(Builder):
    """A builder that reads an exported program, recorded with `batch` samples of `recorded_dtype`.

    `constants` are parameters, buffers and what is computed from them by their nodes, `names` what the module
    calls them. `values` are what the nodes stand for that are computed from the input.
    """

    def __init__(self, exported: Any, example: torch.Tensor) -> None:
        super().__init__()
        self.recorded_dtype = example.dtype
        self.dtype = np.dtype(np.float64 if example.dtype == torch.float64 else np.float32)
        self.batch, *shape = example.shape
        self.constants, self.names = _constants(exported)
        self.refused: list[str] = []  # messages of all calls that have no counterpart
        self.made: set[Any] = set()  # constants that are computed from shapes and numbers alone
        self.lost: set[Any] = set()  # nodes behind those, of which no shape is known
        self._batch_norms: dict[tuple[Any, ...], tuple[dict[str, Any], str]] = {}
        self._lacking: dict[tuple[str, int, float], str] = {}  # names of constants
        nodes = list(exported.graph.nodes)
        (start,) = (node for node in nodes if node.op == "placeholder" and node not in self.constants)
        refuse_changed_views(nodes, (start,))
        self.fed = _fed_by(nodes, (start,))
        self.values: dict[Any, Feature] = {start: self.begin("input", tuple(shape))}
        for node in nodes:
            if node.op == "call_function":
                self._read(node)
        if self.refused:
            raise ValueError(f"from_module: {'; '.join(dict.fromkeys(self.refused))}")
        returned = exported.call_spec.out_spec.unflatten(nodes[-1].args[0])
        self.outputs = {name: self._output(node) for name, node in _named(returned).items()}

    def _read(self, node):
        call, inputs = Call(self, node), node.all_input_nodes
        if call.operator not in IGNORED and node not in self.fed:  # a parametrized weight, say
            if call.in_place and self._root(node).op == "placeholder":
                name = self.names[self._root(node)]
                raise ValueError(f"from_module: {title(node)}: it changes {name!r} in eval mode too")
            if _random(node, call):
                raise ValueError(f"from_module: {title(node)}: its numbers are random in eval mode too")
            self.constants[node] = made = self._computed(node, call)
            if self._counts_samples(node, call, made):
                why = "its numbers depend on how many samples there are"
                raise ValueError(f"from_module: {title(node)}: {why}")
            first = node.args[0] if node.args else None
            own = first in self.constants and self.constants[first] is made
            self.names[node] = self.names[first] if own else fresh(node.name, self.names.values(), "_")
        elif _of_unknown_size(node):
            self.refused.append(
                f"{title(node)}: the shape of its result depends on numbers, not on shapes alone"
            )
            self.lost.add(node)
        elif _empty(node):
            self.constants[node], self.names[node] = torch.zeros(node.meta["val"].shape), ""
        elif call.operator in IGNORED or (call.operator == "getitem" and not node.users):
            pass  # of a result that nothing reads
        elif any(n in self.lost for n in inputs):
            self.lost.add(node)
        else:
            self._translate(node)

    def _counts_samples(self, node, call, made):
        """Tell if a constant, which the module makes for the recorded samples, is summed over them."""
        inputs = node.all_input_nodes
        if not all(n in self.fed or n in self.made for n in inputs):
            return False  # of a parameter, no size of which is that of samples
        self.made.add(node)

        def holds_samples(value):
            return isinstance(value, torch.Tensor) and any(n % self.batch == 0 < n for n in value.shape)

        before = any(holds_samples(self.constants[n]) for n in inputs if n in self.made)
        return before and not holds_samples(made) and call.operator not in _PARTS

    def _root(self, node):
        """The constant whose memory an operator changes or shows."""
        while node.op != "placeholder" and _shares_memory(node):
            node = node.args[0]
        return node

    def _computed(self, node, call):
        """The value of an operator between constants."""

        def value_of(argument):
            if argument in self.constants:
                return self.constants[argument]
            like = argument.meta["val"]  # of which the operator takes shape and type
            return torch.zeros((), dtype=like.dtype).expand(like.shape)

        args, kwargs = torch.fx.map_arg((node.args, node.kwargs), value_of)
        if call.operator in ("expand", "expand_as", "contiguous", "alias", "to") and _spread_alone(node):
            return value_of(node.args[0])  # a parameter that is trained as itself
        return _widened(node.target(*args, **kwargs))

    def _translate(self, node):
        """Note what a call makes, in the first form that has a counterpart: of images, or of tensors.

        A form that is refused leaves nothing behind. The reason that is named is that of tensors, if they
        have the operator: it holds for any shape.
        """
        operator = Call(self, node).operator
        forms: list[tuple[Mapping[str, Any], bool]] = [
            (OPERATORS, False),
            (TENSORS, False),
            (OPERATORS, True),
        ]
        why = f"{title(node)}: the operator {node.target} has no counterpart"
        for place, (table, natural) in enumerate(form for form in forms if operator in form[0]):
            call, before = Call(self, node, natural), self.state()
            try:
                made = table[operator](call)
                if isinstance(made, Feature):  # of several each is checked where it is taken
                    call.check_result(made)
                call.check_arguments()
            except Refused as refused:
                self.go_back(before)
                why = str(refused) if place == 0 or table is TENSORS else why
            else:
                self.values[node] = made
                return
        self.refused.append(why)
        self._stand_in(node)

    def _stand_in(self, node):
        """Go on behind a call that is refused, if its result may be a value of the network."""
        value = node.meta["val"]
        shape = tuple(value.shape) if isinstance(value, torch.Tensor) else ()
        if shape[:1] == (self.batch,) and value.dtype == self.recorded_dtype:
            self.values[node] = self.stands_for(node.name, shape[1:])
        else:
            self.lost.add(node)

    def _output(self, node):
        """A value that the module returns."""
        if not isinstance(node, torch.fx.Node) or node not in self.values:
            raise ValueError(
                "from_module: the module must return tensors computed from its input, one, or several in a "
                f"tuple or a dict, got {node}"
            )
        value = self.tensor_output(Call(self, node), self.values[node])
        if value is None:
            raise ValueError(f"from_module: the module must return samples on the first axis, got {node}")
        return value

    def tensor_output(self, call, value):
        """A value in the shape that the module returns; None if its first axis is not that of the samples."""
        try:
            return call.plain(value) if value.by_samples else None
        except Refused:
            return call.tensor(value)

    def free_name(self, name: str, size: int, value: float) -> str:
        """The name of a constant (size,) that the module lacks, which it has for no other."""
        key = (name, size, value)
        if key not in self._lacking:
            self._lacking[key] = fresh(name, (*self.names.values(), *self._lacking.values()), "_")
        return self._lacking[key]

    def batch_norm(self, mean: Any, var: Any, eps: float, momentum: float) -> tuple[dict[str, Any], str]:
        """The parameter dict of a batch norm, and the name of the statistics that all its calls share."""
        key = (self.names[mean], self.names[var], eps, momentum)
        if key not in self._batch_norms:
            statistics = (self.constants[node].numpy(force=True) for node in (mean, var))
            settings = {"eps": eps, "momentum": 1 - momentum} | dict(zip(STATISTICS, statistics, strict=True))
            taken = {name for _, name in self._batch_norms.values()}
            self._batch_norms[key] = settings, numbered(self.names[mean], taken)
        return self._batch_norms[key]


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


def _widened(tensor):
    """A tensor of 16-bit floats in float32, others as they are."""
    return tensor.float() if getattr(tensor, "dtype", None) in HALVES else tensor


def _named(returned):
    """What the module returns, a tensor or several, by the names of outputs."""
    if isinstance(returned, Mapping):
        return {str(name): node for name, node in returned.items()}
    several = isinstance(returned, (tuple, list))
    return {f"output{k}": node for k, node in enumerate(returned if several else [returned])}
