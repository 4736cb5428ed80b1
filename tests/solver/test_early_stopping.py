"""Validation loss and early stopping."""

import re

import numpy as np
import pytest
from cnnlib.models import FullyConnectedNet
from cnnlib.solver import Solver
from cnnlib.solver.monitor import build_early_stopping
from training import LinearModel, assert_same_bits, assert_same_run, digits_like, quiet_solver, trained

pytestmark = pytest.mark.windows


def model():
    return FullyConnectedNet((6,), input_dim=36, num_classes=4, use_batchnorm=True, reg=0.1, seed=0)


def solver_with(accuracies, losses, early_stopping, **settings):
    """A Solver whose validation goes as it is told, epoch by epoch (the first entry is from before)."""
    solver = quiet_solver(
        LinearModel(36, 4),
        digits_like(),
        num_epochs=len(losses) - 1,
        early_stopping=early_stopping,
        **settings,
    )
    told = iter(list(zip(accuracies, losses, strict=True)))
    measure = solver._worker.measure

    def measured(metrics, *rest):
        if "loss" not in [metric.name for metric in metrics]:  # of the training samples
            return measure(metrics, *rest)
        return dict(zip(("accuracy", "loss"), next(told), strict=True))

    solver._worker.measure = measured
    return solver


def unimproved(metrics, *rest):
    """What a worker measures of a model that does not learn."""
    return {metric.name: float(metric.name == "loss") for metric in metrics}


class TestValidationLoss:
    def test_is_the_cross_entropy_of_the_scores_alone(self):
        data = digits_like()
        net = model()
        solver = trained(net, data, num_epochs=3, label_smoothing=0.2, keep="last")
        scores = net.loss(data["X_val"]).astype(np.float64)
        p = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
        want = -np.log(p[np.arange(20), data["y_val"]]).mean()
        assert solver.val_loss_history[-1] == pytest.approx(want, rel=1e-5)
        assert len(solver.val_loss_history) == 4

    def test_does_not_depend_on_the_size_of_its_batches(self):
        data = digits_like(num_val=230)  # three batches
        solver = trained(LinearModel(36, 4), data, num_epochs=1, keep="last")
        scores = data["X_val"].reshape(230, 36) @ solver.model.params["weights"]
        log_p = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
        want = -log_p[np.arange(230), data["y_val"]].mean()
        assert solver.val_loss_history[-1] == pytest.approx(want, rel=1e-6)

    def test_is_kept_in_checkpoints(self, tmp_path):
        data = digits_like()
        whole = trained(model(), data, num_epochs=3, seed=1, checkpoint_name=tmp_path / "run")
        resumed = Solver.resume(tmp_path / "run_epoch_1.npz", model(), data)
        assert_same_bits(resumed.val_loss_history, whole.val_loss_history[:2])
        resumed.train()
        assert_same_bits(resumed.val_loss_history, whole.val_loss_history)


