"""cnnlib.benchmark and the command: their rows and refusals, whatever time a call takes."""

import sys
from types import SimpleNamespace

import cnnlib
import numpy as np
import pytest
from cnnlib import benchmark
from cnnlib.__main__ import main
from cnnlib.benchmarking import comparison, engines, growth, installation
from cnnlib.benchmarking.timing import Times, difference, take_turns
from cnnlib.models import ConvNet
from helpers import refused

SPEC = [{"conv": 4}, "batchnorm", "relu", {"max_pool": 2}]
IMAGES = np.random.default_rng(0).standard_normal((3, 1, 8, 8)).astype(np.float32)
QUICK = ("--num-epochs", "1", "--num-filters", "2", "--hidden-dim", "4", "--threads", "1")
SHORT = {"seconds": 0.002, "memory": False}


@pytest.fixture
def net():
    return ConvNet(SPEC, (1, 8, 8), 5, seed=0)


def test_each_precision_has_a_row(net):
    found = benchmark(net, IMAGES, precision=("float32", "float64", "int8"), peers=(), **SHORT)
    assert [row.name for row in found.rows] == ["cnnlib float32", "cnnlib float64", "cnnlib int8"]
    for row in found.rows:
        assert 0 < row.times.minimum <= row.times.median
        assert row.size > 1_000_000
        assert row.reason == ""
    assert (found.batch, found.what, found.missing) == (3, "scores", [])
    text = str(found)
    assert "scores of 3 samples" in text
    assert text.count("█") >= 3
    assert "| cnnlib int8 |" in found.markdown()


@pytest.mark.parametrize(("engine", "module"), [("torch", "torch"), ("onnxruntime", "onnxruntime")])
def test_an_engine_beside_it(net, engine, module):
    pytest.importorskip(module, reason=f"{module} is not installed")
    pytest.importorskip("onnx", reason="onnx is not installed")
    found = benchmark(net, IMAGES, peers=[engine], **SHORT)
    assert [row.engine for row in found.rows] == ["cnnlib", engine]
    assert found.rows[1].error < 2e-4
    assert found.rows[1].times is not None


def test_wrong_scores_are_not_timed(net, monkeypatch):
    def wrong(net, path, x, threads, module=None):
        scores = net(x)
        scores[1, 2] += 1
        return lambda: scores

    monkeypatch.setattr(engines, "installed", lambda: ["torch"])
    monkeypatch.setattr(engines, "torch_call", wrong)
    found = benchmark(net, IMAGES, peers=["torch"], **SHORT)
    assert found.rows[1].times is None
    assert found.rows[1].reason.startswith("its scores differ by")
    assert "PyTorch float32  not timed: its scores differ" in str(found)


def test_an_engine_that_lacks_a_layer_is_named(net, monkeypatch):
    def lacking(net, path, x, threads, module=None):
        raise ValueError("no PyTorch layer for gelu")

    monkeypatch.setattr(engines, "installed", lambda: ["torch"])
    monkeypatch.setattr(engines, "torch_call", lacking)
    assert benchmark(net, IMAGES, peers=["torch"], **SHORT).rows[1].reason == "no PyTorch layer for gelu"


def test_an_engine_that_fails_is_named(net, monkeypatch):
    def failing(net, path, x, threads):
        raise RuntimeError("no kernel\nfor Gelu")

    pytest.importorskip("onnx", reason="onnx is not installed")
    monkeypatch.setattr(engines, "installed", lambda: ["openvino"])
    monkeypatch.setitem(engines.CALLS, "openvino", failing)
    row = benchmark(net, IMAGES, peers=["openvino"], **SHORT).rows[1]
    assert (row.times, row.reason) == (None, "RuntimeError: no kernel for Gelu")


def test_what_is_not_installed_is_named(net, monkeypatch):
    monkeypatch.setattr(engines, "installed", lambda: [])
    found = benchmark(net, IMAGES, **SHORT)
    assert found.missing == ["PyTorch", "ONNX Runtime", "OpenVINO", "ncnn"]
    assert "Not installed: PyTorch, ONNX Runtime, OpenVINO, ncnn." in found.markdown()


def test_memory_is_measured_in_a_process_of_its_own(net):
    (row,) = benchmark(net, IMAGES, peers=(), seconds=0.002).rows
    assert row.memory is None if sys.platform != "linux" else row.memory >= 0


def test_threads_are_as_before_behind_it(net, num_threads):
    num_threads(2)
    assert benchmark(net, IMAGES, threads=1, peers=(), **SHORT).threads == 1
    assert cnnlib.get_num_threads() == 2


