import dataclasses
import inspect
import os
import re

import numpy as np
import pytest
from cnnlib import optim
from cnnlib.data import load_digits
from cnnlib.models import ConvNet, FullyConnectedNet, ThreeLayerConvNet
from cnnlib.solver import Solver
from cnnlib.solver.options import OPTIONS, Options
from training import (
    LinearModel,
    NoisyModel,
    assert_same_bits,
    assert_same_run,
    digits_like,
    quiet_solver,
    trained,
)

pytestmark = pytest.mark.windows


def dense_net(seed=0, **options):
    options = {"dropout": 0.3, "use_batchnorm": True, "weight_scale": 0.1, **options}
    return FullyConnectedNet((12,), input_dim=36, num_classes=4, seed=seed, **options)


def my_rule(w, dw, config):
    """A user's rule, which returns a new array and keeps a state of its own."""
    config["sum"] = config.get("sum", 0) + dw
    return w - config["learning_rate"] * dw - 0.01 * config["sum"], config


# Training -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("use_batchnorm", [False, True])
def test_learns_real_digits(use_batchnorm):
    data = load_digits()
    model = ThreeLayerConvNet(
        (1, 8, 8), num_filters=16, filter_size=3, weight_scale=0.05, use_batchnorm=use_batchnorm, seed=0
    )
    solver = Solver(
        model,
        data,
        update_rule="adam",
        optim_config={"learning_rate": 3e-3},
        lr_decay=0.95,
        batch_size=50,
        num_epochs=10,
        verbose=False,
        seed=0,
    )
    solver.train()
    assert solver.check_accuracy(data["X_test"], data["y_test"]) > 0.95
    assert solver.best_val_acc == max(solver.val_acc_history)


@pytest.mark.parametrize("rule", optim.__all__)
def test_every_update_rule_lowers_the_loss(rule):
    rate = {"sgd": 0.5, "sgd_momentum": 0.1, "sgd_nesterov_momentum": 0.1}.get(rule, 1e-2)
    solver = quiet_solver(
        LinearModel(36, 4), digits_like(), update_rule=rule, optim_config={"learning_rate": rate}, seed=0
    )
    solver.num_epochs = 10
    solver.train()
    assert np.mean(solver.loss_history[-4:]) < 0.8 * solver.loss_history[0]


def test_histories_have_the_documented_lengths():
    solver = quiet_solver(LinearModel(36, 4), digits_like(num_train=60), num_epochs=3)
    assert solver.iterations_per_epoch == 4
    solver.train()
    assert len(solver.loss_history) == 12
    assert len(solver.train_acc_history) == len(solver.val_acc_history) == 4
    assert len(solver.epoch_seconds) == len(solver.learning_rate_history) == solver.epoch == 3
    assert all(type(value) is float for value in solver.loss_history + solver.val_acc_history)


@pytest.mark.parametrize(
    ("N", "batch_size", "sizes"), [(60, 20, [20] * 3), (61, 20, [15, 15, 15, 16]), (7, 100, [7])]
)
def test_an_epoch_visits_every_sample_once(N, batch_size, sizes):
    data, model = digits_like(num_train=N), LinearModel(36, 4)
    quiet_solver(model, data, batch_size=batch_size, num_epochs=2).train()
    epochs = [np.concatenate(model.seen[: len(sizes)]), np.concatenate(model.seen[len(sizes) :])]
    assert sorted(map(len, model.seen[: len(sizes)])) == sizes
    for visited in epochs:
        np.testing.assert_array_equal(np.sort(visited), np.sort(data["X_train"][:, 0, 0, 0]))
    assert (epochs[0] != epochs[1]).any()


@pytest.mark.parametrize(("N", "batch_size", "iterations"), [(60, 20, 3), (61, 20, 3), (7, 100, 1)])
def test_sampling_with_replacement(N, batch_size, iterations):
    model = LinearModel(36, 4)
    quiet_solver(
        model, digits_like(num_train=N), batch_size=batch_size, num_epochs=1, sampling="replacement", seed=0
    ).train()
    assert list(map(len, model.seen)) == [batch_size] * iterations
    assert len(np.unique(np.concatenate(model.seen))) < batch_size * iterations


