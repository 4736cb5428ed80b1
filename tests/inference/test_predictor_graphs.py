"""
Graphs that hypothesis makes: prepared, they give what their layers give one by one.

The same graphs in every run; `HYPOTHESIS_EXAMPLES=2000 pytest tests/inference/test_predictor_graphs.py
--hypothesis-show-statistics` searches on, and says how many were refused at a second size.
"""

import cnnlib
import numpy as np
import pytest
from cnnlib.graph.graph import Graph, Node
from cnnlib.graph.ops import layers_where, tensors
from cnnlib.inference import prepare
from cnnlib.models.graph_net import GraphNet

pytest.importorskip("hypothesis", reason="hypothesis is not installed")
from hypothesis import event, given
from hypothesis import strategies as st
from random_networks import graph_nets, other_size, outcome
from strategies import examples

pytestmark = [pytest.mark.sets, pytest.mark.threads]

C = 4
RNG = np.random.default_rng(0)
WEIGHTS = {
    **{f"w{k}": RNG.standard_normal((C, C, k, k)) / (2 * k) for k in (1, 3)},
    "wd": RNG.standard_normal((C, 1, 3, 3)) / 3,
    "expand": RNG.standard_normal((3 * C, C, 1, 1)) / 2,
    "wide": RNG.standard_normal((3 * C, 1, 3, 3)) / 3,
    "project": RNG.standard_normal((C, 3 * C, 1, 1)) / 4,
    **{name: RNG.standard_normal(C) for name in ("b", "g", "h")},
}
NORM = {"mode": "test", "running_mean": RNG.standard_normal(C), "running_var": RNG.uniform(0.5, 2, C)}

# Layers that keep the shape of an image: (layer, parameters, further arguments).
CONVOLUTIONS = [
    ("conv", ("w3", "b"), ({"pad": 1},)),
    ("conv", ("w3", None), ({"pad": 1, "algorithm": "direct"},)),
    ("conv", ("w1", "b"), ({},)),
    ("conv", ("wd", "b"), ({"pad": 1, "groups": C},)),
]
ONE_INPUT = [
    *CONVOLUTIONS,
    ("spatial_batchnorm", ("g", "h"), (NORM,)),
    ("relu", (), ()),
    ("relu6", (), ()),
    ("sigmoid", (), ()),
    ("leaky_relu", (), (0.1,)),
    ("scale", (), (0.5,)),
    ("max_pool", (), ({"pool_height": 3, "pool_width": 3, "stride": 1, "pad": 1},)),
    ("dropout", (), ({"p": 0.5, "mode": "test"},)),
]


@st.composite
def graphs(draw):
    """Up to 6 layers, joins and shortcuts, each of values before it; what nothing has read is added up."""
    nodes, values = [], ["input"]

    def append(layer, inputs, params=(), args=(), wide=False):
        output = f"v{len(nodes)}"
        nodes.append(Node(layer, inputs, output, params, args))
        if not wide:  # of C channels
            values.append(output)
        return output

    for _ in range(draw(st.integers(1, 6))):
        x, y = (draw(st.sampled_from(values[-3:])) for _ in range(2))
        kind = draw(st.sampled_from(["layer", "join", "shortcut", "inverted residual"]))
        if kind == "layer":
            layer, *rest = draw(st.sampled_from(ONE_INPUT))
            append(layer, (x,), *rest)
        elif kind == "join":
            append(draw(st.sampled_from(["add", "multiply"])), (x, y))
        elif kind == "inverted residual":
            hidden = append("conv", (x,), ("expand", None), ({},), wide=True)
            if draw(st.booleans()):
                branch = append("conv", (y,), ("w1", "b"), ({},))
                append("add", (branch, x))
            middle = append("conv", (hidden,), ("wide", None), ({"pad": 1, "groups": 3 * C},), wide=True)
            activated = append("relu6", (middle,), wide=True)
            branch = append("conv", (activated,), ("project", "b"), ({},))
            append("add", (y, branch))
        else:
            layer, *rest = draw(st.sampled_from(CONVOLUTIONS))
            branch = append(layer, (x,), *rest)
            if draw(st.booleans()):
                append("sigmoid", (y,))
            append("add", tuple(draw(st.permutations((branch, y)))))
    read = {name for node in nodes for name in node.inputs}
    first, *others = [name for name in values[1:] if name not in read]
    for number, name in enumerate(others):
        nodes.append(Node("add", (first, name), f"sum{number}"))
        first = f"sum{number}"
    return Graph(nodes, output=first)