@pytest.mark.peers
def test_pytorchs_threads_are_as_before_behind_it(net, num_threads):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    before = torch.get_num_threads()
    num_threads(1)
    torch.set_num_threads(2)
    try:
        benchmark(net, IMAGES, threads=1, peers=("torch",), **SHORT)
        assert (torch.get_num_threads(), cnnlib.get_num_threads()) == (2, 1)
    finally:
        torch.set_num_threads(before)


def test_a_network_of_float64(net):
    wide = ConvNet(SPEC, (1, 8, 8), 5, seed=0, dtype=np.float64)
    found = benchmark(wide, IMAGES, precision="float64", peers=(), **SHORT)
    assert found.rows[0].error < 1e-10
    assert found.rows[0].times is not None


def test_a_step_of_training(net):
    weights = net.params["W1"].copy()
    found = benchmark(net, IMAGES, train=True, peers=(), **SHORT)
    assert (found.what, found.rows[0].name) == ("step", "cnnlib float32")
    np.testing.assert_array_equal(net.params["W1"], weights)  # a copy was trained


@pytest.mark.parametrize("train", [False, True])
def test_a_module_of_pytorch(train):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    nn = torch.nn
    module = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5))
    before = {name: value.clone() for name, value in module.state_dict().items()}
    found = benchmark(module, IMAGES, peers=["torch"], train=train, **SHORT)
    assert [row.engine for row in found.rows] == ["cnnlib", "torch"]
    assert all(row.times is not None for row in found.rows)
    assert found.rows[1].error < 2e-4
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


def test_a_step_beside_pytorch(net):
    pytest.importorskip("torch", reason="torch is not installed")
    found = benchmark(net, IMAGES, train=True, peers=["torch"], **SHORT)
    assert found.rows[1].error < 1e-4
    assert found.rows[1].times is not None


@pytest.mark.parametrize(
    "settings",
    [{"reg": 0.5}, {"spec": [*SPEC, {"dropout": 0.5}]}, {"spec": [{"conv": 4, "stride": 2}, "relu"]}],
)
def test_a_step_beside_pytorch_of_what_it_does_otherwise(settings):
    pytest.importorskip("torch", reason="torch is not installed")
    settings = {"spec": SPEC} | settings
    net = ConvNet(input_dim=(1, 8, 8), num_classes=5, seed=0, **settings)
    found = benchmark(net, IMAGES, train=True, peers=["torch"], **SHORT)
    assert found.rows[1].error < 1e-4
    assert found.rows[1].times is not None


def test_a_module_with_dropout():
    nn = pytest.importorskip("torch.nn", reason="torch is not installed")
    module = nn.Sequential(nn.Flatten(), nn.Linear(64, 9), nn.Dropout(0.5), nn.Linear(9, 5))
    found = benchmark(module, IMAGES, train=True, peers=["torch"], **SHORT)
    assert found.rows[1].error < 1e-4
    assert module[2].p == 0.5


def test_a_step_is_of_classes():
    net = ConvNet([{"conv": 4}, "relu", "global_avg_pool", "values"], (1, 8, 8), 1, seed=0)
    with pytest.raises(ValueError, match="benchmark: train is for networks of classes with the softmax loss"):
        benchmark(net, IMAGES, train=True, peers=(), **SHORT)


def test_wrong_losses_are_not_timed(net, monkeypatch):
    monkeypatch.setattr(comparison, "_losses_error", lambda *given: 0.1)
    pytest.importorskip("torch", reason="torch is not installed")
    row = benchmark(net, IMAGES, train=True, peers=["torch"], **SHORT).rows[1]
    assert (row.times, row.reason) == (None, "its first losses differ by 1.0e-01")


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"precision": "int4"}, ValueError, "benchmark: .*precision.*int4"),
        ({"peers": ["tvm"]}, ValueError, "benchmark: .*peers.*tvm"),
        ({"seconds": -1}, ValueError, "benchmark: seconds"),
        ({"threads": 0}, ValueError, "benchmark: threads"),
    ],
)
def test_options_that_are_refused(net, options, error, message):
    with pytest.raises(error, match=message):
        benchmark(net, IMAGES, **SHORT | options)


def test_what_is_no_network():
    with pytest.raises(TypeError, match=r"model must be one of cnnlib.models or a module, got a str"):
        benchmark("net", IMAGES)


def test_turns_are_taken_and_counted():
    seen = []
    times = take_turns({name: lambda name=name: seen.append(name) for name in "ab"}, 0.0)
    assert seen[:4] == ["a", "a", "b", "b"]  # one to wake the threads, one that counts
    assert set(times) == {"a", "b"}


