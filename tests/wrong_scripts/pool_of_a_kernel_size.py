"""The window is called size.

mypy: Extra key "kernel_size" for TypedDict "MaxPoolParam"
"""

import cnnlib
import numpy as np

x = np.zeros((2, 3, 8, 8))
cnnlib.max_pool_forward(x, {"kernel_size": 2})