def test_lr_decay_multiplies_after_each_epoch():
    model, data = LinearModel(36, 4), digits_like()
    solver = trained(model, data, optim_config={"learning_rate": 0.5}, lr_decay=0.5, num_epochs=3)
    assert solver.optim_configs["weights"]["learning_rate"] == 0.0625
    assert solver.options.optim_config == {"learning_rate": 0.5}
    assert solver.learning_rate_history == [0.5, 0.25, 0.125]
    by_default = trained(model, data, lr_decay=0.5)
    assert by_default.learning_rate_history == [0.01, 0.005]
    with pytest.raises(ValueError, match="lr_decay needs a learning_rate"):
        quiet_solver(model, data, update_rule=lambda w, dw, config: (w, config), lr_decay=0.5).train()


def test_check_accuracy():
    model = LinearModel(36, 4)
    data = digits_like(num_train=50)
    solver = quiet_solver(model, data, seed=0)
    model.loss = lambda X, y=None: np.eye(4)[data["y_train"][: len(X)]]
    assert solver.check_accuracy(data["X_train"], data["y_train"]) == 1.0
    wrong = (data["y_train"] + (np.arange(50) < 20)) % 4
    assert solver.check_accuracy(data["X_train"], wrong, batch_size=50) == 0.6

    batches = []
    model.loss = lambda X, y=None: batches.append(X[:, 0, 0, 0]) or np.zeros((len(X), 4))
    solver.check_accuracy(data["X_train"], data["y_train"], num_samples=30, batch_size=8)
    assert list(map(len, batches)) == [8, 8, 8, 6]
    assert len(np.unique(np.concatenate(batches))) == 30


# Best and last ------------------------------------------------------------------------------------------


class Scripted(LinearModel):
    """A model whose accuracy, after k updates, is `accuracies[k]`."""

    def __init__(self, accuracies):
        self.params = {"w": np.zeros(1)}
        self.accuracies = accuracies

    def loss(self, X, y=None):
        if y is not None:
            return 1.0, {"w": np.full(1, -1.0)}
        right = round(self.accuracies[round(self.params["w"][0])] * len(X))
        return np.eye(2)[(np.arange(len(X)) >= right).astype(int)]


@pytest.mark.parametrize(
    ("accuracies", "best"),
    [
        ([0, 0, 0, 0], 1),
        ([0.5, 0.5, 0.25, 0], 1),
        ([0.25, 0.5, 0.5, 0], 1),
        ([0.5, 0, 0.25, 0], 0),
        ([0, 0, 0.25, 1], 3),
    ],
)
def test_keeps_the_best_and_the_last(accuracies, best):
    X, y = np.zeros((4, 1)), np.zeros(4, dtype=int)
    data = {"X_train": X, "y_train": y, "X_val": X, "y_val": y}
    model = Scripted(accuracies)
    solver = quiet_solver(model, data, optim_config={"learning_rate": 1.0}, batch_size=4, num_epochs=3)
    assert solver.best_params == {}
    solver.train()
    assert solver.val_acc_history == accuracies
    assert (solver.best_val_acc, solver.best_epoch) == (max(accuracies), best)
    assert model.params["w"] == solver.best_params["w"] == best
    assert solver.last_params["w"] == 3
    model.params["w"][:] = 9
    assert solver.best_params["w"] == best


def test_batchnorm_statistics_belong_to_the_best_parameters():
    statistics = []
    solver = trained(
        dense_net(),
        digits_like(),
        num_epochs=6,
        optim_config={"learning_rate": 0.3},
        seed=0,
        on_epoch=lambda s: statistics.append(s.model.bn_params[0]["running_mean"].copy()),
    )
    assert 0 < solver.best_epoch < 6
    np.testing.assert_array_equal(
        solver.model.bn_params[0]["running_mean"], statistics[solver.best_epoch - 1]
    )
    assert solver.check_accuracy(solver.X_val, solver.y_val) == solver.best_val_acc


