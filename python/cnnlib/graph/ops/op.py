"""What the library knows about a layer: :class:`Op`."""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from cnnlib import layers
from cnnlib._params import check_keys
from cnnlib._params.arrays import layer_arrays
from cnnlib._typing import Array
from cnnlib.graph.ops.sizes import Shape

if TYPE_CHECKING:
    from cnnlib.graph.graph import Node
    from cnnlib.models.spec.builder import Builder
    from cnnlib.onnx.writing.writer import Writer


def _dict_of(hint: Any) -> Any:
    """The TypedDict that an annotation names, alone or beside None; None for another annotation."""
    return next((kind for kind in (hint, *typing.get_args(hint)) if typing.is_typeddict(kind)), None)


# In the signatures of layers.
_VALUES = ("x", "y", "xs", "q", "k", "v")
_PARAMETERS = ("w", "b", "gamma", "beta")
Executor: TypeAlias = Literal["layers", "training", "inference"]
ToOnnx: TypeAlias = Callable[
    ["Writer", "Node", list[str], str], Any
]  # inputs and output by names in the file

BuildStage: TypeAlias = Callable[["Builder", str, Any, dict[str, Any]], Any]


@dataclass(frozen=True)
class Stage:
    """What a layer is called in a ConvNet's spec.

    `options` may stand beside the stage's value. `value`: 'none' for a stage that takes none, 'default' for
    one that may do without, 'needed'. `images`: it needs images (C, H, W). `bias`: it has a bias.
    `subtracts_bias`: it subtracts any bias of the stage before, which is therefore built without one.
    `build`: ``build(builder, where, value, options)`` puts it into a network, see
    :mod:`cnnlib.models.spec.builder`; None for a layer of that name without arguments. `by_axis`: its value
    is a number for both axes of images, or a pair. `size`: that of its windows where its option `size` is
    left out.
    """

    kind: str
    options: tuple[str, ...] = ()
    value: Literal["none", "default", "needed"] = "needed"
    images: bool = False
    bias: bool = False
    subtracts_bias: bool = False
    build: BuildStage | None = None
    by_axis: bool = False
    size: int | None = None


@dataclass(frozen=True)
class OnnxForm:
    """One ONNX operator that computes a layer.

    `arguments` are those of the layer that are attributes of the same name, `fixed` further attributes that
    do not change. `read`: the operator always becomes this layer.
    """

    kind: str
    arguments: tuple[str, ...] = ()
    fixed: tuple[tuple[str, Any], ...] = ()
    read: bool = False

    def write(self, writer: Writer, node: Node, inputs: list[str], output: str) -> None:
        """Add the operator to a file."""
        given = {name: node.arguments()[name] for name in self.arguments}
        own = {name: value if isinstance(value, str) else float(value) for name, value in given.items()}
        writer.operator(self.kind, node, inputs, output, **own, **dict(self.fixed))


@dataclass(frozen=True)
class Option:
    """A keyword of a layer: the argument `parameter` of its function, or the `key` of one that is a dict.

    `annotation` is its type, as the function's signature or the dict's type says it.
    """

    parameter: str
    key: str
    required: bool
    default: Any
    annotation: str


Fits: TypeAlias = Callable[["Node", Sequence[Shape], Sequence[Array | None]], bool]


def _always(node: Node, inputs: Sequence[Shape], arrays: Sequence[Array | None]) -> bool:
    return True


@dataclass(frozen=True)
class NarrowForm:
    """How the core computes a layer on values of bfloat16.

    ``emit(target, node, bound)`` tells the core. ``fits(node, inputs, arrays)``: whether a prepared network
    can, by the shapes of one sample of its inputs and its arrays; `trains`, whether one in training can, None
    for never. `multiplies`: it is worth converting values for; another layer is computed on bfloat16 where
    one of its inputs has become that anyway.
    """

    emit: Callable[[Any, Node, float | None], None]
    fits: Fits = _always
    trains: Fits | None = _always
    multiplies: bool = False


