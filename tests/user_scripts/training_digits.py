"""Ten lines that train a network, and what the Solver remembers."""

from typing import Any, assert_type

import numpy as np
from cnnlib.data import load_digits
from cnnlib.models import ThreeLayerConvNet
from cnnlib.solver import Solver
from numpy.typing import NDArray

data = load_digits()
model = ThreeLayerConvNet(input_dim=(1, 8, 8), num_filters=8, filter_size=3, hidden_dim=20, seed=0)
solver = Solver(
    model,
    data,
    update_rule="adam",
    optim_config={"learning_rate": 1e-2},
    num_epochs=2,
    verbose=False,
    seed=0,
)
solver.train()
assert_type(solver.check_accuracy(data["X_test"], data["y_test"]), float)
assert_type(solver.loss_history, list[float])
assert_type(solver.best_params, dict[str, NDArray[np.floating[Any]]])
assert_type(solver.num_epochs, int)
assert_type(model.loss(data["X_test"]), NDArray[np.floating[Any]])
print(solver, solver.best_params["W1"].shape)
