"""A call of an operator in the record of a module, and how it becomes nodes of a Graph."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NoReturn

import torch

from cnnlib.graph.graph import Node
from cnnlib.torch.aten.value import CHANNELS_LAST, PADDED, PLAIN, SPREAD, Value

__all__ = ["LAYOUTS", "Call", "result", "title", "two"]

# How parameters are laid out here: PyTorch's array into ours.
LAYOUTS: dict[str, Callable[[Any], Any]] = {
    "": lambda array: array,
    "transposed": lambda array: array.T,  # (M, D) of a Linear as (D, M)
    "1x1": lambda array: array[:, :, None, None],  # (F, C) of a Linear on pixels as filters
    "depthwise": lambda array: array.reshape(-1, 1, 1, 1),  # a factor for each channel as filters
}
# Arguments that say how to compute or where, not what; `pass_on` checks the dtype.
_WITHOUT_EFFECT = (
    *("cudnn_enabled", "cudnn_enable", "memory_format", "non_blocking", "copy"),
    *("dtype", "layout", "device", "pin_memory"),
)
_REFUSALS = {
    CHANNELS_LAST: "{} of images with channels last has no counterpart",
    SPREAD: "{} of a value for each channel that stands for images has no counterpart",
    PADDED: "padding before it is no part of this layer; it is of a convolution alone",
}


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


class Call:
    """One recorded call.

    Its arguments are read by name, `call["stride"]`, defaults included; :meth:`check_arguments` refuses those
    that were not read. Values of the network are named as in the graph that is made.

    Attributes
    ----------
    operator : str
        Without namespace, overload and the underscore of in-place operators: 'conv2d'.
    in_place : bool
        Whether it changes its first argument.
    """

    def __init__(self, reader: Any, node: Any) -> None:
        self.reader, self.node = reader, node
        schema = getattr(node.target, "_schema", None)
        name = node.target.__name__ if schema is None else schema.name.removeprefix("aten::")
        self.operator = name if name.startswith("_") else name.rstrip("_")
        self.in_place = schema is not None and schema.is_mutable
        arguments = [] if schema is None else schema.arguments
        self._given: dict[str, Any] = dict(zip((a.name for a in arguments), node.args)) | node.kwargs
        self._defaults: dict[str, Any] = {a.name: a.default_value for a in arguments}
        self._unread = set(self._given)
        self.module, _ = _layer(node)

    def __getitem__(self, name: str) -> Any:
        if name not in self._defaults:
            self.refuse(f"the operator {self.node.target} has no counterpart")
        self._unread.discard(name)
        return self._given.get(name, self._defaults[name])

    def seen_in_shape(self, *names: str) -> None:
        """These arguments, or all, say nothing beyond the shape of the result, which is read."""
        self._unread -= set(names or self._unread)

    def check_arguments(self) -> None:
        """Refuse arguments that were not read and differ from their default."""
        for name in sorted(self._unread.difference(_WITHOUT_EFFECT)):
            if self._given[name] != self._defaults[name]:
                self.refuse(f"{name}={self._given[name]} has no counterpart")

    def refuse(self, why: str) -> NoReturn:
        """ValueError that names the call and the layer that made it."""
        raise ValueError(f"load: {title(self.node)}: {why}")

    def argument(self, which: int | str) -> Any:
        return self[which if isinstance(which, str) else list(self._defaults)[which]]

    def is_value(self, which: int | str) -> bool:
        """Whether an argument was computed from the network's input."""
        argument = self.argument(which)
        return isinstance(argument, torch.fx.Node) and argument in self.reader.values

    def any_value(self, which: int | str) -> Value:
        """The value that an argument is, of whatever kind."""
        if not self.is_value(which):
            self.refuse(f"takes a value that is computed from the input, got {self.argument(which)}")
        return self.reader.values[self.argument(which)]

    def value(self, which: int | str, *kinds: str) -> Value:
        """The value that an argument is, which must be a plain one or of these kinds."""
        value = self.any_value(which)
        if value.kind not in (PLAIN, *kinds):
            self.refuse(_REFUSALS[value.kind].format(self.operator))
        return value

    def rows_or_images(self, which: int | str, *ranks: int) -> str:
        """The name of a plain value with one of these numbers of dimensions: 2 for rows, 4 for images."""
        return self.ranked(self.value(which), *ranks).name

    def ranked(self, value: Value, *ranks: int) -> Value:
        """A value that must have one of these numbers of dimensions."""
        if len(value.shape) not in ranks:
            kinds = " or ".join("(N, D)" if rank == 2 else "(N, C, H, W)" for rank in ranks)
            self.refuse(f"{self.operator} takes {kinds} here, got {('N', *value.shape[1:])}")
        return value

    def shape(self, which: int | str) -> tuple[int, ...]:
        """PyTorch's shape of an argument."""
        return tuple(self.argument(which).meta["val"].shape)

    @property
    def out_shape(self) -> tuple[int, ...]:
        """PyTorch's shape of the result."""
        return tuple(result(self.node).shape)

    def parameter(self, which: str, layout: str = "") -> str | None:
        """The name of the parameter that an argument is, None for None; `layout` as in `LAYOUTS`."""
        node = self[which]
        if node is None:
            return None
        if node not in self.reader.constants:
            self.refuse(f"{which} must be a parameter, not computed from the input")
        return self.reader.parameter(self.reader.names[node], self.reader.constants[node], layout)

    def affine(self, size: int) -> tuple[str, str]:
        """The scale and shift of a norm; where it has none, frozen ones and zeros."""
        return self._or_constant("weight", size, 1.0), self._or_constant("bias", size, 0.0)

    def _or_constant(self, which, size, value):
        name = self.parameter(which)
        return name or self.reader.constant(f"{self.module or self.node.name}.{which}", size, value)

    def emit(
        self,
        layer: str,
        inputs: tuple[str, ...],
        params: tuple[str | None, ...] = (),
        args: tuple[Any, ...] = (),
    ) -> None:
        """The call is this node, whose result has PyTorch's shape."""
        self.emit_as(Value("", self.out_shape), layer, inputs, params, args)

    def emit_as(
        self,
        value: Value,
        layer: str,
        inputs: tuple[str, ...],
        params: tuple[str | None, ...] = (),
        args: tuple[Any, ...] = (),
    ) -> None:
        """The call is this node, whose result is as `value` but for the name."""
        self.step(layer, inputs, params, args, self.node.name)
        self.pass_on(replace(value, name=self.node.name))

    def step(
        self,
        layer: str,
        inputs: tuple[str, ...],
        params: tuple[str | None, ...],
        args: tuple[Any, ...],
        output: str,
    ) -> str:
        """A node on the way to the call's own; the name of its value."""
        self.reader.made.append(Node(layer, inputs, output, params, args, self.module))
        return output

    def pass_on(self, value: Value) -> None:
        """The call's result is this value."""
        dtype = result(self.node).dtype
        if dtype != self.reader.dtype:
            self.refuse(f"computes in {dtype}, the network in {self.reader.dtype}")
        if not value.is_of(self.out_shape):
            self.refuse(f"a value of shape {value.shape} that stands for {self.out_shape} has no counterpart")
        self.reader.values[self.node] = value
