"""Operations that come from a file, checked before they are believed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from cnnlib.data.normalization import PREPROCESSING
from cnnlib.graph.graph import JOINS
from cnnlib.inference.layout import shapes_of
from cnnlib.inference.ops import ACTIVATIONS, Op
from cnnlib.inference.quantization.checks import BYTE_DTYPES, BYTE_PARTS, check_bytes, inputs_of, row_of

# Of each kind of operation its arrays and its options; those in brackets may be missing.
_PARTS: dict[str, tuple[str, str]] = {
    **dict.fromkeys(("conv", "conv_transpose"), ("w [b]", "conv_param")),
    "affine": ("w [b]", ""),
    "normalize": ("gamma beta mean inv_std", ""),
    "row_norm": ("gamma beta", "groups eps"),
    "pixel_norm": ("gamma beta", "eps"),
    **dict.fromkeys(("max_pool", "avg_pool"), ("", "pool_param")),
    **dict.fromkeys(("adaptive_avg_pool", "adaptive_max_pool"), ("", "size")),
    **dict.fromkeys(("global_avg_pool", "relu", "softmax", "copy", "add", "multiply", "concat"), ("", "")),
    **dict.fromkeys(ACTIVATIONS, ("", "")),
    "elu": ("", "[alpha]"),
    "leaky_relu": ("", "alpha"),
    "scale": ("", "factor"),
    "flatten": ("", ""),
    "upsample": ("", "scale [mode] [align_corners]"),
    **BYTE_PARTS,
}
_IN_FLOAT64 = ("mean", "inv_std")
_JOINS = {**JOINS, "byte_add": 2, "byte_concat": None}


def check_about(about: dict[str, Any]) -> None:
    """Raise an error unless what a predictor is beside its operations is of the right types.

    The rows of an eight-bit network's table become objects.
    """
    sizes, classes = about["input_dim"], about["classes"]
    if not isinstance(sizes, list) or not sizes or not all(type(n) is int and n > 0 for n in sizes):
        raise ValueError(f"input_dim is {sizes!r}")
    if classes is not None and not (isinstance(classes, list) and all(isinstance(n, str) for n in classes)):
        raise ValueError(f"classes is {classes!r}")
    if not isinstance(about.get("fixed_by", ""), str):
        raise ValueError(f"fixed_by is {about['fixed_by']!r}")
    if about.get("quantization") is not None:
        about["quantization"] = [row_of(row) for row in about["quantization"]]
    if about["preprocess"] is not None:
        PREPROCESSING.build(about["preprocess"])


def check_ops(ops: Sequence[Op], output: str, input_dim: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """Raise an error unless the operations can run on samples of shape `input_dim`, one after the other."""
    made, bytes_made = {"input"}, set[str]()
    for op in ops:
        _check_parts(op, dtype)
        count = inputs_of(op) if op.kind == "byte_conv" else _JOINS.get(op.kind, 1)
        wrong = not op.inputs if count is None else len(op.inputs) != count
        if wrong or not made.issuperset(op.inputs) or op.output in made:
            raise ValueError(f"{op.kind} reads {op.inputs} and makes {op.output!r}")
        made.add(op.output)
        check_bytes(op, bytes_made)
    if bytes_made and dtype != np.float32:
        raise ValueError(f"an eight-bit network of {dtype}")
    if output not in made - {"input"} - bytes_made:
        raise ValueError(f"no operation makes the output {output!r}")
    shapes_of(ops, input_dim, dtype)


def _check_parts(op, dtype):
    if not isinstance(op.kind, str) or op.kind not in _PARTS:
        raise ValueError(f"there is no operation {op.kind!r}")
    for names, parts in zip(_PARTS[op.kind], (op.arrays, op.options), strict=True):
        known = {name.strip("[]"): name.startswith("[") for name in names.split()}
        if not isinstance(parts, dict) or not known.keys() >= parts.keys():
            raise ValueError(f"{op.kind} has {list(parts)}, expected {names or 'nothing'}")
        if any(name not in parts and not optional for name, optional in known.items()):
            raise ValueError(f"{op.kind} has {list(parts)}, expected {names}")
    for name, array in op.arrays.items():
        expected = (
            BYTE_DTYPES[name] if op.kind in BYTE_PARTS else np.float64 if name in _IN_FLOAT64 else dtype
        )
        if array.dtype != expected:
            raise ValueError(f"{name} of {op.kind} has dtype {array.dtype}")
    strings = [op.output, op.label, *op.inputs] if isinstance(op.inputs, list) else [None]
    if not all(isinstance(value, str) for value in strings):
        raise ValueError(f"{op.kind} has inputs, output and label {strings}")
    if op.most is not None and op.most not in (math.inf, 6.0):
        raise ValueError(f"{op.kind} has the activation {op.most!r}")
