"""
Fuzz targets that read ONNX files: a ValueError or OSError names the file, or else what has been read runs.
"""

import functools
import math

import numpy as np
import onnx
from cnnlib.onnx import load, save
from cnnlib.onnx.reading.constants import FOLDED
from cnnlib.onnx.reading.network import OPERATORS
from files import FOLDER, refused
from networks import MOST_VALUES, eight_bit_nets, nets
from onnx import numpy_helper
from source import SIZES, Source

# Operators of all kinds, between images, rows of numbers and constants.
TEXTS = [
    """a = Conv <kernel_shape=[3, 3], pads=[1, 1, 1, 1]> (x, w, b)
       m = BatchNormalization (a, b, b, b, v)
       r = Clip (m, zero, six)
       p = MaxPool <kernel_shape=[2, 2], strides=[2, 2]> (r)
       f = Flatten (p)
       y = Gemm <transB=1> (f, g)""",
    """s = Shape (x)
       n = Gather (s, zero_i)
       u = Unsqueeze (n, axes)
       k = Concat <axis=0> (u, minus)
       a = AveragePool <kernel_shape=[2, 2]> (x)
       t = Resize <mode="nearest"> (a, , scales)
       q = Reshape (t, k)
       y = MatMul (q, h)""",
    """c = Constant <value_floats=[1.0, 2.0, 3.0]> ()
       d = Mul (x, six)
       e = InstanceNormalization (d, b, b)
       t = Transpose <perm=[0, 2, 3, 1]> (e)
       l = LayerNormalization (t, c, b)
       v = Transpose <perm=[0, 3, 1, 2]> (l)
       j = Concat <axis=1> (v, x)
       h = HardSwish (j)
       o = Pad <mode="constant"> (h, pads)
       y = GlobalAveragePool (o)""",
    """a = ConvTranspose <strides=[2, 2], kernel_shape=[2, 2]> (x, wt)
       e = Sigmoid (a)
       i = Mul (a, e)
       s = Squeeze (zero_i)
       g = Softmax <axis=1> (i)
       y = ReduceMean <keepdims=0> (g, two_three)""",
    """q = QuantizeLinear (x, s8, z8)
       d = DequantizeLinear (q, s8, z8)
       l = DequantizeLinear <axis=0> (codes, steps)
       c = Conv <kernel_shape=[3, 3], pads=[1, 1, 1, 1]> (d, l, b)
       r = Relu (c)
       k = QuantizeLinear (r, s8, z8)
       e = DequantizeLinear (k, s8, z8)
       a = Add (e, d)
       m = QuantizeLinear (a, s8, z8)
       y = DequantizeLinear (m, s8, z8)""",
]
RNG = np.random.default_rng(0)
ARRAYS = {
    "s8": np.full((), 0.03),
    "z8": np.full((), 99, np.uint8),
    "codes": RNG.integers(-127, 128, (3, 3, 3, 3), np.int8),
    "steps": np.full(3, 0.01),
    "w": RNG.standard_normal((3, 3, 3, 3)),
    "wt": RNG.standard_normal((3, 2, 2, 2)),
    "b": RNG.standard_normal(3),
    "v": RNG.uniform(1, 2, 3),
    "g": RNG.standard_normal((4, 27)),
    "h": RNG.standard_normal((300, 4)),
    "zero": np.zeros(()),
    "six": np.full((), 6.0),
    "scales": np.array([1, 1, 2, 2]),
    "zero_i": np.zeros((), np.int64),
    "axes": np.zeros(1, np.int64),
    "minus": np.array([-1]),
    "pads": np.array([0, 0, 1, 1, 0, 0, 1, 1]),
    "two_three": np.array([2, 3]),
}
NAMES = [*"abcdefghijklmnopqrstuvwxy", *ARRAYS, ""]


