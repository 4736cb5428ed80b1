"""Weight decay, clipping, label smoothing, averaging, augmentation: what a Solver does beyond the course."""

import threading

import numpy as np
import pytest
from cnnlib import optim
from cnnlib.graph.compile import CompiledGraph
from cnnlib.models import ConvNet, FullyConnectedNet, ThreeLayerConvNet
from cnnlib.models.program import Step
from cnnlib.solver import Solver, load_weights
from training import (
    LinearModel,
    assert_same_bits,
    assert_same_run,
    digits_like,
    quiet_solver,
    running_statistics,
    trained,
)

ALL = {
    "schedule": {"name": "one-cycle", "warmup": 0.2},
    "weight_decay": 0.1,
    "clip_norm": 0.5,
    "label_smoothing": 0.1,
    "ema_decay": 0.9,
    "augment": ["flip", {"name": "crop", "pad": 1}, {"name": "cutout", "size": 2}],
}


def conv_net():
    spec = [
        {"conv": 4},
        "batchnorm",
        "relu",
        {"dropout": 0.3},
        {"max_pool": 2},
        {"affine": 8},
        "batchnorm",
        "relu",
    ]
    return ConvNet(spec, (1, 6, 6), 4, seed=3)


class FixedGradients:
    """A model of two parameters whose gradients are always the same."""

    def __init__(self):
        self.params = {"w": np.array([[3.0, 4.0]]), "b": np.array([2.0])}

    def loss(self, X, y=None):
        if y is None:
            return np.zeros((len(X), 4))
        return 1.0, {"w": np.array([[0.0, 3.0]]), "b": np.array([4.0])}


def after_one_step(**settings):
    model = FixedGradients()
    solver = trained(model, digits_like(), num_epochs=1, batch_size=100, **settings)
    return solver.last_params


@pytest.mark.parametrize("rule", optim.__all__)
def test_weight_decay_is_decoupled_and_spares_biases(rule):
    config = {"learning_rate": 0.1}
    plain = after_one_step(
        update_rule=rule, optim_config=config | ({"weight_decay": 0.0} if rule == "adamw" else {})
    )
    decayed = after_one_step(update_rule=rule, optim_config=config, weight_decay=0.5)
    np.testing.assert_allclose(decayed["w"], plain["w"] - 0.1 * 0.5 * np.array([[3.0, 4.0]]), rtol=1e-12)
    assert_same_bits(decayed["b"], plain["b"])


def test_weight_decay_follows_the_default_rate():
    np.testing.assert_allclose(
        after_one_step(weight_decay=0.5)["w"], [[3 * (1 - 0.005), 4 * (1 - 0.005) - 0.03]]
    )


def test_rate_factors():
    """By kind, and by name where both are given; weight decay and the history go along."""
    settings = {"optim_config": {"learning_rate": 0.1}, "weight_decay": 0.5}
    plain = after_one_step(**settings)
    np.testing.assert_allclose(plain["w"], [[3 - 0.15, 4 - 0.2 - 0.3]])
    np.testing.assert_allclose(plain["b"], [2 - 0.4])
    for schedule in (None, lambda epoch, num_epochs: 1.0):
        factors = {"w": 2, "b": 0.5}
        params = after_one_step(rate_factors=factors, schedule=schedule, **settings)
        np.testing.assert_allclose(params["w"], [[3 - 0.3, 4 - 0.4 - 0.6]])
        np.testing.assert_allclose(params["b"], [2 - 0.2])

    net = conv_net()
    solver = trained(
        net,
        digits_like(),
        rate_factors={"W": 3, "W2": 0.5},
        optim_config={"learning_rate": 0.1},
        lr_decay=0.5,
    )
    rates = {name: config["learning_rate"] for name, config in solver.optim_configs.items()}
    assert {name: rates[name] for name in ("W1", "W2", "W3", "b3", "beta1")} == pytest.approx(
        {"W1": 0.075, "W2": 0.0125, "W3": 0.075, "b3": 0.025, "beta1": 0.025}
    )
    assert solver.learning_rate_history == pytest.approx([0.1, 0.05])
    assert_same_bits(after_one_step(rate_factors={"w": 0})["w"], FixedGradients().params["w"])


