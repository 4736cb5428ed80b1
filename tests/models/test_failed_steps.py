"""A `loss` call that fails leaves the running statistics of the batch norms as they were."""

import cnnlib.layers
import numpy as np
import pytest
from cnnlib.course import keep_ratio
from cnnlib.models import ConvNet, FullyConnectedNet, Graph, GraphNet, ThreeLayerConvNet
from training import assert_same_bits, interpreted, running_statistics

X = np.random.RandomState(0).randn(4, 1, 6, 6).astype(np.float32)
Y = np.array([0, 1, 2, 0])


def graph_net():
    graph = Graph()
    graph.spatial_batchnorm("gamma", "beta")
    graph.affine("V", "b")
    params = {"gamma": np.ones(1), "beta": np.zeros(1), "V": np.ones((36, 3)), "b": np.zeros(3)}
    return GraphNet(graph, params, (1, 6, 6))


NETWORKS = {
    "ConvNet": lambda: ConvNet(
        [{"conv": 2}, "batchnorm", "relu", {"conv": 3}, "batchnorm"], (1, 6, 6), 3, seed=0
    ),
    "FullyConnectedNet": lambda: FullyConnectedNet([5, 4], (1, 6, 6), 3, use_batchnorm=True, seed=0),
    "ThreeLayerConvNet": lambda: ThreeLayerConvNet(
        (1, 6, 6), 2, 3, hidden_dim=5, num_classes=3, use_batchnorm=True, seed=0
    ),
    "keep_ratio": lambda: keep_ratio.FullyConnectedNet([5], (1, 6, 6), 3, normalization="batchnorm", seed=0),
    "GraphNet": graph_net,
}


def raising(error):
    def function(*args, **kwargs):
        raise error

    return function


FAULTS = {
    "a label of no class": (Y + 1, None, ValueError),
    "a negative label": (Y - 1, None, ValueError),
    "too few labels": (Y[:3], None, ValueError),
    "real labels": (Y + 0.5, None, TypeError),
    "labels of text": (Y.astype(str), None, TypeError),
    "numbers of another shape": (np.ones((4, 2)), "mse", ValueError),
    "a criterion that raises": (Y, raising(ZeroDivisionError()), ZeroDivisionError),
    "an interrupt": (Y, raising(KeyboardInterrupt()), KeyboardInterrupt),
    "a gradient of another shape": (Y, lambda scores, y: (0.0, scores[:1]), ValueError),
    "a complex gradient": (Y, lambda scores, y: (0.0, scores + 0j), TypeError),
    "no pair": (Y, lambda scores, y: 0.0, TypeError),
    "an unknown loss": (Y, "softmix", ValueError),
}


@pytest.mark.parametrize("path", [lambda net: net, interpreted], ids=["compiled", "interpreted"])
@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_loss_that_is_refused_moves_no_statistics(fault, name, path):
    y, criterion, error = FAULTS[fault]
    net = path(NETWORKS[name]())
    net.loss(X, Y)
    before = [dict(bn_param) for bn_param in net.bn_params]
    with pytest.raises(error):
        net.loss(2 * X, y, loss=criterion)
    assert_same_bits(net.bn_params, before)
    other = path(NETWORKS[name]())
    for model in (net, other):
        model.loss(X, Y)
    other.loss(X, Y)
    assert_same_bits(running_statistics(net), running_statistics(other))


@pytest.mark.parametrize("path", [lambda net: net, interpreted], ids=["compiled", "interpreted"])
def test_statistics_that_are_not_there_yet(path):
    net = path(graph_net())
    del net.bn_params[0]["running_mean"]
    net.bn_params[0]["running_var"] = None
    with pytest.raises(ValueError, match="y must lie in"):
        net.loss(X, Y + 1)
    assert "running_mean" not in net.bn_params[0]
    assert net.bn_params[0]["running_var"] is None


@pytest.mark.parametrize("path", [lambda net: net, interpreted], ids=["compiled", "interpreted"])
def test_regularization_that_finds_no_weights(path):
    net = path(graph_net())
    net.reg = 0.1
    before = running_statistics(net)
    with pytest.raises(ValueError, match="no parameter's name begins with W"):
        net.loss(X, Y)
    assert_same_bits(running_statistics(net), before)


def test_a_layer_that_fails_behind_a_norm(monkeypatch):
    net = interpreted(graph_net())
    before = running_statistics(net)
    net.params["V"] = np.ones((35, 3), np.float32)
    with pytest.raises(ValueError, match=r"node 'affine2' \(affine\)"):
        net.loss(X, Y)
    assert_same_bits(running_statistics(net), before)
    net = interpreted(graph_net())
    monkeypatch.setattr(cnnlib.layers, "affine_backward", raising(MemoryError()))
    with pytest.raises(MemoryError):
        net.loss(X, Y)
    assert_same_bits(running_statistics(net), before)
