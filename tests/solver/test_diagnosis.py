"""What a Solver says about settings that cannot work, and about losses that are not finite."""

import re

import numpy as np
import pytest
from cnnlib import optim
from cnnlib.data import Normalization
from cnnlib.models import ConvNet, ThreeLayerConvNet
from training import LinearModel, digits_like, quiet_solver, trained


def solver(data=None, **settings):
    model = ThreeLayerConvNet((1, 6, 6), num_filters=2, filter_size=3, hidden_dim=4, num_classes=4, seed=0)
    return quiet_solver(model, data or digits_like(), seed=0, **settings)


class TestNotFinite:
    @pytest.mark.parametrize("value", [np.nan, np.inf])
    def test_in_the_data_the_image_is_named(self, value):
        data = digits_like()
        data["X_train"][37, 0, 2, 3] = value
        with pytest.raises(FloatingPointError) as caught:
            solver(data).train()
        message = str(caught.value)
        assert re.search(r"^iteration \d+ \(epoch 1\): the loss is nan", message)
        assert message.endswith(
            "X_train[37] holds NaN or infinity: the data are at fault, not the learning rate"
        )

    def test_in_the_targets_the_sample_is_named(self):
        data = digits_like()
        data |= {name: np.zeros((len(data[name]), 4)) for name in ("y_train", "y_val")}
        data["y_train"][37, 2] = np.nan
        with pytest.raises(FloatingPointError, match=r"y_train\[37\] holds NaN or infinity"):
            solver(data, loss="mse").train()

    @pytest.mark.parametrize("value", [np.nan, np.inf])
    def test_in_the_validation_samples_the_image_is_named(self, value):
        data = digits_like()
        data["X_val"] = data["X_val"].copy()
        data["X_val"][5, 0, 2, 3] = value
        with pytest.raises(FloatingPointError) as caught:
            solver(data).train()
        reason = "X_val[5] holds NaN or infinity: the data are at fault, not the learning rate"
        assert str(caught.value) == f"the validation loss is nan; {reason}"

    def test_in_the_validation_targets_the_sample_is_named(self):
        data = digits_like()
        data |= {name: np.zeros((len(data[name]), 4)) for name in ("y_train", "y_val")}
        data["y_val"][5, 2] = np.nan
        with pytest.raises(FloatingPointError, match=r"y_val\[5\] holds NaN or infinity"):
            solver(data, loss="mse").train()

    def test_once_the_data_are_mended_the_run_is_that_of_whole_ones(self):
        """Running statistics stay out of it, and what dropout and shuffling draw."""

        def made(data):
            net = ConvNet([{"conv": 2}, "batchnorm", "relu", {"dropout": 0.3}], (1, 6, 6), 4, seed=None)
            net.params = {name: np.full_like(value, 0.01) for name, value in net.params.items()}
            return quiet_solver(net, data, seed=0)

        whole, spoilt = made(digits_like()), made(digits_like())
        whole.train()
        value = spoilt.X_train[37, 0, 2, 3]
        spoilt.X_train[37, 0, 2, 3] = np.nan
        with pytest.raises(FloatingPointError):
            spoilt.train()
        spoilt.X_train[37, 0, 2, 3] = value
        spoilt.train()
        assert spoilt.loss_history == whole.loss_history
        assert spoilt.val_acc_history == whole.val_acc_history
        for one, other in zip(spoilt.model.bn_params, whole.model.bn_params, strict=True):
            np.testing.assert_array_equal(one["running_var"], other["running_var"])

    @pytest.mark.filterwarnings("ignore::RuntimeWarning")
    def test_a_rate_that_is_too_high(self):
        with pytest.raises(FloatingPointError, match=r"a lower learning rate may help$") as caught:
            solver(optim_config={"learning_rate": 1e30}, num_epochs=10).train()
        assert "X_train" not in str(caught.value)

    def test_a_parameter_is_named(self):
        made = solver()
        made.model.params["W3"][0, 0] = np.nan
        with pytest.raises(FloatingPointError, match="the parameter W3 holds NaN or infinity"):
            made.train()

    @pytest.mark.parametrize("name", ["preprocess", "augment"])
    def test_what_was_made_of_the_data(self, name):
        def spoil(X, *_):
            return X * np.float32(np.nan)

        if name == "preprocess":
            with pytest.raises(FloatingPointError, match="preprocess or augment made NaN"):
                solver(preprocess=spoil).train()
        else:
            with pytest.raises(FloatingPointError, match="preprocess or augment made NaN"):
                solver(augment=spoil).train()

    def test_gradients_that_are_clipped(self):
        data = digits_like()
        data["X_train"][:] = np.nan
        with pytest.raises(FloatingPointError, match=r"X_train\[\d+\] holds NaN"):
            solver(data, clip_norm=1.0).train()

    def test_integers_are_finite(self):
        data = digits_like()
        data["X_train"] = np.uint8(100 * np.abs(data["X_train"]))
        made = solver(data, preprocess=Normalization(0.0, 1.0))
        made.model.params["b1"][:] = np.inf
        with pytest.raises(FloatingPointError, match="the parameter b1 holds"):
            made.train()


