"""A call of an operator in the record of a module: its arguments, and the forms that values come in."""

from __future__ import annotations

import math
from typing import Any, NoReturn

import numpy as np
import torch

from cnnlib._typing import Array
from cnnlib.graph.importing import Feature, TensorOperation
from cnnlib.graph.importing.tensors import Known, Operand

# Arguments that say how to compute or where, not what; `check_result` checks the dtype.
_WITHOUT_EFFECT = (
    *("cudnn_enabled", "cudnn_enable", "memory_format", "non_blocking", "copy"),
    *("dtype", "layout", "device", "pin_memory"),
)


def two(values: Any) -> tuple[int, int]:
    """PyTorch's one or two numbers as (vertical, horizontal)."""
    return (values[0], values[-1])


def title(node: Any) -> str:
    """What messages call a recorded call: its name and the layer that made it."""
    path, kind = _layer(node)
    return f"{node.name} of {kind} {path!r}" if path else node.name


def _layer(node):
    """The path and the class of the layer that made a call."""
    path, kind = list((node.meta.get("nn_module_stack") or {"": ("", "")}).values())[-1]
    return path, str(getattr(kind, "__name__", kind)).rsplit(".", 1)[-1]


def result(node: Any) -> Any:
    """What PyTorch says of a call's result, of several of the first: its `shape` and `dtype`."""
    value = node.meta["val"]
    return value[0] if isinstance(value, (tuple, list)) else value


class Refused(ValueError):
    """A recorded call that has no counterpart; the message names it without the function that reads it."""


