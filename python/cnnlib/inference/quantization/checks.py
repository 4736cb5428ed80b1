"""Operations on bytes that come from a file, checked before they run."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from cnnlib._typing import Array
from cnnlib.graph.graph import Graph, Node, parameters_of, positional
from cnnlib.inference.ops import Op, op_of
from cnnlib.inference.quantization.byte_ops import TABLES
from cnnlib.inference.quantization.parts import BYTE_DTYPES, BYTE_KINDS, BYTE_PARTS
from cnnlib.inference.quantization.table import Row

_FACTORS = 2**15


def check_byte_node(node: Node) -> None:
    """Raise a ValueError unless an operation on bytes has the parts and the inputs of its kind."""
    roles, known = (
        {name.strip("[]"): name.startswith("[") for name in names.split()} for names in BYTE_PARTS[node.layer]
    )
    given = node.args[0] if len(node.args) == 1 else None
    named = dict(zip(roles, node.params, strict=len(node.params) == len(roles)))
    lacking = [name for name, optional in roles.items() if named.get(name) is None and not optional]
    if not isinstance(given, Mapping) or not known.keys() >= given.keys() or lacking:
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
        if node.layer in BYTE_PARTS:
            op = op_of(node, arrays)
            for role, array in op.arrays.items():
                if array.dtype != BYTE_DTYPES[role]:
                    raise ValueError(f"{role} of {node.layer} has dtype {array.dtype}")
        else:
            op = Op(node.layer, list(node.inputs), node.output)
            for name in node.params:
                if name is not None and arrays[name].dtype != dtype:
                    raise ValueError(f"{name} has dtype {arrays[name].dtype}")
        check_bytes(op, made)
    if made and dtype != "float32":
        raise ValueError(f"an eight-bit network of {dtype}")
    if graph.output in made:
        raise ValueError(f"the output {graph.output!r} is of bytes")


def check_bytes(op: Op, bytes_made: set[str]) -> None:
    """Raise a ValueError unless an operation reads what it can, floats or bytes, by numbers in range.

    `bytes_made` are the values of bytes so far, to which its output is added.
    """
    on_bytes = op.kind in BYTE_KINDS and op.kind != "quantize"
    wrong = [name for name in op.inputs if (name in bytes_made) != on_bytes]
    if wrong:
        raise ValueError(f"{op.kind} reads {wrong[0]!r}, which is {'no' if on_bytes else 'of'} bytes")
    if op.kind not in BYTE_KINDS:
        return
    options = op.options
    for name in ("zero", "x_zero", "other_zero"):
        if name in options and not _is_byte(options[name]):
            raise ValueError(f"{op.kind} has {name} {options[name]!r}")
    for name in ("scale", "ratio", "multiplier"):
        value = options.get(name, 1.0)
        if not (type(value) in (int, float) and math.isfinite(value) and value > 0):
            raise ValueError(f"{op.kind} has {name} {value!r}, which is not positive")
    if "numbers" in options:
        _check_numbers(op)
    if op.kind == "byte_table":
        _check_table(op)
    if ("factor" in op.arrays) != ("other_zero" in options):
        raise ValueError(f"{op.kind} has a factor or the other term's zero point alone")
    if op.kind != "dequantize" and not options.get("scores"):
        bytes_made.add(op.output)


def _check_table(op: Op) -> None:
    """256 bytes, and the layer that they stand for, if they say it."""
    if op.arrays["table"].shape != (256,):
        raise ValueError(f"a table of shape {op.arrays['table'].shape}")
    if "function" in op.options:
        kind, options = op.options["function"]
        if kind not in TABLES or parameters_of(kind):
            raise ValueError(f"a table of {kind!r}")
        Node(kind, (op.inputs[0],), op.output, (), positional(kind, options)).arguments()


def _is_byte(value: Any) -> bool:
    return type(value) is int and 0 <= value <= 255


def _check_numbers(op: Op) -> None:
    """Zero point, bounds and shift of a rounding; factors of a sum; a number for each filter."""
    numbers = op.options["numbers"]
    count = 3 if op.kind == "byte_add" else 4
    good = isinstance(numbers, (list, tuple)) and len(numbers) == count and all(map(_is_byte, numbers))
    if not good or numbers[1] > numbers[2] or (count == 4 and numbers[3] > 23):
        raise ValueError(f"{op.kind} has numbers {numbers!r}")
    if op.kind == "byte_add":
        factors = op.options["factors"]
        good = (
            isinstance(factors, (list, tuple)) and len(factors) == 3 and all(type(n) is int for n in factors)
        )
        if not good or max(map(abs, factors[:2])) > _FACTORS or abs(factors[2]) > 2**30:
            raise ValueError(f"{op.kind} has factors {factors!r}")
        return
    if type(op.options["scores"]) is not bool:
        raise ValueError(f"{op.kind} has scores {op.options['scores']!r}")
    w = op.arrays["w"]
    if w.ndim != (2 if op.kind == "byte_affine" else 4):
        raise ValueError(f"{op.kind} has w of shape {w.shape}")
    F = w.shape[1 if op.kind == "byte_affine" else 0]
    wrong = [name for name, array in op.arrays.items() if name != "w" and array.shape != (F,)]
    if wrong:
        raise ValueError(f"{op.kind} of {F} filters has {wrong[0]} of shape {op.arrays[wrong[0]].shape}")


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