class TestOptimConfig:
    @pytest.mark.parametrize("rule", optim.__all__)
    @pytest.mark.parametrize(
        ("config", "error", "message"),
        [
            ({"learning_rate": -1e-3}, ValueError, "learning_rate must be finite and at least 0"),
            ({"learning_rate": float("nan")}, ValueError, "learning_rate must be finite"),
            ({"learning_rate": "fast"}, TypeError, "learning_rate must be a number, got 'fast'"),
            ({"learning_rat": 1e-3}, ValueError, "did you mean 'learning_rate'"),
        ],
        ids=str,
    )
    def test_is_checked_when_the_solver_is_made(self, rule, config, error, message):
        with pytest.raises(error, match=message) as caught:
            quiet_solver(LinearModel(36, 4), digits_like(), update_rule=rule, optim_config=config)
        assert str(caught.value).startswith(f"{rule}: ")

    @pytest.mark.parametrize(
        ("rule", "config"),
        [
            ("sgd_momentum", {"momentum": 1.5}),
            ("sgd_nesterov_momentum", {"momentum": -0.1}),
            ("rmsprop", {"decay_rate": 2}),
            ("adam", {"beta1": 1.0}),
            ("adam", {"epsilon": -1e-8}),
            ("adamw", {"weight_decay": "much"}),
            ("sgd", {"momentum": 0.9}),
        ],
        ids=str,
    )
    def test_other_settings_too(self, rule, config):
        for rate in ({}, {"learning_rate": 1e-3}):
            with pytest.raises((TypeError, ValueError), match=f"{rule}: .*{next(iter(config))}"):
                quiet_solver(
                    LinearModel(36, 4), digits_like(), update_rule=rule, optim_config={**rate, **config}
                )

    def test_the_callers_dict_is_left_alone(self):
        config = {"learning_rate": 1e-3}
        quiet_solver(LinearModel(36, 4), digits_like(), update_rule="adam", optim_config=config).train()
        assert config == {"learning_rate": 1e-3}

    def test_a_state_that_is_given_serves(self):
        config = {"learning_rate": 0.0, "velocity": np.ones((36, 4)), "momentum": 0.5}
        made = trained(
            LinearModel(36, 4),
            digits_like(),
            update_rule="sgd_momentum",
            optim_config=config,
            num_epochs=1,
            batch_size=60,
        )
        np.testing.assert_allclose(made.last_params["weights"], 0.5)

    def test_a_rule_of_the_users_own_checks_its_own(self):
        def rule(w, dw, config):
            return w - config["step"] * dw, config

        quiet_solver(LinearModel(36, 4), digits_like(), update_rule=rule, optim_config={"step": 0.1}).train()
