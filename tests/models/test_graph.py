"""GraphNet: branches forward and backward, what is kept and for how long, and graphs that cannot run."""

import copy
import gc
import importlib.util
import pickle
import weakref

import cnnlib
import numpy as np
import pytest
from cnnlib import layers
from cnnlib.course import TwoLayerNet
from cnnlib.graph.fusion import fused
from cnnlib.graph.graph import Graph, Node
from cnnlib.graph.ops import layers_where, op_of
from cnnlib.graph.run import Run
from cnnlib.models import NAMED_SPECS, ConvNet, FullyConnectedNet, GraphNet, ThreeLayerConvNet
from cnnlib.models.program import Program
from cnnlib.solver import Solver
from helpers import assert_gradients
from training import assert_same_bits, assert_same_run, digits_like, quiet_solver, running_statistics, trained

CONV = {"stride": 1, "pad": 1}
_KEEPING_A_COPY = ("sigmoid", "tanh", "softmax")  # of the result, for the backward pass


class Drawn(Graph):
    """A graph that draws the parameters of its layers as it grows."""

    def __init__(self, seed=0):
        super().__init__()
        self.rng, self.params = np.random.default_rng(seed), {}

    def put(self, layer, *inputs, weights=(), args=()):
        """Append a layer with parameters of the shapes `weights`; return its value."""
        names = []
        for shape in weights:
            names.append(f"W{len(self.params) + 1}" if len(shape) > 1 else f"b{len(self.params) + 1}")
            self.params[names[-1]] = 0.4 * self.rng.standard_normal(shape)
        return self.append(Node(layer, inputs, f"{layer}_{len(self.nodes)}", tuple(names), args))

    def scores(self, x, D):
        self.put("affine", x, weights=((D, 3), (3,)))
        return self


def dense_block():
    """Each convolution reads all values before it (Huang et al. 2016)."""
    graph = Drawn()
    seen = ["input"]
    for C in (2, 4, 6):
        joined = seen[0] if len(seen) == 1 else graph.put("concat", *seen)
        normed = graph.put("spatial_batchnorm", joined, weights=((C,), (C,)), args=({"mode": "train"},))
        rectified = graph.put("relu", normed)
        seen.append(graph.put("conv", rectified, weights=((2, C, 3, 3), (2,)), args=(CONV,)))
    return graph.scores(graph.put("global_avg_pool", graph.put("concat", *seen)), 8)


def squeeze_and_excitation(squeezed="flat"):
    """Channels multiplied by what small affine layers make of their means (Hu et al. 2017)."""
    graph = Drawn()
    x = graph.put("conv", "input", weights=((4, 2, 3, 3), (4,)), args=(CONV,))
    if squeezed == "flat":
        mean = graph.put("global_avg_pool", x)
        small = graph.put("relu", graph.put("affine", mean, weights=((4, 3), (3,))))
        gate = graph.put("affine", small, weights=((3, 4), (4,)))
    else:
        pool = {"pool_height": 5, "pool_width": 4}
        gate = graph.put("conv", graph.put("avg_pool", x, args=(pool,)), weights=((4, 4, 1, 1),), args=({},))
        graph.nodes[-1] = Node("conv", graph.nodes[-1].inputs, gate, (*graph.nodes[-1].params, None), ({},))
    gated = graph.put("multiply", x, gate)
    return graph.scores(graph.put("relu", graph.put("add", gated, gate)), 80)


def read_three_times():
    """The input's convolution goes into a sum twice, and scaled into a product."""
    graph = Drawn()
    x = graph.put("conv", "input", weights=((2, 2, 3, 3), (2,)), args=(CONV,))
    doubled = graph.put("add", x, x)
    product = graph.put("multiply", doubled, graph.put("scale", x, args=(0.5,)))
    return graph.scores(graph.put("flatten", product), 40)


def shared_weights():
    """One set of filters in two places: its gradient is the sum."""
    graph = Drawn()
    x = graph.put("conv", "input", weights=((2, 2, 3, 3), (2,)), args=(CONV,))
    graph.append(Node("conv", (graph.put("relu", x),), "again", graph.nodes[0].params, (CONV,)))
    return graph.scores("again", 40)


