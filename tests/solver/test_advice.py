"""Slips of newcomers: what is understood, and what messages say to do."""

import numpy as np
import pytest
from cnnlib.models import ConvNet, FullyConnectedNet
from cnnlib.solver import Solver
from training import digits_like, quiet_solver


def net(outputs=4, **options):
    return FullyConnectedNet((8,), input_dim=(1, 6, 6), num_classes=outputs, seed=0, **options)


def pixels(outputs=2):
    return ConvNet([{"conv": 4}, "relu", "pixels"], (1, 6, 6), outputs, seed=0)


def with_targets(change):
    data = digits_like()
    return data | {name: change(data[name]) for name in ("y_train", "y_val")}


def with_masks(change):
    data = digits_like()
    return data | {f"y_{part}": change(data[f"X_{part}"] > 0.5) for part in ("train", "val")}


class TestOneNumber:
    """Targets (N,) of a network with one output."""

    @pytest.mark.parametrize("loss", ["mse", "huber", "l1"])
    def test_trains_as_a_column_does(self, loss):
        histories = []
        for change in (np.float32, lambda y: np.float32(y)[:, None]):
            options = {"loss": loss, "metrics": ["rmse", "mae", "r2"], "num_epochs": 3, "seed": 0}
            histories.append(quiet_solver(net(1), with_targets(change), **options).train())
        for name in set(histories[0]) - {"epoch_seconds"}:
            assert histories[0][name] == histories[1][name]

    def test_of_a_network_that_ends_in_values(self):
        model = ConvNet([{"conv": 4}, "relu", "global_avg_pool", {"values": 1}], (1, 6, 6), seed=0)
        solver = quiet_solver(model, with_targets(np.float32), num_epochs=1)
        solver.train()
        assert solver.monitored == "val_rmse"
        data = with_targets(np.float32)
        loss, _ = model.loss(data["X_val"], data["y_val"])
        assert loss == model.loss(data["X_val"], data["y_val"][:, None])[0]

    def test_and_masks_of_one_channel(self):
        options = {"loss": "bce", "metrics": ["iou", "f1", "accuracy"], "seed": 0}
        masks = with_masks(lambda there: np.float32(there[:, 0]))
        histories = quiet_solver(pixels(1), masks, **options).train()
        column = with_masks(np.float32)
        again = quiet_solver(pixels(1), column, **options).train()
        assert histories["val_iou"] == again["val_iou"]
        assert histories["val_accuracy"] == again["val_accuracy"]

    def test_a_function_of_the_users_own_gets_them_as_they_are(self):
        shapes = set()

        def loss(scores, y):
            shapes.add(np.shape(y)[1:])
            errors = scores - y[:, None]
            return float(np.mean(errors**2)), 2 * errors / len(y)

        quiet_solver(net(1), with_targets(np.float32), loss=loss, num_epochs=1).train()
        assert shapes == {()}


class TestLabels:
    @pytest.mark.parametrize(
        ("change", "error", "advice"),
        [
            (lambda y: y.astype(float), TypeError, r"y_train\.astype\(int\)"),
            (lambda y: y > 1, TypeError, r"y_train\.astype\(int\)"),
            (lambda y: y + 0.5, TypeError, "numbers have the loss 'mse'"),
            (lambda y: y.astype(str), TypeError, r"np\.unique\(y_train, return_inverse=True\)"),
            (lambda y: np.array(list(map(str, y)), object), TypeError, r"np\.unique\(y_train"),
            (lambda y: np.eye(4)[y], ValueError, r"one-hot rows are y_train\.argmax\(axis=1\)"),
            (lambda y: y[:, None], ValueError, r"y_train\[:, 0\]"),
            (lambda y: np.full((len(y), 4), 0.25), ValueError, "probabilities have the loss 'cross_entropy'"),
        ],
    )
    @pytest.mark.parametrize("loss", [None, "softmax"])
    def test_of_another_form(self, change, error, advice, loss):
        with pytest.raises(error, match=rf"^Solver: y_train must .*{advice}"):
            Solver(net(), with_targets(change), loss=loss)

    @pytest.mark.parametrize("loss", [None, "softmax", "svm"])
    def test_that_begin_at_1(self, loss):
        with pytest.raises(ValueError, match="got values from 1 to 4; labels begin at 0: y - 1"):
            quiet_solver(net(), with_targets(lambda y: y + 1), loss=loss).train()

    def test_where_probabilities_are_wanted(self):
        with pytest.raises(ValueError, match="y_train holds labels: their loss is 'softmax'"):
            Solver(net(), digits_like(), loss="cross_entropy")