# Randomness ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sampling", ["epoch", "replacement"])
@pytest.mark.parametrize("build", [lambda: dense_net(seed=3), lambda: NoisyModel(36, 4)])
def test_seed_makes_a_run_repeatable(build, sampling):
    def run(seed):
        return trained(build(), digits_like(), seed=seed, sampling=sampling, num_train_samples=20)

    np.random.seed(5)
    np.random.randn(3)  # an odd number: the state holds a cached value
    state = np.random.get_state()
    first = run(1)
    for got, want in zip(np.random.get_state(), state, strict=True):
        np.testing.assert_array_equal(got, want)
    np.random.seed(6)
    assert_same_run(run(1), first)
    assert run(2).loss_history != first.loss_history


def test_without_seed_the_global_state_governs():
    def run(seed):
        np.random.seed(seed)
        return trained(dense_net(seed=None), digits_like(), num_train_samples=20)

    first = run(1)
    assert_same_run(run(1), first)
    assert run(2).loss_history != first.loss_history


# Interruption and resumption ----------------------------------------------------------------------------


class Killed(BaseException):
    """Stands for whatever ends a process."""


def killed_run(build, data, path, iteration, **settings):
    """Train, but die in the loss of that iteration (1, 2, ...)."""
    model = build()
    solver = quiet_solver(model, data, checkpoint_name=path, **settings)
    loss = model.loss

    def dying_loss(X, y=None):
        if y is not None and len(solver.loss_history) == iteration - 1:
            raise Killed
        return loss(X, y)

    model.loss = dying_loss
    with pytest.raises(Killed):
        solver.train()


@pytest.mark.parametrize("seed", [1, None])
@pytest.mark.parametrize(
    ("build", "settings"),
    [
        (dense_net, {"update_rule": "adam", "optim_config": {"learning_rate": 1e-2}, "lr_decay": 0.9}),
        (lambda: dense_net(None), {"update_rule": "sgd_momentum", "sampling": "replacement"}),
        (
            lambda: ThreeLayerConvNet((1, 6, 6), 3, 3, 5, 4, 0.1, reg=0.1, use_batchnorm=True),
            {"update_rule": "rmsprop"},
        ),
        (lambda: NoisyModel(36, 4), {"update_rule": my_rule, "optim_config": {"learning_rate": 0.1}}),
    ],
)
def test_resume_equals_uninterrupted(build, settings, seed, tmp_path):
    data = digits_like(num_train=50)
    settings = {"num_epochs": 4, "num_train_samples": 20, "num_val_samples": 15, "seed": seed, **settings}

    np.random.seed(3)
    whole = trained(build(), data, **settings)
    np.random.seed(3)
    iteration = 2 * whole.iterations_per_epoch + 2
    killed_run(build, data, tmp_path / "run", iteration, **settings)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["run_epoch_1.npz", "run_epoch_2.npz"]

    np.random.seed(99)
    rule = my_rule if settings["update_rule"] is my_rule else None
    resumed = Solver.resume(tmp_path / "run_epoch_2.npz", build(), data, update_rule=rule)
    assert resumed.epoch == 2
    assert resumed.loss_history == whole.loss_history[: 2 * whole.iterations_per_epoch]
    np.random.rand()  # what happens between does not matter
    resumed.train()
    assert_same_run(resumed, whole)
    assert (tmp_path / "run_epoch_4.npz").exists()


def test_resume_with_seed_spares_the_global_state(tmp_path):
    quiet_solver(dense_net(), digits_like(), num_epochs=1, checkpoint_name=tmp_path / "run", seed=1).train()
    np.random.seed(4)
    state = np.random.get_state()[1].copy()
    Solver.resume(tmp_path / "run_epoch_1.npz", dense_net(), digits_like(), num_epochs=2).train()
    np.testing.assert_array_equal(np.random.get_state()[1], state)


def test_the_models_own_random_stream_is_resumed(tmp_path):
    class OwnStream(LinearModel):
        def __init__(self, rng):
            super().__init__(36, 4)
            self.rng = rng

        def loss(self, X, y=None):
            return super().loss(X if y is None else X + self.rng.normal(size=X.shape), y)

    data = digits_like()
    for build in (np.random.default_rng, np.random.RandomState):
        whole = trained(OwnStream(build(0)), data, num_epochs=3, seed=1, checkpoint_name=tmp_path / "run")
        resumed = Solver.resume(tmp_path / "run_epoch_1.npz", OwnStream(build(5)), data)
        resumed.train()
        assert_same_run(resumed, whole)


