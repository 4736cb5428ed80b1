"""A key of augment.

mypy: Argument "augment" to "Solver"
"""

from cnnlib.data import load_digits
from cnnlib.models import FullyConnectedNet
from cnnlib.solver import Solver

model = FullyConnectedNet([20], 64)
Solver(
    model,
    load_digits(),
    augment={"name": "crop", "padding": 4},
)
