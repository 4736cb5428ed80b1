"""Numerical gradients of a layer, of a network and at a few places."""

from typing import assert_type

import numpy as np
from cnnlib import affine_backward, affine_forward
from cnnlib.gradient_check import (
    eval_numerical_gradient,
    eval_numerical_gradient_array,
    grad_check_sparse,
    rel_error,
)
from cnnlib.models import FullyConnectedNet
from numpy.typing import NDArray

rng = np.random.default_rng(0)
x, w, dout = rng.standard_normal((3, 4)), rng.standard_normal((4, 2)), rng.standard_normal((3, 2))
_, cache = affine_forward(x, w, None)
dx, _, _ = affine_backward(dout, cache)
numerical = eval_numerical_gradient_array(lambda x: affine_forward(x, w, None)[0], x, dout)
assert_type(numerical, NDArray[np.float64])
assert_type(rel_error(dx, numerical), float)

model = FullyConnectedNet([5], 4, 3, weight_scale=0.1, dtype=np.float64, seed=0)
y = np.array([0, 1, 2])
loss, grads = model.loss(x, y)
whole = eval_numerical_gradient(lambda _: model.loss(x, y)[0], w)
print(loss, whole.shape)
weights = model.params["W1"].astype(np.float64)
model.params["W1"] = weights
errors = grad_check_sparse(lambda _: model.loss(x, y)[0], weights, grads["W1"], num_checks=3)
assert errors.max() < 1e-5