def test_a_finished_run_can_be_prolonged(tmp_path):
    data = digits_like()
    long = trained(dense_net(), data, num_epochs=5, seed=1)
    short = trained(dense_net(), data, num_epochs=2, seed=1, checkpoint_name=tmp_path / "run")
    same = Solver.resume(tmp_path / "run_epoch_2.npz", dense_net(), data)
    same.train()
    assert_same_run(same, short)
    resumed = Solver.resume(tmp_path / "run_epoch_2.npz", dense_net(), data, num_epochs=5)
    resumed.train()
    assert_same_run(resumed, long)
    short.num_epochs = 5  # without a file: the same object goes on, from the last parameters
    short.train()
    assert_same_run(short, long)


def test_train_again_after_an_interrupt_goes_on_where_it_stopped():
    data = digits_like()
    whole = trained(dense_net(), data, num_epochs=3, seed=1)
    model = dense_net()
    solver = quiet_solver(model, data, num_epochs=3, seed=1)
    loss, stops = model.loss, [0, 5, 5, 9]

    def interrupted_loss(X, y=None):
        if stops and len(solver.loss_history) == stops[0] and y is not None:
            stops.pop(0)
            raise KeyboardInterrupt
        return loss(X, y)

    model.loss = interrupted_loss
    for _ in range(4):
        with pytest.raises(KeyboardInterrupt):
            solver.train()
        assert model.loss(data["X_val"]).shape == (20, 4)
    solver.train()
    assert_same_run(solver, whole)


def test_interrupt_in_on_epoch_leaves_the_checkpoint(tmp_path):
    def stop(solver):
        assert (tmp_path / f"run_epoch_{solver.epoch}.npz").exists()
        assert len(solver.val_acc_history) == solver.epoch + 1
        if solver.epoch == 2:
            raise KeyboardInterrupt

    data = digits_like()
    whole = trained(dense_net(), data, num_epochs=4, seed=1)
    solver = quiet_solver(
        dense_net(), data, num_epochs=4, seed=1, checkpoint_name=str(tmp_path / "run"), on_epoch=stop
    )
    with pytest.raises(KeyboardInterrupt):
        solver.train()
    resumed = Solver.resume(tmp_path / "run_epoch_2.npz", dense_net(), data)
    resumed.train()
    assert_same_run(resumed, whole)


@pytest.mark.parametrize("kind", [bool, np.bool_])
def test_on_epoch_can_end_the_training(kind):
    data = digits_like()
    short = trained(dense_net(), data, num_epochs=2, seed=1)
    ends = {"on_epoch": lambda solver: kind(solver.epoch == 2)}
    solver = trained(dense_net(), data, num_epochs=9, seed=1, **ends)
    assert_same_run(solver, short)


def test_a_failed_checkpoint_keeps_the_older_ones(tmp_path, monkeypatch):
    import os

    def fail(*paths):
        raise OSError("no space left")

    def full_disk(solver):
        monkeypatch.setattr(os, "replace", fail)

    data = digits_like()
    solver = quiet_solver(dense_net(), data, seed=1, checkpoint_name=tmp_path / "run", on_epoch=full_disk)
    with pytest.raises(OSError, match="no space left"):
        solver.train()
    assert [file.name for file in tmp_path.iterdir()] == ["run_epoch_1.npz"]
    monkeypatch.undo()
    resumed = Solver.resume(tmp_path / "run_epoch_1.npz", dense_net(), data)
    resumed.train()
    solver.train()  # the epoch whose file could not be written is not lost either
    assert_same_run(resumed, solver)


def test_checkpoint_holds_parameters_under_their_names(tmp_path):
    solver = trained(dense_net(), digits_like(), update_rule="adam", seed=1, checkpoint_name=tmp_path / "run")
    with np.load(tmp_path / "run_epoch_2.npz", allow_pickle=False) as file:
        for name, value in solver.last_params.items():
            np.testing.assert_array_equal(file[name], value)
        np.testing.assert_array_equal(
            file["__cnnlib__/run/optim_configs/W1/v"], solver.optim_configs["W1"]["v"]
        )


