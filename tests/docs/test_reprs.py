"""What an interpreter shows of a model and of a Solver."""

import numpy as np
import pytest
from cnnlib.course import TwoLayerNet
from cnnlib.models import ConvNet, FullyConnectedNet, ThreeLayerConvNet
from training import digits_like, quiet_solver


@pytest.mark.parametrize(
    ("model", "text"),
    [
        (
            FullyConnectedNet([5, 4], (1, 6, 6), 3, dropout=0.25, use_batchnorm=True, reg=0.1),
            "FullyConnectedNet(36 -> 5 -> 4 -> 3, batchnorm, dropout 0.25, reg 0.1, float32, 242 parameters)",
        ),
        (FullyConnectedNet([], 6, 3), "FullyConnectedNet(6 -> 3, float32, 21 parameters)"),
        (TwoLayerNet(6, 5, 3), "TwoLayerNet(6 -> 5 -> 3, float64, 53 parameters)"),
        (
            ThreeLayerConvNet((3, 6, 4), 2, 5, 7, 3, use_batchnorm=True, dtype=np.float64),
            "ThreeLayerConvNet(3x6x4, 2 filters 5x5, 7 hidden -> 3, batchnorm, float64, 285 parameters)",
        ),
        (
            ConvNet("three-layer", (1, 8, 8), 10, reg=0.5),
            "ConvNet('three-layer', 1x8x8 -> 10, 3 layers with weights, reg 0.5, float32, 53,910 parameters)",
        ),
        (ConvNet(["relu"], (6,), 3), "ConvNet(6 -> 3, 1 layer with weights, float32, 21 parameters)"),
    ],
    ids=lambda value: value.split("(")[0] if isinstance(value, str) else "",
)
def test_models_say_what_they_are(model, text):
    assert repr(model) == text


def test_a_solver_says_how_far_it_has_come():
    model = FullyConnectedNet([5], (1, 6, 6), 4)
    solver = quiet_solver(model, digits_like(), update_rule="adam")
    before = f"Solver({model!r}, update_rule='adam', batch_size=16, 60 training samples, epoch 0 of 2)"
    assert repr(solver) == before
    solver.train()
    after = before.replace("epoch 0 of 2", f"epoch 2 of 2, best_val_accuracy={solver.best_val_acc:.4g}")
    assert repr(solver) == after


def test_a_rule_of_the_users_own_is_named_too():
    def halving(w, dw, config):
        return w / 2, config

    solver = quiet_solver(FullyConnectedNet([5], (1, 6, 6), 4), digits_like(), update_rule=halving)
    assert "update_rule='halving'" in repr(solver)
