"""A graph by keyword, and what every network can be told."""

import os
import tempfile
from typing import Any, assert_type

import cnnlib
import numpy as np
from cnnlib.models import ConvNet, Graph, GraphNet
from numpy.typing import NDArray

graph = Graph()
start = graph.conv("W1", pad=1)
assert_type(start, str)
graph.relu()
graph.add(graph.output, start)
graph.max_pool(size=2)
graph.global_avg_pool()
graph.affine("W2", "b2", name="scores")
rng = np.random.default_rng(0)
params = {"W1": rng.standard_normal((4, 3, 3, 3)), "W2": rng.standard_normal((4, 5)), "b2": np.zeros(5)}
net = GraphNet(graph, params, (3, 8, 8))
X, y = rng.standard_normal((6, 3, 8, 8)), rng.integers(0, 5, 6)

loss, grads = net.loss(X, y)
assert_type(loss, float)
assert net(X).shape == net.predict_proba(X).shape == (6, 5)
assert (net.predict(X) == net(X).argmax(axis=1)).all()
predictor = cnnlib.prepare(net)
assert (predictor.predict(X) == net.predict(X)).all()

with tempfile.TemporaryDirectory() as folder:
    for name in ("net.npz", "net.safetensors", "net.cnnlib"):
        net.export(os.path.join(folder, name))
        print(cnnlib.load(os.path.join(folder, name)))
    net.save(os.path.join(folder, "net"), classes=["a", "b", "c", "d", "e"])
    loaded = cnnlib.load(os.path.join(folder, "net"))
    assert np.array_equal(loaded(X), net(X))
    deep = ConvNet("resnet8", (3, 32, 32), 10, seed=0)
    deep.save(os.path.join(folder, "deep"))

probabilities: NDArray[np.floating[Any]] = cnnlib.softmax(net(X), axis=1)
print(probabilities.sum(axis=1), loaded.classes)
