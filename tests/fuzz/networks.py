"""
Fuzz targets that read networks and weights: predictors' files and safetensors.

A reader raises a ValueError or OSError that names the file, or returns what runs.
"""

import functools
import json
import math
import struct
import zlib

import numpy as np
from cnnlib import inference, safetensors
from cnnlib.data import Normalization
from cnnlib.models import ConvNet
from files import FOLDER, refused
from source import SIZES, Source

SPECS = [
    [{"conv": 4}, "batchnorm", "relu", {"max_pool": 2}, "global_avg_pool", {"affine": 3}],
    ["batchnorm", "relu", {"conv": 4, "size": 1}, {"affine": 3}, "relu", {"affine": 3}],
    [{"conv": 4}, {"residual": [{"conv": 4}, "batchnorm"]}, "relu", {"affine": 3}],
]
BYTES = [{"conv": 4}, "relu6", {"conv": 4, "groups": 4}, "hard_swish", {"avg_pool": 2}, {"affine": 3}]
MOST_VALUES = 1 << 16  # of a sample that a network is tried on


@functools.cache
def nets():
    made = [ConvNet(spec, (3, 6, 6), 3, seed=0) for spec in SPECS]
    made[0].preprocess, made[0].classes = Normalization((1, 2, 3), (4, 5, 6)), tuple("abc")
    return made


@functools.cache
def predictor_files():
    path = FOLDER / "predictor-begin"
    contents = []
    for net in (*nets(), *eight_bit_nets()):
        (net if isinstance(net, inference.Predictor) else inference.prepare(net)).save(path)
        contents.append(path.read_bytes())
    return contents


@functools.cache
def eight_bit_nets():
    images = np.random.default_rng(0).standard_normal((8, 3, 6, 6))
    made = [ConvNet(spec, (3, 6, 6), 3, seed=0) for spec in (*SPECS, BYTES)]
    return [inference.prepare(net, precision="int8", calibration=images) for net in made]


def runs(path, predictor):
    """What has been read gives scores; or refuses to, for weights that the file has not kept."""
    if math.prod(predictor.input_dim) > MOST_VALUES:
        return
    try:
        with np.errstate(all="ignore"):
            scores = predictor(np.zeros((2, *predictor.input_dim), np.float32))
    except ValueError as error:
        refused(path, error)
    except MemoryError:
        pass
    else:
        assert len(scores) == 2


def read_predictor(content):
    path = FOLDER / "predictor"
    path.unlink(missing_ok=True)  # what is mapped must not change
    path.write_bytes(content)
    try:
        predictor = inference.load(path)
    except (ValueError, OSError) as error:
        refused(path, error)
    else:
        repr(predictor)
        runs(path, predictor)


def predictor(data):
    """The bytes as a file."""
    read_predictor(data)


def places(tree):
    """Every (container, key) in a tree of dicts and lists."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return [found for key, value in items for found in [(tree, key), *places(value)]]


def altered(source, tree):
    """The tree with a few of its values replaced, moved or removed."""
    for _ in range(source.choice([1, 1, 2, 3])):
        all_places = places(tree)
        if not all_places:
            return tree
        container, key = all_places[(source.byte() << 8 | source.byte()) % len(all_places)]
        value, kind = container[key], source.byte() % 8
        if kind < 2 and type(value) in (int, float):
            container[key] = value + source.choice([1, -1, 2, 64, -64, 1000, 2**31])
        elif kind == 2:
            del container[key]
        elif kind == 3:
            other, other_key = all_places[source.byte() % len(all_places)]
            container[key] = json.loads(
                json.dumps(other.get(other_key) if isinstance(other, dict) else value)
            )
        elif kind == 4 and isinstance(value, str):
            container[key] = source.choice(KINDS)
        else:
            container[key] = source.choice([*SIZES, [], {}, [2, 2], None, "input", source.integer(), 0.5])
    return tree


KINDS = [
    *("conv", "conv_transpose", "affine", "batchnorm", "spatial_batchnorm", "layernorm", "spatial_layernorm"),
    *("spatial_groupnorm", "max_pool", "avg_pool", "add", "conv_relu", "conv1d", "dropout"),
    *("global_avg_pool", "relu", "leaky_relu", "flatten", "concat", "softmax", "elu", "gelu"),
    *("byte_conv", "byte_affine", "byte_table", "byte_add", "byte_max_pool", "quantize", "dequantize"),
    *("upsample", "adaptive_max_pool", "scale", "multiply", "output", "input", "float64", "__init__", ""),
]
DTYPES = {"F32": "float32", "F64": "float64", "I8": "int8", "I32": "int32", "U8": "uint8"}
LENGTH = struct.Struct("<Q")


def predictor_header(data):
    """A predictor with another header, whose checksums are right: it may be refused, but not reach out."""
    source = Source(data)
    content = source.choice(predictor_files())
    (length,) = LENGTH.unpack_from(content)
    entries, arrays = json.loads(content[LENGTH.size : LENGTH.size + length]), content[LENGTH.size + length :]
    said = json.loads(entries.pop("__metadata__")["cnnlib"])
    tree = altered(source, {"said": said, "entries": entries})
    said, entries = tree.get("said"), tree.get("entries")
    for name, entry in entries.items() if isinstance(entries, dict) else ():
        try:  # the checksum of what it now says
            kind = DTYPES[entry["dtype"]]
            begin, end = entry["data_offsets"]
            start = zlib.crc32(repr((name, kind, tuple(entry["shape"]))).encode())
            said["sums"][name] = zlib.crc32(arrays[begin:end], start)
        except (IndexError, KeyError, TypeError, ValueError):
            pass
    text = json.dumps(said)
    metadata = {"cnnlib": text, "cnnlib.crc32": str(zlib.crc32(text.encode()))}
    header = {"__metadata__": metadata, **entries} if isinstance(entries, dict) else entries
    lead = json.dumps(header).encode()
    lead += b" " * (-len(lead) % 8)
    read_predictor(LENGTH.pack(len(lead)) + lead + arrays)


def read_safetensors(content):
    path = FOLDER / "weights.safetensors"
    path.unlink(missing_ok=True)
    path.write_bytes(content)
    try:
        arrays = safetensors.load(path)
    except (ValueError, OSError) as error:
        refused(path, error)
    else:
        for array in arrays.values():
            assert array.dtype.kind in "fiub"
            array.sum(dtype=object if array.dtype.kind == "b" else None)


@functools.cache
def safetensors_file():
    path = FOLDER / "begin.safetensors"
    arrays = {
        "w": np.arange(6.0).reshape(2, 3),
        "b": np.zeros(3, np.float16),
        "flags": np.array([True, False]),
    }
    safetensors.save(arrays, path)
    return path.read_bytes()


def weights(data):
    """The bytes as a safetensors file."""
    read_safetensors(data)


def weights_header(data):
    """A sound file's header altered, and its length right."""
    source, content = Source(data), safetensors_file()
    (length,) = struct.unpack_from("<Q", content)
    header = json.dumps(altered(source, json.loads(content[8 : 8 + length]))).encode()
    read_safetensors(struct.pack("<Q", len(header)) + header + content[8 + length :])
