"""A key of optim_config.

mypy: expected "OptimConfig | None"
"""

from cnnlib.data import load_digits
from cnnlib.models import TwoLayerNet
from cnnlib.solver import Solver

model = TwoLayerNet(64, 20, 10)
Solver(
    model,
    load_digits(),
    optim_config={"lr": 0.1},
)
