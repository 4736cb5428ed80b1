"""A key of optim_config.

mypy: expected "OptimConfig | None"
"""

from cnnlib.data import load_digits
from cnnlib.models import FullyConnectedNet
from cnnlib.solver import Solver

model = FullyConnectedNet([20], 64)
Solver(
    model,
    load_digits(),
    optim_config={"lr": 0.1},
)
