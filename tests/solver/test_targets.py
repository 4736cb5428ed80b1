"""A Solver whose targets are no labels: numbers, masks, images; losses and metrics by name and callable."""

import numpy as np
import pytest
from cnnlib import layers
from cnnlib.augment import (
    AlternatingFlip,
    Cutout,
    HorizontalFlip,
    RandomCrop,
    Samples,
    augmented,
    build_augmentation,
)
from cnnlib.models import ConvNet, FullyConnectedNet
from cnnlib.models.losses import LOSSES
from cnnlib.solver import Solver
from several_outputs import several_outputs, with_targets
from training import LinearModel, assert_same_run, digits_like, quiet_solver, trained


def squares(scores, y):
    """Half the mean squared error, as a user would write it."""
    errors = scores - y.reshape(scores.shape)
    return 0.5 * np.mean(errors**2), errors / errors.size


def largest_error(scores, y):
    return np.abs(scores - y.reshape(scores.shape)).max()


def numbers(num_train=60, num_val=20):
    """Three sums over quarters of an image."""
    data = digits_like(num_train, num_val)
    for part in ("train", "val"):
        X = data[f"X_{part}"]
        data[f"y_{part}"] = np.stack([X[:, 0, :3, :3].sum((1, 2)), X[:, 0, 3:].sum((1, 2)), X[:, 0, 0, 0]], 1)
    return data


def net(outputs=3, **options):
    return FullyConnectedNet(
        (12,), input_dim=36, num_classes=outputs, weight_scale=0.1, use_batchnorm=True, seed=0, **options
    )


SETTINGS = {"loss": squares, "update_rule": "adam", "optim_config": {"learning_rate": 1e-2}, "seed": 1}


class TestNumbers:
    def test_learns_them(self):
        solver = trained(net(), numbers(), metrics=["r2", "mae"], num_epochs=40, **SETTINGS)
        assert solver.histories["val_r2"][-1] > 0.8
        assert solver.histories["train_r2"][-1] > 0.8
        assert solver.monitored == "val_r2"
        assert solver.best_epoch == np.argmax(solver.histories["val_r2"])
        assert len(solver.histories["val_mae"]) == 41
        assert solver.train_acc_history == solver.val_acc_history == []
        assert solver.best_val_acc is None
        assert repr(solver).endswith(f"best_val_r2={max(solver.histories['val_r2']):.4g})")

    def test_metrics_and_validation_loss_are_of_the_kept_model(self):
        data = numbers()
        solver = trained(net(), data, metrics=["rmse", largest_error], monitor="val_loss", **SETTINGS)
        scores, k = solver.model.loss(data["X_val"]), solver.best_epoch
        assert k == np.argmin(solver.histories["val_loss"])
        assert solver.histories["val_loss"][k] == pytest.approx(squares(scores, data["y_val"])[0], rel=1e-6)
        rmse = np.mean((scores - data["y_val"]) ** 2) ** 0.5
        assert solver.histories["val_rmse"][k] == pytest.approx(rmse, rel=1e-6)
        assert solver.histories["val_largest_error"][k] == pytest.approx(largest_error(scores, data["y_val"]))

    def test_resumed_from_every_epoch(self, tmp_path):
        data, own = numbers(), {"loss": squares, "metrics": ["rmse", largest_error]}
        settings = {"num_epochs": 4, "monitor": {"name": "largest_error", "direction": "min"}}
        whole = trained(
            net(dropout=0.2), data, checkpoint_name=tmp_path / "run", **{**SETTINGS, **settings, **own}
        )
        for epoch in (1, 3):
            path = tmp_path / f"run_epoch_{epoch}.npz"
            resumed = Solver.resume(path, net(dropout=0.2), data, **own)
            resumed.train()
            assert_same_run(resumed, whole)
            assert {**resumed.histories, "epoch_seconds": 0} == {**whole.histories, "epoch_seconds": 0}
        with pytest.raises(ValueError, match="the run's loss was a function of its own; pass it as loss"):
            Solver.resume(path, net(dropout=0.2), data)
        with pytest.raises(ValueError, match="pass it as metrics"):
            Solver.resume(path, net(dropout=0.2), data, loss=squares)
        with pytest.raises(ValueError, match=r"the run measured .*largest_error, this one measures .*mae"):
            Solver.resume(path, net(dropout=0.2), data, loss=squares, metrics=["mae", largest_error])

    def test_stops_early_by_any_of_them(self, capsys):
        rule = {"patience": 2, "min_delta": 100}
        for monitor, name in (("mae", "val_mae"), ("val_loss", "val_loss")):
            solver = quiet_solver(
                net(),
                numbers(),
                metrics="mae",
                monitor=monitor,
                early_stopping=rule,
                num_epochs=9,
                **SETTINGS,
            )
            solver.verbose = True
            solver.train()
            assert solver.epoch == 3
            said = f"stopped early: {name} has not improved by more than 100 since epoch 1"
            assert capsys.readouterr().out.splitlines()[-1] == f"(Epoch 3) {said}"

    def test_lines(self, capsys):
        solver = quiet_solver(net(), numbers(), num_epochs=0, **SETTINGS)
        solver.verbose = True
        solver.train()
        values = [f"{solver.histories[name][0]:.4f}" for name in ("train_rmse", "val_rmse", "val_loss")]
        want = "(Epoch 0 / 0) train_rmse: {}; val_rmse: {}; val_loss: {}\n".format(*values)
        assert capsys.readouterr().out == want

    def test_micro_batches(self):
        runs = []
        for parts in (None, 4):
            solver = trained(
                FullyConnectedNet((12,), input_dim=36, num_classes=3, dtype=np.float64, seed=0),
                numbers(64),
                micro_batches=parts,
                metrics=["mae", largest_error],
                **SETTINGS,
            )
            runs.append(solver.histories)
        for name in ("loss", "mae", "largest_error", "val_loss"):
            np.testing.assert_allclose(runs[1][name], runs[0][name], rtol=1e-9)

    def test_memory_maps(self, tmp_path):
        data = numbers()
        for name in ("X_train", "y_train"):
            np.save(tmp_path / f"{name}.npy", data[name])
        mapped = {name: np.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in ("X_train", "y_train")}
        runs = [quiet_solver(net(), {**data, **more}, **SETTINGS) for more in ({}, mapped)]
        for run in runs:
            run.train()
        assert_same_run(*runs)


