"""A key of a rule of cnnlib.optim.

mypy: expected "OptimConfig | None"
"""

import numpy as np
from cnnlib import optim

optim.adam(np.ones(3), np.ones(3), {"beta_1": 0.9})
