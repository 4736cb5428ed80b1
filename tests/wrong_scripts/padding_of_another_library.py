"""PyTorch says padding.

mypy: Argument 4 to "conv_relu_pool_forward" has incompatible type "dict[str, int]"
"""

import cnnlib
import numpy as np

x = np.zeros((2, 3, 8, 8))
cnnlib.conv_relu_pool_forward(
    x,
    x,
    None,
    {"padding": 1},
    {"pool_height": 2, "pool_width": 2},
)
