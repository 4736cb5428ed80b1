"""Checkpoints of a run, read by NumPy and by cnnlib, and a run that goes on."""

import tempfile
from pathlib import Path
from typing import Any, assert_type

import numpy as np
from cnnlib.checkpoint import load_checkpoint, save_checkpoint
from cnnlib.data import load_digits
from cnnlib.models import FullyConnectedNet
from cnnlib.solver import Solver
from numpy.typing import NDArray

with tempfile.TemporaryDirectory() as folder:
    model = FullyConnectedNet([20], (1, 8, 8), normalization="layernorm", seed=0)
    run = Path(folder) / "digits"
    Solver(model, load_digits(), num_epochs=1, checkpoint_name=run, verbose=False, seed=0).train()
    path = Path(folder) / "digits_epoch_1.npz"
    params, state = load_checkpoint(path)
    assert_type(params, dict[str, NDArray[Any]])
    assert_type(state, dict[str, Any])
    solver = Solver.resume(path, model, load_digits(), num_epochs=2)
    assert_type(solver, Solver)
    solver.train()
    save_checkpoint(model.params, Path(folder) / "own.npz", {"note": "by hand"})
    model.save(Path(folder) / "model.npz")
    model.load(Path(folder) / "model.npz")
    print(solver.epoch, np.load(Path(folder) / "own.npz")["W1"].shape)
