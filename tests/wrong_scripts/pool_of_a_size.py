"""The window has two sides.

mypy: Missing keys ("pool_width", "pool_height") for TypedDict "MaxPoolParam"
"""

import cnnlib
import numpy as np

x = np.zeros((2, 3, 8, 8))
cnnlib.max_pool_forward(x, {"size": 2})
