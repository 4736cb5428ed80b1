"""From a file to a checked ModelProto, its arrays, and the builder that knows them."""

from __future__ import annotations

import math
import os
from collections import Counter
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from cnnlib._files.readable import open_to_read
from cnnlib.graph.importing import Builder, Feature
from cnnlib.onnx.metadata import require_onnx

Constant: TypeAlias = NDArray[Any]  # numbers of any type
Value: TypeAlias = Feature | Constant
STANDARD = ("", "ai.onnx")  # two names of one set of operators
OWN = "cnnlib"  # the domain of those that patterns of several are replaced by
FLOATS = (1, 10, 11, 16)  # float32, float16, float64 and bfloat16 of TensorProto.DataType
NEWEST = 28  # the last version of the standard operators whose meaning is known here


class Source:
    """A model's ModelProto, with its own functions inlined, and the folder that its external data lie in.

    Messages begin with `title`, the file's name or 'the model'. `opset` is the version of the standard
    operators, `values` how many numbers the tensors hold that have been read. `quantized` are constants made
    of integers, by the file's names.
    """

    def __init__(self, path_or_proto: Any) -> None:
        self.onnx = require_onnx("cnnlib.onnx.load")
        if isinstance(path_or_proto, self.onnx.ModelProto):
            self.title, self._folder, model = "the model", None, path_or_proto
        elif isinstance(path_or_proto, (str, os.PathLike)):
            self.title = os.fspath(path_or_proto)
            self._folder = Path(self.title).parent
            model = self._parsed()
        else:
            raise TypeError(
                f"cnnlib.onnx.load: expected a path or an onnx.ModelProto, got {type(path_or_proto).__name__}"
            )
        if not model.graph.node:
            raise ValueError(f"{self.title} is not an ONNX model, or one without operators")
        _check_names(self.title, model)
        versions = {entry.domain: entry.version for entry in model.opset_import}
        self.opset = next((versions[domain] for domain in STANDARD if domain in versions), 1)
        if self.opset > NEWEST:
            raise ValueError(
                f"{self.title}: version {self.opset} of the standard operators is newer than those read "
                f"here, up to {NEWEST}"
            )
        self.model = self._inlined(model)
        if self.model.graph.sparse_initializer:
            raise ValueError(f"{self.title}: sparse tensors have no counterpart here")
        self.values = 0
        self.quantized: dict[str, Any] = {}
        self._tensors = {tensor.name: tensor for tensor in self.model.graph.initializer}
        self._check_made()
        self._arrays: dict[str, Constant] = {}

    def _check_made(self):
        graph = self.model.graph
        made = [value.name for value in (*self.inputs(), *graph.initializer)]
        made += [name for node in graph.node for name in node.output if name]
        for name, count in Counter(made).items():
            if count > 1:
                raise ValueError(f"{self.title}: it is damaged, and makes {name!r} {count} times")

    def _parsed(self):
        from google.protobuf.message import DecodeError

        with open_to_read("onnx.load", self.title) as file:
            content = file.read()
        try:
            return self.onnx.ModelProto.FromString(content)
        except (DecodeError, ValueError) as error:
            raise ValueError(f"{self.title} is not an ONNX model, or is damaged: {error}") from error

    def _inlined(self, model):
        if not model.functions:
            return model
        from onnx.inliner import inline_local_functions

        try:
            return inline_local_functions(model)
        except (RuntimeError, ValueError) as error:
            raise ValueError(f"{self.title}: its functions cannot be inlined: {error}") from error

    def inputs(self) -> list[Any]:
        """What the network reads and the file does not hold."""
        return [value for value in self.model.graph.input if value.name not in self._tensors]

    def sizes(self, value: Any) -> list[int | None]:
        """The shape of an input; None for what the file leaves open, which some write as 0 or -1."""
        return [dim.dim_value if dim.dim_value > 0 else None for dim in value.type.tensor_type.shape.dim]

    def constant(self, name: str) -> Constant | None:
        """The constant of that name that the file holds, if there is one."""
        if name not in self._arrays and name in self._tensors:
            self._arrays[name] = self.array(self._tensors[name])
        return self._arrays.get(name)

    def array(self, tensor: Any) -> Constant:
        """The values of a TensorProto; float16 and bfloat16 as float32.

        ValueError, which names it, if it is damaged, of a type that has no array, or its external data are
        not what they should be.
        """
        where = f"{self.title}: tensor {tensor.name!r}"
        if any(size < 0 for size in tensor.dims):
            raise ValueError(f"{where} has the shape {tuple(tensor.dims)}")
        try:
            if tensor.data_location == self.onnx.TensorProto.EXTERNAL:
                array = self._external(where, tensor)
            else:
                array = self.onnx.numpy_helper.to_array(tensor)
        except (AttributeError, KeyError, MemoryError, OverflowError, TypeError) as error:
            raise ValueError(f"{where} cannot be read: {error!r}") from error
        except ValueError as error:
            if str(error).startswith(where):
                raise
            raise ValueError(f"{where} is damaged: {error}") from error
        self.values += array.size
        if array.dtype.name in ("float16", "bfloat16"):
            return array.astype(np.float32)
        if array.dtype.kind not in "fiub":
            raise ValueError(f"{where} is of type {array.dtype}, which has no use here")
        return array

    def _external(self, where, tensor):
        """Values that lie in a file of their own, in the model's folder or below it."""
        entries = {entry.key: entry.value for entry in tensor.external_data}
        location = entries.get("location", "")
        if self._folder is None:
            raise ValueError(f"{where} lies in the file {location!r}: give the model's path")
        folder = self._folder.resolve()
        path = (folder / location).resolve()
        if not location or not path.is_relative_to(folder) or not path.is_file():
            raise ValueError(f"{where}: its data {location!r} are no file in the model's folder")
        dtype = np.dtype(self.onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type))
        if dtype.kind not in "fiubV" or dtype.hasobject:
            raise ValueError(f"{where} is of type {dtype}, which has no use here")
        count = math.prod(tensor.dims)
        offset = int(entries.get("offset", 0))
        length = int(entries.get("length", count * dtype.itemsize))
        if offset < 0 or length != count * dtype.itemsize or offset + length > path.stat().st_size:
            raise ValueError(
                f"{where}: {tuple(tensor.dims)} values of {dtype} are {count * dtype.itemsize} bytes; "
                f"{location} has {path.stat().st_size}, of which it names {length} from {offset}"
            )
        raw = np.fromfile(path, np.uint8, count * dtype.itemsize, offset=offset)
        return raw.view(dtype.newbyteorder("<")).astype(dtype).reshape(tuple(tensor.dims))


