"""Random networks in ONNX files with QuantizeLinear and DequantizeLinear: a Hypothesis strategy."""

import re

import numpy as np
import onnx
from cnnlib import layers
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper


class Quantized:
    """A file in the making: values of bytes with a scale and a zero point, floats between them.

    Attributes
    ----------
    shape : tuple of int
        Of a sample of the last value.
    step : float
        The last value's scale.
    """

    def __init__(self, rng, dtype, symmetric):
        self.rng, self.dtype, self.symmetric = rng, np.dtype(dtype), symmetric
        self.nodes, self.tensors, self.count = [], [], 0

    def name(self, role):
        self.count += 1
        return f"{role}{self.count}"

    def tensor(self, array, role):
        name = self.name(role)
        self.tensors.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def operator(self, kind, inputs, role="v", **attributes):
        output = self.name(role)
        self.nodes.append(helper.make_node(kind, inputs, [output], name=f"n{self.count}", **attributes))
        return output

    def rounded(self, value, x, low=None):
        """A value as bytes and floats again, with a scale for the numbers x that it has; returns both."""
        low, high = min(0.0, x.min() if low is None else low), max(x.max(), 1e-3)
        info = np.iinfo(self.dtype)
        if self.symmetric and low < 0:
            step, zero = np.float32(max(-low, high) / 127), (int(info.max) + int(info.min) + 1) // 2
        else:
            step = np.float32((high - low) / 255)
            zero = int(np.clip(np.rint(info.min - low / step), info.min, info.max))
        scale = self.tensor(np.float32(step), "scale"), self.tensor(self.dtype.type(zero), "zero")
        codes = self.operator("QuantizeLinear", [value, *scale], "q")
        out = self.operator("DequantizeLinear", [codes, *scale], "d")
        q = np.clip(np.rint(x / step) + zero, info.min, info.max)
        return out, ((q - zero) * step).astype(np.float32), float(step)

    def weights(self, w, axis, by_filter, dtype=np.int8):
        """The name of quantised weights, and the floats."""
        rest = tuple(i for i in range(w.ndim) if i != axis)
        largest = np.abs(w).max(axis=rest if by_filter else None, keepdims=by_filter)
        step = np.float32(largest / 127)
        codes = np.clip(np.rint(w / step), -127, 127)
        zero = 128 if dtype == np.uint8 else 0
        scale = self.tensor(step.reshape(-1) if by_filter else step.reshape(()), "w_scale")
        zeros = np.full(len(step.reshape(-1)) if by_filter else (), zero, dtype)
        inputs = [self.tensor((codes + zero).astype(dtype), "w_codes"), scale, self.tensor(zeros, "w_zero")]
        name = self.operator("DequantizeLinear", inputs, "w", axis=axis if by_filter else 0)
        return name, (codes * step).astype(np.float32), step.reshape(-1)

    def bias(self, b, x_step, w_steps):
        """The name of a bias in int32, in the scale of the sums."""
        steps = np.broadcast_to(np.float32(x_step) * w_steps, b.shape).astype(np.float32)
        inputs = [self.tensor(np.rint(b / steps).astype(np.int32), "b_codes"), self.tensor(steps, "b_scale")]
        return self.operator("DequantizeLinear", inputs, "b", axis=0)

    def proto(self, x_shape, out, out_shape, opset):
        sizes = ["N", x_shape[0], "H", "W"]
        graph = helper.make_graph(
            self.nodes,
            "net",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, sizes)],
            [helper.make_tensor_value_info(out, TensorProto.FLOAT, ["N", *out_shape])],
            self.tensors,
        )
        imports = [helper.make_opsetid("", opset)]
        proto = helper.make_model(graph, opset_imports=imports, ir_version=8)
        onnx.checker.check_model(proto, full_check=True)
        return proto


