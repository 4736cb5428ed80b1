"""Predictors' files of version 1: a JSON header with a list of operations, then the arrays.

8 bytes   the format's name, b"cnnlibP1"
8 bytes   the header's length, little-endian, and 4 bytes its CRC-32, 4 bytes of zero
header    JSON: what the predictor is, its operations, and each array's dtype, shape, offset and CRC-32
arrays    little-endian
"""

from __future__ import annotations

import json
import math
import mmap
import os
import struct
import zlib
from typing import Any, BinaryIO

import numpy as np

from cnnlib._typing import Array, Params
from cnnlib.graph.graph import Graph, Node, positional
from cnnlib.graph.shapes import shape_behind

_MAGIC = b"cnnlibP1"
_LEAD = struct.Struct("<8sQII")
_MOST_HEADER = 1 << 28  # bytes: more is no header
_DTYPES = ("float32", "float64")
_ACTIVATIONS = {math.inf: "relu", 6.0: "relu6"}


def begins(file: BinaryIO) -> bool:
    """Whether a file begins as these do; it is at its first byte before and after."""
    lead = file.read(len(_MAGIC))
    file.seek(0)
    return lead == _MAGIC


def read(name: str, file: BinaryIO) -> tuple[dict[str, Any], Graph, Params, list[tuple[str, Array, int]]]:
    """What the predictor is, its graph and arrays, and what they should add up to."""
    size = os.fstat(file.fileno()).st_size
    lead = file.read(_LEAD.size)
    length = _LEAD.unpack(lead)[1] if len(lead) == _LEAD.size else size + 1
    if length > min(size, _MOST_HEADER):
        raise ValueError(f"its header is said to have {length} bytes")
    header = file.read(length)
    if len(header) < length or zlib.crc32(header) != _LEAD.unpack(lead)[2]:
        raise ValueError("its header is not what was written")
    content, start = json.loads(header), _LEAD.size + length
    data = np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), np.uint8)[start:]
    arrays = [_array(data, start, entry) for entry in content["arrays"]]
    sums = [("", array, entry["crc"]) for array, entry in zip(arrays, content["arrays"], strict=True)]
    about, params = content["about"], dict[str, Array]()
    shapes = {"input": tuple(about["input_dim"])}
    graph = Graph(fixed_by=str(about.get("fixed_by", "")))
    for number, op in enumerate(content["ops"], start=1):
        own = {role: arrays[index] for role, index in op["arrays"].items()}
        layer, roles, args = _layer(op, own, len(shapes[op["inputs"][0]]) == 1)
        names = tuple(f"{role}{number}" if role in own else None for role in roles)
        params |= {key: own[role] for key, role in zip(names, roles, strict=True) if key is not None}
        made = op["output"] if op["most"] is None else f"{op['output']} (before its activation)"
        node = Node(layer, op["inputs"], made, names, args, op["label"])
        arguments = [None if key is None else params[key] for key in names]
        shapes[op["output"]] = shape_behind(node, [shapes[key] for key in node.inputs], arguments)
        graph.append(node)
        if op["most"] is not None:
            graph.append(Node(_ACTIVATIONS[op["most"]], (made,), op["output"]))
    graph.output = about["output"]
    return about, graph, params, sums


def _layer(
    op: dict[str, Any], own: dict[str, Array], rows: bool
) -> tuple[str, tuple[str, ...], tuple[Any, ...]]:
    """The layer of an operation on `rows` or images, the roles of its arrays, and its other arguments."""
    kind, options, norm = op["kind"], op["options"], ("gamma", "beta")
    if kind in ("conv", "conv_transpose", "affine"):
        return kind, ("w", "b"), positional(kind, options)
    if kind == "normalize":
        statistics = {"running_mean": own.pop("mean"), "running_var": _variance(own.pop("inv_std"))}
        layer = "batchnorm" if rows else "spatial_batchnorm"
        return layer, norm, ({"mode": "test", "eps": 0.0, **statistics},)
    if kind == "row_norm" and rows:
        return "layernorm", norm, ({"eps": options["eps"]},)
    if kind == "row_norm":
        return "spatial_groupnorm", norm, (options["groups"], {"eps": options["eps"]})
    if kind == "pixel_norm":
        return "spatial_layernorm", norm, ({"eps": options["eps"]},)
    if kind in ("gelu", "gelu_tanh"):
        return "gelu", (), ("tanh" if kind == "gelu_tanh" else "none",)
    return ("scale", (), (1.0,)) if kind == "copy" else (kind, (), positional(kind, options))


def _variance(inv_std: Array) -> Array:
    """The variance of which 1 / sqrt(variance) is this very number."""
    with np.errstate(divide="ignore", invalid="ignore"):
        found = near = inv_std**-2.0
        for step in (-2, -1, 1, 2):
            found = np.where(1 / np.sqrt(found) == inv_std, found, near + step * np.spacing(near))
    return found


def _array(data: np.ndarray, data_starts: int, entry: dict[str, Any]) -> Array:
    if entry["dtype"] not in _DTYPES:
        raise ValueError(f"there is no dtype {entry['dtype']!r} in it")
    dtype, shape, start = np.dtype(entry["dtype"]), tuple(entry["shape"]), entry["offset"]
    bytes_ = math.prod(shape) * dtype.itemsize
    if any(n < 0 for n in shape) or start < 0 or start + bytes_ > data.size:
        raise ValueError(f"an array of shape {shape} lies beyond its end")
    if (data_starts + start) % dtype.itemsize:
        raise ValueError(f"an array of shape {shape} does not lie at a multiple of its item size")
    if bytes_ == 0:
        return np.empty(shape, dtype)
    stored = data[start : start + bytes_].view(dtype.newbyteorder("<")).reshape(shape)
    return stored if stored.dtype.isnative else stored.astype(dtype)
