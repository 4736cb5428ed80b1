"""Faults of the machine and its user: no run is lost, no file torn, no error unclear."""

import os
import shutil
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from cnnlib.checkpoint import load_checkpoint
from cnnlib.solver import Solver
from helpers import FOLDER
from kills import TASKS, killed_run
from training import LinearModel, digits_like, interrupted

linux_only = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="these are Linux's ways")

# Trains a model whose checkpoints have 1 MB; prints the error that ends it.
TRAINING = """
    import resource, sys
    import numpy as np
    from cnnlib.models import FullyConnectedNet
    from cnnlib.solver import Solver
    folder, limit = sys.argv[1], int(sys.argv[2])
    rng = np.random.default_rng(0)
    data = {"X_train": rng.standard_normal((8, 100)), "y_train": np.arange(8) % 4}
    data |= {"X_val": data["X_train"], "y_val": data["y_train"]}
    def shrink(solver):
        if limit and solver.epoch == 2:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    model = FullyConnectedNet((400,), input_dim=100, num_classes=4, seed=0)
    solver = Solver(model, data, num_epochs=5, verbose=False, seed=1, checkpoint_name=f"{folder}/run",
                    on_epoch=shrink)
    try:
        solver.train()
    except OSError as error:
        print(type(error).__name__, error)
"""


def trained(folder, limit=0, prefix=(), suffix=()):
    """Run the training under `prefix`; returns what it printed."""
    command = [*prefix, sys.executable, "-c", textwrap.dedent(TRAINING), str(folder), str(limit), *suffix]
    process = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert process.returncode == 0, process.stderr
    return process.stdout.strip()


def assert_sound(folder, epochs):
    """These checkpoints, which load, and nothing else."""
    assert sorted(path.name for path in folder.iterdir()) == [f"run_epoch_{epoch}.npz" for epoch in epochs]
    for path in folder.iterdir():
        load_checkpoint(path)


@pytest.mark.slow
@linux_only
@pytest.mark.parametrize("task", TASKS)
def test_killed_at_random_moments(task, tmp_path):
    """`python tests/kills.py --kills 100` does more."""
    kills, least = (4, 4) if task == "classes" else (2, 1)
    assert killed_run(tmp_path, kills, seed=5, task=task, least=least) >= least


@linux_only
def test_no_room_for_another_checkpoint(tmp_path):
    """RLIMIT_FSIZE fails a write in its middle, as a full disk does."""
    printed = trained(tmp_path, limit=200_000)
    assert printed == f"OSError [Errno 27] File too large: '{tmp_path}/run_epoch_3.npz'"
    assert_sound(tmp_path, [1, 2])


@linux_only
def test_a_full_disk(tmp_path):
    script = 'mount -t tmpfs -o size=1m none "$0" && "$@"; cp -r "$0" "$0".saved'
    prefix = ["unshare", "--map-root-user", "--mount", "sh", "-c", script, str(tmp_path)]
    try:
        subprocess.run([*prefix, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no mount of one's own here")
    shutil.rmtree(f"{tmp_path}.saved")
    printed = trained(tmp_path, prefix=prefix)
    assert printed.startswith("OSError [Errno 28] No space left on device: ")
    assert f"{tmp_path}/run_epoch_" in printed
    saved = tmp_path.with_name(f"{tmp_path.name}.saved")
    epochs = range(1, len(list(saved.iterdir())) + 1)
    assert len(epochs) >= 1
    assert_sound(saved, epochs)


@linux_only
def test_a_folder_that_may_not_be_written_to(tmp_path):
    prefix = []
    if os.geteuid() == 0:  # whom no permission stops
        prefix = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search"]
        if shutil.which("setpriv") is None or subprocess.run([*prefix, "true"]).returncode != 0:
            pytest.skip("root, without a way to be less")
    trained(tmp_path)
    folder = tmp_path / "sealed"
    folder.mkdir(mode=0o555)
    assert trained(folder, prefix=prefix).startswith("PermissionError [Errno 13] Permission denied: ")
    assert not list(folder.iterdir())


@linux_only
@pytest.mark.parametrize("delay", [0.0, 0.2])
def test_an_interrupt_is_answered_and_leaves_a_run(delay, tmp_path):
    """Ctrl-C in the middle of whatever: KeyboardInterrupt soon after, and checkpoints that go on."""
    code = """
        import sys
        sys.path.insert(0, sys.argv[2])
        import numpy as np
        from cnnlib.models import ConvNet
        from cnnlib.solver import Solver
        from training import line
        rng = np.random.default_rng(0)
        data = {"X_train": rng.standard_normal((60, 3, 32, 32), np.float32), "y_train": np.arange(60) % 4}
        data |= {"X_val": data["X_train"][:20], "y_val": data["y_train"][:20]}
        model = ConvNet("resnet20", (3, 32, 32), 4, seed=0)
        settings = {"num_epochs": 10**6, "batch_size": 30, "num_train_samples": 20, "verbose": False}
        settings |= {"seed": 1, "checkpoint_name": sys.argv[1] + "/run"}
        settings |= {"on_epoch": lambda solver: line("epoch")}
        solver = Solver(model, data, **settings)
        try:
            solver.train()
        except KeyboardInterrupt:
            line(f"interrupted {solver.epoch}")
    """
    last = interrupted(code, str(tmp_path), FOLDER, delay=delay)
    word, epoch = last.split()
    assert word == "interrupted"
    newest = tmp_path / "run_interrupted.npz"
    if not newest.exists():  # it came between two epochs
        newest = tmp_path / f"run_epoch_{epoch}.npz"
    assert load_checkpoint(newest)[0]
    assert not list(tmp_path.glob(".*"))


def test_two_solvers_in_one_folder_have_names_of_their_own(tmp_path):
    data = digits_like()
    for name in ("a", "b"):
        settings = {"num_epochs": 2, "verbose": False, "seed": 1, "checkpoint_name": tmp_path / name}
        Solver(LinearModel(36, 4), data, **settings).train()
    assert len(list(tmp_path.iterdir())) == 4
    for name in ("a", "b"):
        params, _ = load_checkpoint(tmp_path / f"{name}_epoch_2.npz")
        assert np.all(np.isfinite(params["weights"]))
