"""The conformance cases that the onnx package ships for the operators that the layers implement.

`shipped_cases` finds them, `run_case` computes one with the layers. The adapters translate attributes and
nothing else; what the layers cannot express raises Inexpressible.
"""

from __future__ import annotations

import functools
import importlib
import pathlib
import warnings
from dataclasses import dataclass

import cnnlib
import numpy as np
import onnx
from onnx.backend.test.case import node as node_cases
from onnx.backend.test.loader import load_model_tests

KINDS = ("simple", "pytorch-converted", "pytorch-operator")  # in files
GLUE = ("Constant", "Squeeze", "Unsqueeze")  # what exporters put around an operator


class Inexpressible(Exception):
    """A case asks for what the layers' contract does not have."""


@dataclass
class ShippedCase:
    """A graph, its inputs and the outputs wanted, by name."""

    name: str
    nodes: list
    inputs: dict
    wanted: dict
    rtol: float
    atol: float

    @property
    def operator(self):
        return next(node.op_type for node in self.nodes if node.op_type in ADAPTERS)


@functools.cache
def shipped_cases():
    """All cases whose graph holds our operators, and glue at most; graphs of more test other operators."""
    return [case for test, model in shipped_tests(ADAPTERS) for case in _cases(test, model)]


def shipped_tests(operators):
    """The shipped tests that may be about these operators, with their models.

    Those of a node are computed when their module is imported, some for seconds: so only if it names one.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for path in pathlib.Path(node_cases.__file__).parent.glob("*.py"):
            text = path.read_text(encoding="utf-8")
            if any(f'"{operator}"' in text for operator in operators):
                importlib.import_module(f"{node_cases.__name__}.{path.stem}")
        tests = [
            *node_cases._NodeTestCases,
            *(test for kind in KINDS for test in load_model_tests(kind=kind)),
        ]
    return [(test, test.model or onnx.load(pathlib.Path(test.model_dir) / "model.onnx")) for test in tests]


def _cases(test, model):
    """One case for each data set of a shipped test, if it is about our operators."""
    operators = {node.op_type for node in model.graph.node}
    if not operators & ADAPTERS.keys() or not operators <= {*ADAPTERS, *GLUE}:
        return
    weights = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    inputs = [value.name for value in model.graph.input if value.name not in weights]
    outputs = [value.name for value in model.graph.output]
    for number, (given, wanted) in enumerate(test.data_sets or stored(test.model_dir)):
        yield ShippedCase(
            f"{test.kind}/{test.name}" + (f"/{number}" if number else ""),
            list(model.graph.node),
            weights | dict(zip(inputs, given, strict=True)),
            dict(zip(outputs, wanted, strict=True)),
            test.rtol,
            test.atol,
        )


def stored(folder):
    """The inputs and outputs of each data set beside a model."""
    for data in sorted(pathlib.Path(folder).glob("test_data_set_*")):
        yield [
            [
                onnx.numpy_helper.to_array(onnx.load_tensor(data / f"{kind}_{i}.pb"))
                for i in range(len(list(data.glob(f"{kind}_*.pb"))))
            ]
            for kind in ("input", "output")
        ]


def run_case(case):
    """The graph's outputs as the layers compute them, by name; those that no layer gives are missing."""
    values = dict(case.inputs)
    for node in case.nodes:
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        attributes = {k: v.decode() if isinstance(v, bytes) else v for k, v in attributes.items()}
        arguments = [values[name] if name else None for name in node.input]
        if node.op_type in ADAPTERS:
            results = ADAPTERS[node.op_type](attributes, *arguments)
        else:
            results = _glue(node.op_type, attributes, *arguments)
        if attributes:
            raise Inexpressible(f"{node.op_type} has attributes without a counterpart: {attributes}")
        values |= dict(zip(node.output, results))
    outputs = {name: values[name] for name in case.wanted if name in values}
    return {name: value() if callable(value) else value for name, value in outputs.items()}


def _glue(operator, attributes, x=None, axes=None):
    if operator == "Constant":
        return [onnx.numpy_helper.to_array(attributes.pop("value"))]
    axes = tuple(attributes.pop("axes") if axes is None else axes)
    return [np.squeeze(x, axes) if operator == "Squeeze" else np.expand_dims(x, axes)]


# An adapter takes (attributes, inputs...), removes the attributes that it honours and returns the outputs.


def _as_rows(x, *more):
    """Arrays of one-dimensional images as images of one row; `restore` undoes it for a result."""
    if x.ndim > 4:
        raise Inexpressible("images of three dimensions")
    if x.ndim == 4:
        return lambda out: out, x, *more
    return lambda out: out[:, :, 0], *(a[:, :, None] for a in (x, *more))


def _pair(attributes, name, default):
    """An attribute of a value for each axis as (vertical, horizontal)."""
    return tuple(int(v) for v in [default, default, *attributes.pop(name, [])][-2:])


def _numbers(attributes, name, default, x):
    """An attribute of a value for each axis of images."""
    return tuple(int(v) for v in attributes.pop(name, [default] * (x.ndim - 2)))


