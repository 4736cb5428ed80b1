"""Hypothesis strategies: random networks of every layer that `cnnlib.onnx.save` writes."""

import numpy as np
import pytest
from cnnlib.graph.ops import op_of
from cnnlib.graph.shapes import shape_behind
from cnnlib.models import Graph, GraphNet, Node
from hypothesis import strategies as st
from strategies import pads, pairs


def agreed_shape(node, inputs, params, dtype):
    """The shape that a layer's rule gives, which is that of what the layer makes; None where both refuse."""
    args = [{**arg, "mode": "test"} if op_of(node.layer).per_call else arg for arg in node.args]
    try:
        out, _ = op_of(node.layer).forward(
            *(np.empty((0, *shape), dtype) for shape in inputs), *params, *args
        )
    except ValueError as error:
        with pytest.raises(ValueError, match=node.layer):
            print(node, inputs, "makes", shape_behind(node, inputs, params), "but the layer refuses:", error)
        return None
    assert shape_behind(node, inputs, params) == out.shape[1:]
    return out.shape[1:]


class Net:
    """A graph that grows by one layer after another, with the shapes of its values."""

    def __init__(self, draw, shape, dtype):
        self.draw, self.dtype = draw, dtype
        self.rng = np.random.default_rng(draw(st.integers(0, 2**16)))
        self.graph, self.params, self.shape = Graph(), {}, shape
        self.shapes = {"input": shape}

    def normal(self, *shape, low=None):
        array = self.rng.standard_normal(shape) if low is None else self.rng.uniform(low, low + 1, shape)
        return array.astype(self.dtype)

    def add(self, layer, inputs, *args, params=()):
        """Put a layer at the end, if it takes such values; arrays of `params` get names, None stays."""
        number = len(self.graph.nodes)
        names = tuple(None if array is None else f"p{number}.{i}" for i, array in enumerate(params))
        arrays = {name: array for name, array in zip(names, params, strict=True) if name}
        node = Node(layer, tuple(inputs), f"v{number}", names, args)
        shapes = [self.shapes[name] for name in inputs]
        shape = agreed_shape(node, shapes, params, self.dtype)
        if shape is None:
            return  # a window larger than the image, padding that is none of a pool's
        self.graph.append(node)
        self.params |= arrays
        self.shapes[node.output] = shape


