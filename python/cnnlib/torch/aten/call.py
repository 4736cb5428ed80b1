"""A call of an operator in the record of a module, and how it becomes nodes of a Graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

import torch

from cnnlib.models.graph import Node

__all__ = ["LAYOUTS", "Call", "two"]

# How parameters are laid out here: PyTorch's array into ours.
LAYOUTS: dict[str, Callable[[Any], Any]] = {
    "": lambda array: array,
    "transposed": lambda array: array.T,  # (M, D) of a Linear as (D, M)
    "1x1": lambda array: array[:, :, None, None],  # (F, C) of a Linear on pixels as filters
    "depthwise": lambda array: array.reshape(-1, 1, 1, 1),  # a factor for each channel as filters
}


def two(values: Any) -> tuple[int, int]:
    """PyTorch's one or two numbers as (vertical, horizontal)."""
    return (values[0], values[-1])


class Call:
    """One recorded call.

    Its arguments are read by name, `call["stride"]`, defaults included. Values of the network are named as in
    the graph that is made; a value may have another shape there than in PyTorch, (N, C) for (N, C, 1, 1).

    Attributes
    ----------
    operator : str
        Without namespace, overload and the underscore of in-place operators: 'conv2d'.
    """

    def __init__(self, reader: Any, node: Any) -> None:
        self.reader, self.node = reader, node
        schema = getattr(node.target, "_schema", None)
        name = node.target.__name__ if schema is None else schema.name.removeprefix("aten::")
        self.operator = name if name.startswith("_") else name.rstrip("_")
        self._arguments: dict[str, Any] = {}
        if schema is not None:
            given = dict(zip((a.name for a in schema.arguments), node.args)) | node.kwargs
            self._arguments = {a.name: given.get(a.name, a.default_value) for a in schema.arguments}
        path, kind = list((node.meta.get("nn_module_stack") or {"": ("", "")}).values())[-1]
        self.module = path
        layer = str(getattr(kind, "__name__", kind)).rsplit(".", 1)[-1]
        self.title = f"{node.name} of {layer} {path!r}" if path else node.name

    def __getitem__(self, name: str) -> Any:
        return self._arguments[name]

    def refuse(self, why: str) -> NoReturn:
        """ValueError that names the call and the layer that made it."""
        raise ValueError(f"load: {self.title}: {why}")

    def argument(self, which: int | str) -> Any:
        return self.node.args[which] if isinstance(which, int) else self[which]

    def is_value(self, which: int | str) -> bool:
        """Whether an argument was computed from the network's input."""
        argument = self.argument(which)
        return isinstance(argument, torch.fx.Node) and argument in self.reader.values

    def value(self, which: int | str, *, channels_last: bool = False) -> str:
        """The name of the value that an argument is, of any shape, with channels last if that is said."""
        if not self.is_value(which):
            self.refuse(f"takes a value that is computed from the input, got {self.argument(which)}")
        if self.has_channels_last(which) and not channels_last:
            self.refuse(f"{self.operator} of images with channels last has no counterpart")
        return self.reader.values[self.argument(which)]

    def has_channels_last(self, which: int | str) -> bool:
        """Whether an argument is (N, H, W, C) in PyTorch, where the value is (N, C, H, W) here."""
        return self.argument(which) in self.reader.channels_last

    def value_in_shape(self, which: int | str, *ranks: int) -> str:
        """A value that has PyTorch's shape, and one of these numbers of dimensions."""
        name, shape = self.value(which), self.shape(which)
        if len(shape) not in ranks or self.reader.shapes[name] != shape:
            kinds = " or ".join("(N, D)" if rank == 2 else "(N, C, H, W)" for rank in ranks)
            self.refuse(f"{self.operator} takes {kinds} here, got {('N', *shape[1:])}")
        return name

    def shape(self, which: int | str) -> tuple[int, ...]:
        """PyTorch's shape of an argument."""
        return tuple(self.argument(which).meta["val"].shape)

    @property
    def out_shape(self) -> tuple[int, ...]:
        """PyTorch's shape of the result, of several of the first."""
        result = self.node.meta["val"]
        return tuple((result[0] if isinstance(result, (tuple, list)) else result).shape)

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
        if name is None:
            name = f"{self.module or self.node.name}.{which}"
            self.reader.parameter(name, torch.full((size,), value))
        return name

    def tensor(self, which: str) -> Any:
        """The tensor that an argument is, which must be a parameter or buffer."""
        return self.reader.constants[self[which]]

    def emit(
        self,
        layer: str,
        inputs: tuple[str, ...],
        params: tuple[str | None, ...] = (),
        args: tuple[Any, ...] = (),
        shape: tuple[int, ...] | None = None,
        *,
        channels_last: bool = False,
    ) -> None:
        """The call is this node, whose result has PyTorch's shape or this one."""
        if shape is None:
            N, *rest = self.out_shape
            shape = (N, rest[-1], *rest[:-1]) if channels_last else self.out_shape
        self.step(layer, inputs, params, args, shape, self.node.name)
        self.pass_on(self.node.name, channels_last=channels_last)

    def step(
        self,
        layer: str,
        inputs: tuple[str, ...],
        params: tuple[str | None, ...],
        args: tuple[Any, ...],
        shape: tuple[int, ...],
        output: str,
    ) -> str:
        """A node on the way to the call's own; the name of its value."""
        for name in inputs:
            if name in self.reader.pads:
                self.refuse("padding before it is no part of this layer; it is of a convolution alone")
        self.reader.made.append(Node(layer, inputs, output, params, args, self.module))
        self.reader.shapes[output] = shape
        return output

    def pass_on(self, name: str, *, channels_last: bool = False) -> None:
        """The call's result is a value that is there already."""
        self.reader.values[self.node] = name
        if channels_last:
            self.reader.channels_last.add(self.node)
