"""The file of a predictor: arrays in the safetensors format, the graph and the rest as JSON beside them."""

from __future__ import annotations

import json
import mmap
import os
import weakref
import zlib
from collections.abc import Callable, Collection, Mapping
from typing import Any, BinaryIO

import numpy as np

from cnnlib._files.readable import open_to_read
from cnnlib._files.version import check_version
from cnnlib._params import choice
from cnnlib._typing import Array, Params
from cnnlib.data.normalization import PREPROCESSING
from cnnlib.detection.head import DetectionHead
from cnnlib.graph.description import batch_norms, describe, described_graph
from cnnlib.graph.fusion import refuse_unprepared
from cnnlib.graph.graph import Graph, fresh
from cnnlib.graph.ops.norm import STATISTICS
from cnnlib.graph.shapes import shapes
from cnnlib.inference.quantization.parts import check_byte_graph
from cnnlib.inference.quantization.table import row_of
from cnnlib.models.losses import checked_loss_name
from cnnlib.models.spec.reading import HEADS
from cnnlib.safetensors import format as safetensors

_ENTRY, _CHECKSUM = "cnnlib", "cnnlib.crc32"  # of the metadata
_VERSION = 1
# What comes of metadata that are JSON, but not ours.
_MALFORMED = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)


def is_predictor(path: str | os.PathLike[str]) -> bool:
    """Whether a file is one of a predictor, as far as its header says."""
    with open(path, "rb") as file:
        try:
            return _ENTRY in safetensors.read(os.fspath(path), file, mmap.ACCESS_READ)[1]
        except ValueError:
            return False


def write_file(
    path: str | os.PathLike[str],
    about: Mapping[str, Any],
    graph: Graph,
    params: Mapping[str, Array],
    narrow: Collection[str] = (),
) -> None:
    """Write a predictor, all or nothing; arrays in `narrow` hold numbers of bfloat16, and are stored so."""
    arrays, described = dict(params), describe(graph)
    norms = batch_norms(graph).values()
    for place, (settings, norm) in enumerate(zip(described["bn_params"], norms, strict=True)):
        for key in STATISTICS:
            if key in norm.args[0]:
                settings[key] = name = fresh(f"{place}.{key}", arrays)
                arrays[name] = norm.args[0][key]
    sums = {name: _checksum(name, array) for name, array in arrays.items()}
    text = json.dumps({"version": _VERSION, "about": about, "graph": described, "sums": sums})
    safetensors.write(path, arrays, {_ENTRY: text, _CHECKSUM: str(zlib.crc32(text.encode()))}, narrow)


def read_file(path: str | os.PathLike[str]) -> tuple[dict[str, Any], Graph, Params, Callable[[], None]]:
    """What :func:`write_file` wrote, its arrays mapped, and a function to call before they are read.

    It raises a ValueError if the file has become too short for the map, and compares the checksums at its
    first call, and whenever the file was written to since the last.
    """
    name = os.fspath(path)
    with open_to_read("inference.load", name) as file:
        arrays, metadata = safetensors.read(name, file, mmap.ACCESS_READ)
        if _ENTRY not in metadata:
            raise ValueError(f"{name} is not a predictor of cnnlib")
        if metadata.get(_CHECKSUM) != str(zlib.crc32(metadata[_ENTRY].encode())):
            raise ValueError(f"{name} is damaged: its header is not what was written")
        mapped = _Mapped(name, file)
    try:
        content = json.loads(metadata[_ENTRY])
        version = content["version"]
    except _MALFORMED as error:
        raise _damaged(name, error) from error
    check_version(name, "a predictor", version, _VERSION)
    try:
        about = content["about"]
        described = _tuples(content["graph"])
        mapped.sums = [(key, array, content["sums"][key]) for key, array in arrays.items()]
        statistics = [
            {key: arrays.pop(settings[key]) for key in STATISTICS if key in settings}
            for settings in described["bn_params"]
        ]
        graph = described_graph(described, statistics)
        _check(about, graph, arrays)
    except _MALFORMED as error:
        raise _damaged(name, error) from error
    return about, graph, arrays, mapped.check


def _damaged(name: str, error: Exception) -> ValueError:
    why = error if isinstance(error, ValueError) else repr(error)
    return ValueError(f"{name} is damaged, or not a predictor: {why}")


class _Mapped:
    """A file in memory, and whether its arrays, `sums` with their names and checksums, may be read."""

    def __init__(self, name: str, file: BinaryIO) -> None:
        self.name = name
        self.size = os.fstat(file.fileno()).st_size
        self.sums: list[tuple[str, Array, int]] = []
        self._file = os.dup(file.fileno())
        self._written: int | None = None  # when, as of the last comparison
        weakref.finalize(self, os.close, self._file)

    def check(self) -> None:
        now = os.fstat(self._file)
        if now.st_size < self.size:  # to read beyond its end would end the process
            raise ValueError(
                f"{self.name} was cut short after it was loaded: {now.st_size} of {self.size} bytes"
            )
        if now.st_mtime_ns == self._written:
            return
        if any(_checksum(key, array) != checksum for key, array, checksum in self.sums):
            raise ValueError(f"{self.name} is damaged: its weights are not what was written")
        self._written = now.st_mtime_ns


def _check(about: dict[str, Any], graph: Graph, params: Params) -> None:
    """Validate what a file says: the graph by its own checks, then what stands beside it."""
    sizes, classes = about["input_dim"], about["classes"]
    if not isinstance(sizes, list) or not sizes or not all(type(n) is int and n > 0 for n in sizes):
        raise ValueError(f"input_dim is {sizes!r}")
    if classes is not None and not (isinstance(classes, list) and all(isinstance(n, str) for n in classes)):
        raise ValueError(f"classes is {classes!r}")
    if about["preprocess"] is not None:
        PREPROCESSING.build(about["preprocess"])
    choice("about", "head", about["head"], HEADS)
    about["loss_name"] = checked_loss_name("about", about["loss_name"], graph.outputs)
    about["detection"] = DetectionHead.of("about", about.get("detection"))
    if about["dtype"] not in ("float32", "float64"):
        raise ValueError(f"there is no dtype {about['dtype']!r} in it")
    about["bfloat16"] = about.get("bfloat16", False)
    if type(about["bfloat16"]) is not bool or (about["bfloat16"] and about["dtype"] != "float32"):
        raise ValueError(f"bfloat16 is {about['bfloat16']!r} in a network of {about['dtype']}")
    if about["quantization"] is not None:
        about["quantization"] = [row_of(row) for row in about["quantization"]]
    graph.check("graph", eight_bits=True)
    refuse_unprepared("graph", graph)
    check_byte_graph(graph, params, about["dtype"])
    shapes(graph, params, tuple(sizes), "graph")


def _checksum(name: str, array: Array) -> int:
    """CRC-32 of an array's name, dtype, shape and bytes."""
    head = repr((name, array.dtype.name, array.shape)).encode()
    little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    return zlib.crc32(little.data.cast("B") if little.size else b"", zlib.crc32(head))


def _tuples(value: Any) -> Any:
    """The lists of JSON as the tuples that they were."""
    if isinstance(value, dict):
        return {key: _tuples(item) for key, item in value.items()}
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
