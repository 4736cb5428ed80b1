"""Networks that hold to the size of images that they were made for say so when others come."""

import pickle

import cnnlib
import numpy as np
import pytest
from cnnlib import onnx
from cnnlib.inference import load
from cnnlib.models import Graph, GraphNet, Node

REASON = "node 'up' (Resize): sizes (8, 8)"


def _net(fixed_by):
    nodes = [Node("upsample", ("input",), "up", (), (2,)), Node("global_avg_pool", ("up",), "scores")]
    return GraphNet(Graph(nodes, output="scores", fixed_by=fixed_by), {}, (3, 4, 4))


def _saved_model(net, path):
    net.save(path)
    return cnnlib.load(path)


def _saved_predictor(net, path):
    cnnlib.prepare(net).save(path)
    return load(path)


def _exported(net, path):
    onnx.save(net, path)
    return onnx.load(path)


def _exported_predictor(net, path):
    onnx.save(cnnlib.prepare(net), path)
    return onnx.load(path)


KEPT_BY = {
    "model": lambda net, path: net,
    "prepared": lambda net, path: cnnlib.prepare(net),
    "pickled": lambda net, path: pickle.loads(pickle.dumps(cnnlib.prepare(net))),
    "saved model": _saved_model,
    "saved predictor": _saved_predictor,
    "ONNX": _exported,
    "ONNX of a predictor": _exported_predictor,
    "prepared ONNX": lambda net, path: cnnlib.prepare(_exported(net, path)),
}


@pytest.mark.parametrize("way", KEPT_BY)
def test_another_size_is_refused_with_the_reason(way, tmp_path):
    made = KEPT_BY[way](_net(REASON), tmp_path / "net")
    scores = getattr(made, "loss", made)
    assert scores(np.ones((2, 3, 4, 4), np.float32)).shape == (2, 3)
    with pytest.raises(ValueError, match=r"\(N, 3, 4, 4\), got \(2, 3, 4, 5\)") as refused:
        scores(np.ones((2, 3, 4, 5), np.float32))
    assert REASON in str(refused.value)


@pytest.mark.parametrize("way", KEPT_BY)
def test_without_a_reason_any_size_goes(way, tmp_path):
    made = KEPT_BY[way](_net(""), tmp_path / "net")
    assert getattr(made, "loss", made)(np.ones((2, 3, 5, 7), np.float32)).shape == (2, 3)


def test_rows_of_whole_images_fix_the_size_of_a_predictor_too():
    """Images of (8, 4) have as many numbers as those of (4, 8), in another order."""
    nodes = [Node("relu", ("input",), "r"), Node("affine", ("r",), "scores", ("W1", None))]
    net = GraphNet(Graph(nodes, output="scores"), {"W1": np.ones((32, 2))}, (1, 4, 8))
    for scores in (net.loss, cnnlib.prepare(net)):
        with pytest.raises(ValueError, match=r"node 'scores' \(affine\) makes rows of numbers"):
            scores(np.ones((2, 1, 8, 4)))
