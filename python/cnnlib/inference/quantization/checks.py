"""Operations on bytes that come from a file, checked before they run."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from cnnlib._typing import Array
from cnnlib.graph.graph import Graph, Node, parameters_of, positional
from cnnlib.inference.quantization.byte_ops import TABLES
from cnnlib.inference.quantization.parts import BYTE_DTYPES, BYTE_KINDS, BYTE_PARTS, makes_bytes, roles_of
from cnnlib.inference.quantization.table import Row

_FACTORS = 2**15


def check_byte_node(node: Node) -> None:
    """Raise a ValueError unless an operation on bytes has the parts and the inputs of its kind."""
    roles, known = (
        {name.strip("[]"): name.startswith("[") for name in names.split()} for names in BYTE_PARTS[node.layer]
    )
    given = node.args[0] if len(node.args) == 1 else None
    named = dict(zip(roles, node.params, strict=False))
    lacking = [name for name, optional in roles.items() if named.get(name) is None and not optional]
    fits = isinstance(given, Mapping) and known.keys() >= given.keys() and len(node.params) == len(roles)
    if given is None or not fits or lacking:
        raise ValueError(f"{node.layer} has {node.params} and {node.args}, expected {BYTE_PARTS[node.layer]}")
    if any(name not in given and not optional for name, optional in known.items()):
        raise ValueError(f"{node.layer} has {list(given)}, expected {', '.join(known)}")
    two = node.layer == "byte_add" or (node.layer == "byte_conv" and named.get("factor") is not None)
    if not node.inputs or (len(node.inputs) != 1 + two and node.layer != "byte_concat"):
        raise ValueError(f"{node.layer} reads {node.inputs}")


def check_byte_graph(graph: Graph, arrays: Mapping[str, Array], dtype: str) -> None:
    """Raise a ValueError unless arrays have the dtypes of their roles, and bytes go where they can."""
    made: set[str] = set()
    for node in graph:
        own = [None if name is None else arrays[name] for name in node.params]
        on_bytes = node.layer in BYTE_KINDS
        roles = roles_of(node.layer) if on_bytes else [str(name) for name in node.params]
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


def _check_numbers(node: Node, arrays: Mapping[str, Array]) -> None:
    """Raise a ValueError unless the numbers of an operation on bytes are in range."""
    kind, options = node.layer, node.args[0]
    for name in ("zero", "x_zero", "other_zero"):
        if name in options and not _is_byte(options[name]):
            raise ValueError(f"{kind} has {name} {options[name]!r}")
    for name in ("scale", "ratio", "multiplier"):
        value = options.get(name, 1.0)
        if not (type(value) in (int, float) and math.isfinite(value) and value > 0):
            raise ValueError(f"{kind} has {name} {value!r}, which is not positive")
    if "numbers" in options:
        _check_rounding(kind, options, arrays)
    if kind == "byte_table":
        _check_table(node, arrays["table"])
    if ("factor" in arrays) != ("other_zero" in options):
        raise ValueError(f"{kind} has a factor or the other term's zero point alone")


def _check_table(node: Node, table: Array) -> None:
    """256 bytes, and the layer that they stand for, if they say it."""
    if table.shape != (256,):
        raise ValueError(f"a table of shape {table.shape}")
    if "function" in node.args[0]:
        kind, options = node.args[0]["function"]
        if kind not in TABLES or parameters_of(kind):
            raise ValueError(f"a table of {kind!r}")
        Node(kind, node.inputs, node.output, (), positional(kind, options)).arguments()


def _is_byte(value: Any) -> bool:
    return type(value) is int and 0 <= value <= 255


def _check_rounding(kind: str, options: Mapping[str, Any], arrays: Mapping[str, Array]) -> None:
    """Zero point, bounds and shift of a rounding; factors of a sum; a number for each filter."""
    numbers = options["numbers"]
    count = 3 if kind == "byte_add" else 4
    good = isinstance(numbers, (list, tuple)) and len(numbers) == count and all(map(_is_byte, numbers))
    if not good or numbers[1] > numbers[2] or (count == 4 and numbers[3] > 23):
        raise ValueError(f"{kind} has numbers {numbers!r}")
    if kind == "byte_add":
        factors = options["factors"]
        good = (
            isinstance(factors, (list, tuple)) and len(factors) == 3 and all(type(n) is int for n in factors)
        )
        if not good or max(map(abs, factors[:2])) > _FACTORS or abs(factors[2]) > 2**30:
            raise ValueError(f"{kind} has factors {factors!r}")
        return
    if type(options["scores"]) is not bool:
        raise ValueError(f"{kind} has scores {options['scores']!r}")
    w = arrays["w"]
    if w.ndim != (2 if kind == "byte_affine" else 4):
        raise ValueError(f"{kind} has w of shape {w.shape}")
    F = w.shape[1 if kind == "byte_affine" else 0]
    wrong = [name for name, array in arrays.items() if name != "w" and array.shape != (F,)]
    if wrong:
        raise ValueError(f"{kind} of {F} filters has {wrong[0]} of shape {arrays[wrong[0]].shape}")


def row_of(row: Mapping[str, Any]) -> Row:
    """A row of a quantization's table."""
    made = Row(**row)
    texts = isinstance(made.layer, str) and made.precision in ("int8", "float32")
    if not texts or not all(bounds is None or _is_range(bounds) for bounds in (made.seen, made.covered)):
        raise ValueError(f"a layer is described by {dict(row)!r}")
    if made.snr is not None and type(made.snr) not in (int, float):
        raise ValueError(f"a layer has the signal to noise {made.snr!r}")
    return Row(
        made.layer,
        made.precision,
        None if made.seen is None else (made.seen[0], made.seen[1]),
        None if made.covered is None else (made.covered[0], made.covered[1]),
        made.snr,
    )


def _is_range(value: Any) -> bool:
    return (
        isinstance(value, (list, tuple)) and len(value) == 2 and all(type(n) in (int, float) for n in value)
    )


BYTE_CHECKS = dict.fromkeys(BYTE_KINDS, check_byte_node)
"""For :meth:`Graph.check`."""
