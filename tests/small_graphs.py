"""Graphs of every layer and join, in the positions in which a prepared network folds them and in others."""

import copy

import numpy as np
from cnnlib.graph.graph import Graph, Node
from cnnlib.models.graph_net import GraphNet


def net_of(nodes, params, shape=(4, 7, 7), dtype=np.float64):
    used = {name: params[name] for node in nodes for name in node.params if name}
    return GraphNet(Graph(nodes, output=nodes[-1].output), used, shape, dtype=dtype)


def norm_param(C, rng):
    return {"mode": "test", "running_mean": rng.standard_normal(C), "running_var": rng.uniform(0.5, 2, C)}


def random_params(rng, **shapes):
    return {name: rng.standard_normal(shape) for name, shape in shapes.items()}


def conv_node(inputs, output, w="w", b="b", **conv_param):
    return Node("conv", (inputs,), output, (w, b), ({"stride": 1, "pad": 1, **conv_param},))


POOL = {"pool_height": 3, "pool_width": 2, "stride": 2, "pad": (1, 0), "ceil_mode": True}


def nodes_of(kinds, text):
    """Nodes of a text such as ``c = conv input; r = relu c``; `kinds` has what layers take beside inputs."""
    nodes = []
    for line in text.split("; "):
        output, made = line.split(" = ")
        kind, *inputs = made.split()
        layer, params, *args = kinds.get(kind, (kind, ()))
        nodes.append(Node(layer, tuple(inputs), output, params, copy.deepcopy(tuple(args))))
    return nodes


CHAINS = {
    "conv norm relu": "c = conv input; n = norm c; r = relu n",
    "norm relu": "n = norm input; r = relu n",
    "norm alone read twice": "c = conv input; n = norm c; s = add c n",
    "relu read twice": "c = conv input; r = relu c; s = add r c",
    "sum of two convolutions, relu": "c = conv input; d = conv_without_bias input; s = add c d; r = relu s",
    "sum with the input": "c = conv input; s = add c input",
    "residual chain": (
        "a = conv input; b0 = relu a; c = conv2 b0; s = add b0 c; r = relu s; d = conv r; t = add d r"
    ),
    "shortcut read again behind the sum": "c = conv input; d = conv2 c; s = add d c; m = multiply s c",
    "shortcut read between a convolution and its sum": (
        "a = conv input; c = conv2 input; m = sigmoid a; s = add c a; p = multiply s m"
    ),
    "sum with itself": "c = conv input; s = add c c",
    "transposed, norm": "c = conv_transpose input; n = norm_of_6 c",
    "concatenation": "c = conv input; k = concat c input c; r = relu k",
    "squeeze and excitation": "p = global_avg_pool input; q = affine p; m = multiply input q; s = add m q",
    "product": "c = conv input; m = multiply c input",
    "scale folds": "c = conv input; s = half c",
    "scale alone": "s = minus_two input; r = relu s",
    "max pool": "p = max_pool input",
    "max pool with steps": "p = max_pool_with_steps input",
    "max pool, stride 3": "p = max_pool_of_3 input",
    "avg pool": "p = avg_pool input",
    "leaky relu": "r = leaky_relu input",
    "group norm": "n = spatial_groupnorm input",
    "spatial_instancenorm": "n = spatial_instancenorm input",
    "spatial_layernorm": "n = spatial_layernorm input",
    "dropout, flatten, affine, layer norm": (
        "d = dropout input; f = flatten d; a = affine_of_rows f; n = layernorm a; r = relu n"
    ),
    "flatten alone": "f = flatten input",
}
# Each behind a convolution, with these arguments.
ALONE = [
    *(
        (name,)
        for name in "relu6 sigmoid tanh silu hard_sigmoid hard_swish leaky_relu elu gelu softmax".split()
    ),
    *(
        ("gelu", "none"),
        ("gelu", "tanh"),
        ("elu", 0.7),
        ("adaptive_avg_pool", (3, 2)),
        ("adaptive_max_pool", 4),
    ),
    *(("upsample", 2), ("upsample", 2, "nearest", False), ("upsample", (2, 3), "bilinear", False)),
    ("upsample", 2, "bilinear", True),
]


def small_graphs(rng):
    """Name -> nodes and parameters; images (4, 7, 7)."""
    params = random_params(
        rng,
        **{
            "w": (4, 4, 3, 3),
            "b": 4,
            "g": 4,
            "h": 4,
            "w2": (4, 4, 3, 3),
            "b2": 4,
            "wt": (4, 3, 3, 3),
            "bt": 6,
        },
        **{"g6": 6, "h6": 6, "wa": (4, 4), "ba": 4, "wf": (196, 5), "g5": 5, "h5": 5},
    )
    conv, eps = {"stride": 1, "pad": 1}, {"eps": 1e-3}
    kinds = {
        "conv": ("conv", ("w", "b"), conv),
        "conv2": ("conv", ("w2", "b2"), conv),
        "conv_without_bias": ("conv", ("w2", None), conv),
        "norm": ("spatial_batchnorm", ("g", "h"), norm_param(4, rng)),
        "conv_transpose": ("conv_transpose", ("wt", "bt"), {"stride": 2, "pad": 1, "groups": 2}),
        "norm_of_6": ("spatial_batchnorm", ("g6", "h6"), norm_param(6, rng)),
        "affine": ("affine", ("wa", "ba")),
        "half": ("scale", (), 0.5),
        "minus_two": ("scale", (), -2.0),
        "max_pool": ("max_pool", (), POOL),
        "max_pool_with_steps": (
            "max_pool",
            (),
            {"pool_height": 2, "pool_width": 3, "stride": 1, "dilation": 2},
        ),
        "max_pool_of_3": ("max_pool", (), {"pool_height": 3, "pool_width": 3, "stride": 3, "pad": 1}),
        "avg_pool": ("avg_pool", (), {**POOL, "count_include_pad": False}),
        "leaky_relu": ("leaky_relu", (), 0.1),
        "spatial_groupnorm": ("spatial_groupnorm", ("g", "h"), 2, eps),
        **{name: (name, ("g", "h"), eps) for name in ("spatial_instancenorm", "spatial_layernorm")},
        "dropout": ("dropout", (), {"p": 0.5, "mode": "test"}),
        "affine_of_rows": ("affine", ("wf", None)),
        "layernorm": ("layernorm", ("g5", "h5"), {}),
    }
    for name, text in CHAINS.items():
        yield name, nodes_of(kinds, text), params
    for layer, *args in ALONE:
        nodes = [conv_node("input", "c"), Node(layer, ("c",), "r", (), tuple(args))]
        yield " ".join(map(str, (layer, *args))), nodes, params


GRAPH_NAMES = [name for name, _, _ in small_graphs(np.random.default_rng(0))]