def test_resume_refuses_what_does_not_fit(tmp_path):
    data = digits_like()
    model = LinearModel(36, 4)
    settings = {"checkpoint_name": tmp_path / "run", "optim_config": {"learning_rate": 0.1}}
    quiet_solver(model, data, update_rule=my_rule, **settings).train()
    path = str(tmp_path / "run_epoch_2.npz")
    with pytest.raises(ValueError, match="pass it as update_rule") as caught:
        Solver.resume(path, model, data)
    assert path in str(caught.value)
    with pytest.raises(ValueError, match="60 training samples, data has 61"):
        Solver.resume(path, model, digits_like(num_train=61), update_rule=my_rule)


def test_a_moved_or_renamed_checkpoint_and_other_settings(tmp_path):
    data = digits_like()
    quiet_solver(dense_net(), data, num_epochs=1, seed=1, checkpoint_name=tmp_path / "run").train()
    tmp_path.joinpath("moved").mkdir()
    (tmp_path / "run_epoch_1.npz").rename(tmp_path / "moved" / "run_epoch_1.npz")
    solver = Solver.resume(tmp_path / "moved" / "run_epoch_1.npz", dense_net(), data)
    assert solver.checkpoint_name == str(tmp_path / "moved" / "run")
    (tmp_path / "moved" / "run_epoch_1.npz").rename(tmp_path / "kept.npz")
    assert Solver.resume(tmp_path / "kept.npz", dense_net(), data).checkpoint_name == str(tmp_path / "run")
    solver = Solver.resume(
        tmp_path / "kept.npz",
        dense_net(),
        data,
        checkpoint_name=tmp_path / "other",
        print_every=7,
        verbose=True,
    )
    assert (solver.checkpoint_name, solver.print_every, solver.verbose) == (str(tmp_path / "other"), 7, True)
    assert (solver.options.batch_size, solver.options.seed) == (16, 1)


# Faults -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_stops(value, tmp_path):
    model = LinearModel(36, 4)
    loss = model.loss
    solver = quiet_solver(model, digits_like(), checkpoint_name=tmp_path / "run", num_epochs=3)

    def exploding_loss(X, y=None):
        if y is not None and len(solver.loss_history) == 5:
            return value, {"weights": np.full((36, 4), np.nan)}
        return loss(X, y)

    model.loss = exploding_loss
    with pytest.raises(FloatingPointError, match=rf"iteration 6 \(epoch 2\): the loss is {value}"):
        solver.train()
    assert np.isfinite(model.params["weights"]).all()
    assert len(solver.loss_history) == 5
    assert [file.name for file in tmp_path.iterdir()] == ["run_epoch_1.npz"]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"X_val": None}, ValueError, "data lacks X_val; it has X_train, y_train, y_val"),
        ({"y_train": np.zeros(59, int)}, ValueError, r"y_train must have shape \(60,\)"),
        ({"y_val": np.zeros((20, 1), int)}, ValueError, r"y_val must have shape \(20,\)"),
        (
            {"y_train": np.zeros(60)},
            TypeError,
            r"y_train must hold integer labels \(other.*, got dtype float64",
        ),
        ({"X_train": np.zeros((0, 36)), "y_train": np.zeros(0, int)}, ValueError, "X_train is empty"),
    ],
)
def test_refuses_bad_data(change, error, message):
    data = {name: value for name, value in (digits_like() | change).items() if value is not None}
    with pytest.raises(error, match=message):
        Solver(LinearModel(36, 4), data)