def test_rate_factors_name_parameters():
    with pytest.raises(ValueError, match="the model has no parameter 'bta'; did you mean 'beta'"):
        quiet_solver(conv_net(), digits_like(), rate_factors={"bta": 2})
    with pytest.raises(ValueError, match="rate_factors needs a learning_rate"):
        quiet_solver(
            conv_net(), digits_like(), rate_factors={"beta": 2}, update_rule=lambda w, dw, config: None
        )


@pytest.mark.parametrize(("clip_norm", "scale"), [(10, 1), (5, 1), (2.5, 0.5)])
def test_clipping(clip_norm, scale):
    params = after_one_step(optim_config={"learning_rate": 1.0}, clip_norm=clip_norm)
    np.testing.assert_allclose(params["w"], [[3, 4 - 3 * scale]], rtol=1e-12)
    np.testing.assert_allclose(params["b"], [2 - 4 * scale], rtol=1e-12)


@pytest.mark.parametrize("rule", [*optim.__all__, lambda w, dw, config: (w - 0.1 * dw, config)])
def test_clipping_goes_with_every_rule_and_spares_the_gradients(rule):
    model = FixedGradients()
    grads = model.loss(np.zeros((1, 2)), np.zeros(1))[1]
    model.loss = lambda X, y=None: np.zeros((len(X), 4)) if y is None else (1.0, grads)
    config = {"learning_rate": 0.1}
    settings = {"num_epochs": 1, "update_rule": rule, "optim_config": config, "clip_norm": 0.5}
    solver = trained(model, digits_like(), **settings)
    np.testing.assert_array_equal(grads["w"], [[0, 3]])
    np.testing.assert_array_equal(grads["b"], [4])
    by_hand = {"w": np.array([[3.0, 4.0]]), "b": np.array([2.0])}
    for name in by_hand:
        step, state = (getattr(optim, rule) if isinstance(rule, str) else rule), {"learning_rate": 0.1}
        for _ in solver.loss_history:
            by_hand[name], state = step(by_hand[name], 0.1 * grads[name], state)
        np.testing.assert_allclose(solver.last_params[name], by_hand[name], rtol=1e-12)


def test_clipping_stops_at_a_gradient_that_is_not_finite():
    model = FixedGradients()
    model.loss = lambda X, y=None: (
        np.zeros((len(X), 4)) if y is None else (1.0, {"w": np.array([[np.nan, 0]]), "b": np.zeros(1)})
    )
    with pytest.raises(FloatingPointError, match=r"iteration 1 \(epoch 1\): the gradient is not finite"):
        quiet_solver(model, digits_like(), clip_norm=1.0).train()
    np.testing.assert_array_equal(model.params["w"], [[3, 4]])


@pytest.mark.parametrize(
    "build",
    [
        lambda: FullyConnectedNet((5,), input_dim=36, num_classes=4, weight_scale=0.3, seed=0),
        lambda: ThreeLayerConvNet((1, 6, 6), 3, 3, 5, 4, 0.3, seed=0),
        conv_net,
    ],
)
def test_label_smoothing_reaches_the_model(build):
    data = digits_like()
    plain = quiet_solver(build(), data, seed=0)
    smoothed = quiet_solver(build(), data, seed=0, label_smoothing=0.2)
    plain.train()
    smoothed.train()
    assert smoothed.model.label_smoothing == 0.2
    assert smoothed.loss_history[0] != plain.loss_history[0]
    model = build()
    X, y = data["X_train"], data["y_train"]
    scores = model.loss(X).astype(np.float64)
    if not running_statistics(model):
        model.label_smoothing = 0.2
        log_p = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
        want = -((0.8 * np.eye(4)[y] + 0.05) * log_p).sum(axis=1).mean()
        assert model.loss(X, y)[0] == pytest.approx(want, rel=1e-5)


def test_label_smoothing_needs_a_model_that_knows_it():
    with pytest.raises(ValueError, match="LinearModel does not know it"):
        quiet_solver(LinearModel(36, 4), digits_like(), label_smoothing=0.1)