def _sides(values):
    """Pads in ONNX's order, all begins before all ends, as (before, after) for each axis."""
    half = len(values) // 2
    return tuple((int(b), int(e)) for b, e in zip(values[:half], values[half:], strict=True))


def _layer(name, x, direction="forward"):
    """The layer for x: of sequences, images or volumes."""
    return getattr(cnnlib, name + {3: "1d", 4: "", 5: "3d"}[x.ndim] + f"_{direction}")


def _totals_split(totals, lower):
    """The odd pixel of padding goes to the end, or to the beginning if `lower`."""
    halves = [(total // 2, total - total // 2) for total in totals]
    return tuple((e, b) if lower else (b, e) for b, e in halves)


def _pad(attributes, x, window, stride):
    """`pad` of a convolution or pool."""
    auto = attributes.pop("auto_pad", "NOTSET")
    if auto == "SAME_UPPER":
        return "same"
    if auto == "SAME_LOWER":
        totals = [max(0, (-(-n // s) - 1) * s + k - n) for n, k, s in zip(x.shape[2:], window, stride)]
        return _totals_split(totals, lower=True)
    return "valid" if auto == "VALID" else _sides(attributes.pop("pads", [0] * 2 * (x.ndim - 2)))


def _windows(attributes, x, kernel):
    """stride, dilation and pad, common to convolutions and pools."""
    stride, dilation = _numbers(attributes, "strides", 1, x), _numbers(attributes, "dilations", 1, x)
    window = [d * (k - 1) + 1 for d, k in zip(dilation, kernel)]
    return {"stride": stride, "dilation": dilation, "pad": _pad(attributes, x, window, stride)}


def conv(attributes, x, w, b=None):
    attributes.pop("kernel_shape", None)  # w says it
    param = _windows(attributes, x, w.shape[2:])
    return [_layer("conv", x)(x, w, b, {**param, "groups": attributes.pop("group", 1)})[0]]


def conv_transpose(attributes, x, w, b=None):
    restore, x, w = _as_rows(x, w)
    attributes.pop("kernel_shape", None)
    stride, dilation = _pair(attributes, "strides", 1), _pair(attributes, "dilations", 1)
    output_pad = _pair(attributes, "output_padding", 0)
    auto, pads = attributes.pop("auto_pad", "NOTSET"), attributes.pop("pads", [0] * 4)
    wanted = attributes.pop("output_shape", None)
    if wanted is None and auto.startswith("SAME"):
        wanted = [n * s for n, s in zip(x.shape[2:], stride)]
    if wanted is None:
        pad = _sides(pads)
    else:
        whole = [
            (n - 1) * s + d * (k - 1) + 1 + extra
            for n, s, d, k, extra in zip(x.shape[2:], stride, dilation, w.shape[2:], output_pad)
        ]
        cut = [n - int(size) for n, size in zip(whole, wanted)]
        # A result larger than the whole gets its further rows and columns at the end.
        output_pad = tuple(extra + max(0, -c) for extra, c in zip(output_pad, cut))
        pad = _totals_split([max(0, c) for c in cut], lower=auto != "SAME_UPPER")
    pad = pad if isinstance(pad, str) else tuple([(0, 0), *pad][-2:])
    param = {"stride": stride, "dilation": dilation, "pad": pad, "output_pad": output_pad}
    out, _ = cnnlib.conv_transpose_forward(x, w, b, {**param, "groups": attributes.pop("group", 1)})
    return [restore(out)]


def _pool_param(attributes, x):
    kernel = _numbers(attributes, "kernel_shape", 1, x)
    names = ("pool_depth", "pool_height", "pool_width")[-len(kernel) :]
    param = {**dict(zip(names, kernel)), **_windows(attributes, x, kernel)}
    return {**param, "ceil_mode": bool(attributes.pop("ceil_mode", 0))}


def max_pool(attributes, x):
    out, cache = _layer("max_pool", x)(x, _pool_param(attributes, x))
    order = "CF"[attributes.pop("storage_order", 0)]
    return [out, functools.partial(_indices, out, cache, order)]


def _indices(out, cache, order):
    """Where each window's maximum lies in x, taken from the pixel that receives its gradient."""
    x = cache[0]
    backward = _layer("max_pool", x, "backward")
    indices = np.empty(out.shape, np.int64)
    for position in np.ndindex(out.shape):
        dout = np.zeros_like(out)
        dout[position] = 1
        n, c, *place = np.argwhere(backward(dout, cache))[0]
        plane = np.ravel_multi_index(place, x.shape[2:], order=order)
        indices[position] = (n * x.shape[1] + c) * x[0, 0].size + plane
    return indices


def avg_pool(attributes, x):
    param = _pool_param(attributes, x)
    if set(param.pop("dilation")) != {1}:
        raise Inexpressible("average pooling has no dilation")
    param["count_include_pad"] = bool(attributes.pop("count_include_pad", 0))
    return [_layer("avg_pool", x)(x, param)[0]]


def global_avg_pool(attributes, x):
    return [cnnlib.global_avg_pool_forward(x)[0][:, :, None, None]]


def batch_norm(attributes, x, gamma, beta, mean, var):
    """Images of any shape, as a channel's pixels all count alike."""
    train = attributes.pop("training_mode", 0) or not attributes.pop("is_test", 1)
    param = {"mode": "train" if train else "test", "running_mean": mean, "running_var": var}
    param |= {"eps": attributes.pop("epsilon", 1e-5), "momentum": attributes.pop("momentum", 0.9)}
    out, _ = cnnlib.spatial_batchnorm_forward(x.reshape(*x.shape[:2], -1, 1), gamma, beta, param)
    return [out.reshape(x.shape), param["running_mean"], param["running_var"]]


def layer_norm(attributes, x, gamma, beta=None):
    """The axes from `axis` on are one row. The layer keeps its means and deviations to itself."""
    axis = attributes.pop("axis", -1) % x.ndim
    rows = x.reshape(int(np.prod(x.shape[:axis])), -1)
    beta = np.zeros_like(gamma) if beta is None else beta
    param = {"eps": attributes.pop("epsilon", 1e-5)}
    return [cnnlib.layernorm_forward(rows, gamma.ravel(), beta.ravel(), param)[0].reshape(x.shape)]


def group_norm(attributes, x, gamma, beta):
    """Before opset 21 gamma and beta are per group: each is then that of the group's channels."""
    G, C = attributes.pop("num_groups"), x.shape[1]
    gamma, beta = (np.repeat(a, C // len(a)) for a in (gamma, beta))
    images = x.reshape(*x.shape[:2], -1, 1)
    param = {"eps": attributes.pop("epsilon", 1e-5)}
    return [cnnlib.spatial_groupnorm_forward(images, gamma, beta, G, param)[0].reshape(x.shape)]


def instance_norm(attributes, x, gamma, beta):
    param = {"eps": attributes.pop("epsilon", 1e-5)}
    images = x.reshape(*x.shape[:2], -1, 1)
    return [cnnlib.spatial_instancenorm_forward(images, gamma, beta, param)[0].reshape(x.shape)]


def relu(attributes, x):
    return [cnnlib.relu_forward(x)[0]]


def leaky_relu(attributes, x):
    return [cnnlib.leaky_relu_forward(x, attributes.pop("alpha", 0.01))[0]]


def activation(layer):
    """The adapter of a layer without parameters."""
    return lambda attributes, x: [getattr(cnnlib, f"{layer}_forward")(x)[0]]


def elu(attributes, x):
    return [cnnlib.elu_forward(x, attributes.pop("alpha", 1.0))[0]]


def gelu(attributes, x):
    return [cnnlib.gelu_forward(x, attributes.pop("approximate", "none"))[0]]


def hard_sigmoid(attributes, x):
    """max(0, min(1, alpha * x + beta)): the layer has alpha 1 / 6 and beta 1 / 2."""
    alpha, beta = attributes.pop("alpha", 0.2), attributes.pop("beta", 0.5)
    return [cnnlib.hard_sigmoid_forward((alpha * x + beta - 0.5) * np.asarray(6, x.dtype))[0]]


def softmax(attributes, x):
    """The axis asked for becomes that of rows."""
    axis = attributes.pop("axis", -1)
    moved = np.moveaxis(x, axis, -1)
    out = cnnlib.softmax_forward(moved.reshape(-1, moved.shape[-1]))[0]
    return [np.moveaxis(out.reshape(moved.shape), -1, axis)]


def gemm(attributes, a, b, c=None):
    """alpha * a @ b + beta * c with the factors taken into w and the bias."""
    attributes.pop("broadcast", None)  # of opset 6; the shapes say it
    a = a.T if attributes.pop("transA", 0) else a
    b = b.T if attributes.pop("transB", 0) else b
    w = b * b.dtype.type(attributes.pop("alpha", 1.0))
    factor = attributes.pop("beta", 1.0)
    if c is not None:
        if c.ndim == 2 and c.shape[0] > 1:
            raise Inexpressible("a bias for each sample")
        c = np.broadcast_to(c * c.dtype.type(factor), (1, w.shape[1]))[0]
    return [cnnlib.affine_forward(a, w, c)[0]]


ADAPTERS = {
    "Conv": conv,
    "ConvTranspose": conv_transpose,
    "MaxPool": max_pool,
    "AveragePool": avg_pool,
    "GlobalAveragePool": global_avg_pool,
    "BatchNormalization": batch_norm,
    "LayerNormalization": layer_norm,
    "GroupNormalization": group_norm,
    "InstanceNormalization": instance_norm,
    "Relu": relu,
    "LeakyRelu": leaky_relu,
    "Sigmoid": activation("sigmoid"),
    "Tanh": activation("tanh"),
    "HardSwish": activation("hard_swish"),
    "HardSigmoid": hard_sigmoid,
    "Elu": elu,
    "Gelu": gelu,
    "Softmax": softmax,
    "Gemm": gemm,
}
