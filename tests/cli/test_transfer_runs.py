"""The folder that ``cnnlib train --from FILE`` leaves, from the command line as people use it."""

import functools
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import cnnlib
import numpy as np
import pytest
from cnnlib.cli.main import main
from cnnlib.data import Normalization
from cnnlib.models import ConvNet
from helpers import lines, refused
from image_folders import write_folder
from mpi import mpiexec, needs_mpi

COUNTS = {"cats": 30, "dogs": 26, "newts": 24}
TRAIN = ("train", "--data", "folder:photos", "--from", "net.npz", "--normalization", "half", "--out", "run")


@pytest.fixture
def here(tmp_path, monkeypatch):
    pytest.importorskip("PIL")
    write_folder(tmp_path / "photos", COUNTS, size=(20, 18), suffix="jpg")
    net = ConvNet("resnet8", (3, 16, 16), 10, seed=0)
    net.loss(np.random.default_rng(0).standard_normal((20, 3, 16, 16)), np.arange(20) % 10)
    net.save(tmp_path / "net.npz")
    # The report's map takes longer than such a training.
    monkeypatch.setattr("cnnlib.cli.report.transfer_report._map", lambda about: "")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CNNLIB_CACHE", raising=False)
    return tmp_path


def test_from_photos_to_a_service(here, capsys):
    def cnnlib_command(*arguments):
        return "\n".join(lines(capsys, *arguments)) + "\n"

    out = cnnlib_command(*TRAIN, "--test", "0.3", "--fine-tune", "1")
    right = re.search(r"test_accuracy: (\S+);", out)[1]
    assert float(right) > 0.4
    assert {path.name for path in Path("run").glob("[!.]*")} == {"config.json", "model.npz", "report.html"}
    # The run knows its images and which of them it has not learned from.
    evaluated = cnnlib_command("eval", "run")
    assert f"test_accuracy: {right}\n" in evaluated
    assert sum(map(int, re.findall(r"of +(\d+)", evaluated))) == 24
    files = sorted(map(str, Path("photos").rglob("*.jpg")))[:4]
    rows = json.loads(cnnlib_command("predict", "run", *files, "--top", "3", "--json"))
    assert [row["file"] for row in rows] == files
    predicted = [{p["class"]: p["probability"] for p in row["predictions"]} for row in rows]

    if importlib.util.find_spec("onnxruntime") is not None:
        import onnxruntime

        cnnlib_command("export", "run", "net.onnx")
        session = onnxruntime.InferenceSession("net.onnx", providers=["CPUExecutionProvider"])
        trained = cnnlib.load("run")
        from cnnlib.data.image_files import photo

        X = trained.preprocess(np.stack([photo(file, (16, 16), 3) for file in files]))
        (scores,) = session.run(None, {session.get_inputs()[0].name: X.astype(np.float32)})
        p = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
        got = [[row[name] for name in trained.classes] for row in predicted]
        np.testing.assert_allclose(got, p, atol=1e-5)

    if all(map(importlib.util.find_spec, ("starlette", "uvicorn", "python_multipart"))):
        path = os.pathsep.join([str(Path(cnnlib.__path__[0]).parent), os.environ.get("PYTHONPATH", "")])
        command = [sys.executable, "-m", "cnnlib", "serve", "run", "--port", "0"]
        server = subprocess.Popen(
            command, env={**os.environ, "PYTHONPATH": path}, text=True, stdout=subprocess.PIPE
        )
        try:
            assert server.stdout.readline() == "serving run: 3 classes, images of 3x16x16\n"
            address = re.search(r"http://\S+", server.stdout.readline())[0]
            request = urllib.request.Request(f"{address}predict", Path(files[0]).read_bytes())
            with urllib.request.urlopen(request, timeout=300) as answer:
                served = json.loads(answer.read())
        finally:
            server.kill()
            server.communicate()
        assert f'"probability": {rows[0]["predictions"][0]["probability"]}' in json.dumps(served)


def test_load_reads_the_run(here, capsys):
    assert main([*TRAIN]) == 0
    for path in ("run", "run/model.npz"):
        model = cnnlib.load(path)
        assert model.classes == tuple(COUNTS)
        assert model.preprocess == Normalization(127.5, 127.5)
    capsys.readouterr()
    for arguments, text in (
        (["eval", "run", "--which", "last"], "run began with --from, and keeps one model"),
        (["report", "run"], "cnnlib train --resume run makes its report anew"),
        ([*TRAIN, "--no-batchnorm"], "--batchnorm means nothing to --from: validation finds its settings"),
        (["train", "--resume", "run", "--views", "3"], "run's own settings; it does not take --views"),
        (["train", "--resume", "run", "--from", "x"], "run's own settings; it does not take --from"),
    ):
        assert text in refused(capsys, *arguments)
    (here / "photos/cats/0.jpg").unlink()
    assert "no longer holds the run's images" in refused(capsys, "eval", "run")


