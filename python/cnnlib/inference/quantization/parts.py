"""What operations on bytes consist of."""

from __future__ import annotations

from cnnlib.graph.graph import Node

_MEANS = "x_zero ratio zero"
BYTE_PARTS: dict[str, tuple[str, str]] = {
    **dict.fromkeys(("quantize", "dequantize"), ("", "scale zero")),
    "byte_conv": ("w b multiplier [factor]", "conv_param numbers x_zero scores [other_zero] [scale]"),
    "byte_affine": ("w b multiplier", "numbers x_zero scores [scale]"),
    "byte_max_pool": ("", "pool_param zero [scale]"),
    "byte_avg_pool": ("", f"pool_param {_MEANS} [scale]"),
    "byte_global_avg_pool": ("", f"{_MEANS} [scale]"),
    "byte_add": ("", "factors multiplier numbers [scale]"),
    "byte_table": ("table", "zero [scale] [function]"),
    "byte_concat": ("", "zero [scale]"),
}
"""Of each kind its arrays and its options; those in brackets may be missing.

`scale` is that of the bytes made, and `function` the layer that a table stands for, with its options: nothing
computes with them, files for other programs name them.
"""

BYTE_KINDS = frozenset(BYTE_PARTS)
"""Kinds of operations on bytes."""


def roles_of(kind: str) -> list[str]:
    """What the arrays of an operation on bytes are called, in the order of its node's `params`."""
    return [role.strip("[]") for role in BYTE_PARTS[kind][0].split()]


def makes_bytes(node: Node) -> bool:
    """Whether what an operation makes consists of bytes."""
    return node.layer in BYTE_KINDS and node.layer != "dequantize" and not node.args[0].get("scores")


BYTE_DTYPES = {"w": "int8", "b": "int32", "multiplier": "float32", "factor": "int32", "table": "uint8"}