@st.composite
def networks(draw):
    """(ModelProto, x, step of the output, kinds of operators)."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    net = Quantized(rng, draw(st.sampled_from([np.uint8, np.uint8, np.int8])), draw(st.booleans()))
    C, H, W = draw(st.integers(1, 9)), draw(st.integers(5, 9)), draw(st.integers(5, 9))
    x = rng.standard_normal((2, C, H, W)).astype(np.float32)
    value, numbers, step = net.rounded("x", x)
    kinds = []
    for _ in range(draw(st.integers(1, 4))):
        kind = draw(st.sampled_from(LAYERS))
        if min(numbers.shape[2:]) < 3 and kind in ("max_pool", "avg_pool"):
            continue
        kinds.append(kind)
        value, numbers, step = _layer(draw, net, kind, value, numbers, step)
    if draw(st.booleans()):
        kinds.append("head")
        value, numbers, step = _head(draw, net, value, numbers, step)
    opset = draw(st.sampled_from([14, 17, 19, 21]))
    return net.proto(x.shape[1:], value, numbers.shape[1:], opset), x, step, kinds


FUNCTIONS = ["Sigmoid", "Tanh", "HardSwish", "Relu", "LeakyRelu"]
LAYERS = ["conv", "conv", "conv", "depthwise", "sum", "conv sum", "max_pool", "avg_pool", "concat", "table"]


def _layer(draw, net, kind, value, numbers, step):
    if kind in ("conv", "depthwise", "conv sum"):
        made, out = _conv(draw, net, value, numbers, step, kind)
        if kind == "conv sum":
            other, more, _ = net.rounded(*_other(draw, net, value, numbers))
            made, out = net.operator("Add", [made, other]), out + more
        activation = draw(st.sampled_from(["", "Relu", "Clip"]))
        if activation:
            bounds = [net.tensor(np.float32(n), "bound") for n in (0, 6)] if activation == "Clip" else []
            made = net.operator(activation, [made, *bounds])
            out = np.clip(out, 0, 6 if bounds else None)
        return net.rounded(made, out)
    if kind == "sum":
        other, more, _ = net.rounded(*_other(draw, net, value, numbers))
        return net.rounded(net.operator("Add", [value, other]), numbers + more)
    if kind == "concat":
        other, more, _ = net.rounded(*_other(draw, net, value, numbers))
        joined = np.concatenate([numbers, more], axis=1)
        return net.rounded(net.operator("Concat", [value, other], axis=1), joined)
    if kind == "table":
        name = draw(st.sampled_from(FUNCTIONS))
        layer = re.sub("(?<=[a-z])(?=[A-Z])", "_", name).lower()
        out = getattr(layers, f"{layer}_forward")(numbers)[0]
        return net.rounded(net.operator(name, [value]), out)
    window = draw(st.integers(1, 3))
    pads = [draw(st.integers(0, window - 1)) // 2 for _ in range(2)]
    stride = draw(st.integers(1, 2))
    param = {"pool_height": window, "pool_width": window, "stride": stride, "pad": tuple(pads)}
    attributes = {"kernel_shape": [window] * 2, "strides": [stride] * 2, "pads": [*pads, *pads]}
    if kind == "max_pool":
        out = layers.max_pool_forward(numbers, param)[0]
        # As quantised files have it: in the scale of its input.
        made = net.operator("MaxPool", [value], **attributes)
        scale = list(net.nodes[[n.output[0] for n in net.nodes].index(value)].input[1:])
        codes = net.operator("QuantizeLinear", [made, *scale], "q")
        return net.operator("DequantizeLinear", [codes, *scale], "d"), out, step
    counted = draw(st.integers(0, 1))
    out = layers.avg_pool_forward(numbers, {**param, "count_include_pad": bool(counted)})[0]
    made = net.operator("AveragePool", [value], **attributes, count_include_pad=counted)
    return net.rounded(made, out * draw(st.sampled_from([1, 1, 1.5])))


def _other(draw, net, value, numbers):
    """Another value of the same shape, and its numbers."""
    if draw(st.booleans()):
        return net.operator("Relu", [value]), np.maximum(numbers, 0)
    return net.operator("Tanh", [value]), np.tanh(numbers)


def _conv(draw, net, value, numbers, step, kind):
    C, rng = numbers.shape[1], net.rng
    if kind == "conv sum":
        F, groups, size, stride, pads, dilation = C, 1, 3, 1, [1, 1, 1, 1], 1
    else:
        groups = C if kind == "depthwise" else draw(st.sampled_from([1, 1, 1, C]))
        F = C if groups > 1 else draw(st.integers(1, 20))
        size, stride, dilation = (draw(st.integers(1, n)) for n in (3, 2, 2))
        pads = [draw(st.integers(0, 1)) for _ in range(4)]
        if dilation * (size - 1) >= min(numbers.shape[2:]):
            pads = [2, 2, 2, 2]
    w = rng.standard_normal((F, C // groups, size, size)).astype(np.float32) / np.sqrt(C // groups * size**2)
    name, w, steps = net.weights(
        w, 0, draw(st.booleans()), draw(st.sampled_from([np.int8, np.int8, np.uint8]))
    )
    inputs, b = [value, name], None
    if draw(st.booleans()):
        b = rng.standard_normal(F).astype(np.float32)
        inputs.append(net.bias(b, step, steps) if draw(st.booleans()) else net.tensor(b, "b"))
    attributes = {"strides": [stride] * 2, "pads": pads, "group": groups, "dilations": [dilation] * 2}
    made = net.operator("Conv", inputs, kernel_shape=[size] * 2, **attributes)
    sides = (pads[0], pads[2]), (pads[1], pads[3])
    param = {"stride": stride, "pad": sides, "dilation": dilation, "groups": groups}
    return made, layers.conv_forward(numbers, w, b, param)[0]


def _head(draw, net, value, numbers, step):
    """A mean of images, and a fully connected layer."""
    out = numbers.mean(axis=(2, 3), keepdims=True)
    value, out, step = net.rounded(net.operator("GlobalAveragePool", [value]), out)
    value, numbers = net.operator("Flatten", [value]), out.reshape(len(out), -1)
    D, F = numbers.shape[1], draw(st.integers(1, 12))
    w = net.rng.standard_normal((D, F)).astype(np.float32)
    kind = draw(st.sampled_from(["Gemm", "Gemm transposed", "MatMul"]))
    transposed = kind == "Gemm transposed"
    name, floats, steps = net.weights(w.T.copy() if transposed else w, 1 - transposed, draw(st.booleans()))
    floats = floats.T if transposed else floats
    b = net.rng.standard_normal(F).astype(np.float32)
    if kind == "MatMul":
        made, made_numbers = net.operator("MatMul", [value, name]), numbers @ floats
    else:
        made = net.operator("Gemm", [value, name, net.bias(b, step, steps)], transB=int(transposed))
        made_numbers = numbers @ floats + b
    if draw(st.booleans()):
        return made, made_numbers, float(step * np.abs(floats).sum(axis=0).max())
    return net.rounded(made, made_numbers)
