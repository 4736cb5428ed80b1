"""``--precision`` of the commands: what a run trains in, and what a trained network computes in."""

import json
import re
import shutil

import cnnlib
import numpy as np
import pytest
from cnnlib import _core
from cnnlib.__main__ import main
from cnnlib.checkpoint import load_checkpoint
from cnnlib.data import Normalization
from cnnlib.models import ConvNet
from cnnlib.runs.folder import Run
from helpers import lines, refused, without_bfloat16

TINY = ("--model", "resnet8", "--threads", "1")
COMMANDS = ("predict", "eval", "export", "serve")

needs_instructions = pytest.mark.skipif(
    _core.active_bfloat16() is None, reason="this processor has no instructions for bfloat16"
)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of two epochs in bfloat16."""
    folder = tmp_path_factory.mktemp("precision") / "run"
    how = [*TINY, "--num-epochs", "2", "--keep-checkpoints", "--precision", "bfloat16"]
    assert main(["train", "--out", str(folder), *how]) == 0
    return folder


@pytest.fixture
def net(tmp_path):
    """The path of a network of digits whose scores differ in float32 and bfloat16."""
    net = ConvNet([{"conv": 8}, "relu", {"max_pool": 2}], (1, 8, 8), 10, seed=0)
    path = tmp_path / "net.npz"
    net.save(path, preprocess=Normalization(4.9, 6.0, 16.0, ink=True), classes=tuple("0123456789"))
    return path


class TestTrain:
    def test_the_run_records_it(self, run):
        assert json.loads((run / "config.json").read_text())["training"]["precision"] == "bfloat16"
        _, content = load_checkpoint(run / "checkpoint_epoch_2.npz")
        assert content["settings"]["precision"] == "bfloat16"
        page = (run / "report.html").read_text()
        assert re.search(r"precision.{0,80}bfloat16", page, re.DOTALL)

    @needs_instructions
    def test_resumed_it_goes_on_to_the_same_bits(self, run, tmp_path, capsys):
        copy = tmp_path / "run"
        shutil.copytree(run, copy)
        lines(capsys, "train", "--resume", copy / "checkpoint_epoch_1.npz", "--threads", "1")
        want, got = (load_checkpoint(folder / "checkpoint_epoch_2.npz")[0] for folder in (run, copy))
        assert all(np.array_equal(got[name], value) for name, value in want.items())
        lines(capsys, "train", "--out", tmp_path / "plain", *TINY, "--num-epochs", "2")
        other = load_checkpoint(tmp_path / "plain" / "checkpoint_epoch_2.npz")[0]
        assert not all(np.array_equal(other[name], value) for name, value in want.items())

    def test_resume_takes_no_other(self, run, capsys):
        message = refused(capsys, "train", "--resume", run, "--precision", "float32")
        assert "it does not take --precision" in message

    def test_bfloat16_is_for_float32(self, tmp_path, capsys):
        options = ("--dtype", "float64", "--precision", "bfloat16")
        message = refused(capsys, "train", "--out", tmp_path / "run", *TINY, *options)
        assert "precision 'bfloat16' is for models of float32" in message

    def test_by_default_it_is_the_models(self, tmp_path, capsys):
        lines(capsys, "train", "--out", tmp_path / "run", *TINY, "--num-epochs", "1")
        assert Run.open(tmp_path / "run").config.training["precision"] is None


class TestTrained:
    @pytest.mark.parametrize("precision", ["float32", "bfloat16", "int8"])
    def test_eval_puts_both_accuracies_side_by_side(self, precision, run, capsys):
        out = lines(capsys, "eval", run, "--precision", precision)
        words = "eight bits" if precision == "int8" else precision
        own, found = (
            next(match for text in out if (match := re.fullmatch(form, text)))
            for form in (r"test_accuracy: ([\d.]+)", rf"test_accuracy in {words}: ([\d.]+) \(([+-][\d.]+)\)")
        )
        assert float(found[1]) - float(own[1]) == pytest.approx(float(found[2]), abs=2e-4)
        assert abs(float(found[2])) < 0.05
        assert precision != "float32" or found[2] == "+0.0000"

    def test_int8_is_one_of_them(self, run, capsys):
        assert lines(capsys, "eval", run, "--int8") == lines(capsys, "eval", run, "--precision", "int8")

    @pytest.mark.parametrize("precision", ["float32", "bfloat16"])
    def test_export_writes_a_predictor_of_it(self, precision, net, tmp_path, capsys):
        lines(capsys, "export", net, tmp_path / "out.cnnlib", "--precision", precision)
        x = np.random.default_rng(0).standard_normal((4, 1, 8, 8)).astype(np.float32)
        got = cnnlib.load(tmp_path / "out.cnnlib")
        want = cnnlib.prepare(cnnlib.load(net), precision=precision)
        assert np.array_equal(got(x), want(x))
        assert got.preprocess is not None
        assert got.classes == tuple("0123456789")
        other = {"float32": "bfloat16", "bfloat16": "float32"}[precision]
        assert not np.array_equal(got(x), cnnlib.prepare(cnnlib.load(net), precision=other)(x))

    def test_predict(self, net, tmp_path, capsys):
        image = pytest.importorskip("PIL.Image", reason="Pillow reads images")
        pixels = np.full((20, 20), 255, np.uint8)
        pixels[4:16, 9:11] = 0
        image.fromarray(pixels).save(tmp_path / "one.png")
        command = ("predict", net, tmp_path / "one.png", "--json")
        found = {
            name: json.loads("".join(lines(capsys, *command, *options)))
            for name, options in (("plain", ()), ("bfloat16", ("--precision", "bfloat16")))
        }
        assert found["plain"] != found["bfloat16"]

    @pytest.mark.parametrize("command", COMMANDS)
    def test_two_precisions_are_refused(self, command, net, capsys, tmp_path):
        if command == "serve":
            pytest.importorskip("uvicorn", reason="uvicorn is not installed")
        others = {"predict": ["x.png"], "export": [tmp_path / "x.npz"]}.get(command, [])
        message = refused(capsys, command, net, *others, "--int8", "--precision", "bfloat16")
        assert "--int8 and --precision bfloat16 exclude each other" in message

    @pytest.mark.parametrize("command", ["predict", "export", "serve"])
    def test_data_are_for_eight_bits(self, command, net, capsys, tmp_path):
        if command == "serve":
            pytest.importorskip("uvicorn", reason="uvicorn is not installed")
        others = {"predict": ["x.png"], "export": [tmp_path / "x.npz"]}.get(command, [])
        message = refused(capsys, command, net, *others, "--precision", "bfloat16", "--data", "digits")
        assert "--data is for --int8" in message

    def test_a_predictor_is_prepared_already(self, net, tmp_path, capsys):
        lines(capsys, "export", net, tmp_path / "out.cnnlib")
        message = refused(
            capsys, "eval", tmp_path / "out.cnnlib", "--data", "digits", "--precision", "bfloat16"
        )
        assert "--precision bfloat16: the file is a predictor, which is prepared already" in message

    def test_a_processor_without_instructions_says_so(self, run, capsys):
        with without_bfloat16():
            assert main(["eval", str(run), "--precision", "bfloat16"]) == 0
        assert "this processor has no instructions for bfloat16" in capsys.readouterr().err

    @needs_instructions
    def test_benchmark(self, net, capsys):
        options = ("--batch", "2", "--peers", "--seconds", "0.01", "--no-memory", "--threads", "1")
        out = lines(capsys, "benchmark", net, "--precision", "float32", "bfloat16", *options)
        assert any("| cnnlib bfloat16 |" in text for text in out)
