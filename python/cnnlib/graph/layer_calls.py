"""Layers of a graph by keyword: ``graph.conv("W1", pad=1)``.

Each :class:`~cnnlib.graph.ops.Op` that a graph may have is a method, whose signature follows from the Op.
`layer_calls.pyi` has the signatures for editors and type checkers; ``tests/graph_stub.py`` writes it.
"""

from __future__ import annotations

import inspect
import re
from typing import TYPE_CHECKING, Any, cast

from cnnlib._params import hint
from cnnlib.graph.ops import OPS, Op, layers_where

if TYPE_CHECKING:
    from cnnlib.graph.graph import Graph


def callable_layers() -> tuple[str, ...]:
    """Return the names of the layers that a graph may be built of."""
    return layers_where(lambda op: not op.runs_in and not op.eight_bits)


class LayerCalls:
    """A method for each layer, which appends a node to the graph and returns the name of its value.

    A layer with one input reads the graph's output, or the value that `x` names; its arguments are the names
    of its parameters, in their order. What joins values is given their names. Options are keywords: the keys
    of the layer's parameter dict, or its arguments by their names. `name` is that of the new value.
    """

    def __getattr__(self, name: str) -> LayerCall:
        if name in OPS and not name.startswith("_") and name in callable_layers():
            return LayerCall(cast("Graph", self), OPS[name])
        advice = hint(name, dir(self), "see cnnlib.layers") if not name.startswith("_") else "no such name"
        raise AttributeError(f"a Graph has no layer or attribute {name!r}; {advice}", name=name, obj=self)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *callable_layers()})


class LayerCall:
    """A layer of a graph, to be called with names and options."""

    def __init__(self, graph: Graph, op: Op) -> None:
        self._graph, self._op = graph, op
        self.__name__ = op.name
        signature = re.sub(r"'([^']+)'", r"\1", str(signature_of(op))).replace("Ellipsis", "...")
        summary = (op.forward.__doc__ or "").strip().partition("\n")[0]
        self.__doc__ = (
            f"{op.name}{signature}\n\n{summary}\n\n"
            "Appends a node to the graph, and returns the name of its value. "
            f"Options mean what they mean in {op.forward.__module__}.{op.forward.__name__}."
        )

    @property
    def __signature__(self) -> inspect.Signature:
        return signature_of(self._op)

    def __repr__(self) -> str:
        return f"<Graph.{self._op.name}{signature_of(self._op)}>"

    def __call__(
        self,
        *names: str | None,
        x: str | None = None,
        name: str | None = None,
        label: str = "",
        statistics: str = "",
        **options: Any,
    ) -> str:
        from cnnlib.graph.graph import Node, numbered  # which imports this module

        graph, op, where = self._graph, self._op, f"Graph.{self._op.name}"
        values = {graph.input, *(node.output for node in graph)}
        if name is not None and name in values:
            raise ValueError(f"{where}: name: there is a value {name!r} already")
        if statistics and not op.statistics:
            raise TypeError(f"{where}: statistics is for batch norms, got {statistics!r}")
        named = {role: options.pop(role) for role in op.roles if role in options}
        inputs, params = _inputs_and_params(where, op, names, named, x, graph.output)
        for value in inputs:
            if value not in values:
                advice = hint(value, [str(known) for known in values], "no node before makes it")
                raise ValueError(f"{where}: there is no value {value!r}; {advice}")
        output = numbered(f"{op.name}{len(graph.nodes) + 1}", values) if name is None else name
        args = op.args_of(where, options)
        return graph.append(Node(op.name, inputs, output, params, args, label, statistics))


def _inputs_and_params(
    where: str,
    op: Op,
    names: tuple[str | None, ...],
    named: dict[str, str | None],
    x: str | None,
    before: str,
) -> tuple[tuple[str, ...], tuple[str | None, ...]]:
    """The values that a node reads and the parameters that it names."""
    for name in (*names, *named.values(), x):
        if name is not None and not isinstance(name, str):
            raise TypeError(f"{where}: values and parameters are given by their names, got {name!r}")
    if op.inputs != 1:
        if x is not None or None in names or (len(names) != op.inputs if op.inputs else len(names) < 2):
            wanted = "two or more" if op.inputs is None else op.inputs
            came = ", ".join(map(repr, names)) + (f", x={x!r}" if x is not None else "")
            raise TypeError(f"{where}: needs the names of {wanted} values, got {came or 'none'}")
        return cast("tuple[str, ...]", names), ()
    given = dict(zip(op.roles, names))
    if len(names) > len(op.roles) or given.keys() & named.keys():
        takes = f"takes the names of {', '.join(op.roles)}" if op.roles else "has no parameters"
        came = ", ".join([*map(repr, names), *(f"{role}={name!r}" for role, name in named.items())])
        raise TypeError(f"{where}: {takes}, got {came}; say x=... for the value that it reads")
    given |= named
    lacking = [role for role in op.roles if given.get(role) is None and role != "b"]
    if lacking:
        raise TypeError(f"{where}: needs the names of {', '.join(op.roles)}, and lacks {', '.join(lacking)}")
    return (before if x is None else x,), tuple(given.get(role) for role in op.roles)


def signature_of(op: Op) -> inspect.Signature:
    """The signature of a layer's method."""
    kinds = inspect.Parameter
    found = []
    if op.inputs is None:
        found.append(kinds("values", kinds.VAR_POSITIONAL, annotation="str"))
    elif op.inputs > 1:
        found += [
            kinds(f"value{k}", kinds.POSITIONAL_ONLY, annotation="str") for k in range(1, op.inputs + 1)
        ]
    else:
        for role in op.roles:
            bias = {"default": None, "annotation": "str | None"} if role == "b" else {"annotation": "str"}
            found.append(kinds(role, kinds.POSITIONAL_OR_KEYWORD, **bias))
    for name, option in op.options.items():
        default = kinds.empty if option.required else option.default
        found.append(kinds(name, kinds.KEYWORD_ONLY, default=default, annotation=option.annotation))
    if op.inputs == 1:
        found.append(kinds("x", kinds.KEYWORD_ONLY, default=None, annotation="str | None"))
    found.append(kinds("name", kinds.KEYWORD_ONLY, default=None, annotation="str | None"))
    found.append(kinds("label", kinds.KEYWORD_ONLY, default="", annotation="str"))
    if op.statistics:
        found.append(kinds("statistics", kinds.KEYWORD_ONLY, default="", annotation="str"))
    return inspect.Signature(found, return_annotation="str")
