"""A fused sandwich against the same as loops, and the fast layers' other names."""

from typing import Any, assert_type

import cnnlib
import numpy as np
from cnnlib import naive
from cnnlib.fast_layers import conv_forward_fast
from cnnlib.gradient_check import rel_error
from cnnlib.typing import ConvParam, MaxPoolParam
from numpy.typing import NDArray

rng = np.random.default_rng(0)
x, w, b = rng.standard_normal((2, 3, 6, 6)), rng.standard_normal((4, 3, 3, 3)), np.zeros(4)
conv_param: ConvParam = {"stride": 1, "pad": 1}
pool_param: MaxPoolParam = {"pool_height": 2, "pool_width": 2, "stride": 2}

out, cache = cnnlib.conv_relu_pool_forward(x, w, b, conv_param, pool_param)
want, _ = naive.conv_relu_pool_forward_naive(x, w, b, conv_param, pool_param)
assert_type(want, NDArray[np.floating[Any]])
assert rel_error(out, want) < 1e-10
dx, dw, db = cnnlib.conv_relu_pool_backward(np.ones_like(out), cache)
fast, _ = conv_forward_fast(x, w, b, conv_param)
assert_type(fast, NDArray[np.floating[Any]])
print(dx.shape, dw.shape, db.shape, fast.shape)
