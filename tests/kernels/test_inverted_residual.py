"""Inverted residuals of prepared networks: one operation, the three convolutions' results."""

import cnnlib
import numpy as np
import pytest
from cnnlib.graph.graph import Graph, Node
from cnnlib.inference import prepare
from cnnlib.models.graph_net import GraphNet

pytestmark = [pytest.mark.sets, pytest.mark.smoke]

_BOUND = {np.float32: 3e-6, np.float64: 1e-14}  # of the largest value, for each convolution

# C, hidden, F, (H, W), kernel, conv_param of the depthwise convolution
SHAPES = {
    "one row of tiles": (8, 32, 8, (6, 14), 3, {"pad": 1}),
    "lanes left over": (5, 37, 7, (9, 11), 3, {"pad": 1}),
    "many chunks": (6, 200, 24, (7, 7), 3, {"pad": 1}),
    "stride 2": (8, 48, 12, (15, 13), 3, {"pad": 1, "stride": 2}),
    "stride 2, odd padding": (4, 33, 9, (12, 12), 3, {"pad": "same", "stride": 2}),
    "5x5": (3, 20, 10, (11, 9), 5, {"pad": 2}),
    "strides and dilations apart": (
        3,
        17,
        4,
        (14, 13),
        3,
        {"pad": (2, 1), "stride": (1, 2), "dilation": (2, 1)},
    ),
    "wide": (16, 96, 24, (20, 112), 3, {"pad": 1, "stride": 2}),
    "one pixel": (20, 64, 40, (1, 1), 3, {"pad": 1}),
    "without padding": (4, 24, 6, (5, 30), 3, {}),
    "many filters": (30, 160, 150, (4, 5), 3, {"pad": 1}),
    "many vectors, stride 2": (9, 300, 21, (14, 13), 3, {"pad": 1, "stride": 2}),
}


def _net(shape, rng, *, dtype=np.float64, relu="relu6", last=None, shortcut=False, bias=True):
    C, hidden, F, (H, W), K, conv_param = shape
    params = {
        "w1": rng.standard_normal((hidden, C, 1, 1)),
        "wd": rng.standard_normal((hidden, 1, K, K)),
        "w2": rng.standard_normal((F, hidden, 1, 1)),
    }
    if bias:
        params |= {
            "b1": rng.standard_normal(hidden),
            "bd": rng.standard_normal(hidden),
            "b2": rng.standard_normal(F),
        }
    b1, bd, b2 = ("b1", "bd", "b2") if bias else (None, None, None)
    start = "start" if shortcut else "input"
    nodes = [Node("leaky_relu", ("input",), "start", (), (0.1,))] if shortcut else []
    nodes += [
        Node("conv", (start,), "e", ("w1", b1), ({},)),
        Node(relu, ("e",), "er"),
        Node("conv", ("er",), "d", ("wd", bd), ({**conv_param, "groups": hidden},)),
        Node(relu, ("d",), "dr"),
        Node("conv", ("dr",), "p", ("w2", b2), ({},)),
    ]
    if shortcut:
        nodes.append(Node("add", (start, "p"), "s"))
    if last:
        nodes.append(Node(last, (nodes[-1].output,), "l"))
    return GraphNet(Graph(nodes, output=nodes[-1].output), params, (C, H, W), dtype=dtype)


def _steps(predictor, x):
    return [name for name, _, _ in predictor.profile(x, 1)]


def _fused(predictor, x):
    return [name for name in _steps(predictor, x) if name.endswith("[inverted-residual]")]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", SHAPES)
def test_the_block_is_its_three_convolutions(name, dtype, isa, rng):
    net = _net(SHAPES[name], rng, dtype=dtype)
    x = rng.standard_normal((3, *net.input_dim)).astype(dtype)
    predictor = prepare(net)
    assert len(_steps(predictor, x)) == len(_fused(predictor, x)) == 1
    got, want = predictor(x), net.loss(x)
    assert got.shape == want.shape
    np.testing.assert_allclose(got, want, rtol=0, atol=3 * _BOUND[dtype] * np.abs(want).max())


@pytest.mark.parametrize("last", [None, "relu", "relu6"])
@pytest.mark.parametrize("relu", ["relu", "relu6"])
def test_activations_and_the_shortcut(relu, last, isa, rng):
    net = _net(
        (8, 40, 8, (9, 10), 3, {"pad": 1}), rng, relu=relu, last=last, shortcut=True, bias=relu == "relu"
    )
    x = rng.standard_normal((2, *net.input_dim))
    predictor = prepare(net)
    assert len(_steps(predictor, x)) == (3 if last == "relu6" else 2)  # sums take a ReLU alone
    assert len(_fused(predictor, x)) == 1
    want = net.loss(x)
    np.testing.assert_allclose(predictor(x), want, rtol=0, atol=1e-13 * np.abs(want).max())
    assert want.max() <= 6 or last != "relu6"


