"""Only the max pool has dilation.

mypy: Extra key "dilation" for TypedDict "AvgPoolParam"
"""

import cnnlib
import numpy as np

x = np.zeros((2, 3, 8, 8))
cnnlib.avg_pool_forward(
    x,
    {
        "pool_height": 2,
        "pool_width": 2,
        "dilation": 2,
    },
)