class TestMasks:
    @pytest.mark.parametrize(
        ("change", "advice"),
        [
            (lambda there: there[:, 0], "y_train.astype(int)"),
            (lambda there: np.float32(there[:, 0]), "y_train.astype(int)"),
            (lambda there: np.float64(255 * there[:, 0]), "y_train.astype(int) // 255"),
            (lambda there: there.astype(int), "y_train[:, 0]"),
            (lambda there: np.float32(there), "y_train[:, 0].astype(int)"),
            (lambda there: np.uint8(255 * there), "y_train[:, 0] // 255"),
            (lambda there: np.moveaxis(there.astype(int), 1, 3), "y_train[..., 0]"),
            (lambda there: np.moveaxis(np.uint8(255 * there), 1, 3), "y_train[..., 0] // 255"),
        ],
    )
    @pytest.mark.parametrize("loss", [None, "softmax"])
    def test_the_message_is_the_fix(self, change, advice, loss):
        masks = with_masks(change)
        with pytest.raises(
            (TypeError, ValueError), match="y_train must hold the label of each pixel"
        ) as error:
            Solver(pixels(), masks, loss=loss)
        assert str(error.value).endswith(f": {advice}")
        names = ("y_train", "y_val")
        fixed = {name: eval(advice.replace("y_train", "y"), {"y": masks[name]}) for name in names}
        quiet_solver(pixels(), masks | fixed, loss=loss, num_epochs=1).train()

    def test_of_0_and_255(self):
        masks = with_masks(lambda there: 255 * there[:, 0].astype(int))
        with pytest.raises(ValueError, match=r"got values from 0 to 255; .* the labels are y // 255"):
            quiet_solver(pixels(), masks).train()

    def test_images_of_two_channels_are_none(self):
        images = with_masks(lambda there: np.repeat(np.float32(there), 2, axis=1))
        assert quiet_solver(pixels(), images).monitored == "val_rmse"


class TestWhatIsGiven:
    def test_swapped_arguments(self):
        with pytest.raises(TypeError, match="got a dict; the model comes first, then the data"):
            Solver(digits_like(), net())

    def test_a_class(self):
        with pytest.raises(TypeError, match=r"ConvNet is a class, ConvNet\(\.\.\.\) makes a model"):
            Solver(ConvNet, digits_like())

    @pytest.mark.peers
    def test_a_module(self):
        torch = pytest.importorskip("torch", reason="torch is not installed")
        with pytest.raises(TypeError, match=r"cnnlib\.torch\.from_module\(module, input_dim\) makes a model"):
            Solver(torch.nn.Linear(36, 4), digits_like())
        with pytest.raises(TypeError, match="Solver: loss is PyTorch's, expected a name of bce"):
            Solver(net(), digits_like(), loss=torch.nn.CrossEntropyLoss())
        with pytest.raises(TypeError, match="update_rule must be a name in"):
            Solver(net(), digits_like(), update_rule=torch.optim.SGD)

    @pytest.mark.parametrize(
        ("change", "advice"),
        [
            (lambda X: X.reshape(len(X), -1), r"X_train\.reshape\(-1, 1, 6, 6\) makes images of these rows"),
            (lambda X: X.transpose(0, 2, 3, 1), r"X_train\.transpose\(0, 3, 1, 2\) puts them first"),
        ],
    )
    def test_images_of_another_form(self, change, advice):
        data = digits_like()
        data |= {name: change(data[name]) for name in ("X_train", "X_val")}
        with pytest.raises(ValueError, match=advice):
            Solver(ConvNet([{"conv": 4}], (1, 6, 6), 4), data)


