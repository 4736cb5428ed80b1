"""Training: minibatch gradient descent with accuracy checks, checkpoints and exact resumption."""

from cnnlib.solver.checkpoints import load_weights
from cnnlib.solver.solver import Solver

__all__ = ["Solver", "load_weights"]