@dataclass(frozen=True, eq=False, kw_only=True)
class Op:
    """A layer: everything that the library knows about it.

    Attributes
    ----------
    name : str
        What nodes call it.
    module : module
        Has ``NAME_forward`` and ``NAME_backward``: cnnlib.layers, or the functions that join values.
    shape : callable
        ``shape(function, *shapes, *arrays, *arguments)``: the shape of one sample of the output. It refuses
        what the layer refuses; messages begin with `function`.
    inputs : int or None
        How many values it reads; None for two or more.
    statistics : bool
        It has running statistics, which the model keeps.
    per_call : tuple of str
        Keys of its options that a call decides, and no node: 'mode', 'seed'.
    no_naive : str
        Why :mod:`cnnlib.naive` has no twin of it; empty if it has one.
    elementwise : bool
        Each number of the output depends on one of the input alone, the same way in every mode.
    norm : 'batch', 'rows' or ''
        What it normalises over, if it is a norm.
    weighted_axis : int or None
        The axis of w along which the outputs lie; None for a layer without w.
    in_place : bool
        The core may let a prepared network's output lie where its first input lay.
    hands_on : bool
        The gradients of its inputs may be the array that it was given, or one array for several inputs.
    own_size : bool
        The output's shape does not follow the size of images.
    makes_rows : bool
        It makes rows of numbers of whole images.
    view : bool
        The output is the input's memory in another shape.
    selects : bool
        The output's numbers are numbers of its inputs.
    pool : 'max', 'avg' or ''
        What it makes of windows, if it is a pool.
    leaves_out : bool
        Its backward pass takes `needs`: the names of the gradients that are asked for.
    parts : tuple of str
        The layers that a fused op is, in their order; empty for others.
    runs_in : tuple of str
        Of a fused op the executors that have it: 'layers', 'training', 'inference'.
    bound : float or None
        What a fused op ends with: ``min(max(v, 0), bound)``.
    scoring : callable or None
        Its forward pass in test mode without a cache, where that saves memory; the same bits.
    multiply_adds : callable or None
        ``multiply_adds(w, before, after)`` of one sample, from the shapes of w, input and output.
    rescaled : callable or None
        ``rescaled(w, factor, arguments)``: the weights with each output multiplied by its factor.
    emit : callable or None
        ``emit(target, node, bound)`` tells the core of it; `target` is of a network in training, or prepared.
    narrow : NarrowForm or None
        How a prepared network computes it on bfloat16; None for a layer that it computes in float32.
    own_bits : bool
        In a prepared network it rounds in another way than its function does, within rounding errors.
    not_trained, not_prepared : str
        Why the core does not run it in training, or in a prepared network; empty if it does.
    onnx : OnnxForm, callable or None
        How it is written to ONNX: one operator, or a function of writer, node, inputs and output.
    onnx_kinds : tuple of str
        The operators that a function writes, and from which the layer is read.
    no_onnx : str
        Why it is not written.
    aten : tuple of str
        The ATen operators that become this layer. `aten_arguments`: where the first one always does, the
        operator's arguments that are the layer's.
    no_aten : str
        Why no operator becomes it.
    stages : tuple of Stage
        What a ConvNet's spec calls it; empty for what no spec names.
    identity : bool
        In test mode its output is its input, so that prepared networks leave it out.
    trained_alike : bool
        In training the core takes inputs of one shape alone.
    eight_bits : bool
        It works on bytes, in prepared networks alone; see :mod:`cnnlib.graph.ops.eight_bits`.
    byte_roles, byte_options : tuple of str
        Of an op on bytes the arrays and the options; those in brackets may be missing.
    """

    name: str
    shape: Callable[..., Shape]
    module: ModuleType = layers
    inputs: int | None = 1
    statistics: bool = False
    per_call: tuple[str, ...] = ()
    no_naive: str = ""
    elementwise: bool = False
    norm: Literal["batch", "rows", ""] = ""
    weighted_axis: int | None = None
    in_place: bool = False
    hands_on: bool = False
    own_size: bool = False
    makes_rows: bool = False
    view: bool = False
    selects: bool = False
    pool: Literal["max", "avg", ""] = ""
    leaves_out: bool = False
    identity: bool = False
    trained_alike: bool = False
    parts: tuple[str, ...] = ()
    runs_in: tuple[Executor, ...] = ()
    bound: float | None = None
    scoring: Callable[..., Array] | None = None
    multiply_adds: Callable[[Shape, Sequence[int], Sequence[int]], int] | None = None
    rescaled: Callable[[Array, Any, Sequence[Any]], Array] | None = None
    emit: Callable[[Any, Node, float | None], None] | None = None
    narrow: NarrowForm | None = None
    own_bits: bool = False
    not_trained: str = ""
    not_prepared: str = ""
    onnx: OnnxForm | ToOnnx | None = None
    onnx_kinds: tuple[str, ...] = ()
    no_onnx: str = ""
    aten: tuple[str, ...] = ()
    aten_arguments: tuple[str, ...] | None = None
    no_aten: str = ""
    stages: tuple[Stage, ...] = ()
    eight_bits: bool = False
    byte_roles: tuple[str, ...] = ()
    byte_options: tuple[str, ...] = ()

    def __reduce__(self) -> tuple[Any, ...]:
        """An op is copied and pickled by its name."""
        from cnnlib.graph.ops import op_of

        return op_of, (self.name,)

    @property
    def forward(self) -> Callable[..., tuple[Array, Any]]:
        """``forward(*inputs, *arrays, *arguments)``: the output, and a cache."""
        function: Callable[..., tuple[Array, Any]] = getattr(self.module, f"{self.name}_forward")
        return function

    @property
    def backward(self) -> Callable[..., Any]:
        """``backward(dout, cache)``: the gradients of inputs and arrays."""
        function: Callable[..., Any] = getattr(self.module, f"{self.name}_backward")
        return function

    @property
    def naive(self) -> tuple[Callable[..., Any], Callable[..., Any]] | None:
        """Its twin in :mod:`cnnlib.naive`, forward and backward; None for an op that has none."""
        from cnnlib import naive

        if self.no_naive:
            return None
        return getattr(naive, f"{self.name}_forward_naive"), getattr(naive, f"{self.name}_backward_naive")

    @property
    def kinds_in_onnx(self) -> tuple[str, ...]:
        """The ONNX operators that it is written as."""
        return (self.onnx.kind,) if isinstance(self.onnx, OnnxForm) else self.onnx_kinds

    @property
    def joins(self) -> bool:
        """It is no layer of cnnlib.layers: it joins, scales or reshapes values."""
        return self.module is not layers

    @property
    def roles(self) -> tuple[str, ...]:
        """The names of its arrays, in the order of a node's `params`."""
        if self.eight_bits:
            return tuple(role.strip("[]") for role in self.byte_roles)
        return self._roles_and_signature[0]

    @property
    def signature(self) -> inspect.Signature:
        """Of what follows inputs and arrays in its forward pass: a node's `args`."""
        return self._roles_and_signature[1]

    @functools.cached_property
    def _roles_and_signature(self) -> tuple[tuple[str, ...], inspect.Signature]:
        parameters = inspect.signature(self.forward).parameters.values()
        given = [p for p in parameters if p.kind != p.KEYWORD_ONLY]
        roles = tuple(p.name for p in given if p.name in _PARAMETERS)
        return roles, inspect.Signature([p for p in given if p.name not in (*_VALUES, *_PARAMETERS)])

    @functools.cached_property
    def options(self) -> dict[str, Option]:
        """Its options by keyword, from the signature of its function and the types of its parameter dicts."""
        found: dict[str, Option] = {}
        hints = typing.get_type_hints(self.forward)
        for name, parameter in self.signature.parameters.items():
            keys = _dict_of(hints[name])
            if keys is None:
                required = parameter.default is parameter.empty
                found[name] = Option(name, "", required, parameter.default, str(parameter.annotation))
                continue
            for key, annotation in keys.__annotations__.items():
                if key not in (*self.per_call, "mode"):  # which each call decides
                    text = getattr(annotation, "__forward_arg__", None) or annotation.__name__
                    found[key] = Option(name, key, key in keys.__required_keys__, ..., text)
        return found

    def with_dicts(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """`Node.args` in which a parameter dict that is None, or left out at their end, is an empty one."""
        if self.runs_in or self.eight_bits:
            return args  # made of nodes that have them
        given = list(args)
        for place, parameter in enumerate(self.signature.parameters.values()):
            if parameter.default is None and parameter.name.endswith("_param"):
                if place == len(given):
                    given.append({})
                elif place < len(given) and given[place] is None:
                    given[place] = {}
        return tuple(given)

    def args_of(self, where: str, options: Mapping[str, Any]) -> tuple[Any, ...]:
        """`Node.args` from options by keyword.

        ValueError for an unknown option, KeyError for a missing one; they begin with `where`.
        """
        known = self.options
        check_keys(where, "options", options, known, [name for name in known if known[name].required])
        arguments: dict[str, Any] = {option.parameter: {} for option in known.values() if option.key}
        for name, value in options.items():
            option = known[name]
            if option.key:
                arguments[option.parameter][option.key] = value
            else:
                arguments[name] = value
        return self.positional(arguments)

    def positional(self, arguments: Mapping[str, Any]) -> tuple[Any, ...]:
        """`Node.args` from arguments by name; the inverse of :meth:`Node.arguments`."""
        bound = self.signature.bind(**arguments)
        bound.apply_defaults()
        return bound.args

    def shape_behind(self, node: Node, inputs: Sequence[Shape], arrays: Sequence[Array | None]) -> Shape:
        """The shape of one sample of what a node makes of samples of these shapes, with these arrays.

        ValueError, TypeError or KeyError for arrays and options that the layer refuses.
        """
        if self.eight_bits:
            return self.shape(node, inputs, arrays)
        function = self.name if self.inputs != 1 else f"{self.name}_forward"
        if arrays:
            arrays, *_ = layer_arrays(function, self.roles, arrays)
        return self.shape(function, *inputs, *arrays, *node.arguments().values())
