"""Which numbers in a module's calls follow the size of its images, and which are those of the recorded size.

The record of ``torch.export`` holds numbers alone: whether 64 is an option of a layer or was computed from
``x.shape`` does not show. So the module also runs on tensors without data, of several sizes and batches, and
the calls of each run are compared with those at the recorded size.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from cnnlib.graph.importing.sizes import other_sizes

# Beginnings of names of calls whose numbers are not compared, but what they make of the argument's shape.
_RESHAPING = ("view", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze")
_SPREADING = ("expand", "broadcast_to", "repeat", "tile")
_RESIZING = ("interpolate", "upsample")
_ADAPTIVE = ("adaptive_",)
_OTHER_SAMPLES = 521  # another prime than that of the recorded batch, for the same reason
_ANY = 1_000_003  # stands for the number of samples in shapes that are compared
_CREATING = (
    *("zeros", "ones", "full", "empty", "new_zeros", "new_ones", "new_full", "new_empty"),
    *("zeros_like", "ones_like", "full_like", "empty_like"),
)
# Whether these return their argument itself depends on its memory.
_SOMETIMES_ITSELF = ("contiguous", "to")


def size_fixed_by(module: nn.Module, example: torch.Tensor, known: str = "") -> str:
    """Why images must have the example's size: text for `Graph.fixed_by`, empty if they may have another.

    Where the reason is `known`, other sizes are not looked into. ValueError if the module's calls depend on
    the number of samples.
    """
    N, *sample = example.shape
    recorded = _run(module, example.shape, example.dtype)
    if isinstance(recorded, str):
        return known or f"the module, which runs on no tensors without data: {recorded}"
    more = _run(module, (_OTHER_SAMPLES, *sample), example.dtype)
    why = _difference(recorded, more, f"{N} samples", f"{_OTHER_SAMPLES} samples")
    if why:
        raise ValueError(f"from_module: the number of samples is fixed by {why}")
    return known or ("" if len(sample) != 3 else _fixed_by(module, example, recorded))


def _fixed_by(module, example, recorded):
    N, C, H, W = example.shape
    refusals, sizes = [], other_sizes(H, W)
    for size in sizes:
        calls = _run(module, (N, C, *size), example.dtype)
        if isinstance(calls, str):  # nothing to compare with: PyTorch has no result
            refusals.append(f"the module: PyTorch refuses {_by(*size)} images: {calls}")
            continue
        why = _difference(recorded, calls, f"{_by(H, W)} images", f"{_by(*size)} images")
        if why:
            return why
    return refusals[0] if len(refusals) == len(sizes) else ""


def _by(H: int, W: int) -> str:
    return f"{H}x{W}"


@dataclass(frozen=True)
class _Entry:
    """A call that made a tensor: the layer that made it, the function, and each argument by its name."""

    layer: str
    function: Callable[..., Any]
    arguments: tuple[tuple[str, Any], ...]

    def __str__(self) -> str:
        name = self.function.__name__
        return f"{name} of {self.layer}" if self.layer else name


class _Calls(TorchFunctionMode):
    """Notes the calls of functions that make tensors."""

    def __init__(self, samples: int) -> None:
        super().__init__()
        self.samples = samples
        self.entries: list[_Entry] = []
        self.layers: list[str] = []  # those that are being called, the innermost one last
        self._tensors: list[Any] = []  # all that came by; kept, so that no two have one id
        self._number: dict[int, int] = {}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        named = list(zip(_argument_names(func, len(args)), args)) + sorted((kwargs or {}).items())
        tensors = [value for _, value in named if isinstance(value, torch.Tensor)]
        before = tuple(tensors[0].shape) if tensors else ()
        arguments = [(name, self._comparable(value)) for name, value in named]
        result = func(*args, **(kwargs or {}))
        if tensors and func.__name__ in _SOMETIMES_ITSELF:
            self._tensors.append(result)
            self._number[id(result)] = self._number[id(tensors[0])]
            return result
        made = result[0] if isinstance(result, (tuple, list)) and result else result
        if isinstance(made, torch.Tensor):
            name, after = func.__name__, tuple(made.shape)
            before, after = self._by_samples(before), self._by_samples(after)
            if name.startswith((*_RESHAPING, *_SPREADING)):
                arguments = [("the tensor", self._comparable(t)) for t in tensors]
                arguments.append(("the result", _relation(name, before, after)))
            elif name.startswith(_RESIZING):
                arguments = [(name, value) for name, value in arguments if "size" not in name]
                factors = tuple(str(Fraction(m, n)) for n, m in zip(before[2:], after[2:]))
                arguments.append(("the factor", factors))
            elif name == "__getitem__":  # a slice as long as the axis is no call in the record
                arguments.append(("the result", _kept_axes(before, after)))
            elif name in _CREATING:
                arguments = [("the result", after), *(one for one in arguments if one[0] == "fill_value")]
            elif name.startswith(_ADAPTIVE):
                arguments.append(("the result's size", after[2:]))
            layer = self.layers[-1] if self.layers else ""
            self.entries.append(_Entry(layer, func, tuple(arguments)))
            self._comparable(result)
        return result

    def _by_samples(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """A shape in which the sizes that hold the samples are multiples of one number for all runs."""
        return tuple(n // self.samples * _ANY if n % self.samples == 0 else n for n in shape)

    def _comparable(self, value: Any) -> Any:
        """What can be compared with that of another run: of a tensor, as the how manieth it came."""
        if isinstance(value, torch.Tensor):
            if id(value) not in self._number:
                self._number[id(value)] = len(self._tensors)
                self._tensors.append(value)
            return f"tensor {self._number[id(value)]}"
        if isinstance(value, (tuple, list)):
            return tuple(map(self._comparable, value))
        return value if isinstance(value, (int, float, str)) else repr(value)


@functools.cache
def _argument_names(function: Callable[..., Any], count: int) -> tuple[str, ...]:
    """What messages call the positional arguments of a function."""
    names: list[str] = []
    with contextlib.suppress(TypeError, ValueError):  # those of compiled functions
        found = inspect.signature(function).parameters.values()
        names = [one.name for one in found if one.kind is one.POSITIONAL_OR_KEYWORD]
    operator = getattr(torch.ops.aten, function.__name__.rstrip("_"), None)
    if len(names) < count and operator is not None:
        schemas = [getattr(operator, overload)._schema.arguments for overload in operator.overloads()]
        names = next(([a.name for a in schema] for schema in schemas if len(schema) >= count), [])
    return tuple(names[i] if i < len(names) else f"argument {i + 1}" for i in range(count))


def _relation(name: str, before: tuple[int, ...], after: tuple[int, ...]) -> Any:
    """How a call that reshapes or spreads a tensor changes its shape."""
    if before == after:
        return "of the same shape"
    if name.startswith(_SPREADING):
        return _kept_axes((1,) * (len(after) - len(before)) + before, after)
    counts, place = [], 0
    for size in after:
        start, product = place, 1
        while place < len(before) and product * before[place] <= size:
            product *= before[place]
            place += 1
        if product != size:  # an axis is split
            return ("N", *after[1:]) if before[:1] == after[:1] else after
        counts.append(place - start)
    return f"of {counts} axes"


def _kept_axes(before: tuple[int, ...], after: tuple[int, ...]) -> tuple[str, ...]:
    return tuple("as it was" if n == m else "changed" for n, m in zip(before, after))


def _run(module: nn.Module, shape: tuple[int, ...], dtype: torch.dtype) -> list[_Entry] | str:
    """The calls of the module on a tensor of this shape, or why it cannot run."""
    tensors = (*module.named_parameters(), *module.named_buffers())
    without_data = {name: tensor.detach().to("meta") for name, tensor in tensors}
    x, calls = torch.empty(shape, dtype=dtype, device="meta"), _Calls(shape[0])
    try:
        # Constants that the module makes have no data either, else PyTorch refuses to join them with x.
        with attributes_kept(module), _layers_noted(module, calls.layers), torch.device("meta"), calls:
            torch.func.functional_call(module, without_data, (x,))
    except Exception as error:  # whatever the module, or PyTorch in it, raises
        return str(error).partition("\n")[0]
    return calls.entries


@contextlib.contextmanager
def attributes_kept(module: nn.Module) -> Iterator[None]:
    """After the block the module's layers have the attributes of before: some keep what a call computed."""
    before = []
    for layer in module.modules():
        attributes = dict(vars(layer))
        kept = [(value, value.copy()) for value in attributes.values() if type(value) in (dict, list)]
        before.append((layer, attributes, kept))
    try:
        yield
    finally:
        for layer, attributes, kept in before:
            vars(layer).clear()
            vars(layer).update(attributes)
            for value, content in kept:
                value.clear()
                value.extend(content) if isinstance(value, list) else value.update(content)