@pytest.mark.parametrize("frozen", ["weights", ("bias",)])
def test_what_a_model_freezes_are_parameters(frozen):
    """Of a name alone the letters were taken, and all was trained."""
    model = LinearModel(36, 4)
    model.frozen = frozen
    with pytest.raises(ValueError, match=r"^Solver: model: frozen names '(w|bias)', which is no parameter$"):
        quiet_solver(model, digits_like())
    model.frozen = ["weights"]
    quiet_solver(model, digits_like()).train()
    np.testing.assert_array_equal(model.params["weights"], 0)


def test_average_of_the_weights():
    """The average after each iteration by its formula; accuracies and best parameters are the average's."""
    model = conv_net()
    solver = quiet_solver(model, digits_like(), num_epochs=3, ema_decay=0.9, update_rule="adam", seed=0)
    average = {name: value.astype(np.float64) for name, value in model.params.items()}
    statistics, checked = [], []
    step = solver._step

    def watched_step(minibatch):
        step(minibatch)
        d = min(0.9, (1 + len(solver.loss_history)) / (10 + len(solver.loss_history)))
        for name, value in model.params.items():
            average[name] = d * average[name] + (1 - d) * value
        new = running_statistics(model)[0]["running_mean"].astype(np.float64)
        statistics.append(d * (statistics[-1] if statistics else 0) + (1 - d) * new)

    def after_epoch(solver):
        checked.append(
            {name: value.astype(np.float32) for name, value in average.items()} | {"mean": statistics[-1]}
        )

    solver._step, solver.on_epoch = watched_step, after_epoch
    solver.train()
    best = checked[solver.best_epoch - 1]
    np.testing.assert_allclose(model.bn_params[0]["running_mean"], best.pop("mean"), rtol=1e-4, atol=1e-6)
    for name, value in best.items():
        np.testing.assert_allclose(solver.best_params[name], value, rtol=1e-4, atol=1e-6)
    assert (solver.last_params["W1"] != checked[-1]["W1"]).any()
    assert solver.check_accuracy(solver.X_val, solver.y_val) == solver.best_val_acc


def test_statistics_that_a_model_updates_in_place_are_averaged():
    class InPlace(LinearModel):
        bn_params = [{}]  # noqa: RUF012

        def loss(self, X, y=None):
            if y is not None:
                mean = self.bn_params[0].setdefault("running_mean", np.zeros(1))
                mean += 1
            return super().loss(X, y)

    model = InPlace(36, 4)
    solver = quiet_solver(model, digits_like(), num_epochs=1, batch_size=30, ema_decay=0.9)
    newest = []
    solver.on_epoch = lambda solver: newest.append(model.bn_params[0]["running_mean"].copy())
    solver.train()
    assert newest[0] == 2
    assert solver._state.average["bn_params"]["0"]["running_mean"] == pytest.approx(1 + 0.75)


def test_averaging_does_not_change_the_training():
    runs = [quiet_solver(conv_net(), digits_like(), seed=0, ema_decay=decay) for decay in (None, 0.0, 0.9)]
    for run in runs:
        run.train()
    assert runs[0].loss_history == runs[1].loss_history == runs[2].loss_history
    assert_same_bits(runs[2].last_params, runs[0].last_params)
    # A decay of 0 makes the average the newest parameters.
    assert runs[1].val_acc_history == runs[0].val_acc_history


