"""Hypothesis strategies: networks over every layer that a prepared network may have, with legal arguments."""

import numpy as np
from cnnlib.graph.run import Run
from cnnlib.models import ConvNet, FullyConnectedNet, Graph, GraphNet, Node, ThreeLayerConvNet
from cnnlib.models.program import Step
from hypothesis import strategies as st
from strategies import pads, pairs

IMAGES = [(1, 5, 4), (2, 6, 6), (3, 4, 7), (4, 8, 8)]
ROWS = [(3,), (8,)]
MOST_VALUES = 4000  # of a sample of any value of a network


class Growing:
    """A graph that grows by one layer at a time, and the arrays that it names."""

    def __init__(self, shape, dtype, rng):
        self.graph, self.params, self.dtype, self.rng = Graph(), {}, dtype, rng
        self.values = {"input": np.empty((0, *shape), dtype)}

    def array(self, *shape):
        name = f"p{len(self.params)}"
        self.params[name] = self.rng.standard_normal(shape).astype(self.dtype) / max(1, shape[-1]) ** 0.5
        return name

    def append(self, layer, inputs, params=(), args=(), most=MOST_VALUES):
        """Whether it is a legal layer of small values; it is part of the graph then."""
        node = Node(layer, inputs, f"v{len(self.values)}", params, args)
        try:
            norms = {node.statistics_of: args[0]} if node.statistics_of else {}
            run = Run(self.params, norms=norms)
            out = Step(node).scores(run, *(self.values[name] for name in inputs))
        except (TypeError, ValueError):
            return False
        if not 0 < np.prod(out.shape[1:]) <= most:
            return False
        self.graph.append(node)
        self.values[node.output] = out
        return True

    def shape(self, name):
        return self.values[name].shape[1:]

    def join_the_unread(self):
        """Let what nothing has read become the output: sums of equal shapes, else rows joined."""
        read = {name for node in self.graph for name in node.inputs}
        first, *others = [name for name in self.values if name not in read and name != "input"]
        for other in others:
            alike = self.shape(first) == self.shape(other)
            if not (alike and self.append("add", (first, other))):
                assert self.append("concat", (self.flat(first), self.flat(other)), most=np.inf)
            first = self.graph.output
        self.graph.output = first
        used = {name for node in self.graph for name in node.params if name}
        return {name: value for name, value in self.params.items() if name in used}

    def flat(self, name):
        """The value as rows of numbers."""
        if len(self.shape(name)) == 1:
            return name
        assert self.append("flatten", (name,))
        return self.graph.output


