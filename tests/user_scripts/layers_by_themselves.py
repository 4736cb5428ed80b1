"""Layers on arrays, from `cnnlib` and from `cnnlib.layers`."""

from typing import Any, assert_type

import cnnlib
import numpy as np
from cnnlib.layers import batchnorm_forward, max_pool_backward, max_pool_forward
from numpy.typing import NDArray

rng = np.random.default_rng(0)
x = rng.standard_normal((2, 3, 8, 8)).astype(np.float32)
w = rng.standard_normal((4, 3, 3, 3)).astype(np.float32)

out, cache = cnnlib.conv_forward(x, w, None, {"stride": 1, "pad": "same"})
assert_type(out, NDArray[np.floating[Any]])
assert_type(cache, tuple[Any, ...])
pooled, pool_cache = max_pool_forward(out, {"size": 2})
assert np.array_equal(pooled, max_pool_forward(out, {"pool_height": 2, "pool_width": 2})[0])
assert_type(cnnlib.conv_forward(x, w)[0], NDArray[np.floating[Any]])
assert_type(cnnlib.softmax(x, axis=-1), NDArray[np.floating[Any]])
dout = max_pool_backward(np.ones_like(pooled), pool_cache)
assert_type(dout, NDArray[np.floating[Any]])
dx, dw, db = cnnlib.conv_backward(dout, cache, needs=("dw",))
print(pooled.shape, dw.shape, dx is None, db is None)

normed, _ = batchnorm_forward(pooled.reshape(2, -1), np.ones(64), np.zeros(64), {"mode": "train"})
loss, dscores = cnnlib.softmax_loss(normed, np.array([0, 1]))
assert_type(loss, float)
assert_type(dscores, NDArray[np.floating[Any]])
