"""ConvNet's table of stages."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any


def table(stages: Iterable[Any], input_dim: Sequence[int], num_params: int, multiply_adds: int) -> str:
    """A line for each stage: the output's shape, parameters, and multiply-adds for one image."""
    rows = [("stage", "output", "parameters", "multiply-adds")]
    rows.append(("input", _shape_text(input_dim), "", ""))
    for label, stage in listed(stages):
        rows.append((label, _shape_text(stage.shape), _count(stage.num_params), _count(stage.multiply_adds)))
    rows.append(("total", "", _count(num_params), _count(multiply_adds)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(map(_aligned, row, widths, "<<>>")).rstrip() for row in rows]
    rule = "-" * (sum(widths) + 6)
    return "\n".join([lines[0], rule, *lines[1:-1], rule, lines[-1]])


def listed(stages: Iterable[Any], indent: str = "", prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Pairs of a label and a stage, the stages of residual blocks indented below them."""
    for stage in stages:
        yield f"{indent}{prefix}{stage.label}", stage
        for name, parts in stage.parts:
            yield from listed(parts, indent + "  ", name)


def _shape_text(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))


def _aligned(text: str, width: int, side: str) -> str:
    return f"{text:{side}{width}}"


def _count(number: int) -> str:
    return f"{number:,}" if number else ""
