"""`prepare` refuses what `loss` refuses, in the same words, and takes what `loss` takes."""

import re
from dataclasses import replace

import numpy as np
import pytest
from cnnlib import prepare
from cnnlib.models import Graph, GraphNet, Node

X = np.random.RandomState(1).randn(2, 3, 8, 8)
POOL = {"pool_height": 2, "pool_width": 2, "stride": 2}


def small_net(output="", **options):
    """Each layer that takes in a batch norm or a scale, and norms that stand alone.

    The node that makes `output` has these further options.
    """
    graph, random = Graph(), np.random.RandomState(0)
    graph.append(Node("conv", ("input",), "conv", ("W1", "b1"), ({"pad": 1},)))
    graph.append(Node("spatial_batchnorm", ("conv",), "norm", ("gamma1", "beta1"), ({"mode": "test"},)))
    graph.append(Node("relu", ("norm",), "relu"))
    graph.append(Node("max_pool", ("relu",), "pool", (), (dict(POOL),)))
    graph.append(Node("conv_transpose", ("pool",), "up", ("W2", None), ({"stride": 2},)))
    graph.append(Node("spatial_batchnorm", ("up",), "norm2", ("gamma2", "beta2"), ({"mode": "test"},)))
    graph.append(Node("spatial_groupnorm", ("norm2",), "groups", ("gamma3", "beta3"), (2, {"eps": 1e-5})))
    graph.append(Node("dropout", ("groups",), "drop", (), ({"p": 0.5, "mode": "train"},)))
    graph.append(Node("affine", ("drop",), "affine", ("W4", "b4")))
    graph.append(Node("scale", ("affine",), "scores", (), (2.0,)))
    shapes = {"W1": (4, 3, 3, 3), "b1": 4, "gamma1": 4, "beta1": 4, "W2": (4, 2, 2, 2)}
    shapes |= {"gamma2": 2, "beta2": 2, "gamma3": 2, "beta3": 2, "W4": (128, 5), "b4": 5}
    params = {name: random.standard_normal(shape) for name, shape in shapes.items()}
    for place, node in enumerate(graph.nodes):
        if node.output == output:
            *others, param = node.args
            graph.nodes[place] = replace(node, args=(*others, {**param, **options}))
    return GraphNet(graph, params, (3, 8, 8), dtype=np.float64)


def parameter(name, change):
    return lambda net: net.params.update({name: change(net.params[name])})


def norm(**options):
    return lambda net: net.bn_params[0].update(options)


FAULTS = {
    "complex weights": (parameter("W1", lambda a: a + 0j), "'conv'", "w has dtype complex128"),
    "weights of text": (parameter("W1", lambda a: a.astype(str)), "'conv'", "w has dtype <U"),
    "weights of objects": (parameter("W4", lambda a: a.astype(object)), "'affine'", "w has dtype object"),
    "complex biases": (parameter("b4", lambda a: a + 0j), "'affine'", "b has dtype complex128"),
    "a complex gamma": (parameter("gamma2", lambda a: a + 0j), "'norm2'", "gamma has dtype complex128"),
    "a beta of text": (parameter("beta1", lambda a: a.astype(str)), "'norm'", "beta has dtype <U"),
    "dates": (parameter("gamma3", lambda a: a.astype("M8[s]")), "'groups'", "gamma has dtype datetime64"),
    "masked weights": (parameter("W2", lambda a: np.ma.array(a, mask=a > 0)), "'up'", "w has masked values"),
    "no weights": (parameter("W2", lambda a: None), "'up'", "w must be an array, got None"),
    "a deleted parameter": (lambda net: net.params.pop("W1"), "'conv'", "params has no 'W1'"),
    "more filters": (
        parameter("W1", lambda a: np.concatenate([a, a])),
        "'conv'",
        r"b must have shape \(8,\)",
    ),
    "a matrix of filters": (parameter("W1", np.ravel), "'conv'", r"w must be \(F, C / groups, KH, KW\)"),
    "no filters": (parameter("W1", lambda a: a[:0]), "'conv'", "w has an empty dimension"),
    "one bias": (parameter("b1", lambda a: a[0]), "'conv'", r"b must have shape \(4,\), got \(\)"),
    "one gamma": (parameter("gamma1", lambda a: a[0]), "'norm'", r"gamma must have shape \(4,\), got \(\)"),
    "a row of betas": (parameter("beta2", lambda a: a[None]), "'norm2'", r"beta must have shape \(2,\)"),
    "a negative eps": (norm(eps=-1.0), "'norm'", "eps must be finite and at least 0, got -1.0"),
    "an eps of text": (norm(eps="1e-5"), "'norm'", "eps must be a number"),
    "a momentum": (norm(momentum=2), "'norm'", r"momentum must be in \[0, 1\], got 2.0"),
    "an unknown key of a norm": (norm(epsilon=1e-5), "'norm'", "unknown key 'epsilon'.* did you mean 'eps'"),
    "statistics of text": (norm(running_mean=np.array(["0"] * 4)), "'norm'", "running_mean must be numbers"),
    "statistics of objects": (norm(running_var=np.ones(4, object)), "'norm'", "running_var must be numbers"),
    "complex statistics": (norm(running_var=np.ones(4, complex)), "'norm'", "running_var must be numbers"),
    "more statistics": (norm(running_mean=np.ones(8)), "'norm'", r"running_mean must have shape \(4,\)"),
    "one statistic": (norm(running_var=1.0), "'norm'", r"running_var must have shape \(4,\), got \(\)"),
}