def _conv(draw, grown, layer, C):
    groups = draw(st.sampled_from([g for g in (1, 1, 2, C) if C % g == 0]))
    F = groups * draw(st.integers(1, 3))
    KH, KW = draw(st.sampled_from([(1, 1), (3, 3), (3, 3), (5, 5), (1, 3), (2, 1)]))
    param = {"stride": draw(pairs(st.integers(1, 2))), "pad": draw(pads(2)), "groups": groups}
    if draw(st.booleans()):
        param["dilation"] = draw(pairs(st.integers(1, 2)))
    if draw(st.integers(0, 3)) == 0:
        param["algorithm"] = draw(st.sampled_from(["direct", "winograd"]))
    b = grown.array(F) if draw(st.booleans()) else None
    return (grown.array(F, C // groups, KH, KW), b), (param,)


def _conv_transpose(draw, grown, layer, C):
    groups, F = draw(st.sampled_from([1, C])), draw(st.integers(1, 2))
    stride = draw(pairs(st.integers(1, 2)))
    param = {"stride": stride, "pad": draw(pads(1)), "groups": groups}
    if np.min(stride) > 1 and draw(st.booleans()):
        param["output_pad"] = 1
    b = grown.array(groups * F) if draw(st.booleans()) else None
    return (grown.array(C, F, 3, 2), b), (param,)


def _pool(draw, grown, layer, C):
    KH, KW = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    param = {"pool_height": KH, "pool_width": KW, "ceil_mode": draw(st.booleans())}
    param["pad"] = draw(pads(min(KH, KW) - 1))
    if draw(st.booleans()):
        param["stride"] = draw(pairs(st.integers(1, 3)))
    if layer == "avg_pool":
        param["count_include_pad"] = draw(st.booleans())
    elif draw(st.booleans()):
        param["dilation"] = draw(pairs(st.integers(1, 2)))
    return (), (param,)


def _adaptive_pool(draw, grown, layer, C):
    return (), (draw(pairs(st.integers(1, 4))),)


def _upsample(draw, grown, layer, C):
    scale = draw(pairs(st.integers(1, 2)))
    return (), draw(
        st.sampled_from(
            [
                (scale,),
                (scale, "nearest"),
                (scale, "bilinear"),
                (scale, "bilinear", False),
                (scale, "bilinear", True),
            ]
        )
    )


def _norm(draw, grown, layer, C):
    eps = {"eps": draw(st.sampled_from([1e-5, 1e-2]))} if draw(st.booleans()) else {}
    names = grown.array(C), grown.array(C)
    if layer in ("batchnorm", "spatial_batchnorm"):
        param = {"mode": "train", **eps}
        if draw(st.booleans()):
            param["running_mean"] = grown.rng.standard_normal(C).astype(grown.dtype)
            param["running_var"] = grown.rng.uniform(0.2, 2, C).astype(grown.dtype)
        return names, (param,)
    if layer in ("spatial_groupnorm", "spatial_instancenorm") and draw(st.booleans()):  # as courses have them
        names = grown.array(1, C, 1, 1), grown.array(1, C, 1, 1)
    if layer == "spatial_groupnorm":
        return names, (draw(st.sampled_from([g for g in (1, 2, C) if C % g == 0])), eps)
    return names, (eps,)


def _pointwise(draw, grown, layer, C):
    optional = {"leaky_relu": st.floats(-0.5, 0.5), "elu": st.floats(0.1, 2), "gelu": st.just("tanh")}
    if layer in optional:
        return (), draw(st.one_of(st.just(()), st.tuples(optional[layer])))
    if layer == "scale":
        return (), (draw(st.floats(-2, 2)),)
    return (), ({"p": 0.4, "mode": "test"},) if layer == "dropout" else ()


def _with_numpy_numbers(value):
    """The same arguments of NumPy's types, as they come of arithmetic with arrays."""
    if isinstance(value, dict):
        return {key: _with_numpy_numbers(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return type(value)(map(_with_numpy_numbers, value))
    types = {bool: np.bool_, int: np.int64, float: np.float32}
    return types.get(type(value), lambda same: same)(value)


def _affine(draw, grown, layer, D):
    M = draw(st.integers(1, 6))
    return (grown.array(D, M), grown.array(M) if draw(st.booleans()) else None), ()


POINTWISE = (
    "relu leaky_relu relu6 sigmoid tanh silu hard_sigmoid hard_swish gelu elu softmax scale dropout".split()
)
NORMS = ["spatial_batchnorm", "spatial_layernorm", "spatial_groupnorm", "spatial_instancenorm"]
PARTS = {
    "conv": _conv,
    "conv_transpose": _conv_transpose,
    **dict.fromkeys(("max_pool", "avg_pool"), _pool),
    **dict.fromkeys(("adaptive_avg_pool", "adaptive_max_pool"), _adaptive_pool),
    "upsample": _upsample,
    **dict.fromkeys(("batchnorm", "layernorm", *NORMS), _norm),
    **dict.fromkeys((*POINTWISE, "global_avg_pool", "flatten"), _pointwise),
    "affine": _affine,
}
JOINS = ["add", "multiply", "concat"]
OF_ROWS = ["batchnorm", "layernorm", "layernorm", "affine", "affine", *POINTWISE, *JOINS]
OF_IMAGES = [layer for layer in PARTS if layer not in ("batchnorm", "layernorm")]
OF_IMAGES += ["conv", "conv", "conv", "max_pool", "spatial_batchnorm", "relu", *JOINS]


@st.composite
def graph_nets(draw, dtype=None, most=8):
    """A GraphNet of up to `most` layers and joins, its output of any shape."""
    dtype = draw(st.sampled_from([np.float32, np.float64])) if dtype is None else dtype
    shape = draw(st.sampled_from([*IMAGES, *IMAGES, *ROWS]))
    grown = Growing(shape, np.dtype(dtype), np.random.default_rng(draw(st.integers(0, 2**16))))
    for _ in range(draw(st.integers(2, most))):
        x = draw(st.sampled_from([*[*grown.values][-3:], [*grown.values][-1]]))
        images = len(grown.shape(x)) == 3
        layer = draw(st.sampled_from(OF_IMAGES if images else OF_ROWS))
        if layer in JOINS:
            grown.append(layer, (x, draw(st.sampled_from([*grown.values][-4:]))))
            continue
        size = int(np.prod(grown.shape(x))) if layer == "affine" else grown.shape(x)[0]
        params, args = PARTS[layer](draw, grown, layer, size)
        grown.append(layer, (x,), params, _with_numpy_numbers(args) if draw(st.integers(0, 3)) == 0 else args)
    if not grown.graph.nodes:
        grown.append("relu", ("input",))
    params = grown.join_the_unread()
    return GraphNet(grown.graph, params, shape, dtype=dtype)


def other_size(model):
    """The shape of images of another size than those that the model was made for; None of rows."""
    C, *size = np.atleast_1d(model.arguments["input_dim"])
    return (C, size[0] + 3, size[1] + 1) if len(size) == 2 else None


def outcome(scores, x):
    """The scores, or the reason why there are none."""
    try:
        return scores(x)
    except ValueError as error:
        return str(error)


# Those whose training steps the core runs by itself.
STAGES = [
    {"conv": 3},
    {"conv": 4, "size": (1, 3), "stride": 2, "bias": False},
    {"depthwise": 3},
    {"conv_transpose": 2, "size": 2, "stride": 2},
    "batchnorm",
    {"batchnorm": None, "eps": 1e-3, "momentum": 0.5},
    {"groupnorm": 1},
    "instancenorm",
    "layernorm",
    "relu",
    "silu",
    "leaky_relu",
    {"elu": 0.5},
    {"gelu": "tanh"},
    {"scale": 0.3},
    {"max_pool": 2, "ceil_mode": True},
    {"avg_pool": 3, "stride": 1, "pad": 1, "count_include_pad": False},
    {"adaptive_max_pool": (2, 3)},
    {"upsample": 2, "mode": "bilinear"},
    {"dropout": 0.3},
    {"residual": [{"conv": 3}, "batchnorm", "relu"]},
    {"concat": [[], [{"conv": 2}, "tanh"]]},
    {"add": [["sigmoid"], [{"conv": 2, "size": 1}]]},
]


@st.composite
def models(draw):
    """One of the library's own models, or the reason why a drawn spec cannot be built."""
    kind = draw(
        st.sampled_from(["ConvNet"] * 5 + ["GraphNet"] * 3 + ["ThreeLayerConvNet", "FullyConnectedNet"])
    )
    dtype = draw(st.sampled_from([np.float32, np.float64]))
    seed, shape = draw(st.integers(0, 99)), draw(st.sampled_from(IMAGES))
    if kind == "GraphNet":
        return draw(graph_nets(dtype))
    if kind == "ThreeLayerConvNet":
        return ThreeLayerConvNet(
            shape, 2, 3, 4, 3, 0.3, dtype=dtype, use_batchnorm=draw(st.booleans()), seed=seed
        )
    if kind == "FullyConnectedNet":
        norm = draw(st.sampled_from([None, "batchnorm", "layernorm"]))
        sizes, dropout = draw(st.lists(st.integers(1, 5), max_size=3)), draw(st.sampled_from([0, 0.4]))
        return FullyConnectedNet(
            sizes, shape, 3, dropout, weight_scale=0.5, dtype=dtype, seed=seed, normalization=norm
        )
    return draw(conv_nets(shape, dtype, seed))


def specs():
    """Of up to five stages, not all of which fit each other."""
    others = (
        {"multiply": [[], ["global_avg_pool", {"affine": 2}, "relu", "sigmoid"]]},
        {"batchnorm": None, "scale": False},
    )
    stages = st.sampled_from([*STAGES, *others])
    endings = st.sampled_from([[], [], ["global_avg_pool"]])
    return st.builds(lambda body, end: body + end, st.lists(stages, max_size=5), endings)


@st.composite
def conv_nets(draw, shape, dtype, seed):
    spec = draw(specs())
    try:
        return ConvNet(spec, shape, 3, dtype=dtype, seed=seed)
    except ValueError as error:
        return str(error)