class TestEarlyStopping:
    @pytest.mark.parametrize(
        ("rule", "epochs"),
        [
            (2, 5),  # 0.6 in epoch 3
            (3, 9),
            ({"patience": 2, "min_delta": 0.2}, 3),
            ({"patience": 2, "monitor": "val_loss"}, 4),
            ({"patience": 2, "monitor": "val_loss", "min_delta": 0.45}, 3),
            (None, 9),
            (False, 9),
        ],
        ids=str,
    )
    def test_ends_after_so_many_epochs_without_an_improvement(self, rule, epochs):
        # The untrained model's values, first, do not count.
        accuracies = [0.9, 0.5, 0.5, 0.6, 0.6, 0.6, 0.7, 0.7, 0.7, 0.71]
        losses = [0.1, 2.0, 1.6, 1.7, 1.65, 1.0, 0.9, 0.8, 0.7, 0.6]
        solver = solver_with(accuracies, losses, rule)
        solver.train()
        assert solver.epoch == epochs

    def test_not_a_number_is_no_improvement(self):
        nan = float("nan")
        solver = solver_with([0.0] * 5, [nan] * 5, {"patience": 3, "monitor": "val_loss"})
        solver.train()
        assert solver.epoch == 3

    def test_says_so(self, capsys):
        solver = solver_with([0.0, 0.5, 0.4, 0.4, 0.6], [1.0] * 5, 2)
        solver.verbose = True
        solver.train()
        assert capsys.readouterr().out.splitlines()[-1] == (
            "(Epoch 3) stopped early: val_accuracy has not improved since epoch 1"
        )

    def test_says_by_how_much(self, capsys):
        rule = {"patience": 2, "monitor": "val_loss", "min_delta": 0.5}
        solver = solver_with([0.0] * 4, [9.0, 1.0, 0.9, 0.8], rule)
        solver.verbose = True
        solver.train()
        assert capsys.readouterr().out.splitlines()[-1] == (
            "(Epoch 3) stopped early: val_loss has not improved by more than 0.5 since epoch 1"
        )
        assert solver.best_epoch == 3

    @pytest.mark.parametrize(
        ("losses", "best"),
        [
            ([3.0, 2.0, 1.0, 1.5, 1.2], 2),
            ([0.5, 2.0, 1.0, 1.5, 1.2], 0),  # the untrained one
            ([1.0, 1.0, 1.0, 1.0, 1.0], 1),  # of equals the first that is trained
            ([3.0, float("nan"), 2.0, float("nan"), 2.5], 2),
            ([float("nan")] * 5, 1),
            ([float("inf"), 2.0, float("inf"), 1.0, 3.0], 3),
        ],
        ids=str,
    )
    def test_what_it_monitors_decides_which_epoch_is_kept(self, losses, best):
        accuracies = [0.1, 0.9, 0.2, 0.3, 0.4]
        solver = solver_with(accuracies, losses, {"patience": 9, "monitor": "val_loss"})
        params = [solver.model.params["weights"].copy()]
        solver.on_epoch = lambda solver: params.append(solver.model.params["weights"].copy()) or False
        solver.train()
        assert (solver.best_epoch, solver.best_val_acc) == (best, accuracies[best])
        assert_same_bits(solver.model.params["weights"], params[best])
        assert_same_bits(solver.best_params["weights"], params[best])

    def test_the_newest_is_kept_where_that_is_asked_for(self):
        rule = {"patience": 9, "monitor": "val_loss"}
        solver = solver_with([0.5] * 4, [1.0, 0.1, 0.2, 0.3], rule, keep="last")
        solver.train()
        assert solver.best_epoch == 3

    @pytest.mark.parametrize(
        ("rule", "monitored"),
        [
            (False, "val_loss"),
            (9, "val_loss"),
            (None, "val_loss"),
            ({"patience": 9, "monitor": "accuracy"}, None),
        ],
    )
    def test_another_rule_leaves_what_epochs_are_compared_by(self, rule, monitored, tmp_path):
        """It was the accuracy from there on."""
        first = {"patience": 5, "monitor": "val_loss"}
        settings = {"early_stopping": first, "checkpoint_name": tmp_path / "run", "seed": 0}
        quiet_solver(model(), digits_like(), num_epochs=1, **settings).train()
        path = tmp_path / "run_epoch_1.npz"
        resumed = Solver.resume(path, model(), digits_like(), num_epochs=2, early_stopping=rule)
        assert resumed.monitored == (monitored or "val_accuracy")
        resumed.train()
        again = Solver.resume(tmp_path / "run_epoch_2.npz", model(), digits_like(), early_stopping=3)
        assert again.monitored == resumed.monitored

    def test_a_resumed_run_keeps_the_same_epoch(self, tmp_path):
        data = digits_like()
        settings = {"num_epochs": 6, "seed": 1, "early_stopping": {"patience": 9, "monitor": "val_loss"}}
        rates = {"optim_config": {"learning_rate": 2.0}}  # so that the loss goes up and down
        whole = trained(model(), data, checkpoint_name=tmp_path / "run", **settings, **rates)
        assert whole.best_epoch == np.argmin(whole.val_loss_history)
        for epoch in range(1, 6):
            resumed = Solver.resume(tmp_path / f"run_epoch_{epoch}.npz", model(), data)
            resumed.train()
            assert_same_run(resumed, whole)

    def test_a_raised_num_epochs_goes_on_behind_the_stop(self, tmp_path):
        def stopped():
            values = [0.9, 0.5, 0.4, 0.3, 0.2, 0.1, 0.0]
            solver = solver_with(values, [1.0] * 7, 2, seed=0, checkpoint_name=tmp_path / "run")
            solver.num_epochs = 5
            solver.train()
            assert solver.epoch == 3
            return solver

        solver = stopped()
        solver.train()
        assert solver.epoch == 3  # nothing was raised
        solver.num_epochs = 6
        solver.train()
        assert solver.epoch == 5  # two more without an improvement
        assert len(solver.loss_history) == 5 * solver.iterations_per_epoch
        # A resumed run does the same, from the stop and from an epoch behind it.
        resumed = Solver.resume(tmp_path / "run_epoch_3.npz", LinearModel(36, 4), digits_like(), num_epochs=6)
        resumed._worker.measure = unimproved
        resumed.train()
        assert resumed.epoch == 5
        resumed = Solver.resume(tmp_path / "run_epoch_4.npz", LinearModel(36, 4), digits_like())
        resumed._worker.measure = unimproved
        resumed.train()
        assert resumed.epoch == 5
        assert_same_bits(resumed.last_params, solver.last_params)

    def test_a_resumed_run_stops_in_the_same_place(self, tmp_path):
        data = digits_like()
        settings = {"num_epochs": 30, "seed": 1, "early_stopping": 2}
        whole = trained(model(), data, checkpoint_name=tmp_path / "run", **settings)
        assert 3 <= whole.epoch < 30
        resumed = Solver.resume(tmp_path / f"run_epoch_{whole.epoch - 1}.npz", model(), data)
        resumed.train()
        assert_same_run(resumed, whole)
        ended = Solver.resume(tmp_path / f"run_epoch_{whole.epoch}.npz", model(), data)
        ended.train()
        assert_same_run(ended, whole)
        further = Solver.resume(
            tmp_path / f"run_epoch_{whole.epoch}.npz",
            model(),
            data,
            early_stopping=False,
            num_epochs=whole.epoch + 2,
        )
        further.train()
        assert further.epoch == whole.epoch + 2

    @pytest.mark.parametrize(
        ("value", "message"),
        [
            (0, "early_stopping must be at least 1"),
            (2.5, "early_stopping must be an integer"),
            (True, "early_stopping must be an integer"),
            ({"patience": 0}, "early_stopping patience must be at least 1"),
            ({"monitor": "val_loss"}, "early_stopping lacks 'patience'"),
            ({"patience": 2, "monitr": "val_loss"}, "did you mean 'monitor'"),
            ({"patience": 2, "monitor": "loss"}, "monitor must be one of 'val_accuracy', 'val_loss'"),
            ({"patience": 2, "min_delta": -1}, "min_delta must be finite and at least 0"),
        ],
        ids=str,
    )
    def test_wrong_settings_are_refused_at_once(self, value, message):
        with pytest.raises((KeyError, TypeError, ValueError), match=re.escape(message)):
            quiet_solver(LinearModel(36, 4), digits_like(), early_stopping=value)

    def test_its_own_form_passes_through(self):
        rule = build_early_stopping(3)
        assert build_early_stopping(rule) is rule