def test_lookahead():
    """Every two iterations the slow weights by their formula, and training goes on from them."""
    settings = {"num_epochs": 2, "update_rule": "adam", "seed": 0, "prefetch": 0}
    solver = quiet_solver(
        conv_net(), digits_like(), lookahead={"steps": 2, "decay": 0.9, "power": 2}, **settings
    )
    slow = {name: value.copy() for name, value in solver.model.params.items()}
    compute, reached, checked = solver.model.loss, [], []

    def watched_loss(X, y=None):
        if y is None:
            checked.append({name: value.copy() for name, value in solver.model.params.items()})
        return compute(X, y)

    restored = solver._averaging.after_iteration

    def watched_look_ahead(average, model, t, total):
        new = {name: value.copy() for name, value in solver.model.params.items()}
        restored(average, model, t, total)
        if t % 2:
            assert_same_bits(solver.model.params, new)
            return
        d = 0.9**2 * (t / 8) ** 2
        for name, value in slow.items():
            slow[name] = d * value + (1 - d) * new[name]
            np.testing.assert_allclose(solver.model.params[name], slow[name], rtol=1e-5, atol=1e-7)
        reached.append(t)

    solver.model.loss, solver._averaging.after_iteration = watched_loss, watched_look_ahead
    solver.train()
    assert reached == [2, 4, 6, 8]
    for name, value in slow.items():
        np.testing.assert_allclose(checked[-1][name], value, rtol=1e-5, atol=1e-7)
    plain = trained(conv_net(), digits_like(), **settings)
    assert plain.loss_history[:2] == solver.loss_history[:2]
    assert plain.loss_history[3:] != solver.loss_history[3:]


def test_lookahead_statistics_are_slow_too():
    lookahead = {"steps": 4, "power": 0}
    solver = quiet_solver(conv_net(), digits_like(), num_epochs=1, lookahead=lookahead, keep="last", seed=0)
    newest = []
    restored = solver._averaging.after_iteration

    def watched_look_ahead(average, model, t, total):
        newest.append(running_statistics(model))
        restored(average, model, t, total)

    solver._averaging.after_iteration = watched_look_ahead
    solver.train()
    slow, new = solver._state.average["bn_params"]["0"], newest[-1][0]
    d = 0.95**4
    np.testing.assert_allclose(slow["running_mean"], (1 - d) * new["running_mean"], rtol=1e-5)
    np.testing.assert_allclose(slow["running_var"], d + (1 - d) * new["running_var"], rtol=1e-5)
    assert_same_bits(running_statistics(solver.model)[0], slow)


def test_keep_last():
    """With a model whose first weight falls by 4 in an epoch, and that is right at -2 alone."""
    kept = {}
    for keep in ("best", "last"):
        model = FixedGradients()
        model.loss = lambda X, y=None, model=model: (
            np.eye(4)[digits_like()["y_val"] * (model.params["b"][0] == -2)]
            if y is None
            else (1.0, {"w": np.zeros((1, 2)), "b": np.array([4.0])})
        )
        solver = trained(
            model,
            digits_like(),
            num_epochs=3,
            batch_size=100,
            optim_config={"learning_rate": 1.0},
            keep=keep,
            num_train_samples=20,
        )
        kept[keep] = solver.best_epoch, solver.best_val_acc == 1, float(model.params["b"][0])
        assert solver.best_params["b"] == model.params["b"]
    assert kept == {"best": (1, True, -2.0), "last": (3, False, -10.0)}


def test_a_network_that_has_diverged_is_not_the_best():
    """Though all of its answers are the first class, and right."""
    model, data = FixedGradients(), digits_like()
    data["y_val"][:] = 0
    first = {True: np.eye(4)[1], False: np.array([np.inf, 0, 0, 0])}
    model.loss = lambda X, y=None: (
        np.tile(first[model.params["b"][0] == 2], (len(X), 1)) if y is None else (1.0, gradients)
    )
    gradients = FixedGradients().loss(data["X_val"], data["y_val"])[1]
    solver = trained(model, data, num_epochs=1, batch_size=100)
    assert solver.val_acc_history == [0, 1]
    assert np.isnan(solver.val_loss_history).tolist() == [False, True]
    assert solver.best_epoch == 0
    assert model.params["b"] == 2


# Augmentation and prefetching ---------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [1, None])
def test_prefetching_gives_the_same_bits(seed):
    runs = []
    for prefetch in (0, 1, 2, 50):
        np.random.seed(7)
        runs.append(quiet_solver(conv_net(), digits_like(), seed=seed, prefetch=prefetch, **ALL))
        runs[-1].train()
        assert_same_run(runs[-1], runs[0])