def test_refuses_what_is_no_data_or_no_model():
    with pytest.raises(TypeError, match="data must be a dict"):
        Solver(LinearModel(36, 4), [1, 2])
    with pytest.raises(TypeError, match="a model needs a dict `params` and a method `loss`, got a list"):
        Solver([], digits_like())
    model = LinearModel(36, 4)
    model.params["__cnnlib__/x"] = np.zeros(1)
    with pytest.raises(ValueError, match="parameter names"):
        Solver(model, digits_like())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"update_rule": "sgd_momentun"}, "unknown update_rule 'sgd_momentun'; did you mean 'sgd_momentum'"),
        ({"update_rule": "zzz"}, "unknown update_rule 'zzz'; known: adam, adamw"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"num_epochs": -1}, "num_epochs must be at least 0"),
        ({"lr_decay": -0.1}, "lr_decay must be"),
        ({"print_every": 0}, "print_every must be at least 1"),
        ({"num_train_samples": 0}, "num_train_samples must be at least 1"),
        ({"sampling": "shuffle"}, "sampling must be one of 'epoch', 'replacement'"),
        ({"seed": -1}, "seed must be"),
    ],
)
def test_refuses_bad_settings(settings, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        Solver(LinearModel(36, 4), digits_like(), **settings)


def test_a_checkpoint_s_name_in_bytes(tmp_path):
    solver = Solver(
        LinearModel(36, 4),
        digits_like(),
        checkpoint_name=os.fsencode(tmp_path / "run"),
        num_epochs=1,
        verbose=False,
    )
    assert solver.checkpoint_name == str(tmp_path / "run")


def test_refuses_wrong_types():
    names = {"update_rule": 3, "batch_size": 2.5, "on_epoch": 3, "learning_rate": 1e-3, "checkpoint_name": 3}
    for settings in ({name: value} for name, value in names.items()):
        with pytest.raises(TypeError, match=next(iter(settings))):
            Solver(LinearModel(36, 4), digits_like(), **settings)


@pytest.mark.parametrize(
    ("gradient", "message"), [(None, "is missing"), (np.zeros((4, 36)), r"has shape \(4, 36\)")]
)
def test_refuses_a_model_with_wrong_gradients(gradient, message):
    model = LinearModel(36, 4)
    model.loss = lambda X, y=None: np.zeros((len(X), 4)) if y is None else (1.0, {"weights": gradient})
    with pytest.raises(ValueError, match=f"gradient of weights {message}"):
        quiet_solver(model, digits_like()).train()


def test_memory_mapped_data_is_not_copied(tmp_path):
    data = digits_like()
    np.save(tmp_path / "X.npy", data["X_train"])
    data["X_train"] = np.load(tmp_path / "X.npy", mmap_mode="r")
    solver = quiet_solver(dense_net(), data, seed=1)
    assert solver.X_train is data["X_train"]
    solver.train()
    in_memory = trained(dense_net(), digits_like(), seed=1)
    assert_same_run(solver, in_memory)


def test_no_epochs_only_checks():
    solver = trained(dense_net(), digits_like(), num_epochs=0, seed=0)
    assert (len(solver.loss_history), len(solver.val_acc_history), solver.best_epoch) == (0, 1, 0)
    assert_same_bits(solver.best_params, solver.model.params)


# State and streams --------------------------------------------------------------------------------------


def test_state_goes_into_another_solver():
    """Also in the middle of an epoch, and what happens to the first does not reach the second."""
    data = digits_like()
    settings = {"num_epochs": 3, "seed": 1, "num_train_samples": 20, "update_rule": "adam"}
    whole = trained(dense_net(), data, **settings)

    model = dense_net()
    first, loss = quiet_solver(model, data, **settings), model.loss

    def interrupted_loss(X, y=None):
        if y is not None and len(first.loss_history) == 6:
            raise KeyboardInterrupt
        return loss(X, y)

    model.loss = interrupted_loss
    with pytest.raises(KeyboardInterrupt):
        first.train()
    state = first.state()
    model.loss = loss
    first.train()
    assert_same_run(first, whole)

    model = dense_net()
    model.params["W1"] *= 2
    second = quiet_solver(model, data, **settings)
    second.load_state(state)
    assert (second.epoch, len(second.loss_history)) == (1, 6)
    second.train()
    assert_same_run(second, whole)


# A training of one epoch that has measured the loss alone.
HISTORIES = {
    "loss": np.ones(4),
    "val_loss": np.ones(2),
    "learning_rate": np.ones(1),
    "epoch_seconds": np.ones(1),
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epoch": "1"}, "epoch must be an integer"),
        ({"epoch": 5}, "entries after 5 epochs"),
        ({"histories": {}}, "histories lacks loss"),
        ({"histories": HISTORIES}, "the run measured nothing, this one measures accuracy"),
        ({"histories": {**HISTORIES, "loss": [0.1]}}, "histories loss must be a one-dimensional array"),
        ({"params": {}}, "was written for another model"),
        ({"best": None}, "no best parameters"),
        ({"best": {"params": 3}}, "must be dicts"),
        ({"optim_configs": {"W": {}}}, "optim_configs must be a dict with a dict for each parameter"),
        ({"optim_configs": {"W1": {}}}, "the run trained W1, the model trains W1, b1"),
        ({"random_state": {"bit_generator": "MT19937"}}, "random_state is no state of such a stream"),
        ({"num_train": 61}, "the run had 61 training samples"),
        ({"pending": [3]}, "pending must be a list"),
        ({"average": {"params": dense_net().params, "bn_params": {"0": {}}}}, "the other none"),
    ],
    ids=str,
)
def test_a_state_that_does_not_fit_changes_nothing(change, message):
    solver = trained(dense_net(), digits_like(), num_epochs=1, seed=1)
    before = solver.state()
    with pytest.raises(ValueError, match=f"load_state.*{message}"):
        solver.load_state({**solver.state(), **change})
    assert_same_bits(solver.state(), before)
    with pytest.raises(ValueError, match="the state lacks epoch"):
        solver.load_state({name: value for name, value in before.items() if name != "epoch"})