def sum_and_relu_of_identities():
    """add hands one gradient on to both sides, which each go into further sums."""
    graph = Drawn()
    x = graph.put("conv", "input", weights=((2, 2, 1, 1), (2,)), args=({},))
    y = graph.put("conv", "input", weights=((2, 2, 3, 3), (2,)), args=(CONV,))
    both = graph.put("relu", graph.put("add", x, y))
    return graph.scores(graph.put("add", graph.put("add", both, x), graph.put("add", y, both)), 40)


GRAPHS = {
    "dense_block": dense_block,
    "squeeze_and_excitation": squeeze_and_excitation,
    "squeeze_and_excitation_of_images": lambda: squeeze_and_excitation("images"),
    "read_three_times": read_three_times,
    "shared_weights": shared_weights,
    "sum_and_relu_of_identities": sum_and_relu_of_identities,
}


def build(graph, **options):
    return GraphNet(graph, graph.params, (2, 5, 4), dtype=np.float64, **options)


@pytest.mark.parametrize("name", GRAPHS)
def test_gradients(name, rng):
    net = build(GRAPHS[name](), reg=0.1)
    X, y = rng.standard_normal((4, 2, 5, 4)), np.array([0, 2, 1, 1])
    assert_gradients(net, X, y)


def sequences():
    """1-D convolutions beside each other, pooled: the layers of sequences (N, C, L)."""
    graph = Drawn()
    x = graph.put("conv1d", "input", weights=((3, 2, 3), (3,)), args=({"pad": 1},))
    y = graph.put("conv1d", graph.put("silu", x), weights=((3, 3, 3), (3,)), args=({"pad": 1},))
    joined = graph.put("concat", graph.put("add", x, y), x)
    pool = {"pool_width": 2}
    return graph.scores(graph.put("max_pool1d", joined, args=(pool,)), 18)


def volumes():
    """The same of volumes (N, C, D, H, W)."""
    graph = Drawn()
    x = graph.put("conv3d", "input", weights=((2, 2, 2, 2, 2), (2,)), args=({},))
    y = graph.put("conv3d", graph.put("relu", x), weights=((2, 2, 1, 1, 1), (2,)), args=({},))
    return graph.scores(graph.put("multiply", x, y), 2 * 2 * 3 * 2)


@pytest.mark.parametrize(
    ("graph", "shape", "cost"),
    [
        (sequences(), (2, 6), 6 * 3 * 6 + 6 * 3 * 9 + 18 * 3),
        (volumes(), (2, 3, 4, 3), 12 * 2 * 16 + 12 * 2 * 2 + 24 * 3),
    ],
    ids=["sequences", "volumes"],
)
def test_other_dimensions(graph, shape, cost, rng):
    net = GraphNet(graph, graph.params, shape, dtype=np.float64)
    assert net.multiply_adds == cost
    X, y = rng.standard_normal((4, *shape)), np.array([0, 2, 1, 1])
    assert_gradients(net, X, y)