class TestLosses:
    def test_by_name(self):
        data = digits_like()
        plain = quiet_solver(net(4), data, seed=1)
        for loss in ("softmax", "softmax_loss", {"name": "softmax"}, layers.softmax_loss):
            named = quiet_solver(net(4), data, seed=1, loss=loss)
            for solver in (plain, named):
                if solver.epoch == 0:
                    solver.train()
            assert_same_run(named, plain)

    @pytest.mark.parametrize("counted", [{"ignore": 3}, {"weights": [1, 0.1, 20, 3]}, None], ids=str)
    def test_parts_count_by_what_their_loss_averages_over(self, counted):
        """Else the mean of their means is not that of the whole; None: several outputs, one of masks."""
        data, runs = digits_like() if counted else with_targets(digits_like(), ignored=0.9), []
        for parts in (None, 7):
            model = FullyConnectedNet((12,), 36, 4, dtype=np.float64, weight_scale=1.0, reg=0.1, seed=0)
            settings = {"loss": {"name": "softmax", **counted}} if counted else {}
            model = model if counted else several_outputs(norm=False)
            solver = trained(model, data, seed=1, keep="last", micro_batches=parts, **settings)
            runs.append(solver)
        np.testing.assert_allclose(runs[1].loss_history, runs[0].loss_history, rtol=1e-9)
        for name, value in runs[0].model.params.items():
            np.testing.assert_allclose(runs[1].model.params[name], value, rtol=1e-9, atol=1e-12)

    def test_another_name_trains_otherwise(self):
        hinge = trained(net(4), digits_like(), seed=1, loss="svm", num_epochs=20)
        scores = hinge.model.loss(hinge.X_val)
        assert hinge.val_loss_history[hinge.best_epoch] == pytest.approx(
            layers.svm_loss(scores, hinge.y_val)[0], rel=1e-5
        )
        assert np.mean(hinge.loss_history[-4:]) < 0.5 * np.mean(hinge.loss_history[:4])

    def test_all_of_the_layers_are_known(self):
        functions = {getattr(layers, name) for name in layers.__all__ if name.endswith("_loss")}
        assert set(LOSSES.values()) == {*functions, layers.cross_entropy}

    def test_a_models_own_wins(self):
        model = LinearModel(36, 4)  # it knows nothing of `loss`
        solver = trained(model, digits_like(), loss="svm", num_epochs=1, keep="last")
        plain = quiet_solver(LinearModel(36, 4), digits_like(), num_epochs=1, keep="last")
        assert solver.val_loss_history[-1] == pytest.approx(
            layers.svm_loss(model.loss(solver.X_val), solver.y_val)[0]
        )
        assert plain.options.loss is None
        own = net(4)
        own.criterion = layers.svm_loss
        solver = trained(own, digits_like(), loss="softmax", num_epochs=1, keep="last", seed=1)
        told = trained(net(4), digits_like(), loss="svm", num_epochs=1, keep="last", seed=1)
        assert_same_run(solver, told)
        assert solver.val_loss_history == told.val_loss_history

    def test_a_model_of_ones_own_with_numbers(self):
        class Line:
            def __init__(self):
                self.params = {"w": np.zeros((36, 1))}

            def loss(self, X, y=None):
                rows = X.reshape(len(X), -1)
                scores = rows @ self.params["w"]
                if y is None:
                    return scores
                value, dscores = squares(scores, y)
                return value, {"w": rows.T @ dscores}

        data = digits_like()
        data |= {f"y_{part}": data[f"X_{part}"].mean((2, 3)) for part in ("train", "val")}
        solver = trained(Line(), data, metrics="rmse", num_epochs=20, optim_config={"learning_rate": 0.03})
        assert solver.histories["val_rmse"][-1] < 0.2 * solver.histories["val_rmse"][0]
        assert np.isnan(solver.val_loss_history).all()  # nobody knows that loss in test mode
        for settings in (
            {"metrics": []},
            {"metrics": "rmse", "monitor": "val_loss"},
            {"metrics": [], "keep": "last", "early_stopping": 2},
        ):  # the first epoch would be the best
            with pytest.raises(
                ValueError, match="compared by val_loss, which is not known where the model has"
            ):
                quiet_solver(Line(), data, **settings)
        quiet_solver(Line(), data, metrics=[], keep="last", num_epochs=2).train()

    @pytest.mark.parametrize(
        ("settings", "error", "message"),
        [
            ({"loss": "msee"}, ValueError, "unknown loss 'msee'"),
            ({"loss": {"name": "softmax", "wieghts": 1}}, ValueError, "unknown key 'wieghts'"),
            ({"loss": 3}, TypeError, "loss must be a name"),
            ({"loss": "softmax", "label_smoothing": 0.1}, ValueError, "label_smoothing and loss exclude"),
            (
                {"monitor": "rmse"},
                ValueError,
                "monitor must be one of 'val_accuracy', 'val_loss', got 'rmse'",
            ),
            ({"monitor": 3}, TypeError, "monitor must be a name"),
            ({"monitor": {"name": "val_loss"}}, KeyError, "lacks 'direction'"),
            ({"monitor": {"name": "val_loss", "direction": "up"}}, ValueError, "direction must be one of"),
            (
                {"metrics": largest_error},
                ValueError,
                "whether more of 'val_largest_error' is better is not known: say monitor=",
            ),
            (
                {"monitor": "val_loss", "early_stopping": {"patience": 2, "monitor": "accuracy"}},
                ValueError,
                "monitor is 'val_loss', but early_stopping monitors 'accuracy'",
            ),
        ],
    )
    def test_wrong_settings(self, settings, error, message):
        with pytest.raises(error, match=message):
            quiet_solver(net(4), digits_like(), **settings)

    def test_a_function_that_returns_nonsense(self):
        for loss, error, message in (
            (lambda scores, y: 1.0, TypeError, "must return a pair"),
            (
                lambda scores, y: (1.0, scores[:1]),
                ValueError,
                r"the gradient of the scores must have shape \(20, 3\), got \(1, 3\)",
            ),
        ):
            with pytest.raises(error, match=message):
                quiet_solver(net(), numbers(), loss=loss, keep="last", metrics="rmse").train()

    def test_targets_that_are_no_numbers(self):
        data = digits_like() | {"y_val": np.array(["a"] * 20)}
        with pytest.raises(TypeError, match="y_val must hold numbers, got dtype <U1"):
            quiet_solver(net(), data, **SETTINGS)
        data = digits_like() | {"y_val": np.zeros((19, 3))}
        with pytest.raises(ValueError, match=r"y_val must have shape \(20, ...\)"):
            quiet_solver(net(), data, **SETTINGS)

    @pytest.mark.parametrize("name", ["X_train", "y_train", "X_val", "y_val"])
    def test_what_a_mask_hides_does_not_count(self, name):
        data = numbers()
        masked = np.ma.masked_greater(data[name], 0)
        with pytest.raises(ValueError, match=f"^Solver: {name} has masked values"):
            quiet_solver(net(), data | {name: masked}, **SETTINGS)

    def test_numbers_that_a_model_is_given_itself(self):
        model = ConvNet([{"conv": 2}, {"values": 3}], (1, 6, 6), seed=0)
        X, y = numbers()["X_val"], numbers()["y_val"]
        with pytest.raises(ValueError, match=r"^ConvNet: y has masked values"):
            model.loss(X, np.ma.masked_greater(y, 0))
        for wrong in (y + 1j, y.astype(str)):
            with pytest.raises(TypeError, match=r"^mse_loss: y has dtype"):
                model.loss(X, wrong)


