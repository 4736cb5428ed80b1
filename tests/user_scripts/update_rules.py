"""The update rules by hand, with their own and with the course's names of the state."""

from typing import Any, assert_type

import numpy as np
from cnnlib import course, optim
from cnnlib.typing import OptimConfig
from numpy.typing import NDArray

w, dw = np.linspace(-1, 1, 6), np.ones(6)
next_w, config = optim.sgd_momentum(w.copy(), dw, {"learning_rate": 0.1})
assert_type(next_w, NDArray[np.floating[Any]])
assert_type(config, OptimConfig)
for rule in (optim.sgd, optim.sgd_nesterov_momentum, optim.rmsprop, optim.adam, optim.adamw):
    next_w, config = rule(w.copy(), dw)
    print(rule.__name__, sorted(config), next_w[0])
next_w, state = course.optim.adam(w.copy(), dw, {"m": np.zeros(6), "v": np.zeros(6), "t": 0})
assert sorted(state)[-2:] == ["t", "v"]
