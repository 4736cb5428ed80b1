"""Ctrl-C and SIGTERM during a training: where they are answered, and what the run goes on from."""

import signal
import sys
import threading

import numpy as np
import pytest
from cnnlib import optim
from cnnlib.cli.run.signals import Terminated, terminable
from cnnlib.models import ConvNet, FullyConnectedNet
from cnnlib.solver import Solver
from cnnlib.solver.interrupts import Interrupts
from helpers import FOLDER
from kills import checkpoint
from kills import newest as last_epoch
from training import assert_same_run, digits_like, interrupted, quiet_solver, trained

SPEC = [{"conv": 4}, "batchnorm", "relu", {"dropout": 0.3}, {"max_pool": 2}]
SETTINGS = {
    "num_epochs": 3,
    "batch_size": 16,
    "num_train_samples": 20,
    "num_val_samples": 10,
    "update_rule": "sgd_momentum",
    "optim_config": {"learning_rate": 0.05},
    "ema_decay": 0.9,
    "augment": "flip",
}


@pytest.fixture(autouse=True)
def ctrl_c():
    """Python's own handler of Ctrl-C, which a test run in the background may lack."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


class Net(ConvNet):
    """A model whose own loss is called in accuracy checks, too."""


def conv_net():
    return Net(SPEC, (1, 6, 6), 4, seed=3)


class Nth:
    """Calls `function`, and sends Ctrl-C before or after the n-th of its calls (0, 1, ...)."""

    def __init__(self, function, n, after=False):
        self.function, self.n, self.after, self.calls = function, n, after, 0

    def __call__(self, *args, **kwargs):
        number, self.calls = self.calls, self.calls + 1
        if number == self.n and not self.after:
            signal.raise_signal(signal.SIGINT)
        result = self.function(*args, **kwargs)
        if number == self.n and self.after:
            signal.raise_signal(signal.SIGINT)
        return result


def uninterrupted(seed, **settings):
    np.random.seed(5)
    return trained(conv_net(), digits_like(), seed=seed, **{**SETTINGS, **settings})


def resumed(path, **functions):
    np.random.seed(77)
    solver = Solver.resume(path, conv_net(), digits_like(), **functions)
    solver.train()
    return solver


# The calls of the loss: 2 of the first accuracy checks, then 4 minibatches and 2 checks an epoch.
@pytest.mark.parametrize("seed", [1, None])
@pytest.mark.parametrize(("n", "iterations"), [(2, 0), (5, 3), (6, 4), (7, 4), (9, 5), (19, 12)])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_ctrl_c_in_the_loss(n, iterations, after, seed, tmp_path):
    """Before the loss has drawn its dropout mask and moved the running statistics, and after it."""
    model = conv_net()
    np.random.seed(5)
    solver = quiet_solver(model, digits_like(), seed=seed, checkpoint_name=tmp_path / "run", **SETTINGS)
    model.loss = Nth(model.loss, n, after)
    with pytest.raises(KeyboardInterrupt):
        solver.train()
    assert len(solver.loss_history) == iterations
    stream = np.random.get_state()
    whole = uninterrupted(seed)
    again = resumed(tmp_path / "run_interrupted.npz")
    assert_same_run(again, whole)
    assert again.checkpoint_name == str(tmp_path / "run")
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"run_epoch_{k}.npz" for k in (1, 2, 3)]
    np.random.set_state(stream)
    solver.train()  # the same object goes on, too
    assert_same_run(solver, whole)


@pytest.mark.parametrize("n", [0, 3, 11])
def test_ctrl_c_in_the_update_is_answered_after_it(n, tmp_path):
    model = conv_net()
    rule = Nth(optim.sgd_momentum, n)
    rate = SETTINGS["optim_config"]
    settings = {**SETTINGS, "update_rule": rule, "optim_config": rate}
    solver = quiet_solver(model, digits_like(), seed=1, checkpoint_name=tmp_path / "run", **settings)
    with pytest.raises(KeyboardInterrupt):
        solver.train()
    parameters = len(model.params)
    assert len(solver.loss_history) == n // parameters + 1
    assert rule.calls == (n // parameters + 1) * parameters
    again = resumed(tmp_path / "run_interrupted.npz", update_rule=optim.sgd_momentum)
    assert_same_run(again, uninterrupted(1, update_rule=optim.sgd_momentum))


def test_a_second_ctrl_c_ends_the_update_and_leaves_no_torn_checkpoint(tmp_path):
    def twice(w, dw, config):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    settings = {**SETTINGS, "update_rule": twice, "checkpoint_name": tmp_path / "run"}
    solver = quiet_solver(conv_net(), digits_like(), seed=1, **settings)
    with pytest.raises(KeyboardInterrupt):
        solver.train()
    assert not solver.loss_history
    assert not list(tmp_path.iterdir())


def test_ctrl_c_in_the_augmentation(tmp_path):
    flip = quiet_solver(conv_net(), digits_like(), augment="flip").options.augment
    augment = Nth(lambda X, rng: flip(X, rng), 6)
    settings = {**SETTINGS, "augment": augment, "prefetch": 0, "checkpoint_name": tmp_path / "run"}
    solver = quiet_solver(conv_net(), digits_like(), seed=1, **settings)
    with pytest.raises(KeyboardInterrupt):
        solver.train()
    assert len(solver.loss_history) == 6
    assert_same_run(resumed(tmp_path / "run_interrupted.npz", augment=flip), uninterrupted(1))


def test_before_the_training_there_is_nothing_to_go_on_from(tmp_path):
    model = conv_net()
    solver = quiet_solver(model, digits_like(), seed=1, checkpoint_name=tmp_path / "run", **SETTINGS)
    model.loss = Nth(model.loss, 1)  # the first accuracy check
    with pytest.raises(KeyboardInterrupt):
        solver.train()
    assert not list(tmp_path.iterdir())


def test_handlers_are_put_back():
    uninterrupted(1)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_signal_that_comes_last_is_answered():
    reached = []

    def train():
        with Interrupts() as interrupts:
            with interrupts.allowed():
                pass
            signal.raise_signal(signal.SIGINT)
            reached.append("the end")

    with pytest.raises(KeyboardInterrupt):
        train()
    assert reached


def test_another_handler_is_held_back_too():
    calls = []
    signal.signal(signal.SIGINT, lambda number, frame: calls.append(number))
    with Interrupts() as interrupts:
        signal.raise_signal(signal.SIGINT)
        assert not calls
        with interrupts.allowed():
            assert calls == [signal.SIGINT]
            signal.raise_signal(signal.SIGINT)
            assert len(calls) == 2
            with interrupts.allowed():
                pass
            signal.raise_signal(signal.SIGINT)
            assert len(calls) == 3


def test_training_in_another_thread_leaves_signals_alone():
    done = []
    thread = threading.Thread(target=lambda: done.append(uninterrupted(1)))
    thread.start()
    thread.join()
    assert_same_run(done[0], uninterrupted(1))


def test_sigterm_raises_where_nobody_else_handles_it():
    with pytest.raises(Terminated), terminable():
        signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    with terminable():
        pass
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with terminable():
            signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


TRAINING = """
    import sys
    sys.path.insert(0, sys.argv[1])
    from cnnlib.models import FullyConnectedNet
    from training import digits_like, line, quiet_solver
    model = FullyConnectedNet((500,), input_dim=36, num_classes=4, use_batchnorm=True, dropout=0.2, seed=0)
    settings = {"num_epochs": 10**6, "batch_size": 5, "update_rule": "adam", "seed": 1}
    settings["on_epoch"] = lambda solver: line("epoch")
    try:
        quiet_solver(model, digits_like(), checkpoint_name=sys.argv[2], **settings).train()
    except KeyboardInterrupt:
        line("interrupted")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT to send to another process")
@pytest.mark.parametrize("delay", [0.0, 0.05])
def test_ctrl_c_at_any_moment(delay, tmp_path):
    """Sent from outside; the run goes on to the bits of a whole one."""
    assert interrupted(TRAINING, FOLDER, str(tmp_path / "run"), delay=delay) == "interrupted"
    newest = tmp_path / "run_interrupted.npz"
    if not newest.exists():  # it came between two epochs
        newest = checkpoint(tmp_path, last_epoch(tmp_path))
    again = Solver.resume(newest, dense_net(), digits_like(), checkpoint_name=tmp_path / "again")
    again.num_epochs = again.epoch + 1
    again.train()
    settings = {"num_epochs": again.num_epochs, "batch_size": 5, "update_rule": "adam", "seed": 1}
    whole = trained(dense_net(), digits_like(), **settings)
    assert_same_run(again, whole)


def dense_net():
    return FullyConnectedNet((500,), input_dim=36, num_classes=4, use_batchnorm=True, dropout=0.2, seed=0)