def test_augmentation_changes_the_training_images_only():
    seen = {True: [], False: []}
    model = LinearModel(36, 4)
    loss = model.loss
    model.loss = lambda X, y=None: seen[y is not None].append(X) or loss(X, y)
    data = digits_like()
    before = data["X_train"].copy()

    def add_3(X, rng):
        X += 3  # even one that writes to its argument
        return X

    quiet_solver(model, data, augment=add_3).train()
    assert min(X.mean() for X in seen[True]) > 2
    assert max(X.mean() for X in seen[False]) < 1
    np.testing.assert_array_equal(data["X_train"], before)


def test_every_iteration_gets_a_stream_of_its_own():
    numbers, threads = [], set()

    def note(X, rng):
        numbers.append(rng.integers(2**60))
        threads.add(threading.current_thread())
        return X

    quiet_solver(LinearModel(36, 4), digits_like(), augment=note, seed=1).train()
    assert len(set(numbers)) == 8
    assert threading.current_thread() not in threads
    again = numbers.copy()
    numbers.clear()
    quiet_solver(LinearModel(36, 4), digits_like(), augment=note, seed=1, prefetch=0).train()
    assert numbers == again
    assert threading.current_thread() in threads


def test_accuracy_checks_run_compiled(monkeypatch):
    """Training samples and validation samples alike."""
    batches = []

    def scores(self, x, weights):
        batches.append(len(x))
        return compiled(self, x, weights)

    compiled = CompiledGraph.scores
    monkeypatch.setattr(CompiledGraph, "scores", scores)
    monkeypatch.setattr(Step, "scores", None)
    solver = trained(conv_net(), digits_like(), num_epochs=2)
    assert batches == [60, 20] * 3  # before the first epoch too
    assert 0 < solver.train_acc_history[-1] <= 1


def test_a_profile_of_a_step_is_of_what_trains(monkeypatch):
    monkeypatch.setattr(Step, "forward", None)
    solver = trained(conv_net(), digits_like())
    before = solver.state()
    profile = solver.profile_step()
    assert_same_bits(solver.state(), before)
    assert (profile.images, profile.steps > 0) == (16, True)
    assert [(layer.name, layer.shape) for layer in profile.layers[:3]] == [
        ("conv 4 3x3 + batchnorm + relu", (16, 1, 6, 6)),
        ("dropout 0.3", (16, 4, 6, 6)),
        ("max_pool 2x2", (16, 4, 6, 6)),
    ]
    assert all(layer.forward > 0 and layer.backward > 0 for layer in profile.layers)
    spent = sum(layer.forward + layer.backward for layer in profile.layers)
    assert 0 < spent + profile.loss + profile.update < profile.total
    assert profile.table().splitlines()[-3].startswith("rest")


def test_a_profile_needs_a_model_of_the_library():
    solver = quiet_solver(LinearModel(36, 4), digits_like())
    with pytest.raises(TypeError, match=r"profile_step: needs a model of cnnlib\.models, .* a LinearModel"):
        solver.profile_step()


def test_the_thread_ends_with_the_training():
    def fail(X, rng):
        raise RuntimeError("augmentation failed")

    def running():
        return [thread for thread in threading.enumerate() if thread.name.startswith("cnnlib-ahead")]

    solver = quiet_solver(LinearModel(36, 4), digits_like(), augment=fail)
    with pytest.raises(RuntimeError, match="augmentation failed"):
        solver.train()
    assert not running()

    model = LinearModel(36, 4)
    solver = trained(model, digits_like(), augment="flip")
    assert not running()

    def interrupt(minibatch):
        raise KeyboardInterrupt

    solver._step, solver.num_epochs = interrupt, 3
    with pytest.raises(KeyboardInterrupt) as caught:  # keeps the frames of the training alive
        solver.train()
    assert not running()
    assert caught.traceback


# Resumption ---------------------------------------------------------------------------------------------


FAST = {
    **ALL,
    "ema_decay": None,
    "lookahead": {"steps": 3},
    "rate_factors": {"beta": 4},
    "keep": "last",
    "augment": ["alternating-flip", {"name": "crop", "pad": 1}],
}