class TestImages:
    """Targets that are images move along."""

    X = np.arange(2 * 3 * 6 * 8, dtype=np.float32).reshape(2, 3, 6, 8) + 1

    @pytest.mark.parametrize(
        "augmentation",
        [
            HorizontalFlip(),
            RandomCrop(2),
            RandomCrop(2, "reflect"),
            AlternatingFlip(),
            build_augmentation(["flip", "crop"]),
        ],
        ids=lambda augmentation: type(augmentation).__name__,
    )
    def test_like_the_images(self, augmentation):
        samples = Samples(np.arange(2), 1, 5)

        def both(y, seed):
            return augmented(augmentation, self.X, y, np.random.default_rng(seed), samples)

        for seed in range(8):
            alone, none = both(None, seed)
            assert none is None
            for y in (self.X, self.X[:, :1], self.X[:, 0]):
                X, moved = both(y, seed)
                np.testing.assert_array_equal(X, alone)
                np.testing.assert_array_equal(moved, X[:, 0] if y.ndim == 3 else X[:, : y.shape[1]])
                assert moved.flags.c_contiguous
            _, large = both(self.X.repeat(2, axis=2).repeat(2, axis=3), seed)
            np.testing.assert_array_equal(large, alone.repeat(2, axis=2).repeat(2, axis=3)) if (
                "reflect" not in str(augmentation)
            ) else None

    @pytest.mark.parametrize("y", [np.arange(2), np.ones((2, 8)), np.ones((2, 5, 8)), np.ones((2, 3, 4))])
    def test_other_targets_stay(self, y):
        for augmentation in (HorizontalFlip(1), RandomCrop(2), Cutout(3)):
            _, kept = augmented(augmentation, self.X, y, np.random.default_rng(0), None)
            assert kept is y

    def test_what_masks_are_filled_with(self):
        y = np.zeros((2, 6, 8), np.uint8)
        _, moved = augmented(RandomCrop(5, target_fill=255), self.X, y, np.random.default_rng(0), None)
        assert set(np.unique(moved)) == {0, 255}
        assert moved.dtype == np.uint8

    @pytest.mark.parametrize(
        ("augmentation", "text"),
        [
            (RandomCrop(5, target_fill=-100), "RandomCrop: target_fill is -100, which uint8 does not hold"),
            (RandomCrop(5, target_fill=0.5), "RandomCrop: target_fill is 0.5, which uint8"),
            (Cutout(3, fill=256), "Cutout: fill is 256, which uint8 does not hold"),
            (Cutout(3, fill=-1), "Cutout: fill is -1, which uint8"),
        ],
    )
    def test_fillings_that_the_dtype_does_not_hold(self, augmentation, text):
        """They became other numbers: -100 was the label 156."""
        X, y = self.X.astype(np.uint8), np.zeros((2, 6, 8), np.uint8)
        with pytest.raises(ValueError, match=text):
            augmented(augmentation, X, y, np.random.default_rng(0), None)

    def test_cutout_leaves_masks_alone(self):
        _, kept = augmented(Cutout(3), self.X, self.X, np.random.default_rng(0), None)
        assert kept is self.X

    def test_functions_of_ones_own(self):
        class Turn:
            def __call__(self, X, rng):
                raise AssertionError

            def pair(self, X, y, rng, samples):
                return X[:, :, ::-1], y[:, :, ::-1]

        X, y = build_augmentation([Turn()]).pair(self.X, self.X, None, None)
        np.testing.assert_array_equal(X, y)
        _, kept = augmented(lambda X, rng: X[..., ::-1], self.X, self.X, None, None)
        assert kept is self.X