@contextlib.contextmanager
def _layers_noted(module: nn.Module, layers: list[str]) -> Iterator[None]:
    """Within the block `layers` ends with the layer of the module that is being called."""

    def enter(title: str, *_: Any) -> None:
        layers.append(title)

    def leave(*_: Any) -> None:
        layers.pop()

    hooks = []
    for path, layer in module.named_modules():
        title = f"{type(layer).__name__} {path!r}" if path else ""
        hooks.append(layer.register_forward_pre_hook(functools.partial(enter, title)))
        hooks.append(layer.register_forward_hook(leave))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _difference(recorded: list[_Entry], others: list[_Entry] | str, one: str, other: str) -> str:
    """In words, where the calls for `other` are not those for `one`; empty if they are."""
    if isinstance(others, str):
        return f"the module: PyTorch refuses {other}: {others}"
    for a, b in zip(recorded, others):
        if (a.layer, a.function) != (b.layer, b.function):
            return f"{a}, which is called for {one}, where {b} is called for {other}"
        for (name, x), (_, y) in zip(a.arguments, b.arguments):
            if x != y:
                return f"{a}: {name} is {x} for {one}, {y} for {other}"
    if len(recorded) != len(others):
        longer, which = (recorded, one) if len(recorded) > len(others) else (others, other)
        return f"{longer[min(len(recorded), len(others))]}, which is called for {which} alone"
    return ""