def test_forward_by_hand(rng):
    net, X = build(squeeze_and_excitation()), rng.standard_normal((3, 2, 5, 4))
    p = list(net.params.values())
    x, _ = layers.conv_forward(X, p[0], p[1], CONV)
    gate = np.maximum(x.mean(axis=(2, 3)) @ p[2] + p[3], 0) @ p[4] + p[5]
    gate = gate[:, :, None, None]
    want = np.maximum(x * gate + gate, 0).reshape(3, -1) @ p[6] + p[7]
    np.testing.assert_allclose(net.loss(X), want, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", NAMED_SPECS)
def test_a_models_graph_is_the_model(name, rng, dtype):
    net = ConvNet(name, (3, 16, 16), 7, dtype=dtype, reg=0.01, seed=0)
    X = rng.standard_normal((6, 3, 16, 16))
    y = rng.integers(7, size=(6, 16, 16) if net.head == "pixels" else 6)
    net.initialize(X)
    assert_the_same_model(net, X, y, reg=0.01, frozen=net.frozen, seed=0)


@pytest.mark.parametrize(
    "net",
    [
        ThreeLayerConvNet((2, 5, 4), 3, 3, 6, 4, seed=0),
        ThreeLayerConvNet((2, 5, 4), 3, 3, 6, 4, use_batchnorm=True, dtype=np.float64, seed=0),
        FullyConnectedNet([6, 5], (2, 5, 4), 4, seed=0),
        FullyConnectedNet([6, 5], (2, 5, 4), 4, normalization="batchnorm", seed=0),
        FullyConnectedNet([6, 5], (2, 5, 4), 4, normalization="layernorm", seed=0),
        TwoLayerNet((2, 5, 4), 6, 4, seed=0),
    ],
    ids=repr,
)
def test_the_courses_models(net, rng):
    assert_the_same_model(net, rng.standard_normal((6, 2, 5, 4)), rng.integers(4, size=6))


def test_a_models_dropout_is_in_its_graph():
    graph = FullyConnectedNet([6, 5], 4, dropout=0.25).graph()
    assert [node.args[0]["p"] for node in graph if node.layer == "dropout"] == [0.25, 0.25]


def assert_the_same_model(net, X, y, **options):
    """The graph gives the bits of the model, in training and then with the running statistics."""
    twin = GraphNet(net.graph(), net.params, X.shape[1:], dtype=net.dtype, **options)
    loss, grads = net.loss(X, y)
    twin_loss, twin_grads = twin.loss(X, y)
    assert twin_loss == loss
    assert twin_grads.keys() == grads.keys()
    for name, grad in grads.items():
        assert_same_bits(twin_grads[name], grad)
    assert_same_bits(twin.loss(X), net.loss(X))


def test_chains_become_sandwiches():
    kinds = [node.layer for node in fused(dense_block(), "layers")]
    assert kinds[:2] == ["spatial_batchnorm", "relu"]
    assert [node.layer for node in fused(ConvNet("resnet8", seed=0).graph(), "layers")].count("add_relu") == 3
    chain = Drawn()
    conv = chain.put("conv", "input", weights=((2, 2, 3, 3), (2,)), args=(CONV,))
    relu = chain.put("relu", conv)
    chain.put("max_pool", relu, args=({"pool_height": 2, "pool_width": 2},))
    (node,) = fused(chain, "layers")
    assert (node.layer, node.inputs, node.output) == ("conv_relu_pool", ("input",), chain.output)
    assert [node.layer for node in fused(chain, "layers", apart=("max_pool",))] == ["conv_relu", "max_pool"]
    chain.put("add", chain.output, chain.put("max_pool", relu, args=({"pool_height": 2, "pool_width": 2},)))
    assert [node.layer for node in fused(chain, "layers")][:1] == ["conv_relu"]  # its value is read twice
    chain.output = conv
    assert [node.layer for node in fused(chain, "layers")][:1] == ["conv"]  # its value is the network's


def test_frozen_parameters_get_no_gradient(rng, monkeypatch):
    net = build(squeeze_and_excitation(), frozen=("W1", "b2", "W3"))
    assert net.frozen == ("W1", "b2", "W3")
    X, y = rng.standard_normal((4, 2, 5, 4)), np.array([0, 2, 1, 1])
    asked = []
    backward = layers.affine_relu_backward

    def watched(*args, needs):
        asked.append(needs)
        return backward(*args, needs=needs)

    with monkeypatch.context() as patch:
        patch.setattr(layers, "affine_relu_backward", watched)
        patch.setattr(layers, "conv_backward", None)
        patch.setattr(layers, "global_avg_pool_backward", None)
        _, grads = net.loss(X, y)
    assert asked == [("db",)]
    _, want = build(squeeze_and_excitation()).loss(X, y)
    assert grads.keys() == want.keys() - {"W1", "b2", "W3"}
    for name, grad in grads.items():
        assert_same_bits(grad, want[name])


def test_values_live_until_their_last_reader(rng, monkeypatch):
    """In test mode the arrays alive between layers are those that are still to be read."""
    graph = Drawn()
    x = graph.put("relu", "input")
    for _ in range(5):
        x = graph.put("relu", x)
    program, alive, peak = Program("test", graph), [], []
    program.in_core = False
    relu = layers.relu_forward

    def watched(x):
        out, cache = relu(x)
        alive.append(weakref.ref(out))
        peak.append(sum(ref() is not None for ref in alive))
        return out, cache

    monkeypatch.setattr(layers, "relu_forward", watched)
    gc.disable()  # nothing may hang in a cycle either
    try:
        program.scores(Run({}), rng.standard_normal((2, 3)))
    finally:
        gc.enable()
    assert len(peak) == 6
    assert max(peak) == 2  # what a step reads and what it makes


@pytest.mark.parametrize(
    "shape", [(1, 1, 1, 1), (3, 5, 3, 7), (2, 3, 33, 31), (7, 37, 1, 1), (2, 64, 60, 61)]
)
def test_scoring_without_caches_gives_the_same_bits(shape, rng, dtype, isa):
    """Batch norm writes over its input there, at every length of a vector's tail."""
    N, C, *_ = shape
    x = rng.standard_normal(shape).astype(dtype)
    w, b, gamma, beta = (rng.standard_normal(s).astype(dtype) for s in ((C, C, 1, 1), (C,), (C,), (C,)))
    bn = {"mode": "test", "running_mean": rng.standard_normal(C), "running_var": rng.random(C) + 0.5}
    pool = {"pool_height": 1, "pool_width": 1, "stride": 2}
    flat = x.reshape(N, -1)
    wide = rng.standard_normal((flat.shape[1], C)).astype(dtype)
    for name, args in {
        "conv_relu": (x, w, b, {}),
        "conv_bn_relu": (x, w, None, gamma, beta, {}, bn),
        "conv_relu_pool": (x, w, b, {}, pool),
        "conv_bn_relu_pool": (x, w, b, gamma, beta, {}, bn, pool),
        "affine_relu": (flat, wide, b),
        "affine_bn_relu": (flat, wide, b, gamma, beta, bn),
        **dict.fromkeys(_KEEPING_A_COPY, (x,)),
        "attention": (x, x, x, {}),
    }.items():
        want, _ = getattr(layers, f"{name}_forward")(*args)
        assert_same_bits(op_of(name).scoring(*args), want)
    sandwiches = {*layers_where(lambda op: "layers" in op.runs_in)} - {"add_relu"}
    assert {*layers_where(lambda op: op.scoring)} == {*sandwiches, *_KEEPING_A_COPY, "attention"}


CANNOT_RUN = {
    "unknown layer": (
        [Node("rellu", ("input",), "a")],
        r"GraphNet: node 'a' \(rellu\): unknown layer 'rellu'; did you mean 'relu'\?",
    ),
    "value missing": (
        [Node("add", ("input", "b"), "a", label="sum of 1"), Node("relu", ("a",), "b")],
        r"GraphNet: node 'a' \(sum of 1\) reads 'b', which no node before it makes",
    ),
    "made twice": (
        [Node("relu", ("input",), "a"), Node("relu", ("a",), "a")],
        r"node 'a' \(relu\) makes 'a', which has been made before",
    ),
    "input made": ([Node("relu", ("input",), "input")], "makes 'input', which has been made before"),
    "never read": (
        [Node("relu", ("input",), "b"), Node("relu", ("input",), "a")],
        r"nothing reads what node 'b' \(relu\) makes",
    ),
    "no output": ([Node("relu", ("input",), "b")], "no node makes the output 'a'"),
    "inputs": ([Node("add", ("input",), "a")], r"node 'a' \(add\): add reads 2 values, got 1"),
    "one to join": ([Node("concat", ("input",), "a")], "concat reads two or more values, got 1"),
    "shapes": (
        [Node("global_avg_pool", ("input",), "p"), Node("add", ("p", "input"), "a")],
        r"node 'a' \(add\): add: the inputs must have one shape, or .*: got \(N, 2\) and \(N, 2, 5, 4\)",
    ),
    "sizes": (
        [
            Node("max_pool", ("input",), "p", (), ({"pool_height": 2, "pool_width": 2},)),
            Node("concat", ("p", "input"), "a"),
        ],
        r"node 'a' \(concat\): concat: the inputs differ in more than their channels",
    ),
    "layer's shapes": (
        [Node("conv", ("input",), "a", ("W1", "b1"), ({},), "stem")],
        r"GraphNet: node 'a' \(stem\): conv_forward: ",
    ),
    "layer's keys": (
        [Node("max_pool", ("input",), "a", (), ({"pool_height": 2},))],
        r"GraphNet: node 'a' \(max_pool\): max_pool_forward: pool_param lacks 'pool_width'",
    ),
    "parameters of a layer": (
        [Node("affine", ("input",), "a", ("W1",))],
        r"node 'a' \(affine\): params of affine must name w, b \(None for no b\), got \('W1',\)",
    ),
    "no weights": ([Node("affine", ("input",), "a", (None, "b1"))], r"must name w, b .*, got \(None, 'b1'\)"),
    "parameters of none": ([Node("relu", ("input",), "a", ("W1",))], "params of relu must name nothing, got"),
    "too few arguments": (
        [Node("max_pool", ("input",), "a")],
        r"GraphNet: node 'a' \(max_pool\): args of max_pool: .* 'pool_param', got \(\)",
    ),
    "too many arguments": ([Node("leaky_relu", ("input",), "a", (), (1, 2))], r"args .*, got \(1, 2\)"),
    "no parameter": (
        [Node("affine", ("input",), "a", ("W9", None))],
        r"node 'a' \(affine\): params has no 'W9'",
    ),
}


@pytest.mark.parametrize("case", CANNOT_RUN)
def test_graphs_that_cannot_run(case):
    nodes, message = CANNOT_RUN[case]
    used = {name for node in nodes for name in node.params}
    params = {"W1": np.zeros((3, 5, 3, 3)), "b1": np.zeros(3)}
    with pytest.raises((ValueError, KeyError), match=message):
        GraphNet(Graph(nodes, output="a"), {k: v for k, v in params.items() if k in used}, (2, 5, 4))


@pytest.mark.parametrize(
    ("param", "message"),
    [
        (0, "conv_param must be a dict"),
        ("", "conv_param must be a dict"),
        ({"pad": ((0, 0), ((1,), 0))}, r"pad must be an integer, got \(1,\)"),
    ],
)
def test_a_conv_param_is_checked_before_samples_come(param, message):
    graph = Graph([Node("conv", ("input",), "a", ("W1", None), (param,))], output="a")
    with pytest.raises(TypeError, match=rf"node 'a' \(conv\): conv_forward: {message}"):
        GraphNet(graph, {"W1": np.zeros((3, 2, 3, 3))}, (2, 5, 4))


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"params": {"w": "W", "b": "b"}}, "params of .* must be a tuple of names, got {'w': 'W', 'b': 'b'}"),
        ({"params": "Wb"}, "params of .* must be a tuple of names, got 'Wb'"),
        ({"params": ("W", 3)}, r"params of .* must be a tuple of names, got \('W', 3\)"),
        ({"inputs": "xy"}, "inputs of .* must be a tuple of names, got 'xy'"),
        ({"inputs": {"x"}}, "inputs of .* must be a tuple of names"),
        ({"inputs": (None,)}, r"inputs of .* must be a tuple of names, got \(None,\)"),
        ({"args": {"stride": 2}}, "args of .* must be a tuple, got {'stride': 2}"),
    ],
    ids=str,
)
def test_nodes_take_no_dict_or_string_for_a_sequence(parts, message):
    """Their keys or characters would be taken for names."""
    with pytest.raises(TypeError, match=rf"Node: {message}"):
        Node(**{"layer": "affine", "inputs": ("x",), "output": "y", **parts})