class TestPixels:
    """A network that gives each pixel scores, trained to say which pixels are bright."""

    @staticmethod
    def data():
        data = digits_like()
        for part in ("train", "val"):
            data[f"y_{part}"] = (data[f"X_{part}"][:, 0] > 0.5).astype(np.int64)
        return data

    @staticmethod
    def net():
        from cnnlib.models import Graph, GraphNet

        graph = Graph()
        graph.conv("W1", "b1", pad="same")
        rng = np.random.default_rng(0)
        return GraphNet(graph, {"W1": 0.1 * rng.standard_normal((2, 1, 3, 3)), "b1": np.zeros(2)}, (1, 6, 6))

    @staticmethod
    def of_pixels(scores, y):
        """The mean cross-entropy over all pixels."""
        rows = scores.transpose(0, 2, 3, 1).reshape(-1, scores.shape[1])
        loss, drows = layers.softmax_loss(np.ascontiguousarray(rows), y.reshape(-1))
        N, C, H, W = scores.shape
        return loss, drows.reshape(N, H, W, C).transpose(0, 3, 1, 2)

    @pytest.mark.parametrize("augment", [None, ["flip", {"name": "crop", "pad": 1}]])
    def test_learns_them_and_resumes(self, augment, tmp_path):
        settings = {"num_epochs": 12, "metrics": ["iou", "accuracy"], "augment": augment, **SETTINGS}
        settings |= {"loss": self.of_pixels, "optim_config": {"learning_rate": 0.1}}
        solver = trained(self.net(), self.data(), checkpoint_name=tmp_path / "run", **settings)
        assert solver.histories["val_iou"][-1] > 0.8
        assert solver.histories["val_iou"][0] < 0.6
        resumed = Solver.resume(tmp_path / "run_epoch_5.npz", self.net(), self.data(), loss=self.of_pixels)
        resumed.train()
        assert_same_run(resumed, solver)

    def test_an_accuracy_that_is_not_known_is_no_damage(self, tmp_path):
        """No validation pixel has a label that counts."""
        data = {**self.data(), "y_val": np.full_like(self.data()["y_val"], 255)}
        kinds = {"loss": {"name": "softmax", "ignore": 255}, "metrics": {"name": "accuracy", "ignore": 255}}
        settings = {**SETTINGS, **kinds, "num_epochs": 2}
        whole = trained(self.net(), data, checkpoint_name=tmp_path / "run", **settings)
        assert np.isnan(whole.best_val_acc)
        resumed = Solver.resume(tmp_path / "run_epoch_1.npz", self.net(), data)
        resumed.train()
        assert resumed.loss_history == whole.loss_history

    def test_labels_of_pixels_are_measured_by_accuracy(self):
        solver = trained(self.net(), self.data(), loss=self.of_pixels, num_epochs=1)
        assert len(solver.val_acc_history) == 2


