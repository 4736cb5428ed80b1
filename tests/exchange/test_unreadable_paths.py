"""What a reader says of a missing file, a folder, and weights that PyTorch pickled."""

import importlib

import numpy as np
import pytest
from cnnlib import safetensors
from cnnlib.models import FullyConnectedNet
from cnnlib.solver import Solver
from helpers import refused

READERS = (
    "load",
    "inference.load",
    "safetensors.load",
    "checkpoint.load_checkpoint",
    "onnx.load",
    "pretrained.load_torchvision",
)


@pytest.fixture(params=READERS)
def read(request):
    """A function that reads a path."""
    if request.param.startswith("onnx"):
        pytest.importorskip("onnx", reason="onnx is not installed")
    module, _, name = f"cnnlib.{request.param}".rpartition(".")
    return getattr(importlib.import_module(module), name)


@pytest.fixture(params=["zip", "older"])
def pickled(request, tmp_path):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    path = tmp_path / "weights.pth"
    new = request.param == "zip"
    torch.save({"fc.weight": torch.ones(2, 3)}, path, _use_new_zipfile_serialization=new)
    return path


def test_a_missing_file_is_named(read, tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        read(tmp_path / "net.x")
    assert "Errno" not in str(caught.value)
    assert str(tmp_path / "net.x") in str(caught.value)


def test_a_folder_is_named(read, tmp_path):
    with pytest.raises((IsADirectoryError, FileNotFoundError), match=r"cnnlib\.load reads") as caught:
        read(tmp_path)
    assert "Errno" not in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def test_a_pickle_is_told_and_converted(read, pickled, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="is a pickle, as PyTorch writes it") as caught:
        read(pickled)
    line = str(caught.value).split("this line converts it: ")[1].split("; cnnlib.load reads")[0]
    monkeypatch.chdir(tmp_path)
    exec(line, {})
    np.testing.assert_array_equal(safetensors.load("weights.safetensors")["fc.weight"], np.ones((2, 3)))


@pytest.mark.parametrize("command", ["predict", "eval", "export", "serve", "benchmark"])
def test_the_commands_say_so_too(command, pickled, capsys):
    others = {"predict": ["x.png"], "export": ["x.npz"]}.get(command, [])
    for package in {"serve": ["uvicorn", "starlette"], "predict": ["PIL"]}.get(command, []):
        pytest.importorskip(package)
    message = refused(capsys, command, pickled, *others)
    assert "is a pickle, as PyTorch writes it" in message
    assert "this line converts it" in message


def test_training_from_a_pickle(pickled, tmp_path, capsys):
    pytest.importorskip("PIL", reason="Pillow reads images")
    (tmp_path / "photos" / "a").mkdir(parents=True)
    message = refused(capsys, "train", "--data", f"folder:{tmp_path / 'photos'}", "--from", pickled)
    assert "is a pickle, as PyTorch writes it" in message


@pytest.mark.parametrize("command", ["predict", "eval", "export", "benchmark"])
def test_a_missing_file_of_a_command(command, tmp_path, capsys):
    others = {"predict": ["x.png"], "export": ["x.npz"]}.get(command, [])
    message = refused(capsys, command, tmp_path / "net.npz", *others)
    assert "net.npz" in message
    assert "Errno" not in message
    assert "no file" in message or "does not exist" in message


def test_a_checkpoint_that_is_missing(tmp_path):
    net = FullyConnectedNet([4], 3, 2, seed=0)
    data = {"X_train": np.ones((4, 3)), "y_train": [0, 1, 0, 1], "X_val": np.ones((2, 3)), "y_val": [0, 1]}
    with pytest.raises(FileNotFoundError, match=r"there is no file .*epoch_3\.npz"):
        Solver.resume(tmp_path / "epoch_3.npz", net, data)


def test_a_header_that_begins_like_a_pickle(tmp_path):
    header = b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'.ljust(0x0280)  # bytes 0x80, 0x02
    (tmp_path / "a.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    assert list(safetensors.load(tmp_path / "a.safetensors")) == ["a"]
