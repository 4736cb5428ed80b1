"""Files that cnnlib wrote before it was what it is: each kind loads, to the numbers it was written from."""

from pathlib import Path

import cnnlib
import numpy as np
import pytest
from cnnlib import inference
from cnnlib.checkpoint import load_checkpoint
from cnnlib.models import FullyConnectedNet
from cnnlib.solver import Solver, load_weights
from training import assert_same_bits

FILES = Path(__file__).parents[1] / "old_files"
RNG = np.random.default_rng(0)
DATA = {
    "X_train": RNG.standard_normal((8, 3)).astype(np.float32),
    "y_train": np.arange(8) % 2,
    "X_val": RNG.standard_normal((4, 3)).astype(np.float32),
    "y_val": np.arange(4) % 2,
}
SCORES = [  # of X_val, by the version that wrote the files
    [-0.0014658640138804913, 0.001554017304442823],
    [-0.0015235183527693152, 0.0015235902974382043],
    [-0.0015235183527693152, 0.0015235902974382043],
    [-0.001344446325674653, 0.0015110867097973824],
]


def net():
    return FullyConnectedNet([2], input_dim=3, num_classes=2, use_batchnorm=True, seed=5)


def test_of_a_network():
    """It held every parameter twice."""
    model = net()
    model.load(FILES / "fully_connected_net.npz")
    np.testing.assert_allclose(model.loss(DATA["X_val"]), SCORES, rtol=1e-5)
    with np.load(FILES / "fully_connected_net.npz") as file:
        assert sum("W1" in name for name in file) == 2


def test_a_network_is_written_once(tmp_path):
    model = net()
    model.save(tmp_path / "net.npz")
    params, state = load_checkpoint(tmp_path / "net.npz")
    assert state.keys() == {"bn_params"}
    assert_same_bits(params, model.params)
    with np.load(tmp_path / "net.npz") as file:
        assert sum("W1" in name for name in file) == 1
    other = net()
    other.params["W1"] += 1
    other.bn_params[0]["running_mean"] += 1
    other.load(tmp_path / "net.npz")
    assert_same_bits(other.params, model.params)
    assert_same_bits(other.bn_params[0]["running_mean"], model.bn_params[0]["running_mean"])


def test_of_a_model():
    model = cnnlib.load_model(FILES / "saved_model.npz")
    np.testing.assert_allclose(model.loss(DATA["X_val"]), SCORES, rtol=1e-5)
    assert (model.classes, model.preprocess.mean, model.preprocess.std) == (("a", "b"), (1.0,), (2.0,))


def test_of_a_predictor():
    predictor = inference.load(FILES / "predictor.bin")
    np.testing.assert_allclose(predictor(DATA["X_val"]), SCORES, rtol=1e-4, atol=1e-7)


def test_of_a_solver():
    solver = Solver.resume(FILES / "run_epoch_1.npz", net(), DATA, checkpoint_name="", verbose=False)
    assert (solver.epoch, len(solver.loss_history), len(solver.val_loss_history)) == (1, 2, 2)
    assert (solver.early_stopping.patience, solver.monitored) == (5, "accuracy")
    solver.checkpoint_name = None
    solver.train()
    np.testing.assert_allclose(solver.model.loss(DATA["X_val"]), SCORES, rtol=1e-4, atol=1e-7)
    model = net()
    load_weights(FILES / "run_epoch_1.npz", model)
    with np.load(FILES / "run_epoch_1.npz") as file:
        assert_same_bits(model.params["W1"], file["__cnnlib__/run/best/params/W1"])


def test_of_any_kind():
    for name in ("saved_model.npz", "predictor.bin"):
        loaded = cnnlib.load(FILES / name)
        scores = loaded(DATA["X_val"]) if name == "predictor.bin" else loaded.loss(DATA["X_val"])
        np.testing.assert_allclose(scores, SCORES, rtol=1e-4, atol=1e-7)
    assert cnnlib.load(FILES / "run_epoch_1.npz").keys() == net().params.keys()
    assert cnnlib.load(FILES / "fully_connected_net.npz").keys() == net().params.keys()


def test_arguments_in_their_old_order(tmp_path):
    from cnnlib.checkpoint import save_checkpoint

    with pytest.warns(DeprecationWarning, match="the path comes second now"):
        save_checkpoint(tmp_path / "old.npz", {"W": np.eye(2)}, {"t": 1})
    params, state = load_checkpoint(tmp_path / "old.npz")
    assert (params["W"].shape, state) == ((2, 2), {"t": 1})
