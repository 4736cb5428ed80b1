"""``cnnlib eval --int8`` and eight-bit predictor files on the command line."""

import re

import cnnlib
import numpy as np
import pytest
from cnnlib.cli.main import main
from cnnlib.data import Normalization, load_digits
from cnnlib.models import ConvNet


def test_eval_puts_both_accuracies_side_by_side(tmp_path, capsys):
    run = str(tmp_path / "run")
    arguments = ["--data", "digits", "--num-epochs", "2"]
    if main(["train", "--out", run, *arguments]) != 0:
        pytest.fail(capsys.readouterr().err)
    capsys.readouterr()
    assert main(["eval", run, "--int8"]) == 0
    lines = capsys.readouterr().out.splitlines()
    float32 = float(lines[-2].removeprefix("test_accuracy: "))
    int8, difference = re.fullmatch(
        r"test_accuracy in eight bits: ([\d.]+) \(([+-][\d.]+)\)", lines[-1]
    ).groups()
    assert float(int8) - float32 == pytest.approx(float(difference), abs=2e-4)
    assert abs(float(difference)) < 0.05


def test_a_predictor_of_eight_bits_predicts_from_its_file(tmp_path, capsys):
    image = pytest.importorskip("PIL.Image")
    data = load_digits()
    net = ConvNet([{"conv": 8}, "relu", {"max_pool": 2}, {"affine": 10}], (1, 8, 8), 10, seed=0)
    net.classes, net.preprocess = tuple("0123456789"), Normalization(4.9, 6.0, 16.0, ink=True)
    path = str(tmp_path / "digits.cnnlib")
    cnnlib.prepare(net, precision="int8", calibration=data["X_train"][:100]).save(path)
    pixels = np.full((20, 20), 255, np.uint8)
    pixels[4:16, 9:11] = 0
    image.fromarray(pixels).save(tmp_path / "one.png")
    assert main(["predict", path, str(tmp_path / "one.png")]) == 0
    assert 0 <= float(capsys.readouterr().out.split()[-1]) <= 1


def test_images_from_all_over_the_training_split_calibrate(tmp_path, capsys):
    """Which may be sorted: those that come first are dark here, and would show a hundredth of the ranges."""
    net = ConvNet([{"conv": 8}, "relu", {"max_pool": 2}], (1, 8, 8), 10, seed=0)
    net.preprocess = Normalization(0.0, 1.0)
    net.save(tmp_path / "net.npz")
    X = np.random.default_rng(0).standard_normal((1200, 1, 8, 8)).astype(np.float32)
    y = net.loss(X).argmax(axis=1)  # so float32 is always right
    X[:600] /= 100
    for part, rows in {"train_0": slice(700), "train_1": slice(700, 1000), "val": slice(1000, 1100)}.items():
        np.save(tmp_path / f"X_{part}.npy", X[rows])
        np.save(tmp_path / f"y_{part}.npy", y[rows])
    command = ["eval", str(tmp_path / "net.npz"), "--data", f"npy:{tmp_path}", "--split", "val", "--int8"]
    assert main(command) == 0
    out = capsys.readouterr().out
    assert "val_accuracy: 1.0000" in out
    assert float(re.search(r"in eight bits: ([\d.]+)", out)[1]) > 0.9
