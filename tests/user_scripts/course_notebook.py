"""What a course notebook imports and calls."""

from typing import Any, assert_type

import numpy as np
from cnnlib.course import TwoLayerNet, batchnorm_backward_alt, eval_numerical_gradient_blobs, visualize_grid
from cnnlib.course.keep_ratio import FullyConnectedNet, dropout_forward
from cnnlib.course.optim import adam
from cnnlib.layers import affine_relu_forward, batchnorm_forward
from cnnlib.plots import image_grid
from numpy.typing import NDArray


class Blob:
    def __init__(self, vals: NDArray[np.float64]) -> None:
        self.vals, self.diffs = vals, np.ones_like(vals)


def double(x: Blob, out: Blob) -> None:
    out.vals = 2 * x.vals


x = np.random.randn(6, 4)
out, cache = batchnorm_forward(x, np.ones(4), np.zeros(4), {"mode": "train"})
dx, dgamma, dbeta = batchnorm_backward_alt(np.ones_like(out), cache)
assert_type(dx, NDArray[np.floating[Any]])
kept, _ = dropout_forward(x, {"mode": "train", "p": 0.5})
hidden, _ = affine_relu_forward(x, np.ones((4, 3)), None)
net = FullyConnectedNet([5], 4, 3, dropout_keep_ratio=0.5, normalization="batchnorm")
assert_type(net.loss(x), NDArray[np.floating[Any]])
print(TwoLayerNet(4, 5, 3), net, kept.shape, hidden.shape)

next_w, config = adam(x, x, {"learning_rate": 1e-2, "m": np.zeros_like(x)})
assert_type(next_w, NDArray[np.floating[Any]])
print(config["v"].shape)

(gradient,) = eval_numerical_gradient_blobs(double, (Blob(x),), Blob(np.zeros_like(x)))
assert_type(gradient, NDArray[np.float64])
assert_type(visualize_grid(np.random.rand(5, 7, 7, 3)), NDArray[np.float64])
assert_type(image_grid(np.random.rand(5, 7, 7, 3)), NDArray[np.float64])
