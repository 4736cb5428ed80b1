"""Kinds of files, told by their content."""

from __future__ import annotations

import os
import struct
from typing import BinaryIO, Literal, TypeAlias

from cnnlib._files.readable import BoundedReader, about_pickle, is_pickle

Kind: TypeAlias = Literal[
    "missing", "folder", "run", "predictor", "npz", "safetensors", "onnx", "pickle", "empty", "unknown"
]

READ = (
    "a run's folder and the checkpoints in it, files of a model's save and export, of a Predictor's save, "
    "checkpoints, ONNX and safetensors"
)
_ZIP = b"PK\x03\x04"
_SHOWN = 12  # bytes of a file of an unknown kind
# Fields of ONNX's ModelProto by their numbers in the file, with their wire types: 0 a number, 2 bytes.
_NUMBER, _BYTES = 0, 2
_VERSION, _MODEL_VERSION, _GRAPH = 1, 5, 7
_FIELDS = {
    **dict.fromkeys((2, 3, 4, 6, _GRAPH, 8, 14, 20, 25, 26), _BYTES),
    **dict.fromkeys((_VERSION, _MODEL_VERSION), _NUMBER),
}


def kind_of(path: str | os.PathLike[str]) -> Kind:
    """Tell the kind of what a path holds; OSError for a file that cannot be read."""
    path = os.fsdecode(path)
    if os.path.isdir(path):
        from cnnlib.runs.config import CONFIG

        return "run" if os.path.exists(os.path.join(path, CONFIG)) else "folder"
    if not os.path.exists(path):
        return "missing"
    from cnnlib.inference.file import is_predictor

    with BoundedReader(path) as file:
        first = file.read(_SHOWN)
        if not first:
            return "empty"
        if first.startswith(_ZIP):
            return "pickle" if is_pickle(file) else "npz"
        if (
            len(first) > 8
            and first[8:9] == b"{"
            and struct.unpack("<Q", first[:8])[0] < os.path.getsize(path)
        ):
            return "predictor" if is_predictor(path) else "safetensors"
        if is_pickle(file):
            return "pickle"
        return "onnx" if _is_onnx(file) else "unknown"


def found_in(path: str, kind: Kind) -> str:
    """What a path of a kind that is not read holds, in words that follow its name."""
    if kind == "missing":
        return "does not exist"
    if kind == "folder":
        names = sorted(os.listdir(path))
        some = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
        return f"is not the folder of a run: it has no config.json, but {some or 'nothing'}"
    if kind == "pickle":
        return about_pickle(path)
    if kind == "empty":
        return "is empty"
    with open(path, "rb") as file:
        return f"is of a kind that is not known here: it begins with {file.read(_SHOWN)!r}"


def _is_onnx(file: BinaryIO) -> bool:
    """Whether a file is an ONNX model, as far as its outermost fields show up to the graph."""
    file.seek(0)
    seen: set[int] = set()
    while _GRAPH not in seen:
        tag = _varint(file)
        if tag is None or _FIELDS.get(tag >> 3) != tag & 7:
            return False
        seen.add(tag >> 3)
        value = _varint(file)
        if value is None:
            return False
        if tag & 7 == _BYTES and tag >> 3 != _GRAPH:
            file.seek(value, os.SEEK_CUR)
    return _VERSION in seen


def _varint(file: BinaryIO) -> int | None:
    """The number that stands next in a protocol buffer; None if there is none."""
    value = 0
    for shift in range(0, 64, 7):
        byte = file.read(1)
        if not byte:
            return None
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return value
    return None