@pytest.mark.parametrize("parts", [{"output": ""}, {"params": ("", None)}], ids=str)
def test_empty_names_are_refused(parts):
    """An array of that name would get no gradient."""
    with pytest.raises(ValueError, match=r"Node: the name of a value or parameter of .* is empty"):
        Node(**{"layer": "affine", "inputs": ("x",), "output": "y", **parts})


def test_nodes_take_lists():
    made = Node("conv", ["x"], "y", ["W", None], [{}])
    assert made == Node("conv", ("x",), "y", ("W", None), ({},))


DEFAULTS = {
    "leaky_relu": [(), (0.01,)],
    "elu": [(), (1.0,)],
    "gelu": [(), ("none",)],
    "upsample": [(2,), (2, "nearest"), (2, "nearest", False)],
    "upsample bilinear": [(2, "bilinear"), (2, "bilinear", False)],
}


@pytest.mark.parametrize("name", DEFAULTS)
def test_arguments_that_are_left_out_are_the_layers_defaults(name, rng, tmp_path):
    x = rng.standard_normal((2, 3, 5, 4))
    made = []
    for args in DEFAULTS[name]:
        graph = Graph([Node(name.split()[0], ("input",), "y", (), args)], output="y")
        net = GraphNet(graph, {}, (3, 5, 4), dtype=np.float64)
        predictor = cnnlib.prepare(net)
        predictor.save(tmp_path / "net")
        net.save(tmp_path / "net.npz")
        again = predictor.graph_and_params()[0].nodes
        reread = cnnlib.load(tmp_path / "net.npz")
        parts = [net.loss(x), predictor(x), cnnlib.inference.load(tmp_path / "net")(x), reread.loss(x)]
        made.append([*map(np.ndarray.tobytes, parts), net.summary(), predictor.summary(), again])
        if importlib.util.find_spec("onnx"):
            cnnlib.onnx.save(net, tmp_path / "net.onnx")
            made[-1].append((tmp_path / "net.onnx").read_bytes())
    assert all(one == made[0] for one in made)


