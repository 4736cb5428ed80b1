"""Graphs of every layer and join, in the positions in which a prepared network folds them and in others."""

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


def small_graphs(rng):
    """Name -> nodes and parameters; images (4, 7, 7)."""
    weights = random_params(rng, w=(4, 4, 3, 3), b=4, g=4, h=4, w2=(4, 4, 3, 3), b2=4)
    norm = Node("spatial_batchnorm", ("c",), "n", ("g", "h"), (norm_param(4, rng),))
    lone = Node("spatial_batchnorm", ("input",), "n", ("g", "h"), (norm_param(4, rng),))
    transposed = Node(
        "conv_transpose", ("input",), "c", ("wt", "bt"), ({"stride": 2, "pad": 1, "groups": 2},)
    )
    yield "conv norm relu", [conv_node("input", "c"), norm, Node("relu", ("n",), "r")], weights
    yield "norm relu", [lone, Node("relu", ("n",), "r")], weights
    yield "norm alone read twice", [conv_node("input", "c"), norm, Node("add", ("c", "n"), "s")], weights
    yield (
        "relu read twice",
        [conv_node("input", "c"), Node("relu", ("c",), "r"), Node("add", ("r", "c"), "s")],
        weights,
    )
    yield (
        "sum of two convolutions, relu",
        [
            conv_node("input", "c"),
            conv_node("input", "d", "w2", None),
            Node("add", ("c", "d"), "s"),
            Node("relu", ("s",), "r"),
        ],
        weights,
    )
    yield "sum with the input", [conv_node("input", "c"), Node("add", ("c", "input"), "s")], weights
    yield (
        "residual chain",
        [
            conv_node("input", "a"),
            Node("relu", ("a",), "b0"),
            conv_node("b0", "c", "w2", "b2"),
            Node("add", ("b0", "c"), "s"),
            Node("relu", ("s",), "r"),
            conv_node("r", "d"),
            Node("add", ("d", "r"), "t"),
        ],
        weights,
    )
    yield (
        "shortcut read again behind the sum",
        [
            conv_node("input", "c"),
            conv_node("c", "d", "w2", "b2"),
            Node("add", ("d", "c"), "s"),
            Node("multiply", ("s", "c"), "m"),
        ],
        weights,
    )
    yield (
        "shortcut read between a convolution and its sum",
        [
            conv_node("input", "a"),
            conv_node("input", "c", "w2", "b2"),
            Node("sigmoid", ("a",), "m"),
            Node("add", ("c", "a"), "s"),
            Node("multiply", ("s", "m"), "p"),
        ],
        weights,
    )
    yield "sum with itself", [conv_node("input", "c"), Node("add", ("c", "c"), "s")], weights
    yield (
        "transposed, norm",
        [transposed, Node("spatial_batchnorm", ("c",), "n", ("g6", "h6"), (norm_param(6, rng),))],
        {**weights, **random_params(rng, wt=(4, 3, 3, 3), bt=6, g6=6, h6=6)},
    )
    yield (
        "concatenation",
        [conv_node("input", "c"), Node("concat", ("c", "input", "c"), "k"), Node("relu", ("k",), "r")],
        weights,
    )
    yield (
        "squeeze and excitation",
        [
            Node("global_avg_pool", ("input",), "p"),
            Node("affine", ("p",), "q", ("wa", "ba")),
            Node("multiply", ("input", "q"), "m"),
            Node("add", ("m", "q"), "s"),
        ],
        random_params(rng, wa=(4, 4), ba=4),
    )
    yield "product", [conv_node("input", "c"), Node("multiply", ("c", "input"), "m")], weights
    yield "scale folds", [conv_node("input", "c"), Node("scale", ("c",), "s", (), (0.5,))], weights
    yield "scale alone", [Node("scale", ("input",), "s", (), (-2.0,)), Node("relu", ("s",), "r")], {}
    yield "max pool", [Node("max_pool", ("input",), "p", (), (POOL,))], {}
    yield (
        "max pool with steps",
        [
            Node(
                "max_pool",
                ("input",),
                "p",
                (),
                ({"pool_height": 2, "pool_width": 3, "stride": 1, "dilation": 2},),
            )
        ],
        {},
    )
    yield (
        "max pool, stride 3",
        [
            Node(
                "max_pool", ("input",), "p", (), ({"pool_height": 3, "pool_width": 3, "stride": 3, "pad": 1},)
            )
        ],
        {},
    )
    yield "avg pool", [Node("avg_pool", ("input",), "p", (), ({**POOL, "count_include_pad": False},))], {}
    yield "leaky relu", [Node("leaky_relu", ("input",), "r", (), (0.1,))], {}
    yield (
        "group norm",
        [Node("spatial_groupnorm", ("input",), "n", ("g", "h"), (2, {"eps": 1e-3}))],
        random_params(rng, g=4, h=4),
    )
    for layer, *args in (
        ("relu6",),
        ("sigmoid",),
        ("tanh",),
        ("silu",),
        ("hard_sigmoid",),
        ("hard_swish",),
        ("leaky_relu",),
        ("elu",),
        ("gelu",),
        ("upsample", 2),
        ("gelu", "none"),
        ("gelu", "tanh"),
        ("elu", 0.7),
        ("softmax",),
        ("adaptive_avg_pool", (3, 2)),
        ("adaptive_max_pool", 4),
        ("upsample", 2, "nearest", False),
        ("upsample", (2, 3), "bilinear", False),
        ("upsample", 2, "bilinear", True),
    ):
        nodes = [conv_node("input", "c"), Node(layer, ("c",), "r", (), tuple(args))]
        yield " ".join(map(str, (layer, *args))), nodes, weights
    for layer in ("spatial_instancenorm", "spatial_layernorm"):
        norm = Node(layer, ("input",), "n", ("g", "h"), ({"eps": 1e-3},))
        yield layer, [norm], weights
    yield (
        "dropout, flatten, affine, layer norm",
        [
            Node("dropout", ("input",), "d", (), ({"p": 0.5, "mode": "test"},)),
            Node("flatten", ("d",), "f"),
            Node("affine", ("f",), "a", ("wf", None)),
            Node("layernorm", ("a",), "n", ("g", "h"), ({},)),
            Node("relu", ("n",), "r"),
        ],
        random_params(rng, wf=(196, 5), g=5, h=5),
    )
    yield "flatten alone", [Node("flatten", ("input",), "f")], {}


GRAPH_NAMES = [name for name, _, _ in small_graphs(np.random.default_rng(0))]
