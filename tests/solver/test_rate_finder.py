"""lr_find: growing learning rates on a copy, the curve, and the rate that is suggested."""

import numpy as np
import pytest
from cnnlib.data import load_digits
from cnnlib.models import ConvNet, FullyConnectedNet
from cnnlib.solver import Solver
from cnnlib.solver.rate_finder import find_rate

RATES = np.geomspace(1e-4, 1e2, 61)


def solver(model=None, **options):
    model = FullyConnectedNet([20], (1, 8, 8), seed=0) if model is None else model
    return Solver(model, load_digits(), **{"seed": 0, "verbose": False, "num_epochs": 1, **options})


class TestTheCurve:
    def test_suggests_where_the_loss_falls_most_steeply(self):
        curve = find_rate(lambda rate: 1 / (1 + (rate / 0.1) ** 2) + (rate / 10) ** 2, RATES)
        assert 0.03 < curve.suggestion < 0.15  # at 0.06 the slope over the logarithm is greatest
        assert curve.rates == RATES[: len(curve.rates)].tolist()

    def test_ends_where_the_loss_grows(self):
        curve = find_rate(lambda rate: 1.0 if rate < 1 else 100.0, RATES)
        assert curve.rates[-1] == pytest.approx(1.0)
        assert len(curve.losses) == len(curve.smoothed) == len(curve.rates)

    def test_says_where_there_is_none(self):
        curve = find_rate(lambda rate: np.nan, RATES)
        assert curve.suggestion is None
        assert str(curve) == "no curve: the loss of the first step is no number"

    def test_ends_where_the_loss_is_no_number(self):
        curve = find_rate(lambda rate: 1.0 if rate < 1 else np.nan, RATES)
        assert max(curve.rates) < 1
        assert np.isfinite(curve.losses).all()

    @pytest.mark.parametrize("loss", [lambda rate: 1.0, lambda rate: 1 + rate, lambda rate: np.inf])
    def test_suggests_nothing_where_the_loss_does_not_fall(self, loss):
        curve = find_rate(loss, RATES)
        assert curve.suggestion is None

    def test_is_drawn(self):
        curve = find_rate(lambda rate: 1 / (1 + (rate / 0.1) ** 2), RATES)
        text = str(curve)
        assert "█" in text
        assert text.splitlines()[-1] == f"suggestion: {curve.suggestion:.2g}"
        pyplot = pytest.importorskip("matplotlib.pyplot", reason="it draws the curve")
        pyplot.switch_backend("Agg")
        axes = curve.plot()
        assert axes.get_xscale() == "log"
        pyplot.close("all")


class TestTheSolver:
    @pytest.mark.parametrize("rule", ["sgd", "adam", "sgd_momentum"])
    def test_the_suggested_rate_trains_better_than_rates_far_from_it(self, rule):
        found = solver(update_rule=rule).lr_find().suggestion

        def loss(rate):
            other = solver(update_rule=rule, optim_config={"learning_rate": rate}, num_epochs=2)
            return other.train()["val_loss"][-1]

        assert loss(found) < loss(found / 100)

    def test_the_run_stays_as_it_is(self):
        one, other = solver(), solver()
        one.lr_find(steps=20)
        assert one.train()["loss"] == other.train()["loss"]

    def test_is_the_same_at_every_call(self):
        one = solver(schedule="cosine", rate_factors={"b": 0.5}, clip_norm=1.0, weight_decay=0.01)
        assert one.lr_find(steps=20) == one.lr_find(steps=20)

    def test_frozen_parameters_and_losses_of_ones_own(self):
        model = ConvNet([{"conv": 4, "frozen": True}, "relu", {"max_pool": 2}], (1, 8, 8), 10, seed=0)
        curve = solver(model, loss="svm", preprocess=lambda X: 2 * X).lr_find(steps=30)
        assert len(curve.rates) > 10

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            ({"low": 0}, "low must be above 0"),
            ({"low": 1, "high": 0.1}, "high must be above low"),
            ({"steps": 3}, "steps must be at least 10"),
        ],
    )
    def test_refuses(self, given, message):
        with pytest.raises(ValueError, match=f"^Solver.lr_find: {message}"):
            solver().lr_find(**given)

    def test_refuses_batches(self):
        digits = load_digits()
        batches = [(digits["X_train"][:50], digits["y_train"][:50])]
        val = [(digits["X_val"], digits["y_val"])]
        model = FullyConnectedNet([20], (1, 8, 8), seed=0)
        with pytest.raises(ValueError, match="needs training samples in arrays"):
            Solver(model, {"train": batches, "val": val}, verbose=False).lr_find()