@pytest.mark.parametrize("name", ["accuracy", "top5", "iou", "f1"])
@pytest.mark.parametrize("ignore", [255, -1])
def test_what_the_loss_ignores_counts_in_no_metric(name, ignore, rng):
    X, y = rng.standard_normal((4, 1, 6, 6)), rng.integers(7, size=(4, 6, 6))
    y[:, :4] = ignore
    data, runs = {"X_train": X, "y_train": y, "X_val": X, "y_val": y}, []
    for metric in (name, {"name": name, "ignore": ignore}):
        model = ConvNet([{"conv": 4}, "relu", {"pixels": 7}], (1, 6, 6), seed=0)
        loss = {"name": "softmax", "ignore": ignore}
        runs.append(quiet_solver(model, data, loss=loss, metrics=metric, num_epochs=1, seed=0))
        runs[-1].train()
    assert runs[0].histories[name] == runs[1].histories[name]


@pytest.mark.parametrize("loss", [None, "mse"])
def test_label_smoothing_is_of_labels(loss):
    """It was passed over."""
    model = ConvNet([{"values": 3}], (1, 6, 6), seed=0)
    with pytest.raises(ValueError, match=r"label_smoothing (is of labels; the targets are|and loss exclude)"):
        quiet_solver(model, numbers(), loss=loss, label_smoothing=0.1)
    quiet_solver(model, numbers(), label_smoothing=0.0).train()


