"""What the training tests share: small data, a model that is not the library's, comparison of runs."""

import copy
import os
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
from cnnlib.solver import Solver


def digits_like(num_train=60, num_val=20, seed=0):
    """Images (N, 1, 6, 6) of noise, each brighter in the quarter that its label (0..3) names."""
    rng = np.random.RandomState(seed)
    data = {}
    for part, N in (("train", num_train), ("val", num_val)):
        X = rng.randn(N, 1, 6, 6).astype(np.float32)
        y = rng.randint(4, size=N)
        for image, label in zip(X, y, strict=True):
            image[0, 3 * (label // 2) :, 3 * (label % 2) :][:3, :3] += 1
        data |= {f"X_{part}": X, f"y_{part}": y}
    return data


class LinearModel:
    """A user's model: nothing but params and loss; it counts the samples that it is trained on."""

    def __init__(self, D, num_classes):
        self.params = {"weights": np.zeros((D, num_classes))}
        self.seen = []

    def loss(self, X, y=None):
        rows = X.reshape(len(X), -1)
        scores = rows @ self.params["weights"]
        if y is None:
            return scores
        self.seen.append(rows[:, 0].copy())
        p = np.exp(scores - scores.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        loss = -np.log(p[np.arange(len(y)), y]).mean()
        p[np.arange(len(y)), y] -= 1
        return loss, {"weights": rows.T @ p / len(y)}


class NoisyModel(LinearModel):
    """The same with noise on its inputs from np.random, as a user's dropout would draw it."""

    def loss(self, X, y=None):
        return super().loss(X if y is None else X + 0.1 * np.random.randn(*X.shape), y)


def quiet_solver(model, data, **settings):
    return Solver(model, data, **{"batch_size": 16, "num_epochs": 2, "verbose": False, **settings})


def trained(model, data, **settings):
    solver = quiet_solver(model, data, **settings)
    solver.train()
    return solver


def assert_same_bits(got, want):
    """Two trees of dicts, lists and arrays are equal in every bit, dtypes included."""
    assert type(got) is type(want)
    if isinstance(want, dict):
        assert got.keys() == want.keys()
        for key in want:
            assert_same_bits(got[key], want[key])
    elif isinstance(want, list | tuple):
        assert len(got) == len(want)
        for g, w in zip(got, want, strict=True):
            assert_same_bits(g, w)
    elif isinstance(want, np.ndarray | np.generic):
        assert got.dtype == want.dtype
        assert got.shape == want.shape
        assert got.tobytes() == want.tobytes()
    else:
        assert got == want


def assert_same_run(got, want):
    """Two Solvers went the same way, and their models ended in the same state."""
    names = ["loss_history", "train_acc_history", "val_acc_history", "learning_rate_history"]
    names += ["epoch", "best_val_acc", "best_epoch", "best_params", "last_params", "optim_configs"]
    for name in names:
        assert_same_bits(getattr(got, name), getattr(want, name))
    assert_same_bits(got.model.params, want.model.params)
    assert_same_bits(running_statistics(got.model), running_statistics(want.model))


def running_statistics(model):
    """The arrays of each batch norm."""
    bn_params = getattr(model, "bn_params", [])
    return [{name: value for name, value in p.items() if isinstance(value, np.ndarray)} for p in bn_params]


def line(text):
    """Write a line at once: a signal may interrupt `print` between the text and its end."""
    os.write(sys.stdout.fileno(), f"{text}\n".encode())


def interrupted(code, *arguments, delay):
    """What a program printed last that got SIGINT `delay` seconds after its first line, ``epoch``.

    The program writes its lines with `line`.
    """
    command = [sys.executable, "-c", textwrap.dedent(code), *arguments]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        assert process.stdout.readline() == "epoch\n"
        time.sleep(delay)
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=300)
    assert process.returncode == 0
    return out.splitlines()[-1]


def trained_norms(net):
    """The net with statistics of its batch norms."""
    rng = np.random.default_rng(0)
    for bn_param in net.bn_params:
        bn_param["momentum"] = 0.5
    for _ in range(3):
        net.loss(rng.standard_normal((4, *net.input_dim)).astype(np.float32), np.zeros(4, int))
    return net


def interpreted(model):
    """A copy of the model whose layers run one by one, not in the core."""
    twin = copy.deepcopy(model)
    twin._program.in_core = False
    return twin