def test_train_returns_the_histories_by_name(capsys):
    """The lines have the same names; the attributes of the course are the same lists."""
    solver = Solver(dense_net(), digits_like(), num_epochs=2, seed=1, print_every=100)
    histories = solver.train()
    measured = ["train_accuracy", "val_accuracy", "val_loss"]
    assert list(histories) == ["loss", *measured, "learning_rate", "epoch_seconds"]
    assert [len(values) for values in histories.values()] == [len(solver.loss_history), 3, 3, 3, 2, 2]
    assert histories["loss"] is solver.loss_history
    assert histories["train_accuracy"] is solver.train_acc_history
    assert histories["val_accuracy"] is solver.val_acc_history
    assert isinstance(histories, dict)
    assert repr(histories).startswith(f"Histories(loss: {len(solver.loss_history)}, train_accuracy: 3, ")
    shown = "; ".join(f"{name}: {histories[name][-1]:.4f}" for name in measured)
    assert capsys.readouterr().out.splitlines()[-1] == f"(Epoch 2 / 2) {shown}"
    solver.num_epochs = 3
    assert solver.train() is histories
    assert len(histories["val_accuracy"]) == 4


def test_options_are_checked_and_frozen():
    """Those that may change between two calls of train() are checked when they do."""
    solver = quiet_solver(dense_net(), digits_like(), num_epochs=2, lr_decay=0.5)
    with pytest.raises(dataclasses.FrozenInstanceError):
        solver.options.batch_size = 3
    for name, value in (("num_epochs", -1), ("print_every", 0), ("on_epoch", 3), ("checkpoint_name", 3)):
        before = solver.options
        with pytest.raises((TypeError, ValueError), match=f"Solver: {name} must"):
            setattr(solver, name, value)
        assert solver.options is before
    with pytest.raises(ValueError, match="lr_decay and schedule exclude each other"):
        solver.options.changed(schedule="cosine")


def test_options_are_built_anew_from_what_a_checkpoint_holds():
    options = quiet_solver(
        dense_net(), digits_like(), schedule="cosine", augment="flip", metrics="top5"
    ).options
    again = Options.checked(**options.saved(), comm=None, on_epoch=None, on_batch=None)
    assert again.saved() == options.saved()
    assert again.changed() == again


def test_every_option_has_a_row_and_a_line_of_documentation():
    arguments = [
        parameter.name
        for parameter in inspect.signature(Solver).parameters.values()
        if parameter.kind is parameter.KEYWORD_ONLY
    ]
    assert sorted(arguments) == sorted(OPTIONS)
    described = inspect.getdoc(Solver)
    assert not [name for name in arguments if not re.search(rf"^(?! ).*\b{name}\b.* : ", described, re.M)]