@pytest.mark.parametrize("metrics", [None, ["f1", "top5", "accuracy"]])
def test_probabilities_are_judged_as_labels_are(metrics):
    """By the error of scores beside probabilities the untrained network was kept."""
    labels = digits_like()
    odds = {**labels, **{f"y_{part}": np.eye(4)[labels[f"y_{part}"]] for part in ("train", "val")}}
    runs = []
    for data, loss in ((labels, "softmax"), (odds, "cross_entropy")):
        settings = {**SETTINGS, "loss": loss, "metrics": metrics, "num_epochs": 6}
        solver = trained(net(4, dtype=np.float64), data, **settings)
        runs.append(solver)
    assert runs[0].best_epoch == runs[1].best_epoch > 0
    for metric in metrics or ["accuracy"]:
        for name in (f"train_{metric}", f"val_{metric}"):
            assert runs[0].histories[name] == runs[1].histories[name]
    odds["y_val"] = odds["y_val"][:, :3]
    solver = quiet_solver(net(4), odds, **settings)
    with pytest.raises(ValueError, match="probabilities must be of the scores' shape"):
        solver.train()


def test_probabilities_and_weights_of_classes():
    """The validation loss is the mean of all samples, over several batches."""
    data = digits_like(60, 230)
    data |= {f"y_{part}": np.eye(4)[data[f"y_{part}"]] for part in ("train", "val")}
    model, loss = net(4, dtype=np.float64), {"name": "cross_entropy", "weights": [1, 2, 0.5, 3]}
    solver = trained(model, data, **{**SETTINGS, "loss": loss}, keep="last")
    want, _ = layers.cross_entropy(model.loss(data["X_val"]), data["y_val"], weights=loss["weights"])
    assert solver.val_loss_history[-1] == pytest.approx(want, rel=1e-9)


@pytest.mark.parametrize(
    ("weights", "shift", "message"),
    [
        ([1, 2], 0, r"weights must have shape \(4,\), got \(2,\)"),
        ([1, 2, 3, 4], 1, r"y must lie in \[0, 4\), got values from 1 to 4"),
        ("balanced", 0, "weights must be numbers"),
    ],
)
def test_weights_that_do_not_fit_are_named(weights, shift, message):
    """The validation loss came first, and looked labels up in them."""
    data = digits_like()
    data |= {f"y_{part}": data[f"y_{part}"] + shift for part in ("train", "val")}
    solver = quiet_solver(net(4), data, **{**SETTINGS, "loss": {"name": "softmax", "weights": weights}})
    with pytest.raises((TypeError, ValueError), match=f"^softmax_loss: {message}"):
        solver.train()


@pytest.mark.parametrize("metrics", [None, {"label": "accuracy", "size": "rmse", "mask": "iou"}])
def test_probabilities_among_several_outputs(metrics):
    labels = with_targets(digits_like(), ignored=0)
    odds = {key: dict(part) if key.startswith("y_") else part for key, part in labels.items()}
    for part in ("train", "val"):
        odds[f"y_{part}"]["label"] = np.eye(4)[odds[f"y_{part}"]["label"]]
    losses = {"size": "mse", "mask": "softmax"}
    runs = []
    for data, loss in ((labels, "softmax"), (odds, "cross_entropy")):
        model = several_outputs(reg=0.0)
        runs.append(quiet_solver(model, data, loss={**losses, "label": loss}, metrics=metrics, num_epochs=2))
        runs[-1].train()
    assert runs[0].histories["val_label/accuracy"] == runs[1].histories["val_label/accuracy"]