def refusal(call):
    """The error's type, and its text behind the caller's name."""
    with pytest.raises((KeyError, TypeError, ValueError)) as caught:
        call()
    return caught.type, caught.value.args[0].split(": ", 1)[1]


@pytest.mark.parametrize("fault", FAULTS)
def test_prepare_refuses_what_loss_refuses(fault):
    change, node, message = FAULTS[fault]
    net = small_net()
    net.loss(X)
    change(net)
    refused = refusal(lambda: prepare(net))
    assert refused == refusal(lambda: net.loss(X, np.array([0, 1])))
    assert refused == refusal(lambda: net.loss(X))
    assert re.match(rf"node {node} \(\w+\): (\w+: )?{message}", refused[1])


REFUSED_OPTIONS = {
    "an unknown key of a convolution": ("conv", {"strides": 1}, "'conv'", "unknown key 'strides'"),
    "groups": ("conv", {"groups": [1]}, "'conv'", r"groups must be an integer, got \(1,\)"),
    "an unknown algorithm": ("conv", {"algorithm": "fast"}, "'conv'", "algorithm must be one of"),
    "an unfit algorithm": (
        "up",
        {"algorithm": "depthwise-rows"},
        "'up'",
        "algorithm 'depthwise-rows' does not fit",
    ),
    "no algorithm": ("conv", {"algorithm": None}, "'conv'", "algorithm must be a string, got None"),
    "a window": ("pool", {"pool_height": [2]}, "'pool'", r"pool_height must be an integer, got \(2,\)"),
    "an unknown key of dropout": ("drop", {"rate": 1}, "'drop'", "unknown key 'rate'"),
    "eps of a group norm": ("groups", {"eps": -1}, "'groups'", "eps must be finite and at least 0"),
}


@pytest.mark.parametrize("fault", REFUSED_OPTIONS)
def test_a_network_is_not_built_of_options_that_its_layers_refuse(fault):
    output, options, node, message = REFUSED_OPTIONS[fault]
    with pytest.raises((KeyError, TypeError, ValueError)) as caught:
        small_net(output, **options)
    assert re.match(rf"GraphNet: node {node} \(\w+\): (\w+: )?{message}", caught.value.args[0])


TAKEN = {
    "as they are": lambda net: None,
    "lists": lambda net: net.params.update({name: a.tolist() for name, a in net.params.items()}),
    "another byte order": lambda net: net.params.update({k: a.astype(">f8") for k, a in net.params.items()}),
    "halves": parameter("W1", lambda a: a.astype(np.float16)),
    "no bias": parameter("b1", lambda a: None),
    "no bias of the last layer": parameter("b4", lambda a: None),
    "a mode that the next call replaces": norm(mode="whatever"),
    "no eps": lambda net: net.bn_params[0].pop("eps", None),
    "no statistics": norm(running_mean=None, running_var=None),
    "statistics that are lists": norm(running_mean=[0, 1, 2, 3], running_var=[1, 2, 3, 4]),
    "a variance below 0": norm(running_var=np.array([-2.0, 1, 1, 1])),
}


@pytest.mark.parametrize("case", TAKEN)
def test_prepare_takes_what_loss_takes(case):
    net = small_net()
    TAKEN[case](net)
    with np.errstate(invalid="ignore"):
        predictor = prepare(net)
        np.testing.assert_allclose(predictor(X), net.loss(X), 1e-11, 1e-11)


@pytest.mark.parametrize("kind", ["complex128", "<U5", object])
def test_a_network_is_not_built_of_what_is_no_number(kind):
    graph = Graph([Node("affine", ("input",), "scores", ("W", "b"))], output="scores")
    params = {"W": np.ones((3, 2)).astype(kind), "b": np.zeros(2)}
    with pytest.raises(TypeError, match=r"GraphNet: node 'scores' \(affine\): params\['W'\] must be numbers"):
        GraphNet(graph, params, 3)


def test_an_unknown_algorithm_of_prepare():
    with pytest.raises(ValueError, match=r"prepare: algorithm must be one of 'auto', .* got 'fast'"):
        prepare(small_net(), algorithm="fast")


@pytest.mark.parametrize(
    ("layer", "shape", "advice"),
    [
        ("conv1d", (2, 9), "net(X) gives its scores, and conv on images (C, 1, L) can be prepared"),
        ("conv3d", (2, 4, 5, 6), "net(X) gives its scores"),
    ],
)
def test_a_layer_without_a_place_says_what_to_do(layer, shape, advice):
    graph = Graph()
    getattr(graph, layer)("W1")
    net = GraphNet(graph, {"W1": np.ones((4, 2, *(3,) * (len(shape) - 1)))}, shape)
    with pytest.raises(
        ValueError, match=re.escape(f"has no place in a prepared network yet; {advice}") + "$"
    ):
        prepare(net)
    assert len(net(np.ones((1, *shape)))) == 1


def test_a_sequence_can_be_prepared_as_an_image_of_one_row():
    """As the message says: the same filters give the same scores."""
    rng = np.random.default_rng(0)
    w, x = rng.standard_normal((4, 2, 3)), rng.standard_normal((3, 2, 9))
    sequence, image = Graph(), Graph()
    sequence.conv1d("W1", pad=1), image.conv("W1", pad=(0, 1))
    want = GraphNet(sequence, {"W1": w}, (2, 9), dtype=np.float64)(x)
    net = prepare(GraphNet(image, {"W1": w[:, :, None]}, (2, 1, 9), dtype=np.float64))
    np.testing.assert_allclose(net(x[:, :, None])[:, :, 0], want, rtol=1e-12)
