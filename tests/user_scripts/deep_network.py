"""A deep network from a list, its summary, and the plan of a convolution."""

from typing import Any, assert_type

import cnnlib
import numpy as np
from cnnlib.models import NAMED_SPECS, ConvNet
from numpy.typing import NDArray

block: list[Any] = [{"conv": 8}, "batchnorm", "relu", {"conv": 8}, "batchnorm"]
net = ConvNet([{"residual": block}, "relu", "global_avg_pool"], (1, 8, 8), 10, seed=0)
scores = net.loss(np.zeros((2, 1, 8, 8)))
assert_type(scores, NDArray[np.floating[Any]])
loss, grads = net.loss(np.zeros((2, 1, 8, 8)), np.array([0, 1]))
assert_type(loss, float)
assert_type(grads, dict[str, NDArray[np.floating[Any]]])
assert_type(net.summary(), str)
assert_type(net.num_params, int)

plan = cnnlib.explain((8, 64, 56, 56), (64, 64, 3, 3), {"pad": 1})
assert_type(plan.forward.method, str)
print(net, sorted(NAMED_SPECS), plan.forward.method)
