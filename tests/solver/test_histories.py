"""The names of what is measured: one in histories, options, messages and checkpoints."""

import numpy as np
import pytest
from cnnlib.solver import Solver
from test_targets import net, numbers
from training import digits_like, quiet_solver


def mine(scores, y):
    return float(np.mean(scores))


@pytest.mark.parametrize("monitor", ["accuracy", "val_accuracy"])
def test_a_metric_is_monitored_on_validation_samples(monitor, tmp_path):
    settings = {"num_epochs": 2, "seed": 0, "metrics": ["iou", "accuracy"]}
    rule = {"patience": 9, "monitor": "val_accuracy"}
    solver = quiet_solver(
        net(4),
        digits_like(),
        monitor=monitor,
        early_stopping=rule,
        checkpoint_name=tmp_path / "a",
        **settings,
    )
    solver.train()
    assert solver.monitored == "val_accuracy"
    again = Solver.resume(tmp_path / "a_epoch_1.npz", net(4), digits_like(), verbose=False)
    assert again.monitored == "val_accuracy"
    again.train()
    assert again.best_epoch == solver.best_epoch


def test_a_metrics_own_name_is_its_history_on_validation_samples():
    histories = quiet_solver(net(4), digits_like(), num_epochs=1).train()
    assert histories["accuracy"] is histories["val_accuracy"]
    assert "accuracy" not in histories
    assert list(histories)[1:3] == ["train_accuracy", "val_accuracy"]
    with pytest.raises(KeyError, match="there is no 'val_acuracy'; did you mean 'val_accuracy'"):
        histories["val_acuracy"]
    with pytest.raises(KeyError, match="there is no 'rmse'"):
        histories["rmse"]


def test_without_the_accuracy_there_is_no_best_one():
    solver = quiet_solver(net(), numbers(), loss="mse", metrics="rmse", num_epochs=1)
    solver.train()
    assert solver.best_val_acc is None
    solver = quiet_solver(net(4), digits_like(), num_epochs=1)
    assert solver.best_val_acc is None
    solver.train()
    assert solver.best_val_acc == max(solver.val_acc_history)


@pytest.mark.parametrize("name", ["train_loss", "val_loss", "val_rmse", "loss", "learning_rate"])
def test_no_function_takes_a_name_that_a_history_has(name):
    def metric(scores, y):
        return 0.0

    metric.__name__ = name
    with pytest.raises(ValueError, match=f"metrics: '{name}' is taken"):
        quiet_solver(net(4), digits_like(), metrics=["accuracy", metric])


def test_a_function_without_a_direction_is_asked_for_one_in_the_users_words():
    wanted = "say monitor={'name': 'val_mine', 'direction': 'max'}"
    with pytest.raises(ValueError, match=wanted):
        quiet_solver(net(4), digits_like(), metrics=mine, monitor="val_mine")
