"""A network that knows half of CIFAR-10's classes learns the other half from 10, 50 and 200 images of each.

cnnlib: from nothing; the trunk's features with a head whose settings validation finds; then the last blocks
fine-tuned. Beside it one recipe of both sides, the same number of steps with the same settings and no search:
a head on the features of the frozen trunk, 30 epochs. PyTorch computes the features once (cached) or at each
step, in inference mode, or fine-tunes all layers for 5 epochs. Times are the least of interleaved runs; those
of one run alone have a star. The trunk is trained first where its file is missing (a minute or two).
"""

from __future__ import annotations

import argparse
import copy
import os
import time
from pathlib import Path

import cnnlib
import numpy as np
from cnnlib.data import Normalization, load_CIFAR10
from cnnlib.inference.scoring import BatchScorer
from cnnlib.models import ConvNet
from cnnlib.pretrained.head import fine_tuned, fit_head, with_fitted_head
from cnnlib.pretrained.trunk import block_starts
from cnnlib.solver import Solver

_CLASSES, _TESTED = 5, 1000
_SETTINGS = {"learning_rate": 1e-2, "reg": 1e-2}  # of the recipe of both sides
_EPOCHS, _ALL_EPOCHS, _ALL_RATE, _ALL_BATCH = 30, 5, 1e-3, 32
_FROM_NOTHING = {10: 60, 50: 30, 200: 15}  # epochs


def _layers(F, stride):
    return [{"conv": F, "stride": stride, "pad": 1}, "batchnorm", "relu"]


def _residual(F):
    return [{"residual": [*_layers(F, 1), {"conv": F, "pad": 1}, "batchnorm"]}, "relu"]


_SPEC = [
    *_layers(32, 2),
    *_layers(64, 2),
    *_residual(64),
    *_layers(128, 2),
    *_residual(128),
    "global_avg_pool",
]
_SMALL = [*_layers(32, 2), *_layers(64, 2), *_layers(128, 2), "global_avg_pool"]  # for learning from nothing


