"""What other engines are given computes what cnnlib computes: PyTorch's twin of a graph, ncnn's files."""

import numpy as np
import pytest
from cnnlib.benchmarking import engines
from cnnlib.benchmarking.timing import difference
from cnnlib.models import ConvNet, Graph, GraphNet, Node
from small_graphs import GRAPH_NAMES, net_of, small_graphs

SPECS = {
    "uneven padding": [{"conv": 4, "stride": 2}, "batchnorm", "relu", {"conv": 6, "size": 4}],
    "dilation and groups": [{"conv": 4}, "relu", {"conv": 8, "dilation": 2, "groups": 2}, "sigmoid"],
    "a pool with uneven padding": [{"conv": 4}, {"max_pool": 2, "stride": 1, "pad": "same"}],
    "a mean with padding": [{"conv": 4}, {"avg_pool": 3, "stride": 2, "pad": 1}],
    "branches": [{"conv": 4}, {"residual": [{"conv": 4}, "batchnorm", "relu"]}, {"concat": [[], ["relu6"]]}],
    "a window of two sizes": [{"conv": 4, "size": [3, 5], "stride": [2, 1]}, "silu"],
}


def images(shape, dtype=np.float32):
    return np.random.default_rng(1).standard_normal((2, *shape)).astype(dtype)


@pytest.mark.parametrize("name", GRAPH_NAMES)
def test_pytorch_computes_each_graph(name):
    pytest.importorskip("torch", reason="torch is not installed")
    nodes, params = next(
        (nodes, params) for each, nodes, params in small_graphs(np.random.default_rng(0)) if each == name
    )
    net, x = net_of(nodes, params), images((4, 7, 7), np.float64)
    got = engines.torch_call(net, "", x, 1)()
    assert difference((got.reshape(net(x).shape),), (net(x),)) < 1e-12


@pytest.mark.parametrize("name", SPECS)
def test_pytorch_computes_each_spec(name):
    pytest.importorskip("torch", reason="torch is not installed")
    net, x = ConvNet(SPECS[name], (2, 9, 10), 5, seed=0, dtype=np.float64), images((2, 9, 10), np.float64)
    assert difference((engines.torch_call(net, "", x, 1)(),), (net(x),)) < 1e-12


@pytest.mark.parametrize("name", SPECS)
def test_ncnn_computes_each_spec(name, tmp_path):
    pytest.importorskip("ncnn", reason="ncnn is not installed")
    net, x = ConvNet(SPECS[name], (2, 9, 10), 5, seed=0), images((2, 9, 10))
    assert difference((engines.ncnn_call(net, str(tmp_path / "net.onnx"), x, 1)(),), (net(x),)) < 2e-4


def test_pytorch_has_the_running_statistics_and_epsilon():
    pytest.importorskip("torch", reason="torch is not installed")
    param = {"eps": 0.1, "running_mean": np.array([1.0, -2.0]), "running_var": np.array([0.1, 4.0])}
    node = Node("spatial_batchnorm", ("input",), "n", ("g", "h"), (param,))
    params = {"g": np.array([1.0, 3.0]), "h": np.array([0.5, 0.0])}
    net = GraphNet(Graph([node], output="n"), params, (2, 3, 3), dtype=np.float64)
    x = images((2, 3, 3), np.float64)
    assert difference((engines.torch_call(net, "", x, 1)(),), (net(x),)) < 1e-12


def test_what_pytorch_lacks_is_named():
    torch_module = pytest.importorskip("cnnlib.benchmarking.torch_module", reason="torch is not installed")
    node = Node("conv_transpose", ("input",), "c", ("w", None), ({"stride": 2, "pad": ((0, 1), (0, 0))},))
    net = GraphNet(Graph([node], output="c"), {"w": np.ones((2, 3, 3, 3))}, (2, 4, 4))
    with pytest.raises(ValueError, match="no PyTorch layer for conv_transpose with uneven padding"):
        torch_module.TorchNet(net)
