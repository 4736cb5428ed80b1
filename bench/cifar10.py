"""Accuracy against wall minutes: a recipe of ``cnnlib train`` on CIFAR-10, in cnnlib and in PyTorch.

Both sides train the same network from the same weights on the same minibatches with the same updates; PyTorch
runs eagerly. Each training is a process of its own, one after the other. The curve is the accuracy on the
10,000 test images after each epoch, without test-time augmentation (no decision depends on it); the last
figure is the recipe's, with it. README.md in this folder says more.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from support import runner

_CHECKED = 2  # iterations whose losses the two sides have to agree on
_TOLERANCE = 1e-3
_WARM_UP = 2  # iterations


def main():
    """Run the command line; returns the exit status."""
    options = _parser().parse_args()
    if options.child:
        return _child(options, *options.child)
    runner.warn_of_load()
    result = {"machine": _machine(options), "recipe": options.recipe, "trainings": []}
    for key, value in result["machine"].items():
        print(f"{key}: {value}")
    sides = ["cnnlib"] + ([options.peer] if options.peer else [])
    for seed in options.seeds:
        for side in sides:
            training = _train(options, side, seed)
            if training is None:
                return 1
            result["trainings"].append(training)
            _write(options.json, result)
    return _summary(result["trainings"], sides)


def _parser():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add("--data", required=True, metavar="DIR", help="CIFAR-10 as published, unpacked here")
    add("--recipe", default="cifar10-fast", help="of cnnlib.cli.recipes")
    add("--epochs", type=int, metavar="N", help="instead of the recipe's")
    add("--seeds", type=int, nargs="+", default=[0], metavar="N", help="a training for each")
    add("--peer", choices=("torch",), help="also train in it")
    add("--threads", type=int, default=os.cpu_count(), metavar="N", help="of both sides")
    add("--iterations", type=int, metavar="N", help="no training: time so many iterations")
    add("--condition", choices=tuple(runner.CONDITIONS), default="reused", help="memory, see README.md")
    add("--json", metavar="FILE", help="write the curves here, after each training")
    add("--child", nargs=2, help=argparse.SUPPRESS)
    return parser


def _machine(options):
    import contextlib
    import io
    from importlib import metadata

    import cnnlib

    with contextlib.redirect_stdout(io.StringIO()):
        config = cnnlib.show_config()
    names = ["numpy"] + ([options.peer] if options.peer else [])
    return {
        "date": time.strftime("%Y-%m-%dT%H:%MZ", time.gmtime()),
        "processor": config["processor"],
        "threads": options.threads,
        "memory": options.condition,
        "cnnlib": config["cnnlib"],
        "commit": runner.commit(),
        "isa": config["instruction set"],
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in names},
    }


def _train(options, side, seed):
    """Train (or time) one side in a process of its own; what it reported, None if it failed."""
    print(f"\n{side}, seed {seed}", flush=True)
    command = [sys.executable, *sys.argv, "--child", side, str(seed)]
    environment = runner.environment_of(options.condition, options.threads)
    training = {"side": side, "seed": seed, "curve": []}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as child:
        for line in child.stdout:
            if not line.startswith("{"):
                print(line, end="", flush=True)
                continue
            row = json.loads(line)
            if "epoch" in row:
                training["curve"].append(row)
                print("epoch {epoch:3}  {minutes:7.2f} min  {accuracy:.4f}  loss {loss:.4f}".format(**row))
            else:
                training.update(row)
            sys.stdout.flush()
    if child.returncode:
        print(f"this process ended with status {child.returncode}", file=sys.stderr)
        return None
    if "final_accuracy" in training:
        print(f"with the recipe's test-time augmentation: {training['final_accuracy']:.4f}")
    if "iteration_seconds" in training:
        least, median = training["iteration_seconds"]
        epoch = median * training["iterations_per_epoch"]
        print(f"an iteration: {least:.3f} s at least, {median:.3f} s in the median; an epoch: {epoch:.1f} s")
    return training


def _summary(trainings, sides):
    """Print the means over the seeds; status 1 if the two sides were not doing the same."""
    print()
    for side in sides:
        own = [training for training in trainings if training["side"] == side]
        if "final_accuracy" in own[0]:
            final = [training["final_accuracy"] for training in own]
            minutes = np.mean([training["curve"][-1]["minutes"] for training in own])
            print(f"{side}: {np.mean(final):.4f} (of {len(own)}, std {np.std(final):.4f}), {minutes:.2f} min")
    status = 0
    for training in trainings:
        first = next(t["first_losses"] for t in trainings if t["seed"] == training["seed"])
        difference = np.max(np.abs(np.divide(training["first_losses"], first) - 1))
        if difference > _TOLERANCE:
            print(f"{training['side']}, seed {training['seed']}: the first losses differ by {difference:.1e}")
            status = 1
    return status


def _write(name, result):
    if name:
        Path(name).write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def _child(options, side, seed):
    """Train one side and print what `_train` reads."""
    solver, data, tta = _solver(options, side, int(seed))
    step, seconds = solver._step, []

    def timed_step(X, y):
        started = time.perf_counter()
        step(X, y)
        seconds.append(time.perf_counter() - started)
        if len(seconds) == options.iterations:
            raise KeyboardInterrupt

    def after_epoch(solver):
        losses = solver.loss_history[-solver.iterations_per_epoch :]
        runner.emit(
            {
                "epoch": solver.epoch,
                "minutes": sum(solver.epoch_seconds) / 60,
                "accuracy": solver.val_acc_history[-1],
                "loss": float(np.mean(losses)),
            }
        )

    solver.on_epoch = after_epoch
    if options.iterations:
        solver._step = timed_step
        try:
            solver.train()
        except KeyboardInterrupt:
            timed = seconds[_WARM_UP:] or seconds
            row = {"iteration_seconds": [min(timed), float(np.median(timed))]}
            runner.emit(row | {"iterations_per_epoch": solver.iterations_per_epoch})
    else:
        solver.train()
        accuracy = solver.check_accuracy(data["X_val"], data["y_val"], batch_size=500, tta=tta)
        runner.emit({"final_accuracy": accuracy})
    runner.emit({"first_losses": solver.loss_history[:_CHECKED]})
    return 0


def _solver(options, side, seed):
    """The Solver of one side, its data, and the recipe's test-time augmentation."""
    if side == "torch":
        import torch  # before cnnlib, so that it runs on the OpenMP runtime that it brings along

        torch.set_num_threads(options.threads)
    import cnnlib
    from cnnlib.cli.options.settings import defaults
    from cnnlib.cli.recipes import RECIPES
    from cnnlib.cli.train import solver_arguments
    from cnnlib.data import Normalization
    from cnnlib.runs.data_sets import DATA_SETS
    from cnnlib.runs.networks import describe_network
    from cnnlib.solver import Solver

    cnnlib.set_num_threads(options.threads)
    recipe = RECIPES[options.recipe]
    settings = defaults(recipe["data"], recipe["model"]) | recipe | {"seed": seed}
    if options.epochs is not None:
        settings["num_epochs"] = options.epochs
    data_set = DATA_SETS[recipe["data"]]
    data = data_set.load(options.data, ("train", "test"))
    normalize = Normalization.fit(data["X_train"])
    for part in ("train", "test"):
        data[f"X_{part}"] = normalize(data[f"X_{part}"])
    data = {**data, "X_val": data["X_test"], "y_val": data["y_test"]}
    model = describe_network(recipe["model"], settings, data_set.shape, len(data_set.classes)).build()
    model.initialize(data["X_train"])
    if side == "torch":
        from support.training import torch_net

        model = torch_net.TorchNet(torch, model)
    solver = Solver(model, data, **solver_arguments(settings), num_train_samples=100, verbose=False)
    return solver, data, settings["tta"]


if __name__ == "__main__":
    sys.exit(main())