def _check_names(title, model):
    """protobuf hands out text that is no UTF-8 as bytes."""
    graph = model.graph
    names = [value.name for value in (*graph.initializer, *graph.input, *graph.output)]
    for node in graph.node:
        names += [node.name, node.op_type, node.domain, *node.input, *node.output]
        names += [attribute.name for attribute in node.attribute]
    for name in names:
        if isinstance(name, bytes):
            raise ValueError(f"{title} is damaged: its name {name!r} is no UTF-8 text")


class FileBuilder(Builder):
    """A builder that knows the file's constants.

    Attributes
    ----------
    source : Source
    batch : int or None
        The number of images that the file is fixed to, if it is.
    samples : int
        The number of images in shapes that are computed while the file is read.
    counts : list of int
        Numbers of images that resizing was told.
    choices : list of (str, list of ndarray)
        Operators between constants that another size may decide otherwise, and what they compare; no size is
        negative.
    folded : int
        Values of all constants that have been computed from others.
    codes : dict
        The type, 'uint8' or 'int8', of each of the graph's values that consists of bytes.
    integers : set of str
        The file's names of its input, where that is of no floats, and of what only gives it another shape.
    readers : Counter
        How often each of the file's values is read; the output counts as one.
    pools_keep_images : bool
        Whether a global pool has to give (N, C, 1, 1), since something behind it takes nothing but images.
    """

    def __init__(self, source: Source, samples: int) -> None:
        super().__init__()
        self.source, self.samples = source, samples
        (given,) = source.inputs()
        kind = given.type.tensor_type.elem_type
        self.dtype = np.dtype(np.float64 if kind == source.onnx.TensorProto.DOUBLE else np.float32)
        self.integers = {given.name} if kind not in (0, *FLOATS) else set[str]()
        self.batch = next(iter(source.sizes(given)), None)
        self._values: dict[str, Value] = {}
        self.folded = 0
        self.counts: list[int] = []
        self.choices: list[tuple[str, list[Any]]] = []
        self.codes: dict[str, str] = {}
        self.readers: Counter[str] = Counter()
        self.pools_keep_images = False

    def value(self, name: str) -> Value | None:
        return self._values[name] if name in self._values else self.source.constant(name)