@functools.cache
def models():
    found = []
    for text in TEXTS:
        header = '<ir_version: 10, opset_import: ["": 21]>'
        model = onnx.parser.parse_model(f"{header} net (float[N, 3, 6, 6] x) => (float y) {{ {text} }}")
        for name, array in ARRAYS.items():
            kept = array if array.dtype.kind in "iu" and name != "scales" else array.astype(np.float32)
            model.graph.initializer.append(numpy_helper.from_array(np.asarray(kept), name))
        found.append(model.SerializeToString())
    path = FOLDER / "begin.onnx"
    for net in (*nets(), *eight_bit_nets()):
        save(net, path)
        found.append(path.read_bytes())
    return found


def read(content):
    path = FOLDER / "net.onnx"
    path.write_bytes(content)
    try:
        net = load(path)
    except (ValueError, OSError) as error:
        refused(path, error)
        return
    if math.prod(net.input_dim) <= MOST_VALUES:
        try:
            with np.errstate(all="ignore"):
                scores = (getattr(net, "loss", net))(np.zeros((2, *net.input_dim)))
        except MemoryError:
            return
        assert len(scores) == 2


def network(data):
    """The bytes as a file."""
    read(data)


def altered_attribute(source, attribute):
    kind = source.byte() % 5
    if kind == 0 and attribute.ints:
        attribute.ints[source.byte() % len(attribute.ints)] = source.choice([*SIZES, 0, -1, 2**31, -(2**63)])
    elif kind == 1:
        attribute.i, attribute.f = source.choice([*SIZES, 0, -1, 2**40]), source.number() % 1e30
    elif kind == 2:
        attribute.s = source.choice([b"", b"SAME_UPPER", b"linear", b"\xff", b"none"])
    elif kind == 3:
        attribute.type = source.choice([1, 2, 3, 4, 5, 6, 7, 8])
    else:
        attribute.name = source.choice(
            ["axis", "pads", "group", "dilations", "alpha", "to", "ceil_mode", "x"]
        )


def altered_tensor(source, tensor):
    kind = source.byte() % 6
    if kind == 0 and tensor.dims:
        tensor.dims[source.byte() % len(tensor.dims)] = source.choice([*SIZES, 0, -1, 2**31, 2**62])
    elif kind == 1:
        tensor.data_type = source.choice(range(24))
    elif kind == 2:
        tensor.raw_data = tensor.raw_data[: source.byte()]
    elif kind == 3:
        tensor.raw_data = bytes(source.byte() for _ in range(min(len(tensor.raw_data), 16)))
    elif kind == 4:
        tensor.dims.append(source.choice([1, 0, 2]))
    else:
        tensor.data_location = 1
        entry = tensor.external_data.add()
        entry.key, entry.value = "location", source.choice(["net.onnx", "/etc/passwd", "../x", "", "."])


def altered_node(source, node):
    kind = source.byte() % 5
    if kind == 0:
        node.op_type = source.choice([*OPERATORS, *FOLDED])
    elif kind == 1 and node.input:
        node.input[source.byte() % len(node.input)] = source.choice(NAMES)
    elif kind == 2 and node.attribute:
        altered_attribute(source, node.attribute[source.byte() % len(node.attribute)])
    elif kind == 3:
        node.input.append(source.choice(NAMES))
    elif node.attribute:
        del node.attribute[source.byte() % len(node.attribute)]


def network_fields(data):
    """A sound model with a few of its operators, attributes, tensors and sizes altered."""
    source = Source(data)
    model = onnx.ModelProto.FromString(source.choice(models()))
    graph = model.graph
    for _ in range(source.choice([1, 1, 2, 4])):
        kind = source.byte() % 8
        if kind < 4:
            altered_node(source, graph.node[source.byte() % len(graph.node)])
        elif kind < 6:
            altered_tensor(source, graph.initializer[source.byte() % len(graph.initializer)])
        elif kind == 6:
            sizes = graph.input[0].type.tensor_type.shape.dim
            sizes[source.byte() % len(sizes)].dim_value = source.choice([*SIZES, 0, -1, 2**31, 2**62])
        else:
            model.opset_import[0].version = source.choice([21, 18, 13, 11, 9, 7, 6, 1, 0, 99])
    read(model.SerializeToString())