class Call(TensorOperation):
    """One recorded call; values of the network are named as in the graph that is made.

    `operator` is without namespace, overload and the underscore of in-place operators: 'conv2d'. `in_place`:
    whether it changes its first argument.
    """

    net: Any  # the builder of :mod:`cnnlib.torch.loading`, which knows the record's constants

    def __init__(self, net: Any, node: Any, natural: bool = False) -> None:
        """With `natural`, values are taken as tensors in the shape that the module sees."""
        self.net, self.node, self.output, self.natural = net, node, node.name, natural
        schema = getattr(node.target, "_schema", None)
        name = str(getattr(node.target, "__name__", "")) if schema is None else schema.name
        name = name.removeprefix("aten::")
        self.operator = name if name.startswith("_") else name.rstrip("_")
        self.in_place = schema is not None and schema.is_mutable
        arguments = [] if schema is None else schema.arguments
        given = dict(zip((a.name for a in arguments), node.args)) | node.kwargs
        super().__init__(given, {a.name: a.default_value for a in arguments})
        self.ignore(*_WITHOUT_EFFECT)
        self.label, _ = _layer(node)

    def __getitem__(self, name: str) -> Any:
        if name not in self.defaults:
            self.fail(f"the operator {self.node.target} has no counterpart")
        return super().__getitem__(name)

    def fail(self, text: str) -> NoReturn:
        raise Refused(f"{title(self.node)}: {text}")

    def number_of_samples(self) -> int:
        return int(self.net.batch)

    def argument(self, which: int | str) -> Any:
        return self[which if isinstance(which, str) else list(self.defaults)[which]]

    def any_value(self, which: int | str) -> Feature:
        """The value that an argument is, of whatever kind."""
        return self.value_of(self.argument(which))

    def value_of(self, argument: Any) -> Feature:
        """The value that is computed from the input, of whatever kind."""
        if not isinstance(argument, torch.fx.Node) or argument not in self.net.values:
            self.fail(f"takes a value that is computed from the input, got {argument}")
        value = self.net.values[argument]
        if not isinstance(value, Feature):
            self.fail(f"takes one value, got several: {argument}")
        if not value.by_samples:
            self.fail(
                f"takes a value of shape {value.source_shape(self.net.batch)}, whose samples share an axis"
            )
        return self.tensor(value) if self.natural else value

    def tensor_of(self, which: int | str) -> Feature:
        """An argument, computed from the input, as a tensor of any rank."""
        value = self.operand(which)
        if isinstance(value, Known):
            self.fail(f"takes a value that is computed from the input, got {self.argument(which)}")
        return value

    def operand(self, which: int | str) -> Operand:
        """An argument that is a value, a constant or a number."""
        return self.operand_of(self.argument(which))

    def operand_of(self, argument: Any) -> Operand:
        """A value, a constant or a number."""
        if isinstance(argument, (bool, int, float)):
            return Known(np.array(argument))
        if argument in self.net.constants:
            tensor, name = self.net.constants[argument], self.net.names[argument]
            if not isinstance(tensor, torch.Tensor):
                self.fail(f"takes one tensor, got {argument}")
            array = tensor.detach().numpy(force=True)
            if tensor.requires_grad:
                return Known(array, name)
            return Known(array if array.ndim else np.array(array))
        value = self.net.values.get(argument)
        if not isinstance(value, Feature):
            self.fail(f"takes a value that is computed from the input, got {argument}")
        return value

    def known(self, which: int | str) -> Known:
        """An argument that is a constant."""
        value = self.operand(which)
        if not isinstance(value, Known):
            self.fail(f"{which} must be constant, not computed from the input")
        return value

    def sizes_of(self, value: Operand) -> tuple[int, ...]:
        """PyTorch's shape of an operand."""
        return value.shape if isinstance(value, Known) else value.source_shape(self.net.batch)

    def as_number(self, argument: Any) -> float:
        """An argument that is a number, or a constant of one."""
        value = self.operand_of(argument)
        if not isinstance(value, Known) or value.array.size != 1:
            self.fail(f"takes numbers alone, got {argument}")
        return float(value.array.reshape(()))

    def trailing_norm(self, x: Feature, count: int, eps: float) -> Feature:
        """A layer norm over the last axes, with scale and shift."""
        x = self.tensor(x)
        if x.batch_axis >= self.rank(x) - count:
            self.fail("normalises over the samples, which stay apart")
        params = self.affine(*x.natural[len(x.natural) - count :])
        return self.emit("trailing_layernorm", x, params=params, args=(float(eps),)).seen_like(x)

    def value(self, which: int | str) -> Feature:
        """The value that an argument is, with the pixels around it."""
        return self.unpadded(self.any_value(which))

    def images(self, which: int | str) -> Feature:
        """An argument that is images (N, C, H, W)."""
        return self.as_images(self.any_value(which))

    def rows(self, which: int | str) -> Feature:
        """An argument that is (N, D)."""
        value = self.value(which)
        if len(value.view) != 1:
            self.fail(f"{self.operator} takes (N, D) here, got {('N', *value.view)}")
        return self.plain(value)

    def shape(self, which: int | str) -> tuple[int, ...]:
        """PyTorch's shape of an argument."""
        return tuple(self.argument(which).meta["val"].shape)

    @property
    def out_shape(self) -> tuple[int, ...]:
        """PyTorch's shape of the result."""
        return tuple(result(self.node).shape)

    def parameter(self, role: str, array: Array, name: str = "") -> str:
        made = super().parameter(role, np.array(array), name)  # the module keeps its own
        if name not in ("", made):
            self.fail(f"{name!r} is a parameter of two kinds of layers")
        return made

    def weights(self, which: str) -> tuple[Array | None, str]:
        """The parameter that an argument is, and its name; None for None."""
        node = self[which]
        if node is None:
            return None, ""
        if node not in self.net.constants:
            self.fail(f"{which} must be a parameter, not computed from the input")
        name, tensor = self.net.names[node], self.net.constants[node]
        if not tensor.requires_grad:
            self.net.frozen.add(name)
        return tensor.detach().numpy(force=True), name

    def given(self, *which: str) -> tuple[str | None, ...]:
        """The names of the parameters that arguments are, each None for None."""
        found = [(role, *self.weights(role)) for role in which]
        return tuple(
            None if array is None else self.parameter(role, array, name) for role, array, name in found
        )

    def affine(self, *shape: int) -> tuple[str, ...]:
        """The scale and shift of a norm; where it has none, frozen ones and zeros."""
        names = []
        for which, value in (("weight", 1.0), ("bias", 0.0)):
            array, name = self.weights(which)
            if array is None:
                name = self.net.free_name(f"{self.label or self.output}.{which}", math.prod(shape), value)
                array = np.full(shape, value)
                self.net.frozen.add(name)
            names.append(self.parameter(which, array, name))
        return tuple(names)

    def check_result(self, value: Feature) -> Feature:
        """Refuse a value that is not PyTorch's result."""
        dtype = result(self.node).dtype
        if dtype != self.net.recorded_dtype:
            self.fail(f"computes in {dtype}, the network in {self.net.recorded_dtype}")
        came = value.source_shape(self.net.batch)
        if came != self.out_shape:
            self.fail(f"a value of shape {came} that stands for {self.out_shape} has no counterpart")
        return value