@pytest.mark.parametrize("loss", ["softmax", "svm"])
def test_labels_that_are_no_integers_are_called_so(loss):
    data = digits_like()
    data |= {f"y_{part}": data[f"y_{part}"].astype(float) for part in ("train", "val")}
    with pytest.raises(TypeError, match=r"y_train must hold integer .*: y_train\.astype\(int\)"):
        quiet_solver(net(4), data, **{**SETTINGS, "loss": loss}).train()


def test_a_conv_net_takes_a_loss_too():
    data = numbers()
    solver = trained(ConvNet([{"conv": 4}, "relu"], (1, 6, 6), 3, seed=0), data, num_epochs=8, **SETTINGS)
    assert solver.histories["val_rmse"][-1] < solver.histories["val_rmse"][0]


@pytest.mark.parametrize("loss", [None, "mse", "l1", "huber"])
@pytest.mark.parametrize("head", ["values", "pixels"])
def test_whole_numbers_are_numbers(head, loss):
    """Counts, or images of bytes, have the scores' shape, and no accuracy."""
    shape, last = {"values": ((2,), {"values": 2}), "pixels": ((1, 6, 6), "pixels")}[head]
    model = ConvNet([{"conv": 2}, "relu", last], (1, 6, 6), 1, seed=0)
    data, random = digits_like(20, 10), np.random.RandomState(0)
    data |= {
        f"y_{part}": random.randint(9, size=(len(data[f"X_{part}"]), *shape)) for part in ("train", "val")
    }
    solver = trained(model, data, loss=loss, num_epochs=2)
    assert solver.monitored == "val_rmse"
    expected = getattr(layers, f"{loss or 'mse'}_loss")(model.loss(data["X_val"]), data["y_val"])[0]
    assert solver.val_loss_history[solver.best_epoch] == pytest.approx(expected, rel=1e-5)


def test_labels_are_no_numbers():
    """A head of numbers wants them in the scores' shape; of labels it learned a softmax."""
    model, data = ConvNet([{"conv": 2}, "relu", {"values": 4}], (1, 6, 6), seed=0), digits_like(20, 10)
    with pytest.raises(
        ValueError, match=r"rmse: targets must be of the scores' shape \(20, 4\), got \(20,\)"
    ):
        quiet_solver(model, data).train()
    with pytest.raises(ValueError, match=r"mse_loss: y must have the shape of x, \(20, 4\), got \(20,\)"):
        model.loss(data["X_train"], data["y_train"])


@pytest.mark.parametrize("loss", ["bce", "dice"])
@pytest.mark.parametrize(("low", "high"), [(0, 255), (-1, 1)])
def test_masks_of_other_numbers_are_refused(loss, low, high):
    """A loss below 0 was all that one saw of it."""
    data = digits_like(20, 10)
    for part in ("train", "val"):
        data[f"y_{part}"] = np.where(data[f"X_{part}"] > 0, high, low)
    model = ConvNet([{"conv": 2}, "relu", {"pixels": 1}], (1, 6, 6), seed=0)
    message = rf"^Solver: loss: targets of {loss} lie in \[0, 1\], got {low} to {high}$"
    with pytest.raises(ValueError, match=message):
        quiet_solver(model, data, loss=loss).train()
    with pytest.raises(TypeError, match=rf"^{loss}_loss: y has dtype <U1"):
        model.loss(data["X_val"], np.full((10, 1, 6, 6), "1"), loss)


@pytest.mark.parametrize("head", [object(), "linear"], ids=["object", "text"])
def test_a_users_model_may_have_a_head_of_its_own(head):
    plain, own = LinearModel(36, 4), LinearModel(36, 4)
    own.head = head
    runs = [quiet_solver(model, digits_like(20, 10), num_epochs=1, seed=0) for model in (plain, own)]
    for solver in runs:
        solver.train()
    assert_same_run(*runs)
    assert np.isfinite(runs[1].val_loss_history).all()
