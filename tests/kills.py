"""
Train, kill the process with SIGKILL at a random moment, go on from what it left, and so on.

    python tests/kills.py --kills 100
    python tests/kills.py --kills 20 --task pixels

At every death all checkpoints in the folder have to load, and the newest may be no older than the one before;
the last run has to end with the bits of a run that nobody killed. What the killed ones did not finish has to
go when it is a day old.
"""

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from cnnlib._files.written import TEMPORARY
from cnnlib.checkpoint import load_checkpoint
from cnnlib.models import ConvNet, FullyConnectedNet
from cnnlib.solver import Solver
from several_outputs import several_outputs, with_targets
from training import digits_like, quiet_solver

KEPT = 3  # checkpoints
AUGMENT = ["flip", {"name": "crop", "pad": 1}]
UNET = [
    *({"conv": 16}, "batchnorm", {"relu": None, "name": "fine"}, {"max_pool": 2}),
    *({"conv": 32}, "batchnorm", "relu"),
    *({"conv_transpose": 16, "size": 2, "stride": 2}, {"concat": [[], "fine"]}),
    *({"conv": 16}, "batchnorm", "relu", "pixels"),
]


def newest(folder):
    """The number of the newest epoch that has a checkpoint; 0 without one."""
    return max((epoch_of(path) for path in folder.glob("run_epoch_*.npz")), default=0)


def epoch_of(path):
    return int(path.stem.rpartition("_")[2])


def checkpoint(folder, epoch):
    return folder / f"run_epoch_{epoch}.npz"


def _classes():
    model = FullyConnectedNet((1000,), input_dim=36, num_classes=4, use_batchnorm=True, dropout=0.2, seed=0)
    return model, digits_like(), {}


def _pixels():
    """A small U-Net that learns which pixels are bright."""
    data = digits_like()
    data |= {f"y_{part}": (data[f"X_{part}"][:, 0] > 0.5).astype(int) for part in ("train", "val")}
    return ConvNet(UNET, (1, 6, 6), 2, seed=0), data, {"metrics": "iou", "augment": AUGMENT}


def _outputs():
    return several_outputs(), with_targets(digits_like()), {"augment": AUGMENT}


TASKS = {"classes": _classes, "pixels": _pixels, "outputs": _outputs}


def train(folder, num_epochs, task="classes"):
    """Go on from the newest checkpoint of the folder, or begin; returns the Solver when it is through."""
    (model, data, options), epoch = TASKS[task](), newest(folder)

    def clear(solver):
        for path in folder.glob("run_epoch_*.npz"):
            if epoch_of(path) <= solver.epoch - KEPT:
                path.unlink()

    settings = {"on_epoch": clear, "num_epochs": num_epochs}
    if epoch == 0:
        settings |= {"update_rule": "adam", "seed": 1, "checkpoint_name": folder / "run", **options}
        solver = quiet_solver(model, data, **settings)
    else:
        solver = Solver.resume(checkpoint(folder, epoch), model, data, **settings)
    print("training", flush=True)
    solver.train()
    return solver


def kill_one(folder, seconds, task):
    """A process that trains for so long, until it is killed."""
    command = [sys.executable, __file__, "--train", str(folder), "--task", task]
    own = {**os.environ, "OMP_NUM_THREADS": "1"}  # small networks, and a machine that may be busy
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=own) as process:
        assert process.stdout.readline() == "training\n"
        time.sleep(seconds)
        assert process.poll() is None, "it ended by itself"
        process.kill()


def killed_run(folder, kills, seed, task="classes", least=1):
    """How many epochs survived so many kills, or more of them until `least` did."""
    rng, before, longest = random.Random(seed), 0, 1 / 3
    while kills > 0 or before < least:
        kills -= 1
        kill_one(folder, longest * rng.random(), task)
        for path in folder.glob("run_epoch_*.npz"):
            load_checkpoint(path)
        epoch = newest(folder)
        assert epoch >= before, f"checkpoint {before} is lost"
        if epoch == before:  # the machine is slow, or busy
            longest *= 1.2
        before = epoch
    for path in folder.glob(f".*{TEMPORARY}"):
        os.utime(path, (time.time() - 100_000,) * 2)
    survived = train(folder, before + 1, task)
    remains = [path.name for path in folder.iterdir() if not path.name.startswith("run_epoch_")]
    assert not remains, remains
    with tempfile.TemporaryDirectory() as other:
        whole = train(Path(other), before + 1, task)
    assert survived.loss_history == whole.loss_history
    for name, value in whole.model.params.items():
        np.testing.assert_array_equal(survived.model.params[name], value)
    return before


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--task", choices=TASKS, default="classes")
    parser.add_argument("--train", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.train:
        # The system survives, so nothing has to reach the disk: most deaths then fall into the writing.
        os.fsync = lambda descriptor: None
        train(options.train, 10**6, options.task)
        return
    with tempfile.TemporaryDirectory() as folder:
        epochs = killed_run(Path(folder), options.kills, options.seed, options.task)
    print(f"{options.kills} kills survived, {epochs} epochs, nothing unfinished left behind")


if __name__ == "__main__":
    main()
