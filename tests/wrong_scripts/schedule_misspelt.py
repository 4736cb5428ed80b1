"""A key of schedule.

mypy: Argument "schedule" to "Solver"
"""

from cnnlib.data import load_digits
from cnnlib.models import TwoLayerNet
from cnnlib.solver import Solver

model = TwoLayerNet(64, 20, 10)
Solver(
    model,
    load_digits(),
    schedule={"name": "cosine", "warm_up": 2},
)
