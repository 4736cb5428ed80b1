"""``cnnlib export``: a run or a saved model as an ONNX file."""

import json

import numpy as np
import pytest

pytest.importorskip("onnx", reason="onnx is not installed")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")

import cnnlib
import onnx
from cnnlib.__main__ import main
from cnnlib.data import Normalization, load_digits
from cnnlib.models import ThreeLayerConvNet
from helpers import lines, refused
from onnx_nets import run_elsewhere


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("export") / "run"
    assert main(["train", "--out", str(folder), "--num-epochs", "1", "--threads", "1"]) == 0
    return folder


def test_onnx_runtime_classifies_as_the_run_does(run, tmp_path, capsys):
    path = tmp_path / "digits.onnx"
    first, second = lines(capsys, "export", run, path)
    assert first.startswith(f"{path}: ")
    assert "Normalization(mean=" in second
    proto = onnx.load(path)
    onnx.checker.check_model(proto, full_check=True)
    assert json.loads({entry.key: entry.value for entry in proto.metadata_props}["cnnlib.classes"])[3] == "3"
    data = load_digits()
    images = cnnlib.onnx.load(path).preprocess(data["X_test"])
    right = (run_elsewhere(proto, images).argmax(axis=1) == data["y_test"]).mean()
    assert lines(capsys, "eval", run)[-1] == f"test_accuracy: {right:.4f}"


def test_a_saved_model(tmp_path, capsys):
    net = ThreeLayerConvNet((1, 8, 8), 2, 3, 5, seed=0)
    net.preprocess = Normalization(3, 255)
    net.save(tmp_path / "net.npz")
    path = tmp_path / "net.onnx"
    assert "ThreeLayerConvNet" in lines(capsys, "export", tmp_path / "net.npz", path, "--batch", "2")[0]
    proto = onnx.load(path)
    x = np.ones((2, 1, 8, 8), np.float32)
    np.testing.assert_allclose(run_elsewhere(proto, x), net.loss(x), rtol=1e-4, atol=1e-6)
    assert cnnlib.onnx.load(path).preprocess == net.preprocess
    assert "has the parameters of one epoch" in refused(
        capsys, "export", tmp_path / "net.npz", path, "--which", "last"
    )


def test_a_predictor_that_knows_no_normalisation(tmp_path, capsys):
    """It needs none but for calibration."""
    net = ThreeLayerConvNet((1, 8, 8), 2, 3, 5, seed=0)
    cnnlib.prepare(net).save(tmp_path / "net.predictor")
    lines(capsys, "export", tmp_path / "net.predictor", tmp_path / "net.onnx")
    x = np.ones((2, 1, 8, 8), np.float32)
    found = run_elsewhere(onnx.load(tmp_path / "net.onnx"), x)
    np.testing.assert_allclose(found, net.loss(x), rtol=1e-4, atol=1e-6)
    message = refused(capsys, "export", tmp_path / "net.predictor", tmp_path / "net.onnx", "--int8")
    advice = (
        "give --mean and --std (of pixels 0..255), or save it from a model with a cnnlib.data.Normalization"
    )
    assert message.endswith(f"is not known: {advice}\n")
    told = ("--mean", "0", "--std", "255", "--classes", tmp_path / "classes.txt")
    (tmp_path / "classes.txt").write_text("\n".join("abcdefghij"))
    lines(capsys, "export", tmp_path / "net.predictor", tmp_path / "net.onnx", *told)
    assert cnnlib.onnx.load(tmp_path / "net.onnx").classes == tuple("abcdefghij")


@pytest.mark.parametrize("suffix", [".npz", ".safetensors", ".cnnlib"])
def test_other_formats(suffix, run, tmp_path, capsys):
    path = tmp_path / f"digits{suffix}"
    assert lines(capsys, "export", run, path)[0].startswith(f"{path}: ThreeLayerConvNet")
    loaded, own = cnnlib.load(path), cnnlib.load(run)
    if suffix == ".cnnlib":
        images = own.preprocess(load_digits()["X_test"])
        np.testing.assert_array_equal(loaded.predict(images), own.predict(images))
        assert (loaded.preprocess, loaded.classes) == (own.preprocess, own.classes)
    else:
        np.testing.assert_array_equal(loaded["W1"], own.params["W1"])


def test_in_eight_bits(run, tmp_path, capsys):
    path = tmp_path / "digits.onnx"
    assert ", int8, " in lines(capsys, "export", run, path, "--int8")[0]
    assert any(node.op_type == "QuantizeLinear" for node in onnx.load(path).graph.node)
    own, other = (
        lines(capsys, "eval", *arguments) for arguments in ((run, "--int8"), (path, "--data", "digits"))
    )
    assert other[-1].split()[-1] == own[-1].split()[-2]
    assert "--data is for --int8" in refused(capsys, "export", run, path, "--data", "digits")


def test_what_is_wrong_is_said_in_a_line(run, tmp_path, capsys):
    assert "names no format; known are .onnx" in refused(capsys, "export", run, tmp_path / "net.pt")
    assert "--batch is for .onnx" in refused(capsys, "export", run, tmp_path / "net.npz", "--batch", "2")
    for batch in ("x", "0"):
        message = refused(capsys, "export", run, tmp_path / "a.onnx", "--batch", batch)
        assert f"--batch: expected an integer above 0, got '{batch}'" in message
    assert "no/such/run" in refused(capsys, "export", "no/such/run", tmp_path / "a.onnx")
    assert list(tmp_path.iterdir()) == []
