"""Training: minibatch gradient descent with accuracy checks, checkpoints and exact resumption."""

from cnnlib.solver.run_file import load_weights
from cnnlib.solver.solver import Solver

__all__ = ["Solver", "load_weights"]
