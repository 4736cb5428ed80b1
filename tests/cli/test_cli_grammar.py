"""predict, eval, export, benchmark and serve take the same sources and the same options."""

import importlib.util
import json
import re

import cnnlib
import numpy as np
import pytest
from cnnlib.__main__ import main
from cnnlib.cli.main import build_parser
from cnnlib.data import Normalization
from cnnlib.models import ConvNet
from helpers import lines, refused
from image_folders import write_folder

pytest.importorskip("PIL", reason="Pillow reads images")
COMMANDS = ("predict", "eval", "export", "benchmark", "serve")
SOURCES = ("run", "checkpoint", "npz", "onnx", "safetensors")
UNSAID = ("--mean", "127.5", "--std", "127.5")
NETWORK = ("--network", "resnet8", "--image-size", "16")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Photos of two classes, and a network in each kind of source."""
    folder = tmp_path_factory.mktemp("grammar")
    write_folder(folder / "photos", {"a": 10, "b": 10}, size=(16, 16))
    how = ["--model", "resnet8", "--num-epochs", "1", "--image-size", "16", "--threads", "1"]
    assert main(["train", "--data", f"folder:{folder / 'photos'}", *how, "--out", str(folder / "run")]) == 0
    net = ConvNet("resnet8", (3, 16, 16), 2, seed=0)
    net.save(folder / "net.npz", preprocess=Normalization(127.5, 127.5), classes=("a", "b"))
    cnnlib.load(folder / "net.npz").export(folder / "net.safetensors")
    (folder / "classes.txt").write_text("a\nb\n")
    if importlib.util.find_spec("onnx") is not None:
        cnnlib.load(folder / "net.npz").export(folder / "net.onnx")
    return folder


def source(folder, kind):
    """The path of a source, and the options that say what it does not."""
    if kind == "onnx":
        pytest.importorskip("onnx", reason="onnx is not installed")
    if kind == "run":
        return folder / "run", ()
    if kind == "checkpoint":
        return folder / "run" / "checkpoint_epoch_1.npz", ()
    return folder / f"net.{kind}", (
        *UNSAID,
        *NETWORK,
        "--classes",
        folder / "classes.txt",
    ) if kind == "safetensors" else ()


def data(folder, kind):
    return () if kind in ("run", "checkpoint") else ("--data", f"folder:{folder / 'photos'}")


@pytest.mark.parametrize("kind", SOURCES)
class TestEachSource:
    @pytest.mark.parametrize("eight_bits", [False, True])
    def test_predict(self, folder, kind, eight_bits, capsys):
        path, options = source(folder, kind)
        options += ("--int8", *data(folder, kind)) if eight_bits else ()
        out = lines(capsys, "predict", path, folder / "photos" / "a" / "0.png", *options)
        assert re.search(r"0\.png: +[ab] [01]\.\d+", out[-1])

    def test_eval(self, folder, kind, capsys):
        path, options = source(folder, kind)
        assert "test_accuracy: " in lines(capsys, "eval", path, *data(folder, kind), *options)[-1]

    def test_export(self, folder, kind, capsys, tmp_path):
        path, options = source(folder, kind)
        lines(capsys, "export", path, tmp_path / "net.cnnlib", *options)
        got = cnnlib.load(tmp_path / "net.cnnlib")
        x = np.random.default_rng(0).standard_normal((2, 3, 16, 16)).astype(np.float32)
        if kind not in ("run", "checkpoint"):
            want = cnnlib.prepare(cnnlib.load(folder / "net.npz"))(x)
            np.testing.assert_allclose(got(x), want, rtol=1e-4, atol=1e-5)
        assert got.preprocess is not None

    def test_benchmark(self, folder, kind, capsys):
        path, options = source(folder, kind)
        options = NETWORK if options else ()
        how = ("--batch", "1", "--peers", "--seconds", "0.002", "--no-memory")
        assert any("cnnlib float32" in line for line in lines(capsys, "benchmark", path, *how, *options))


def test_serve_opens_safetensors(folder, monkeypatch):
    pytest.importorskip("uvicorn", reason="uvicorn is not installed")
    pytest.importorskip("python_multipart", reason="python-multipart is not installed")
    from cnnlib.cli.server import listening

    seen = []
    monkeypatch.setattr(listening, "listen", lambda server, listener: seen.append(server))
    path, options = source(folder, "safetensors")
    options += ("--int8", *data(folder, "safetensors"))
    assert main(["serve", str(path), "--port", "0", *map(str, options)]) == 0
    assert len(seen) == 1


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_the_options_of_a_source(command):
    taken = {option for action in build_parser(command)._actions for option in action.option_strings}
    commands = next(action for action in build_parser(command)._actions if action.choices)
    taken |= {o for action in commands.choices[command]._actions for o in action.option_strings}
    assert {"--which", "--network", "--image-size", "--threads"} <= taken
    if command != "benchmark":  # which makes its images
        assert {"--mean", "--std", "--classes", "--int8", "--data"} <= taken


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("kind", ["run", "npz"])
def test_a_network_is_named_for_safetensors_alone(command, kind, folder, capsys, tmp_path):
    others = {"predict": ["x.png"], "export": [tmp_path / "x.npz"]}.get(command, [])
    if command == "serve":
        pytest.importorskip("uvicorn", reason="uvicorn is not installed")
    message = refused(capsys, command, source(folder, kind)[0], *others, "--network", "resnet8")
    assert "says itself of which network it is" in message


@pytest.mark.parametrize("command", COMMANDS)
def test_safetensors_without_a_network(command, folder, capsys, tmp_path):
    others = {"predict": ["x.png"], "export": [tmp_path / "x.npz"]}.get(command, [])
    if command == "serve":
        pytest.importorskip("uvicorn", reason="uvicorn is not installed")
    message = refused(capsys, command, folder / "net.safetensors", *others)
    assert "has arrays but no network: name it (--network)" in message
    message = refused(capsys, command, folder / "net.safetensors", *others, *NETWORK[:2])
    assert "does not say the size of its images, and resnet8 takes any: --image-size" in message


def test_data_are_for_eight_bits(folder, capsys):
    assert "--data is for --int8" in refused(
        capsys, "predict", folder / "net.npz", "x.png", "--data", "digits"
    )


@pytest.mark.parametrize("command", [c for c in COMMANDS if c != "export"])
@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"", "is empty"),
        (b"a list of names", "is of a kind that is not known here: it begins with b'a list of na'"),
        (b"\x80\x02}q", "is a pickle, as PyTorch writes it"),
    ],
)
def test_a_file_of_another_kind_is_named(command, content, found, capsys, tmp_path):
    if command == "serve":
        pytest.importorskip("uvicorn", reason="uvicorn is not installed")
    (tmp_path / "file").write_bytes(content)
    message = refused(capsys, command, tmp_path / "file", *(["x.png"] if command == "predict" else []))
    assert f"file {found}" in message


@pytest.mark.parametrize("command", COMMANDS)
def test_which_means_nothing_to_safetensors(command, folder, capsys, tmp_path):
    others = {"predict": ["x.png"], "export": [tmp_path / "x.npz"]}.get(command, [])
    if command == "serve":
        pytest.importorskip("uvicorn", reason="uvicorn is not installed")
    path, options = source(folder, "safetensors")
    options = NETWORK if command == "benchmark" else options
    message = refused(capsys, command, path, *others, *options, "--which", "last")
    assert "--which last: " in message
    assert "net.safetensors is a safetensors file, which has the parameters of one epoch" in message


@pytest.mark.parametrize("command", ["benchmark", "report"])
def test_a_file_beside_no_run_is_no_checkpoint(command, folder, capsys):
    which = ("--which", "last") if command == "benchmark" else ()
    message = refused(capsys, command, folder / "net.npz", *which)
    assert "net.npz is no checkpoint of a run: beside it there is no config.json" in message


def test_json_stands_alone(folder, capsys):
    """Beside it only the standard error says which split calibrates."""
    data = ("--int8", "--data", f"folder:{folder / 'photos'}")
    out = lines(capsys, "predict", folder / "net.npz", folder / "photos" / "a" / "0.png", "--json", *data)
    assert len(json.loads("\n".join(out))) == 1


def test_eval_refuses_eight_bits_of_a_predictor_at_once(folder, tmp_path, capsys):
    cnnlib.load(folder / "net.npz").export(tmp_path / "net.cnnlib")
    capsys.readouterr()
    assert main(["eval", str(tmp_path / "net.cnnlib"), "--int8", *data(folder, "npz")]) == 2
    out, err = capsys.readouterr()
    assert "the file is a predictor, which is prepared already" in err
    assert out == ""
