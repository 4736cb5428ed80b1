"""PyTorch says padding.

mypy: Extra key "padding" for TypedDict "ConvParam"
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