def test_other_arguments():
    graph = read_three_times()
    assert build(graph, num_classes=3).num_classes == build(graph).num_classes == 3
    with pytest.raises(
        ValueError, match=r"the output must have shape \(N, 4\), but the graph gives \(N, 3\)"
    ):
        build(graph, num_classes=4)
    with pytest.raises(ValueError, match="GraphNet: frozen names 'W9', which is no parameter"):
        build(graph, frozen=("W9",))
    graph.params["W9"] = np.zeros(2)
    with pytest.raises(ValueError, match="no node of the graph names the parameter 'W9'"):
        build(graph)
    with pytest.raises(ValueError, match=r"GraphNet: X must have shape \(N, 2, 5, 4\), got \(1, 2, 4, 5\)"):
        build(read_three_times()).loss(np.zeros((1, 2, 4, 5)))


def test_images_for_scores():
    net = GraphNet(Graph([Node("relu", ("input",), "a")], output="a"), {}, (2, 5, 4))
    assert net.num_classes is None
    assert net.loss(-np.ones((1, 2, 5, 4))).shape == (1, 2, 5, 4)
    assert repr(net) == "GraphNet(2x5x4 -> ..., 1 node, float32, 0 parameters)"


def test_reg_of_nothing_is_refused():
    graph = Graph([Node("affine", ("input",), "scores", ("fc.weight", None))], output="scores")
    net = GraphNet(graph, {"fc.weight": np.eye(3)}, 3)
    net.reg = 0.1
    with pytest.raises(ValueError, match=r"reg is 0.1, but no parameter's name begins with W: fc.weight"):
        net.loss(np.ones((2, 3)), [0, 1])


