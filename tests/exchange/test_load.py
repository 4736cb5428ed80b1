"""cnnlib.load: whatever a path holds."""

import cnnlib
import numpy as np
import pytest
from cnnlib import safetensors
from cnnlib.checkpoint import save_checkpoint
from cnnlib.cli.main import main
from cnnlib.inference import Predictor
from cnnlib.models import ConvNet, FullyConnectedNet, GraphNet
from cnnlib.saved_model.kinds import kind_of
from cnnlib.saved_model.loading import Arrays
from training import assert_same_bits, digits_like, trained


def net():
    return ConvNet([{"conv": 2}, "relu"], (1, 6, 6), 4, seed=0)


X = np.random.default_rng(0).standard_normal((3, 1, 6, 6)).astype(np.float32)


def test_models(tmp_path):
    net().save(tmp_path / "any.name", classes="abcd")
    loaded = cnnlib.load(str(tmp_path / "any.name"))
    assert type(loaded) is ConvNet
    assert loaded.classes == tuple("abcd")
    assert_same_bits(loaded.loss(X), net().loss(X))


def test_predictors(tmp_path):
    cnnlib.prepare(net()).save(tmp_path / "net.npz")  # the name says nothing
    loaded = cnnlib.load(tmp_path / "net.npz")
    assert type(loaded) is Predictor
    assert_same_bits(loaded(X), cnnlib.prepare(net())(X))


@pytest.mark.parametrize("name", ["net.onnx", "net"])
def test_onnx(tmp_path, name):
    pytest.importorskip("onnx")
    cnnlib.onnx.save(net(), tmp_path / name)
    loaded = cnnlib.load(tmp_path / name)
    assert type(loaded) is GraphNet
    np.testing.assert_allclose(loaded.loss(X), net().loss(X), rtol=1e-5)


def test_arrays(tmp_path):
    params = {"W1": np.eye(3, 2), "b1": np.float32([1, 2]), "t": np.array(3)}
    safetensors.save(params, tmp_path / "a")
    save_checkpoint(params, tmp_path / "b", {"epoch": 1})
    for name, kind in (("a", "a safetensors file"), ("b", "a checkpoint")):
        loaded = cnnlib.load(tmp_path / name)
        assert (type(loaded), loaded.kind) == (Arrays, kind)
        for key, value in params.items():
            np.testing.assert_array_equal(loaded[key], value)
    assert repr(loaded) == "Arrays of a checkpoint: W1 3x2 float64, b1 2 float32, t 1 int64"


def test_checkpoints_of_a_solver_give_the_best_parameters(tmp_path):
    model = FullyConnectedNet([5], input_dim=36, num_classes=4, seed=0)
    rate = {"learning_rate": 0.3}
    solver = trained(
        model, digits_like(), checkpoint_name=tmp_path / "run", num_epochs=6, seed=0, optim_config=rate
    )
    assert 0 < solver.best_epoch < 6
    for config in (None, "[1]", '{"name": "another program"}'):
        if config is not None:
            (tmp_path / "config.json").write_text(config)
        loaded = cnnlib.load(tmp_path / "run_epoch_6.npz")
        assert_same_bits(dict(loaded), solver.best_params)
        assert loaded.kind == f"a Solver's checkpoint, epoch {solver.best_epoch}"
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"config\.json is damaged"):
        cnnlib.load(tmp_path / "run_epoch_6.npz")


@pytest.mark.usefixtures("without_pictures")
def test_runs(tmp_path, capsys):
    out = tmp_path / "run"
    arguments = [
        "train",
        "--model",
        "fully-connected",
        "--hidden-dim",
        "5",
        "--num-epochs",
        "1",
        "--out",
        str(out),
    ]
    assert main(arguments) == 0
    for path in (out, out / "checkpoint_epoch_1.npz"):
        loaded = cnnlib.load(path)
        assert loaded.classes == tuple("0123456789")
        data = cnnlib.data.load_digits()
        right = loaded.loss(loaded.preprocess(data["X_test"])).argmax(axis=1) == data["y_test"]
        assert f"test_accuracy: {right.mean():.4f}" in capsys.readouterr().out or path != out


@pytest.mark.parametrize("content", [b"", b"plain text", b"PK\x03\x04 cut short", bytes(100)])
def test_what_is_none_of_these(tmp_path, content):
    path = tmp_path / "file.dat"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"file\.dat"):
        cnnlib.load(path)
    if not content.startswith(b"PK"):
        assert kind_of(path) == ("unknown" if content else "empty")


def test_files_of_others_and_none(tmp_path):
    np.savez(tmp_path / "own.npz", W1=np.eye(2))
    with pytest.raises(ValueError, match=r"own\.npz is not a cnnlib checkpoint"):
        cnnlib.load(tmp_path / "own.npz")
    with pytest.raises(
        FileNotFoundError, match=r"load: .*missing does not exist; cnnlib\.load reads a run's"
    ):
        cnnlib.load(tmp_path / "missing")
    found = r"is not the folder of a run: it has no config\.json, but own\.npz; cnnlib\.load reads"
    with pytest.raises(FileNotFoundError, match=found):
        cnnlib.load(tmp_path)
    for name in "abcd":
        (tmp_path / name).touch()
    with pytest.raises(FileNotFoundError, match=r"but a, b, c, \.\.\.; "):
        cnnlib.load(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "resnet"}')
    with pytest.raises(ValueError, match=r"config\.json is not the config\.json of a cnnlib run"):
        cnnlib.load(tmp_path)
    with pytest.raises(TypeError):
        cnnlib.load(3)


@pytest.mark.parametrize(
    ("content", "found"), [(b"", "is empty"), (b":\x00not ONNX", r"is of a kind .* begins with b':")]
)
def test_what_was_found_is_said(tmp_path, content, found):
    path = tmp_path / "file.onnx"  # the name says nothing
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"load: .*file\.onnx {found}.*; cnnlib\.load reads .*safetensors"):
        cnnlib.load(path)


@pytest.mark.peers
@pytest.mark.parametrize("zipped", [True, False])
def test_pickles_of_pytorch(tmp_path, zipped, monkeypatch):
    """The message has the line that converts them, and the line works."""
    torch = pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    module = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    torch.save(module.state_dict(), "net.bin", _use_new_zipfile_serialization=zipped)
    with pytest.raises(ValueError, match=r"net\.bin is a pickle, as PyTorch writes it") as caught:
        cnnlib.load("net.bin")
    line = str(caught.value).partition("this line converts it: ")[2].partition("; cnnlib.load reads")[0]
    exec(line)
    loaded = cnnlib.load("net.safetensors")
    assert loaded.keys() == module.state_dict().keys()
    np.testing.assert_array_equal(loaded["0.weight"], module[0].weight.detach())


def test_onnx_is_told_by_its_fields(tmp_path):
    """Whatever stands before the graph; a damaged file is one too, and its reader says so."""
    onnx = pytest.importorskip("onnx")
    net().export(tmp_path / "net.onnx")
    proto = onnx.load(tmp_path / "net.onnx")
    proto.doc_string, proto.domain, proto.model_version = "a" * 300, "of.ours", 300
    (tmp_path / "any").write_bytes(proto.SerializeToString())
    assert kind_of(tmp_path / "any") == "onnx"
    assert type(cnnlib.load(tmp_path / "any")) is GraphNet
    content = (tmp_path / "any").read_bytes()
    (tmp_path / "cut").write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match="cut"):
        cnnlib.load(tmp_path / "cut")
    (tmp_path / "no graph").write_bytes(content[:40])
    assert kind_of(tmp_path / "no graph") == "unknown"