@pytest.mark.parametrize("seed", [1, None])
@pytest.mark.parametrize("how", [ALL, FAST], ids=["all", "fast"])
@pytest.mark.parametrize("rule", ["sgd_nesterov_momentum", "adamw"])
def test_resume_equals_uninterrupted(rule, how, seed, tmp_path):
    data = digits_like(num_train=50)
    settings = {"num_epochs": 4, "num_train_samples": 20, "seed": seed, "update_rule": rule, **how}
    np.random.seed(3)
    whole = trained(conv_net(), data, **settings)

    def die(solver):
        if solver.epoch == 2:
            raise KeyboardInterrupt

    np.random.seed(3)
    with pytest.raises(KeyboardInterrupt):
        quiet_solver(conv_net(), data, checkpoint_name=tmp_path / "run", on_epoch=die, **settings).train()
    np.random.seed(99)
    resumed = Solver.resume(tmp_path / "run_epoch_2.npz", conv_net(), data)
    resumed.train()
    assert_same_run(resumed, whole)
    assert resumed.model.label_smoothing == 0.1

    model = conv_net()
    load_weights(tmp_path / "run_epoch_4.npz", model)
    assert_same_bits(model.loss(data["X_val"]), whole.model.loss(data["X_val"]))


def test_interrupted_and_continued_with_a_prefetching_thread():
    data = digits_like()
    whole = trained(conv_net(), data, num_epochs=3, seed=1, **ALL)
    solver = quiet_solver(conv_net(), data, num_epochs=3, seed=1, **ALL)
    step, stops = solver._step, [2, 6]

    def interrupted_step(minibatch):
        if stops and len(solver.loss_history) == stops[0]:
            stops.pop(0)
            raise KeyboardInterrupt
        step(minibatch)

    solver._step = interrupted_step
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            solver.train()
    solver.train()
    assert_same_run(solver, whole)


def half(epoch, num_epochs):
    return 0.5


def brighter(X, rng):
    return X + 0.1 * rng.random()


def test_functions_of_ones_own_are_handed_over_again(tmp_path):
    data = digits_like()
    settings = {
        "schedule": half,
        "augment": ["flip", brighter],
        "seed": 1,
        "checkpoint_name": tmp_path / "run",
    }
    whole = trained(conv_net(), data, **settings)
    path = tmp_path / "run_epoch_1.npz"
    with pytest.raises(ValueError, match="pass it as schedule"):
        Solver.resume(path, conv_net(), data, augment=["flip", brighter])
    with pytest.raises(ValueError, match="pass it as augment"):
        Solver.resume(path, conv_net(), data, schedule=half)
    resumed = Solver.resume(path, conv_net(), data, schedule=half, augment=["flip", brighter])
    resumed.train()
    assert_same_run(resumed, whole)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"weight_decay": -1}, "weight_decay must be"),
        ({"clip_norm": -1}, "clip_norm must be"),
        ({"clip_norm": 0}, "clip_norm must be above 0, got 0"),
        (
            {"schedule": {"name": "cosine", "warmup": 9}, "num_epochs": 8},
            "a warmup of 9 epochs, num_epochs is 8",
        ),
        ({"ema_decay": 1}, "ema_decay must be below 1"),
        ({"label_smoothing": 1}, "label_smoothing must be below 1"),
        ({"prefetch": -1}, "prefetch must be at least 0"),
        ({"keep": "first"}, "keep must be one of"),
        ({"lookahead": {"step": 5}}, "unknown key 'step' in lookahead; did you mean 'steps'"),
        ({"lookahead": {"decay": 2}}, "lookahead decay must be"),
        (
            {"lookahead": {"steps": 9}, "num_epochs": 1, "batch_size": 25},
            "lookahead has 9 steps, the run has but 3 iterations",
        ),
        ({"lookahead": {}, "ema_decay": 0.9}, "ema_decay and lookahead exclude each other"),
    ],
)
def test_refuses_bad_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        quiet_solver(conv_net(), digits_like(), **settings)
