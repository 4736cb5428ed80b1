"""A key of schedule.

mypy: Argument "schedule" to "Solver"
"""

from cnnlib.data import load_digits
from cnnlib.models import FullyConnectedNet
from cnnlib.solver import Solver

model = FullyConnectedNet([20], 64)
Solver(
    model,
    load_digits(),
    schedule={"name": "cosine", "warm_up": 2},
)
