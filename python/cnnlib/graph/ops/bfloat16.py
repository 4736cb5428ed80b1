"""Conversions between float32 and bfloat16 inside of prepared networks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from cnnlib._typing import Array
from cnnlib.graph.ops.op import Op
from cnnlib.graph.ops.sizes import Shape, same

if TYPE_CHECKING:
    from cnnlib.graph.graph import Node
    from cnnlib.graph.targets import Target


def rounded(array: Array) -> Array:
    """Round floats to bfloat16, to nearest even; NaN stays NaN. The result is float32."""
    bits = np.ascontiguousarray(array, np.float32).view(np.uint32)
    nearest = bits + np.uint32(0x7FFF) + (bits >> np.uint32(16) & np.uint32(1))
    kept = np.where(np.isnan(array), bits | np.uint32(0x400000), nearest) & np.uint32(0xFFFF0000)
    return kept.view(np.float32)


def _emit(target: Target, node: Node, bound: float | None) -> None:
    target.convert(node)


def _shape(function: str, x: Shape, *args: Any) -> Shape:
    return same(function, x)


def _conversion(name: str) -> Op:
    return Op(
        name=name,
        shape=_shape,
        runs_in=("training", "inference"),
        emit=_emit,
        no_naive="cnnlib.naive.bfloat16 rounds",
    )


OPS = (_conversion("narrow"), _conversion("widen"))