@pytest.mark.parametrize("seed", [1, None])
def test_on_epoch_may_draw_from_the_streams(seed, tmp_path):
    """A resumed run has not made the draws of the epochs before its checkpoint; both go the same way."""

    def look(solver):
        solver.check_accuracy(solver.X_val, solver.y_val, num_samples=5)
        np.random.rand(3)

    data = digits_like()
    settings = {"num_epochs": 3, "num_train_samples": 20, "seed": seed, "on_epoch": look}
    np.random.seed(3)
    whole = trained(NoisyModel(36, 4), data, checkpoint_name=tmp_path / "run", **settings)
    resumed = Solver.resume(tmp_path / "run_epoch_1.npz", NoisyModel(36, 4), data, on_epoch=look)
    resumed.train()
    assert_same_run(resumed, whole)


@pytest.mark.parametrize(
    "build",
    [
        lambda: FullyConnectedNet((8,), input_dim=36, num_classes=4, dropout=0.5),
        lambda: ConvNet([{"affine": 8}, "relu", {"dropout": 0.5}], (1, 6, 6), 4),
        lambda: ThreeLayerConvNet((1, 6, 6), 3, 3, 5, 4),
    ],
)
def test_own_models_take_the_solvers_stream(build, monkeypatch):
    """A seeded run does not even borrow the global state, and is repeatable all the same."""
    data = digits_like()
    np.random.seed(0)
    models = [build(), build()]
    models[1].params = {name: value.copy() for name, value in models[0].params.items()}
    runs = [quiet_solver(model, data, seed=1) for model in models]
    for name in ("set_state", "rand", "seed"):
        monkeypatch.setattr(np.random, name, None)
    for run in runs:
        run.train()
        assert run.model.rng is None
    assert_same_run(*runs)


def test_parameters_without_dimensions(tmp_path):
    class Scaled(LinearModel):
        """A scale for all scores, and a user's rule that gives back scalars."""

        def __init__(self):
            super().__init__(36, 4)
            self.params["scale"] = np.array(1.0)

        def loss(self, X, y=None):
            scale = self.params["scale"]
            if y is None:
                return scale * super().loss(X)
            loss, grads = super().loss(scale * X, y)
            return loss, {**grads, "scale": np.float64(0.1)}

    data = digits_like()
    for rule in (*optim.__all__, my_rule):
        settings = {"num_epochs": 3, "seed": 1, "update_rule": rule, "clip_norm": 10, "ema_decay": 0.9}
        settings |= {"optim_config": {"learning_rate": 0.1}, "weight_decay": 1e-3}
        whole = trained(Scaled(), data, checkpoint_name=tmp_path / "run", **settings)
        assert whole.model.params["scale"] != 1
        assert whole.model.params["scale"].shape == ()
        resumed = Solver.resume(
            tmp_path / "run_epoch_1.npz", Scaled(), data, update_rule=rule if rule is my_rule else None
        )
        resumed.train()
        assert_same_run(resumed, whole)


def test_on_batch_sees_each_iteration(tmp_path):
    data, seen = digits_like(), []

    def look(solver):
        seen.append((len(solver.loss_history), solver.loss_history[-1]))
        np.random.rand()  # from the stream of a run without a seed

    settings = {"num_epochs": 2, "seed": None}
    np.random.seed(1)
    plain = quiet_solver(dense_net(), data, **settings).train()["loss"]
    np.random.seed(1)
    solver = quiet_solver(dense_net(), data, on_batch=look, checkpoint_name=tmp_path / "run", **settings)
    assert solver.train()["loss"] == plain
    assert seen == list(enumerate(plain, start=1))
    seen.clear()
    again = Solver.resume(tmp_path / "run_epoch_1.npz", dense_net(), data, on_batch=look)
    assert again.train()["loss"] == plain
    assert [count for count, _ in seen] == list(range(len(plain) // 2 + 1, len(plain) + 1))
    solver.on_batch = None
    assert solver.options.on_batch is None
