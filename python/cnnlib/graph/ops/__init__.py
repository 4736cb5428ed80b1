"""What the library knows about each layer: one :class:`Op` for each, one file for each family.

Nodes name their op by a string; :func:`op_of` finds it. Whoever needs to know something about a layer asks
its op: no other table of layers exists. :func:`layers_where` lists the names of ops with a trait.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

from cnnlib.graph.ops import (
    activations,
    attention,
    bfloat16,
    conv,
    dense,
    eight_bits,
    joins,
    norm,
    pool,
    resize,
    tensors,
)
from cnnlib.graph.ops.op import Executor, OnnxForm, Op, Stage
from cnnlib.graph.ops.sizes import Shape

__all__ = ["OPS", "Executor", "OnnxForm", "Op", "Shape", "Stage", "chains", "layers_where", "op_of"]

FAMILIES: tuple[ModuleType, ...] = (
    conv,
    dense,
    attention,
    norm,
    activations,
    pool,
    resize,
    joins,
    eight_bits,
    bfloat16,
    tensors,
)
OPS: dict[str, Op] = {op.name: op for family in FAMILIES for op in family.OPS}


def op_of(layer: str) -> Op:
    """The op of that name; KeyError if there is none."""
    return OPS[layer]


def layers_where(trait: Callable[[Op], object]) -> tuple[str, ...]:
    """The names of the ops for which `trait` holds."""
    return tuple(name for name, op in OPS.items() if trait(op))


def chains(executor: Executor) -> dict[tuple[str, ...], str]:
    """The chains of layers that are one op for an executor, and the names of these."""
    return {op.parts: name for name, op in OPS.items() if op.parts and executor in op.runs_in}