class TestFunctions:
    @pytest.mark.parametrize(
        ("option", "function", "call"),
        [
            ("schedule", lambda t: 1.0, "schedule(epoch, num_epochs) -> factor; this one takes (t)"),
            ("loss", lambda s: 0, "loss(scores, y) -> (value, gradient of the scores); this one takes (s)"),
            ("metrics", lambda s: 0, "metric(scores, y) -> number; this one takes (s)"),
            (
                "update_rule",
                lambda w, dw: w,
                "rule(w, dw, config) -> (next_w, config); this one takes (w, dw)",
            ),
            ("on_epoch", lambda: None, "on_epoch(solver); this one takes ()"),
            ("on_batch", lambda: None, "on_batch(solver); this one takes ()"),
            ("augment", lambda X: X, "augment(X, rng) -> X; this one takes (X)"),
            ("preprocess", lambda: 0, "preprocess(images) -> images; this one takes ()"),
        ],
    )
    def test_are_called_as_the_message_says(self, option, function, call):
        with pytest.raises(TypeError) as error:
            Solver(net(), digits_like(), **{option: function})
        assert str(error.value) == f"Solver: {option} is called as {call}"

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"schedule": lambda epoch, end: None}, "Solver: schedule's factor must be a number, got None"),
            ({"update_rule": lambda w, dw, config: w}, r"must return \(next_w, config\), got a ndarray"),
            (
                {"loss": lambda scores, y: (scores[:, 0], scores)},
                "the value must be a number, got an array",
            ),
            (
                {"metrics": [lambda scores, y: scores], "monitor": "val_loss"},
                r"metric <lambda> must return a number, got an array of shape \(20, 4\)",
            ),
        ],
    )
    def test_return_what_they_are_to_return(self, options, message):
        with pytest.raises(TypeError, match=message):
            quiet_solver(net(), digits_like(20, 20), **options).train()

    def test_what_does_not_tell_its_arguments_passes(self):
        quiet_solver(net(), digits_like(), preprocess=np.negative, num_epochs=1).train()


class TestNames:
    @pytest.mark.parametrize(
        ("given", "advice"),
        [
            ({"optimizer": "adam"}, "did you mean 'update_rule'"),
            ({"epochs": 3}, "did you mean 'num_epochs'"),
            ({"lr": 0.1}, "optim_config={'learning_rate': 0.1}"),
            ({"learning_rate_decay": 0.1}, "did you mean 'lr_decay'"),
            ({"grad_clip": 1}, "did you mean 'clip_norm'"),
            ({"class_weights": None}, "class_weight='balanced', or a dict or list of weights"),
            ({"ClassWeights": None}, "class_weight='balanced', or a dict or list of weights"),
            ({"sample_weight": None}, "data holds the weights of samples, as weights_train"),
            ({"validation_split": 0.1}, "validation_fraction=0.1 takes some"),
            ({"val_split": 0.1}, "validation_fraction=0.1 takes some"),
            ({"steps_per_epoch": 5}, "batches_per_epoch= says how many batches"),
            ({"reg": 0.1}, "it is an argument of the model: ConvNet(..., reg=...)"),
            ({"dropout": 0.1}, "{'dropout': 0.5} is a stage of a ConvNet"),
            ({"device": "cpu"}, "all is computed on the CPU: leave it out"),
            ({"shuffle": True}, "sampling='epoch', the default, shuffles"),
        ],
    )
    def test_of_arguments(self, given, advice):
        with pytest.raises(TypeError) as error:
            Solver(net(), digits_like(), **given)
        assert advice in str(error.value)

    @pytest.mark.parametrize(
        ("option", "value", "meant"),
        [
            ("update_rule", "SGD", "sgd"),
            ("update_rule", "Adam", "adam"),
            ("update_rule", "Momentum", "sgd_momentum"),
            ("loss", "MSE", "mse"),
            ("loss", "nll", "softmax"),
            ("loss", "BinaryCrossentropy", "bce"),
            ("metrics", "Accuracy", "accuracy"),
            ("metrics", "mean_squared_error", "rmse"),
            ("schedule", "CosineAnnealing", "cosine"),
            ("augment", "HorizontalFlip", "flip"),
        ],
    )
    def test_of_values(self, option, value, meant):
        with pytest.raises(ValueError, match=f"did you mean '{meant}'"):
            Solver(net(), digits_like(), **{option: value})

    @pytest.mark.parametrize(
        ("name", "advice"),
        [
            ("fit", r"solver\.train\(\) trains"),
            ("history", r"solver\.histories has all of them"),
            ("evaluate", r"solver\.check_accuracy\(X, y\) measures"),
        ],
    )
    def test_of_attributes(self, name, advice):
        solver = quiet_solver(net(), digits_like())
        with pytest.raises(AttributeError, match=rf"'Solver' object has no attribute '{name}'; {advice}"):
            getattr(solver, name)
        with pytest.raises(AttributeError, match=r"'Solver' object has no attribute 'nothing'$"):
            solver.nothing  # noqa: B018