def test_it_learns_from_photographs_whatever_the_network_has(here, capsys):
    """So `predict` does not crop a photo to its ink, as it would for the network that reads writing."""
    net = ConvNet("resnet8", (1, 16, 16), 10, seed=0)
    net.save("net.npz", preprocess=Normalization(0.5, 0.5, white=1.0, ink=True))
    command = [name for name in TRAIN if name not in ("--normalization", "half")]
    assert main(command) == 0
    assert cnnlib.load("run/model.npz").preprocess == Normalization(127.5, 127.5)
    photos = sorted(Path("photos").rglob("*.jpg"))[:5]
    capsys.readouterr()
    assert lines(capsys, "predict", "run/model.npz", *photos) == lines(capsys, "predict", "run", *photos)


def test_resuming_keeps_what_is_there(here, capsys, monkeypatch):
    """Until it is written anew; and a split that is another one is refused."""
    assert main([*TRAIN]) == 0
    before = {path.name: path.read_bytes() for path in Path("run").iterdir()}

    def fail(*arguments):
        raise MemoryError("no memory")

    with monkeypatch.context() as patched:
        patched.setattr("cnnlib.cli.transfer._features", fail)
        assert main(["train", "--resume", "run"]) != 0
    after = {path.name: path.read_bytes() for path in Path("run").iterdir()}
    assert after.keys() == before.keys()
    assert after["model.npz"] == before["model.npz"]
    capsys.readouterr()
    assert "it does not take --test" in refused(capsys, "train", "--resume", "run", "--test", "0")
    (here / "photos/newts/1.jpg").unlink()
    assert "no longer holds the run's images" in refused(capsys, "train", "--resume", "run")
    config = json.loads(Path("run/config.json").read_text())
    for began in ("abc", {**config["from"], "image_size": [16, 16]}):
        Path("run/config.json").write_text(json.dumps({**config, "from": began}))
        assert "cannot have from" in refused(capsys, "train", "--resume", "run")


def test_a_network_of_pixels_up_to_1(here, capsys):
    net = ConvNet("resnet8", (3, 16, 16), 10, seed=0)
    for name, normalization in (
        ("of255", Normalization(127.5, 63.75)),
        ("of1", Normalization(0.5, 0.25, white=1.0)),
    ):
        net.save(f"{name}.npz", preprocess=normalization)
        assert main(["train", "--data", "folder:photos", "--from", f"{name}.npz", "--out", name]) == 0
        capsys.readouterr()
        assert main(["predict", name, "photos/cats/3.jpg", "--json"]) == 0
        predicted = capsys.readouterr().out
        assert cnnlib.load(name).preprocess.white == 255
        if name == "of255":
            want = predicted
    assert predicted == want


@pytest.mark.slow
def test_interrupted_and_resumed(here, capsys, monkeypatch):
    """The same bits as without the interrupt, and no image goes through the network twice."""
    options = ["--fine-tune", "1", "--views", "2"]
    assert main([*TRAIN, *options, "--out", "whole"]) == 0
    compute, counts = cnnlib.pretrained.extraction._computed, []

    def counted(batch, *arguments):
        for rows, made in compute(*arguments):
            counts.append(len(rows))
            if len(counts) == batch:
                signal.raise_signal(signal.SIGINT)
            yield rows, made

    for batch in (1, 6):  # the first one, and one of fine-tuning's
        monkeypatch.setattr(cnnlib.pretrained.extraction, "_computed", functools.partial(counted, batch))
        for path in here.glob("photos.cnnlib-cache/features-*/features.bin"):
            path.unlink()
        counts.clear()
        assert main([*TRAIN, *options, "--overwrite"]) == 130
        captured = capsys.readouterr()
        assert "no feature is computed twice, go on with: cnnlib train --resume run" in captured.err
        text = "run holds no model.npz: go on with cnnlib train --resume run"
        assert text in refused(capsys, "eval", "run")
        assert main(["train", "--resume", "run"]) == 0
        assert Path("run/model.npz").read_bytes() == Path("whole/model.npz").read_bytes()
        assert sum(counts) == 2 * (2 * 63 + 9 + 8)  # through the trunk, and what fine-tuning leaves


@needs_mpi
def test_several_ranks_are_refused(here):
    result = mpiexec(2, "-m", "cnnlib", *TRAIN, "--distributed")
    assert result.returncode == 2
    assert result.stderr.count("--distributed means nothing to --from: one process") >= 1
    assert not (here / "run").exists()