def main():
    """Run the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add("--data", required=True, metavar="DIR", help="CIFAR-10 as published, unpacked here")
    add("--trunk", default="trunk.npz", metavar="FILE", help="the trunk, made where it is missing")
    add("--counts", type=int, nargs="+", default=[10, 50, 200], metavar="N", help="images a class")
    add("--repeats", type=int, default=5, metavar="N", help="of what is quick")
    add("--threads", type=int, default=os.cpu_count(), metavar="N", help="of both sides")
    add(
        "--processor-time",
        action="store_true",
        help="seconds of the processor: on a busy machine, one thread",
    )
    add("--recipe-only", action="store_true", help="neither search nor from nothing nor uncached")
    add("--trunk-only", action="store_true", help="make the trunk and end")
    options = parser.parse_args()
    cnnlib.set_num_threads(options.threads)
    X, y, X_test, y_test = load_CIFAR10(options.data)
    if not Path(options.trunk).exists():
        _make_trunk(options.trunk, _half(X, y, 0), _half(X_test, y_test, 0))
    if options.trunk_only:
        return
    X_test, y_test = _half(X_test, y_test, 1)
    task = _Task(options, *_half(X, y, 1), X_test[:_TESTED], y_test[:_TESTED])
    for count in options.counts:
        task.run(count)


def _half(X, y, number):
    rows = y // _CLASSES == number
    return X[rows].astype(np.uint8), y[rows] % _CLASSES


def _make_trunk(path, training, test):
    X, y = training
    normalization = Normalization.fit(X)
    net = ConvNet(_SPEC, X.shape[1:], _CLASSES, reg=5e-4, seed=0)
    data = {"X_train": X[:15000], "y_train": y[:15000], "X_val": test[0][:1000], "y_val": test[1][:1000]}
    solver = Solver(
        net,
        data,
        preprocess=normalization,
        update_rule="sgd_nesterov_momentum",
        optim_config={"learning_rate": 0.1, "momentum": 0.9},
        schedule="one-cycle",
        augment=["flip", {"name": "crop", "pad": 4}],
        batch_size=125,
        num_epochs=4,
        keep="last",
        num_train_samples=200,
        seed=0,
        print_every=60,
    )
    start = time.perf_counter()
    solver.train()
    seconds = time.perf_counter() - start
    print(f"trunk: {solver.val_acc_history[-1]:.3f} on its own classes after {seconds:.0f} s")
    net.save(path, preprocess=normalization)


class _Task:
    """The classes to learn, the trunk on both sides."""

    def __init__(self, options, X, y, X_test, y_test):
        import torch
        from cnnlib.benchmarking.torch_module import TorchNet

        self.options, self.torch = options, torch
        torch.set_num_threads(options.threads)
        self.X, self.y, self.X_test, self.y_test = X, y, X_test, y_test
        self.trunk = cnnlib.load(options.trunk).cut()
        self.preprocess = self.trunk.preprocess
        self.predictor = cnnlib.prepare(self.trunk)
        self.module = TorchNet(self.trunk).eval()
        own, theirs = self.predictor(X_test[:64]), self._torch_features(X_test[:64]).numpy()
        difference = np.abs(own - theirs).max() / np.abs(theirs).max()
        print(f"features differ by {difference:.1e} of the largest; {options.threads} threads")

    def _timed(self, function):
        """What it returns, and the seconds that it took."""
        clock = time.process_time if self.options.processor_time else time.perf_counter
        start = clock()
        result = function()
        return result, clock() - start

    def run(self, count):
        self.A, self.a, self.V, self.v = self._split(count)
        sides = {"cnnlib": self._own_head, "torch": self._torch_head}
        seconds, heads = {name: [] for name in sides}, {}
        for _ in range(self.options.repeats):
            for name, side in sides.items():
                heads[name], spent = self._timed(side)
                seconds[name].append(spent)
        own, cached = min(seconds["cnnlib"]), min(seconds["torch"])
        scores, everything = self._timed(self._torch_all)
        accuracies = {
            "cnnlib": self._right(heads["cnnlib"](self.predictor(self.X_test))),
            "torch": self._right(heads["torch"](self.X_test)),
            "all": self._right(scores(self.X_test)),
        }
        print(
            f"{count} images a class, the same recipe: cnnlib {own:.3f} s ({accuracies['cnnlib']:.3f}), "
            f"PyTorch cached {cached:.3f} s ({accuracies['torch']:.3f}), ratio {cached / own:.2f}; all "
            f"layers {everything:.2f} s* ({accuracies['all']:.3f}), ratio {everything / own:.1f}",
            flush=True,
        )
        if not self.options.recipe_only:
            _, uncached = self._timed(lambda: self._torch_head(cached=False))
            print(f"    PyTorch with features at each step {uncached:.1f} s*, ratio {uncached / own:.0f}")
            self._own_ways(count)

    def _split(self, count):
        """Training and validation images and labels."""
        held = max(count // 5, 10)
        of_class = [np.flatnonzero(self.y == k) for k in range(_CLASSES)]
        train = np.concatenate([rows[:count] for rows in of_class])
        val = np.concatenate([rows[count : count + held] for rows in of_class])
        return self.X[train], self.y[train], self.X[val], self.y[val]

    def _right(self, scores):
        return float(np.mean(np.argmax(scores, axis=1) == self.y_test))

    def _data(self, network, views=1):
        return {
            "X_train": cnnlib.features(network, self.A, views=views),
            "y_train": np.tile(self.a, views),
            "X_val": cnnlib.features(network, self.V),
            "y_val": self.v,
        }

    def _own_head(self):
        return fit_head(self._data(self.predictor), _CLASSES, None, _SETTINGS, _EPOCHS).model

    def _own_ways(self, count):
        """From nothing, the head alone, fine-tuned: as `cnnlib train` does."""
        fit, head = self._timed(lambda: fit_head(self._data(self.predictor, 2), _CLASSES))
        model = with_fitted_head(self.trunk, fit.model, None)
        with_head = self._right(BatchScorer(model, self.preprocess).all(self.X_test))
        start = block_starts(self.trunk.graph())[-2]

        def tune():
            below = self.trunk.cut(start)
            return fine_tuned(model, start, self._data(cnnlib.prepare(below), 2))

        _, tuning = self._timed(tune)
        tuned = self._right(BatchScorer(model, self.preprocess).all(self.X_test))
        net = ConvNet(_SMALL, self.X.shape[1:], _CLASSES, reg=1e-3, seed=0)
        solver = Solver(
            net,
            {"X_train": self.A, "y_train": self.a, "X_val": self.V, "y_val": self.v},
            preprocess=self.preprocess,
            augment=["flip"],
            update_rule="adam",
            batch_size=32,
            num_epochs=_FROM_NOTHING.get(count, 30),
            num_train_samples=50,
            verbose=False,
            seed=0,
        )
        _, nothing = self._timed(solver.train)
        scores = BatchScorer(net, self.preprocess).all(self.X_test)
        print(
            f"    cnnlib with its search: from nothing {self._right(scores):.3f} in {nothing:.1f} s*, head "
            f"{with_head:.3f} in {head:.2f} s*, last 2 blocks {tuned:.3f} in {tuning:.1f} s* more",
            flush=True,
        )

    # PyTorch --------------------------------------------------------------------------------------------

    def _torch_features(self, X):
        torch = self.torch
        with torch.inference_mode():
            parts = [torch.from_numpy(self.preprocess(X[k : k + 64])) for k in range(0, len(X), 64)]
            return torch.cat([self.module(part) for part in parts])

    def _torch_head(self, cached=True):
        torch, loss_of = self.torch, self.torch.nn.functional.cross_entropy
        torch.manual_seed(0)
        F, G = self._torch_features(self.A), self._torch_features(self.V)
        mean, std = F.mean(0), F.std(0, unbiased=False)
        F, G, labels = (F - mean) / std, (G - mean) / std, torch.from_numpy(self.a)
        head = torch.nn.Linear(F.shape[1], _CLASSES)
        torch.nn.init.normal_(head.weight, 0, 0.01)
        torch.nn.init.zeros_(head.bias)
        optimizer = torch.optim.Adam(head.parameters(), _SETTINGS["learning_rate"])
        batch = min(max(len(F) // 20, 16), 256)  # as fit_head's
        for _ in range(_EPOCHS):
            for rows in torch.randperm(len(F)).split(batch):
                x = F[rows] if cached else (self._torch_features(self.A[rows.numpy()]) - mean) / std
                optimizer.zero_grad()
                penalty = _SETTINGS["reg"] / 2 * (head.weight**2).sum()
                (loss_of(head(x), labels[rows]) + penalty).backward()
                optimizer.step()
            with torch.inference_mode():
                head(G)
        return lambda X: head((self._torch_features(X) - mean) / std).detach().numpy()

    def _torch_all(self):
        torch, loss_of = self.torch, self.torch.nn.functional.cross_entropy
        torch.manual_seed(0)
        head = torch.nn.Linear(self.trunk.num_classes, _CLASSES)
        net = torch.nn.Sequential(copy.deepcopy(self.module), head).train()
        optimizer = torch.optim.Adam(net.parameters(), _ALL_RATE)
        images, labels = self.preprocess(self.A), torch.from_numpy(self.a)
        for _ in range(_ALL_EPOCHS):
            for rows in torch.randperm(len(images)).split(_ALL_BATCH):
                optimizer.zero_grad()
                loss_of(net(torch.from_numpy(images[rows.numpy()])), labels[rows]).backward()
                optimizer.step()

        def scores(X):
            with torch.inference_mode():
                return net.eval()(torch.from_numpy(self.preprocess(X))).numpy()

        return scores


if __name__ == "__main__":
    main()
