"""Shapes of a network's values, and which of them lie in one place."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from cnnlib import layers
from cnnlib._typing import Array
from cnnlib.graph import joins
from cnnlib.inference.memory import Block, place
from cnnlib.inference.ops import ACTIVATIONS, Op
from cnnlib.inference.quantization.images import BYTE_KINDS, shape_behind
from cnnlib.typing import NormParam

_INPUT, _OUTPUT, _ARENA = range(3)  # the core's Value::Place
_IN_PLACE = (
    "normalize",
    "scale",
    "relu",
    "leaky_relu",
    "add",
    "multiply",
    *ACTIVATIONS,
)  # may write to their first input


def shapes_of(ops: Sequence[Op], input_shape: tuple[int, ...], dtype: np.dtype) -> dict[str, tuple[int, ...]]:
    """Of each value, one sample's: the layers themselves say so, given no samples."""
    shapes = {"input": input_shape}
    for op in ops:
        xs = [np.empty((0, *shapes[name]), dtype) for name in op.inputs]
        shapes[op.output] = _behind(op, xs).shape[1:]
    return shapes


def _behind(op: Op, xs: list[Array]) -> Array:
    if op.kind in BYTE_KINDS:
        return np.empty((0, *shape_behind(op, xs)), np.float32)
    if op.kind in ("copy", "gelu_tanh"):
        return xs[0]
    if op.kind in ("normalize", "row_norm", "pixel_norm"):
        return _behind_norm(op, *xs)
    if op.kind in joins.FORWARD:
        return joins.FORWARD[op.kind](*xs, **op.options)[0]
    weights = [op.arrays["w"], op.arrays.get("b")] if op.arrays else []
    return getattr(layers, f"{op.kind}_forward")(*xs, *weights, **op.options)[0]


def _behind_norm(op: Op, x: Array) -> Array:
    gamma, beta = op.arrays["gamma"], op.arrays["beta"]
    if op.kind == "normalize":
        wrong = [array.shape for array in op.arrays.values() if array.shape != x.shape[1:2]]
        if wrong:
            raise ValueError(f"prepare: a norm of {x.shape[1:2]} channels has arrays of shape {wrong[0]}")
        return x
    eps: NormParam = {"eps": op.options["eps"]}
    if op.kind == "pixel_norm":
        return layers.spatial_layernorm_forward(x, gamma, beta, eps)[0]
    if x.ndim == 2:
        return layers.layernorm_forward(x, gamma, beta, eps)[0]
    return layers.spatial_groupnorm_forward(x, gamma, beta, op.options["groups"], eps)[0]


class Layout:
    """
    Where the values lie: at the caller's input or output, or in an arena.

    Attributes
    ----------
    values : list of (place, size, offset)
        For the core: 0 for the input, 1 for the output, 2 for the arena; elements of one sample.
    arena : int
        Elements of one sample.

    `sizes` are those of values that take other room than their shape says.
    """

    def __init__(
        self,
        ops: Sequence[Op],
        shapes: Mapping[str, tuple[int, ...]],
        output: str,
        sizes: Mapping[str, int] | None = None,
    ) -> None:
        self._home, blocks = _homes(
            ops, {**{name: math.prod(shape) for name, shape in shapes.items()}, **(sizes or {})}, output
        )
        inside = {name: block for name, block in blocks.items() if name not in ("input", self._home[output])}
        self.arena = place(list(inside.values()))
        self.values: list[tuple[int, int, int]] = []
        self._ids: dict[str, int] = {}
        for name, block in blocks.items():
            self._ids[name] = len(self.values)
            where = _ARENA if name in inside else _INPUT if name == "input" else _OUTPUT
            self.values.append((where, block.size, block.offset))

    def id(self, name: str) -> int:
        """The index in `values` of a value of the network."""
        return self._ids[self._home[name]]


def _homes(
    ops: Sequence[Op], sizes: Mapping[str, int], output: str
) -> tuple[dict[str, str], dict[str, Block]]:
    """The value in whose place each value lies, and the places; what nothing else reads is written over."""
    last_read = {name: i for i, op in enumerate(ops) for name in op.inputs}
    last_read[output] = len(ops)
    home = {"input": "input"}
    blocks = {"input": Block(sizes["input"], 0, len(ops))}
    for i, op in enumerate(ops):
        adds = op.kind == "conv" and len(op.inputs) == 2
        source = home[op.inputs[-1 if adds else 0]]
        free = op.kind in _IN_PLACE and blocks[source].last <= i
        if op.kind == "flatten" or adds or free:
            home[op.output] = source
            blocks[source].last = max(blocks[source].last, last_read[op.output])
        else:
            home[op.output] = op.output
            blocks[op.output] = Block(sizes[op.output], i, last_read[op.output])
    return home, blocks
