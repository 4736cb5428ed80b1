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
    float32 = float(lines[-2].removeprefix("test accuracy: "))
    int8, difference = re.fullmatch(
        r"test accuracy in eight bits: ([\d.]+) \(([+-][\d.]+)\)", lines[-1]
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