@pytest.fixture(autouse=True, scope="module")
def several_threads():
    """What one thread does to a value in its place need not show."""
    before = cnnlib.get_num_threads()
    cnnlib.set_num_threads(3)
    yield
    cnnlib.set_num_threads(before)


searching = examples(150)


@searching
@given(graphs(), st.sampled_from([np.float32, np.float64]))
def test_any_graph_gives_its_layers_output(graph, dtype):
    used = {name: WEIGHTS[name].astype(dtype) for node in graph for name in node.params if name}
    shape = (C, 60, 64)  # of one image large enough for several threads
    net = GraphNet(graph, used, shape, dtype=dtype)
    x = np.random.default_rng(1).standard_normal((1, *shape)).astype(dtype)
    want = net.loss(x)
    tolerance = {np.float32: 1e-4, np.float64: 1e-12}[dtype] * np.abs(want).max()
    np.testing.assert_allclose(prepare(net)(x), want, rtol=0, atol=tolerance)


def _as(net, dtype):
    """The network with its parameters in another dtype."""
    params = {name: value.astype(dtype) for name, value in net.params.items()}
    return GraphNet(net.graph(), params, net.input_dim, dtype=dtype)


def _assert_scores(net, predictor, images):
    """What the layers give in float64, to the rounding of the predictor's dtype; or both refuse."""
    for x in images:
        want, got = outcome(_as(net, np.float64).loss, x), outcome(predictor, x)
        if isinstance(want, str) or isinstance(got, str):
            assert isinstance(want, str), got
            assert isinstance(got, str), want
            event("refused by both at the second size")
            continue
        event(f"computed at {'the first' if x is images[0] else 'the second'} size")
        finite = np.isfinite(want)
        with np.errstate(invalid="ignore"):  # of two infinities
            rounding = np.abs(_as(net, predictor.dtype).loss(x) - want)[finite].max(initial=0)
        scale = np.abs(want[finite]).max(initial=0)
        assert got.dtype == predictor.dtype
        tolerance = {np.float32: 1e-4, np.float64: 1e-10}[predictor.dtype.type] * scale + 20 * rounding
        np.testing.assert_allclose(got, want, rtol=0, atol=tolerance)


def _change(net, how, x):
    """Train the network for two steps, or write other numbers into each of its arrays."""
    if how == "train" and net.num_classes:
        rng = np.random.default_rng(0)
        for _ in range(2):
            _, grads = net.loss(x, rng.integers(0, net.num_classes, len(x)))
            for name, grad in grads.items():
                net.params[name] -= net.dtype.type(0.1 / max(1, np.abs(grad).max())) * grad
        return
    for array in [*net.params.values(), *(p[f"running_{s}"] for p in net.bn_params for s in ("mean", "var"))]:
        array[...] = 0.5 + np.arange(array.size).reshape(array.shape) % 7 / 4


LAYERS = set()  # of the networks that were tried


@searching
@given(
    graph_nets(),
    st.sampled_from([None, np.float32, np.float64]),
    st.sampled_from(["auto", "direct"]),
    st.sampled_from(["train", "overwrite"]),
)
def test_any_network_is_prepared_as_it_is_and_as_it_was(net, dtype, algorithm, how):
    """At two sizes; and again after the model has changed, which its predictor has not."""
    LAYERS.update(node.layer for node in net.graph())
    rng = np.random.default_rng(1)
    shapes = [net.input_dim] + ([] if other_size(net) is None else [other_size(net)])
    images = [rng.standard_normal((3, *shape)) for shape in shapes]
    predictor = prepare(net, dtype=dtype, algorithm=algorithm)
    _assert_scores(net, predictor, images)
    before = [outcome(predictor, x) for x in images]
    later = prepare(net, dtype=dtype, algorithm=algorithm)  # meets the second size when the model has changed
    with np.errstate(all="ignore"):
        _change(net, how, images[0])
    for x, scores in zip(images, before, strict=True):
        for kept in (predictor, later):
            np.testing.assert_array_equal(outcome(kept, x), scores)
    _assert_scores(net, prepare(net, dtype=dtype, algorithm=algorithm), images)


def test_every_layer_was_among_them():
    if not LAYERS:
        pytest.skip("no networks were tried")
    prepared = layers_where(lambda op: not (op.not_prepared or op.runs_in or op.eight_bits))
    # models/test_attention_networks.py and models/test_tensor_ops.py prepare these
    elsewhere = {"attention", *(op.name for op in tensors.OPS)}
    assert set(prepared) - elsewhere == LAYERS