def test_parameters_are_taken_as_they_are_where_they_can_be():
    graph = read_three_times()
    frozen = graph.params["b2"] = np.zeros(2)
    frozen.flags.writeable = False
    net = build(graph)
    assert net.params["W1"] is graph.params["W1"]
    assert net.params["b2"].flags.writeable
    assert net.params["b2"] is not frozen


def test_resume_equals_uninterrupted(tmp_path):
    data = digits_like()

    def net():
        twin = ConvNet([{"conv": 4}, "batchnorm", "relu", {"dropout": 0.2}], (1, 6, 6), 4, seed=3)
        return GraphNet(twin.graph(), twin.params, (1, 6, 6), seed=3)

    whole = trained(net(), data, update_rule="adam", seed=0)
    quiet_solver(net(), data, update_rule="adam", seed=0, checkpoint_name=tmp_path / "run").train()
    resumed = Solver.resume(tmp_path / "run_epoch_1.npz", net(), data)
    resumed.train()
    assert_same_run(resumed, whole)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))])
def test_copies_are_models_of_their_own(copied, rng):
    net = build(dense_block())
    X, y = rng.standard_normal((4, 2, 5, 4)), np.array([0, 2, 1, 1])
    net.loss(X, y)
    twin, want = copied(net), net.loss(X)
    assert_same_bits(twin.loss(X), want)
    before = running_statistics(net)
    twin.loss(X + 1, y)
    assert_same_bits(running_statistics(net), before)
    assert (twin.loss(X) != net.loss(X)).any()


def test_summary():
    net = build(squeeze_and_excitation())
    assert (
        net.summary()
        == """\
stage            output  parameters  multiply-adds
--------------------------------------------------
input            2x5x4
conv             4x5x4           76          1,440
global_avg_pool  4
affine           3               15             12
relu             3
affine           4               16             12
multiply         4x5x4
add              4x5x4
relu             4x5x4
affine           3              243            240
--------------------------------------------------
total                           350          1,704"""
    )
    assert (net.num_params, net.multiply_adds) == (350, 1704)
    twin = ConvNet("resnet8", (3, 16, 16), 10)
    same = GraphNet(twin.graph(), twin.params, (3, 16, 16))
    assert (same.num_params, same.multiply_adds) == (twin.num_params, twin.multiply_adds)