def _conv(draw, net, x, shape):
    C, *sizes = shape
    groups = draw(st.sampled_from([g for g in (1, 1, 2, 3, C) if C % g == 0]))
    F, kernel = groups * draw(st.integers(1, 2)), [draw(st.integers(1, 3)) for _ in sizes]
    param = {"groups": groups}
    if len(sizes) == 2:
        param |= {"stride": draw(pairs(st.integers(1, 3))), "dilation": draw(pairs(st.integers(1, 2)))}
        param["pad"] = draw(pads(2))
    else:
        param |= {"stride": draw(st.integers(1, 2)), "pad": draw(st.sampled_from([0, 1, "same"]))}
    bias = draw(st.sampled_from([None, net.normal(F)]))
    net.add(_kind("conv", sizes), [x], param, params=(net.normal(F, C // groups, *kernel), bias))


def _conv_transpose(draw, net, x, shape):
    C = shape[0]
    groups = draw(st.sampled_from([g for g in (1, 1, 2, C) if C % g == 0]))
    F, kernel = draw(st.integers(1, 2)), [draw(st.integers(1, 3)) for _ in range(2)]
    stride = draw(pairs(st.integers(1, 3)))
    pad = draw(pads(1).filter(lambda pad: pad != "same"))
    param = {"stride": stride, "groups": groups, "pad": pad, "dilation": draw(st.integers(1, 2))}
    if np.min(stride) > 1:
        param["output_pad"] = draw(st.integers(0, 1))
    bias = draw(st.sampled_from([None, net.normal(F * groups)]))
    net.add("conv_transpose", [x], param, params=(net.normal(C, F, *kernel), bias))


def _pool(draw, net, x, shape):
    kind, sizes = draw(st.sampled_from(["max_pool", "avg_pool"])), shape[1:]
    kernel = [draw(st.integers(1, 3)) for _ in sizes]
    axes = ("pool_depth", "pool_height", "pool_width")[-len(sizes) :]
    param = {**dict(zip(axes, kernel, strict=True)), "ceil_mode": draw(st.booleans())}
    two = len(sizes) == 2
    if draw(st.booleans()):
        param["stride"] = draw(pairs(st.integers(1, 3)) if two else st.integers(1, 3))
    pad = draw(pads(min(kernel) - 1) if two else st.integers(0, min(kernel) - 1))
    stride = np.max(param.get("stride", 1))
    if pad != "same" or stride <= min(kernel):  # windows that leave pixels out: programs differ
        param["pad"] = pad
    if kind == "avg_pool":
        param["count_include_pad"] = draw(st.booleans())
    elif two and draw(st.integers(0, 3)) == 3 and param.get("pad") != "same":
        param["dilation"] = draw(pairs(st.integers(1, 2)))
    net.add(_kind(kind, sizes), [x], param)


def _kind(layer, sizes):
    return layer + {1: "1d", 2: "", 3: "3d"}[len(sizes)]


def _norm(draw, net, x, shape):
    C, eps = shape[0], {"eps": draw(st.sampled_from([1e-2, 0.1]))}
    images = len(shape) == 3
    kinds = ["spatial_batchnorm", "spatial_layernorm", "spatial_groupnorm", "spatial_instancenorm"]
    kind = draw(st.sampled_from(kinds if images else ["batchnorm", "layernorm"]))
    args = (eps,)
    if kind == "spatial_groupnorm":
        args = (draw(st.sampled_from([g for g in (1, 2, 3, C) if C % g == 0])), eps)
    if "batch" in kind:
        args = (
            {"mode": "test", "running_mean": net.normal(C), "running_var": net.normal(C, low=0.5), **eps},
        )
    size = draw(st.sampled_from([(C,), (1, C, 1, 1)] if kind == "spatial_groupnorm" else [(C,)]))
    net.add(kind, [x], *args, params=(net.normal(*size), net.normal(*size)))


def _activation(draw, net, x, shape):
    plain = ("relu", "relu6", "sigmoid", "tanh", "silu", "hard_sigmoid", "hard_swish", "softmax")
    kind = draw(st.sampled_from([*plain, "leaky_relu", "elu", "gelu", "dropout", "scale"]))
    args = {
        "leaky_relu": [(), (0.2,)],
        "elu": [(), (0.5,)],
        "gelu": [(), ("tanh",), ("none",)],
        "dropout": [({"p": 0.3, "mode": "test"},)],
        "scale": [(0.5,), (-2.0,)],
    }.get(kind, [()])
    net.add(kind, [x], *draw(st.sampled_from(args)))


def _resized(draw, net, x, shape):
    kind = draw(st.sampled_from(["upsample", "upsample", "adaptive_avg_pool", "adaptive_max_pool"]))
    if kind == "upsample":
        args = [(), ("nearest",), ("bilinear",), ("bilinear", True), ("bilinear", False)]
        net.add(kind, [x], draw(pairs(st.integers(1, 3))), *draw(st.sampled_from(args)))
    else:
        net.add(kind, [x], draw(pairs(st.integers(1, 3))))


def _joined(draw, net, x, shape):
    like = [name for name, other in net.shapes.items() if other == shape]
    kind = draw(st.sampled_from(["add", "multiply", "concat", "excite"]))
    if kind == "excite" and len(shape) == 3:
        net.add("global_avg_pool", [x])
        pooled = net.graph.output
        net.add(draw(st.sampled_from(["add", "multiply"])), [x, pooled])
    elif kind == "concat":
        tails = [name for name, other in net.shapes.items() if other[1:] == shape[1:]]
        net.add("concat", [x, *draw(st.lists(st.sampled_from(tails), min_size=1, max_size=2))])
    elif kind != "excite":
        net.add(kind, [x, draw(st.sampled_from(like))])


def _to_rows(draw, net, x, shape):
    kind = draw(st.sampled_from(["flatten", "affine"] + ["global_avg_pool"] * (len(shape) == 3)))
    if kind == "affine":
        D, M = int(np.prod(shape)), draw(st.integers(1, 4))
        net.add(kind, [x], params=(net.normal(D, M), draw(st.sampled_from([None, net.normal(M)]))))
    else:
        net.add(kind, [x])


@st.composite
def nets(draw):
    """A GraphNet of one to six layers."""
    rank = draw(st.sampled_from([3, 3, 3, 3, 1, 2, 4]))
    shape = (draw(st.integers(1, 4)), *(draw(st.integers(2, 8)) for _ in range(rank - 1)))
    net = Net(draw, shape, np.dtype(draw(st.sampled_from([np.float32, np.float32, np.float64]))))
    for _ in range(draw(st.integers(1, 6))):
        x = net.graph.output
        rank = len(net.shapes[x])
        layers = {
            1: [_norm, _activation, _joined, _to_rows],
            2: [_conv, _pool, _activation, _joined, _to_rows],
            3: [_conv, _conv, _conv_transpose, _pool, _pool, _norm, _activation, _resized, _joined, _to_rows],
            4: [_conv, _pool, _activation, _joined, _to_rows],
        }[rank]
        draw(st.sampled_from(layers))(draw, net, x, net.shapes[x])
    used, nodes = {net.graph.output}, []
    for node in reversed(net.graph.nodes):
        if node.output in used:
            used.update(node.inputs)
            nodes.insert(0, node)
    graph = Graph(nodes, output=net.graph.output)
    names = {name for node in nodes for name in node.params if name}
    params = {name: array for name, array in net.params.items() if name in names}
    return GraphNet(graph, params, shape, dtype=net.dtype) if nodes else None
