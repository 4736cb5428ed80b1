"""A model and an update rule of the user's own in the Solver, which a callback ends early."""

from typing import Any

import numpy as np
from cnnlib import softmax_loss
from cnnlib.data import load_digits
from cnnlib.solver import Solver
from numpy.typing import ArrayLike, NDArray


class Linear:
    def __init__(self, D: int, classes: int) -> None:
        self.params = {"W": np.zeros((D, classes))}

    def loss(
        self, X: NDArray[Any], y: NDArray[Any] | None = None
    ) -> NDArray[Any] | tuple[float, dict[str, NDArray[Any]]]:
        rows = X.reshape(len(X), -1)
        scores = rows @ self.params["W"]
        if y is None:
            return scores
        loss, dscores = softmax_loss(scores, y)
        return loss, {"W": rows.T @ dscores}


def halving(w: NDArray[Any], dw: ArrayLike, config: dict[str, Any]) -> tuple[NDArray[Any], dict[str, Any]]:
    config["learning_rate"] /= 2
    return w - config["learning_rate"] * np.asarray(dw), config


def enough(solver: Solver) -> bool:
    return solver.val_acc_history[-1] > 0.5


solver = Solver(
    Linear(64, 10),
    load_digits(),
    update_rule=halving,
    optim_config={"learning_rate": 1.0},
    on_epoch=enough,
    verbose=False,
)
solver.train()
print(solver.epoch, solver.best_val_acc)