@pytest.mark.parametrize(
    "sizes",
    [(16, 96, 24, (56, 40)), (16, 200, 24, (14, 14)), (64, 384, 64, (14, 14))],
    ids=["bands", "parts", "layer by layer"],
)
def test_bits_depend_neither_on_the_batch_nor_on_the_threads(sizes, isa, rng):
    net = _net((*sizes, 3, {"pad": 1}), rng, dtype=np.float32)
    x = rng.standard_normal((5, *net.input_dim)).astype(np.float32)
    threads, predictor = cnnlib.get_num_threads(), prepare(net)
    assert _fused(predictor, x)
    try:
        cnnlib.set_num_threads(1)
        want = predictor(x)
        for n in (1, 2, 3, 4, 8, 33):
            cnnlib.set_num_threads(n)
            for start, stop in ((0, 5), (0, 1), (1, 3)):
                np.testing.assert_array_equal(predictor(x[start:stop]), want[start:stop])
    finally:
        cnnlib.set_num_threads(threads)


def test_infinity_and_nan_stay_where_they_belong(isa, rng):
    """Lanes without a channel hand on nothing: infinity times their zero weights is NaN."""
    net = _net((5, 37, 7, (9, 11), 3, {"pad": 1}), rng)
    for name in net.params:
        net.params[name] = np.abs(net.params[name])
    x = np.abs(rng.standard_normal((2, *net.input_dim)))
    x[0, 1, 4, 5], x[1, 0, 0, 0] = np.inf, np.nan
    predictor = prepare(net)
    assert _fused(predictor, x)
    got, want = predictor(x), net.loss(x)
    np.testing.assert_array_equal(np.isnan(got), np.isnan(want))
    assert np.isnan(got[1]).any()
    assert not np.isnan(got[0]).any()
    np.testing.assert_allclose(got[0], want[0], rtol=1e-12)


def test_what_else_is_read_or_asked_for_stays_apart(rng):
    shape = (4, 24, 6, (8, 8), 3, {"pad": 1})
    x = rng.standard_normal((2, 4, 8, 8))

    def count(net):
        predictor = prepare(net)
        want = net.loss(x)
        np.testing.assert_allclose(predictor(x), want, rtol=0, atol=1e-13 * np.abs(want).max())
        return len(_fused(predictor, x))

    assert count(_net(shape, rng)) == 1
    assert count(_net((4, 24, 24, *shape[3:]), rng)) == 0  # as wide behind as inside
    assert count(_net((4, 4, 3, *shape[3:]), rng)) == 0
    assert count(_net((*shape[:5], {"pad": 1, "algorithm": "depthwise-rows"}), rng)) == 0
    assert count(_net(shape, rng, relu="silu")) == 0
    read_twice = _net(shape, rng)
    nodes = [*read_twice.graph().nodes]
    nodes += [Node("global_avg_pool", (name,), f"{name}m") for name in ("er", "p")]
    nodes.append(Node("concat", ("erm", "pm"), "both"))
    assert count(GraphNet(Graph(nodes, output="both"), read_twice.params, (4, 8, 8), dtype=np.float64)) == 0


def test_a_chain_of_separable_convolutions_shares_no_layer(rng):
    """A 1x1 convolution behind one depthwise one and before another can be in one block alone."""
    params = {f"d{i}": rng.standard_normal((C, 1, 3, 3)) for i, C in enumerate((8, 32, 16))}
    params |= {
        f"p{i}": rng.standard_normal((F, C, 1, 1)) for i, (C, F) in enumerate(((8, 32), (32, 16), (16, 12)))
    }
    nodes, last = [], "input"
    for i, C in enumerate((8, 32, 16)):
        nodes.append(Node("conv", (last,), f"x{i}", (f"d{i}", None), ({"pad": 1, "groups": C},)))
        nodes.append(Node("conv", (f"x{i}",), f"y{i}", (f"p{i}", None), ({},)))
        last = f"y{i}"
    net = GraphNet(Graph(nodes, output=last), params, (8, 9, 9), dtype=np.float64)
    x = rng.standard_normal((2, 8, 9, 9))
    predictor, want = prepare(net), net.loss(x)
    assert len(_fused(predictor, x)) == 1
    np.testing.assert_allclose(predictor(x), want, rtol=0, atol=1e-13 * np.abs(want).max())
