"""Checks of operations on bytes that come from a file."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from cnnlib._typing import Array
from cnnlib.graph.graph import Graph, Node
from cnnlib.graph.ops import OPS
from cnnlib.graph.ops.narrow_images import makes_bytes

BYTE_DTYPES = {"w": "int8", "b": "int32", "multiplier": "float32", "factor": "int32", "table": "uint8"}

_FACTORS = 2**15


def check_byte_graph(graph: Graph, arrays: Mapping[str, Array], dtype: str) -> None:
    """Raise a ValueError unless arrays have the dtypes of their roles, and bytes go where they can."""
    made: set[str] = set()
    for node in graph:
        own = [None if name is None else arrays[name] for name in node.params]
        on_bytes = node.op.eight_bits
        roles = node.op.roles if on_bytes else [str(name) for name in node.params]
        parts = {role: array for role, array in zip(roles, own) if array is not None}
        for role, array in parts.items():
            if array.dtype != (BYTE_DTYPES[role] if on_bytes else dtype):
                raise ValueError(f"{role} of {node.layer} has dtype {array.dtype}")
        reads_bytes = on_bytes and node.layer != "quantize"
        wrong = [name for name in node.inputs if (name in made) != reads_bytes]
        if wrong:
            raise ValueError(
                f"{node.layer} reads {wrong[0]!r}, which is {'no' if reads_bytes else 'of'} bytes"
            )
        if on_bytes:
            _check_numbers(node, parts)
        if makes_bytes(node):
            made.add(node.output)
    if made and dtype != "float32":
        raise ValueError(f"an eight-bit network of {dtype}")
    if graph.output in made:
        raise ValueError(f"the output {graph.output!r} is of bytes")


def _is_byte(value: Any) -> bool:
    return type(value) is int and 0 <= value <= 255


def _is_positive(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value) and value > 0


def _is_rounding(value: Any) -> bool:
    """Zero point, bounds and shift; a sum has no shift."""
    bytes_ = isinstance(value, (list, tuple)) and len(value) in (3, 4) and all(map(_is_byte, value))
    return bytes_ and value[1] <= value[2] and max(value[3:], default=0) <= 23


def _are_factors(value: Any) -> bool:
    integers = isinstance(value, (list, tuple)) and len(value) == 3 and all(type(n) is int for n in value)
    return integers and max(map(abs, value[:2])) <= _FACTORS and abs(value[2]) <= 2**30


_IN_RANGE: dict[str, Callable[[Any], bool]] = {
    **dict.fromkeys(("zero", "x_zero", "other_zero"), _is_byte),
    **dict.fromkeys(("scale", "ratio", "multiplier"), _is_positive),
    "numbers": _is_rounding,
    "factors": _are_factors,
    "scores": lambda value: type(value) is bool,
}


def _check_numbers(node: Node, arrays: Mapping[str, Array]) -> None:
    """Raise a ValueError unless the numbers of an operation on bytes are in range, and fit its arrays."""
    kind, options = node.layer, node.args[0]
    wrong = [name for name, value in options.items() if name in _IN_RANGE and not _IN_RANGE[name](value)]
    if not wrong and "numbers" in options and len(options["numbers"]) != 3 + (kind != "byte_add"):
        wrong.append("numbers")
    if wrong:
        raise ValueError(f"{kind} has {wrong[0]} {options[wrong[0]]!r}")
    if ("factor" in arrays) != ("other_zero" in options):
        raise ValueError(f"{kind} has a factor or the other term's zero point alone")
    if "w" in arrays:
        axis, w = (1 if kind == "byte_affine" else 0), arrays["w"]
        if w.ndim != (2 if axis else 4):
            raise ValueError(f"{kind} has w of shape {w.shape}")
        for name, array in arrays.items():
            if name != "w" and array.shape != (w.shape[axis],):
                raise ValueError(f"{kind} of {w.shape[axis]} filters has {name} of shape {array.shape}")
    if kind == "byte_table":
        _check_table(node, arrays["table"])


def _check_table(node: Node, table: Array) -> None:
    """256 bytes, and the layer that they stand for, if they say it."""
    if table.shape != (256,):
        raise ValueError(f"a table of shape {table.shape}")
    if "function" in node.args[0]:
        kind, options = node.args[0]["function"]
        if kind not in OPS or not OPS[kind].elementwise:
            raise ValueError(f"a table of {kind!r}")
        Node(kind, node.inputs, node.output, (), OPS[kind].positional(options)).arguments()
