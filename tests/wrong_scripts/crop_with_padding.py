"""A key of augment.

mypy: Argument "augment" to "Solver"
"""

from cnnlib.data import load_digits
from cnnlib.models import TwoLayerNet
from cnnlib.solver import Solver

model = TwoLayerNet(64, 20, 10)
Solver(
    model,
    load_digits(),
    augment={"name": "crop", "padding": 4},
)
