"""What operations on bytes consist of."""

from __future__ import annotations

_MEANS = "x_zero ratio zero"
BYTE_PARTS: dict[str, tuple[str, str]] = {
    **dict.fromkeys(("quantize", "dequantize"), ("", "scale zero")),
    "byte_conv": ("w b multiplier [factor]", "conv_param numbers x_zero scores [other_zero]"),
    "byte_affine": ("w b multiplier", "numbers x_zero scores"),
    "byte_max_pool": ("", "pool_param zero"),
    "byte_avg_pool": ("", f"pool_param {_MEANS}"),
    "byte_global_avg_pool": ("", _MEANS),
    "byte_add": ("", "factors multiplier numbers"),
    "byte_table": ("table", "zero"),
    "byte_concat": ("", "zero"),
}
"""Of each kind its arrays and its options; those in brackets may be missing."""

BYTE_KINDS = frozenset(BYTE_PARTS)
"""Kinds of operations on bytes."""

BYTE_DTYPES = {"w": "int8", "b": "int32", "multiplier": "float32", "factor": "int32", "table": "uint8"}
