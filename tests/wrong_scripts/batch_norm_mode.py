"""Modes are train and test.

mypy: TypedDict item "mode" has type "Literal['train', 'test']"
"""

import cnnlib
import numpy as np

x, one = np.zeros((4, 3)), np.ones(3)
cnnlib.batchnorm_forward(x, one, one, {"mode": "training"})