def test_times_and_differences():
    assert Times.of([3.0, 1.0, 2.0]) == (1.0, 2.0, 3, 3.0)
    assert difference((np.ones(2),), (np.array([1.0, 2.0]),)) == 0.5
    assert difference((np.ones(2),), (np.ones(3),)) == np.inf
    assert difference((np.array([np.nan]),), (np.ones(1),)) == np.inf


def test_the_size_of_an_installation():
    assert installation.installed_bytes("cnnlib") > 1_000_000
    assert installation.installed_bytes("no_such_package") is None


class TestTheCommand:
    options = ("--peers", "--seconds", "0.002", "--no-memory")

    def test_prints_a_chart_and_a_table_for_each_batch(self, net, tmp_path, capsys):
        net.save(tmp_path / "net.npz")
        assert main(["benchmark", str(tmp_path / "net.npz"), "--batch", "1", "2", *self.options]) == 0
        out = capsys.readouterr().out
        assert "scores of 1 sample," in out
        assert "scores of 2 samples," in out
        assert out.count("| engine | minimum ms |") == 2

    def test_takes_a_run(self, tmp_path, capsys):
        run = str(tmp_path / "run")
        assert main(["train", "--out", run, *QUICK]) == 0
        capsys.readouterr()
        assert main(["benchmark", run, "--batch", "1", "--threads", "1", "2", *self.options]) == 0
        out = capsys.readouterr().out
        assert "ThreeLayerConvNet(1x8x8" in out
        assert "1 thread;" in out
        assert "2 threads;" in out

    def test_takes_an_onnx_file(self, net, tmp_path, capsys):
        pytest.importorskip("onnx", reason="onnx is not installed")
        net.export(tmp_path / "net.onnx")
        options = ("--batch", "2", "--precision", "float64", "int8", *self.options)
        assert main(["benchmark", str(tmp_path / "net.onnx"), *options]) == 0
        out = capsys.readouterr().out
        assert "| cnnlib float64 |" in out
        assert "| cnnlib int8 |" in out

    def test_times_a_step(self, net, tmp_path, capsys):
        net.save(tmp_path / "net.npz")
        assert main(["benchmark", str(tmp_path / "net.npz"), "--batch", "4", "--train", *self.options]) == 0
        assert "a training step of 4 samples" in capsys.readouterr().out

    @pytest.mark.parametrize("name", ["torchvision:resnet18", "timm:resnet10t"])
    def test_takes_a_network_of_a_zoo(self, name, capsys):
        pytest.importorskip(name.partition(":")[0], reason="the zoo is not installed")
        assert main(["benchmark", name, "--batch", "1", *self.options]) == 0
        assert "GraphNet(3x" in capsys.readouterr().out

    def test_names_a_network_that_a_zoo_lacks(self, monkeypatch, capsys):
        monkeypatch.setitem(sys.modules, "timm", SimpleNamespace(list_models=lambda: ["resnet18", "vgg11"]))
        message = refused(capsys, "benchmark", "timm:resnet81")
        assert "timm has no network 'resnet81'; did you mean 'resnet18'?" in message

    def test_refuses_what_is_no_network(self, tmp_path, capsys):
        np.savez(tmp_path / "arrays.npz", a=np.ones(3))
        message = refused(capsys, "benchmark", tmp_path / "arrays.npz")
        assert "arrays.npz" in message

    def test_says_that_memory_cannot_be_measured(self, net, tmp_path, monkeypatch, capsys):
        if not growth._CLEAR.exists():
            pytest.skip("memory is measured on Linux")
        net.save(tmp_path / "net.npz")
        ends = iter([("Traceback:\n  ...\nMemoryError: too large\n", 1), ("", -9)])

        def run(*arguments, **options):
            text, status = next(ends)
            return SimpleNamespace(returncode=status, stderr=text, stdout="")

        monkeypatch.setattr(growth.subprocess, "run", run)
        for found in ("MemoryError: too large", "status -9"):
            message = refused(capsys, "benchmark", tmp_path / "net.npz", "--seconds", "0.002", "--peers")
            assert f"the memory of cnnlib could not be measured ({found}); memory=False" in message

    def test_names_a_zoo_that_is_missing(self, monkeypatch, capsys):
        monkeypatch.setitem(sys.modules, "torchvision.models", None)
        message = refused(capsys, "benchmark", "torchvision:resnet18")
        assert "cnnlib benchmark torchvision:resnet18 needs torchvision: pip install torchvision" in message
