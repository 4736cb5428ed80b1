"""A network's table of stages, or of nodes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from cnnlib._system.text import shape_text
from cnnlib._typing import Params
from cnnlib.graph.graph import Graph, Node
from cnnlib.graph.shapes import shapes


@dataclass
class Stage:
    """One row.

    Where branches meet, `parts` has the branches' stages, each with what their rows begin with. `shape` is
    that of one sample's output, `multiply_adds` are for one sample.
    """

    label: str
    shape: tuple[int, ...]
    num_params: int = 0
    multiply_adds: int = 0
    parts: list[tuple[str, list[Stage]]] = field(default_factory=list)


def table(stages: Iterable[Any], input_dim: Sequence[int], num_params: int, multiply_adds: int) -> str:
    """A line for each stage: the output's shape, parameters, and multiply-adds for one image."""
    rows = [("stage", "output", "parameters", "multiply-adds")]
    rows.append(("input", shape_text(input_dim), "", ""))
    for label, stage in listed(stages):
        rows.append((label, shape_text(stage.shape), _count(stage.num_params), _count(stage.multiply_adds)))
    rows.append(("total", "", _count(num_params), _count(multiply_adds)))
    lines = aligned(rows, "<<>>")
    rule = "-" * len(lines[0])
    return "\n".join([lines[0], rule, *lines[1:-1], rule, lines[-1]])


def aligned(rows: Sequence[Sequence[str]], sides: str) -> list[str]:
    """A line for each row, its cells in columns, each at one side of its column: '<' or '>'."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(map("{:{}{}}".format, row, sides, widths)).rstrip() for row in rows]


def listed(stages: Iterable[Any], indent: str = "", prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Pairs of a label and a stage, the stages of residual blocks indented below them."""
    for stage in stages:
        yield f"{indent}{prefix}{stage.label}", stage
        for name, parts in stage.parts:
            yield from listed(parts, indent + "  ", name)


def node_stages(graph: Graph, params: Params, input_dim: Sequence[int]) -> list[Stage]:
    """A stage for each node."""
    found = shapes(graph, params, tuple(input_dim))
    return [stage_of(node, params, found[node.inputs[0]], found[node.output]) for node in graph]


def stage_of(node: Node, params: Params, before: Sequence[int], after: tuple[int, ...]) -> Stage:
    """A node, from samples of one shape to samples of another, as a stage."""
    num_params = sum(params[name].size for name in node.params if name is not None)
    cost = _multiply_adds(node, params, before, after)
    return Stage(node.label or node.layer, after, num_params, cost)


def _multiply_adds(node: Node, params: Params, before: Sequence[int], after: Sequence[int]) -> int:
    """The multiply-adds of a convolution or an affine layer for one sample; 0 for other layers."""
    count = node.op.multiply_adds
    return 0 if count is None else count(params[str(node.params[0])].shape, before, after)


def _count(number: int) -> str:
    return f"{number:,}" if number else ""
