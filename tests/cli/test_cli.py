"""The command ``cnnlib``, mostly as a process of its own: what it prints, leaves behind and returns."""

import csv
import functools
import importlib.util
import json
import re
import signal
import subprocess
import sys
import time

import cifar_files
import numpy as np
import pytest
from cnnlib import _core
from cnnlib.__main__ import main
from cnnlib._files.exclusive import LOCK_FILE
from cnnlib._system import packages
from cnnlib._system.config import thread_rule
from cnnlib.data import cifar10, load_digits
from helpers import WITHOUT_PICTURES, cnnlib_command, lines, refused, run_python

PICTURES = ["confusion.png", "curves.png", "filters.png", "mistakes.png"]
TINY = ("--num-epochs", "2", "--num-filters", "4", "--hidden-dim", "16", "--threads", "1")
needs_pillow = pytest.mark.skipif(
    importlib.util.find_spec("PIL") is None, reason="cnnlib predict reads images with Pillow"
)


def last_line(done):
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


def history(run):
    with open(run / "history.csv", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run that has learnt the digits well: its folder, and the finished process."""
    run = tmp_path_factory.mktemp("trained") / "run"
    return run, cnnlib_command("train", "--out", run, "--num-epochs", 8, "--threads", 1)


class TestTrain:
    def test_last_line_is_the_held_out_accuracy(self, trained):
        name, accuracy = last_line(trained[1]).split(": ")
        assert name == "test_accuracy"
        assert float(accuracy) >= 0.97
        assert len(accuracy) == len("0.9861")

    def test_a_line_for_each_epoch(self, trained):
        for k in range(9):
            assert f"(Epoch {k} / 8)" in trained[1].stdout

    def test_run_folder(self, trained):
        run, _ = trained
        names = {path.name for path in run.iterdir()}
        assert {"checkpoint_epoch_8.npz", "config.json", "history.csv"} <= names
        assert [name for name in names if name.startswith(".")] == [LOCK_FILE]  # nothing unfinished
        assert len([name for name in names if name.endswith(".npz")]) == 1  # the newest alone
        with np.load(run / "checkpoint_epoch_8.npz") as checkpoint:
            assert checkpoint["W1"].shape == (64, 1, 3, 3)

    def test_pictures(self, trained):
        run, done = trained
        if importlib.util.find_spec("matplotlib") is None:
            assert "pip install cnnlib[plots]" in done.stdout
            return
        for name in PICTURES:
            assert (run / name).read_bytes().startswith(b"\x89PNG")
            assert name in done.stdout

    def test_history(self, trained):
        rows = history(trained[0])
        columns = "epoch iteration loss train_accuracy val_accuracy val_loss learning_rate epoch_seconds"
        assert list(rows[0]) == [*columns.split(), "samples_per_second"]
        assert [row["epoch"] for row in rows] == [str(k) for k in range(1, 9)]
        steps = int(rows[0]["iteration"])
        assert steps == -(-len(load_digits()["X_train"]) // 50)
        assert int(rows[-1]["iteration"]) == 8 * steps
        assert float(rows[0]["loss"]) > float(rows[-1]["loss"]) > 0
        assert float(rows[-1]["train_accuracy"]) > 0.97
        assert float(rows[0]["learning_rate"]) == 1e-3
        assert float(rows[2]["learning_rate"]) == pytest.approx(1e-3 * 0.95**2, rel=1e-5)
        seconds, speed = float(rows[3]["epoch_seconds"]), float(rows[3]["samples_per_second"])
        assert seconds * speed == pytest.approx(1263, rel=1e-3)

    def test_config_says_how_to_rebuild_it(self, trained):
        config = json.loads((trained[0] / "config.json").read_text())
        X = load_digits()["X_train"].astype(np.float64)
        assert config["data"]["name"] == "digits"
        assert config["preprocessing"]["mean"] == pytest.approx([X.mean()])
        assert config["preprocessing"]["std"] == pytest.approx([X.std()])
        assert config["model"]["name"] == "three-layer"
        assert config["model"]["arguments"]["num_filters"] == 64
        assert config["training"]["update_rule"] == "adam"
        assert config["threads"] == 1
        assert config["versions"]["numpy"] == np.__version__

    def test_options_reach_model_and_solver(self, tmp_path, capsys):
        options = (
            "--model fully-connected --hidden-dim 20,10 --dtype float64 --no-batchnorm --keep-checkpoints"
            " --update-rule sgd_momentum --learning-rate 0.05 --lr-decay 0.5 --reg 0.25"
            " --batch-size 400 --num-epochs 2 --seed 3 --weight-scale 0.5"
        ).split()
        printed = lines(capsys, "train", "--out", tmp_path, *options, "--threads", 1)
        assert printed[-1].startswith("test_accuracy: ")
        config = json.loads((tmp_path / "config.json").read_text())
        arguments = config["model"]["arguments"]
        assert arguments["hidden_dims"] == [20, 10]
        assert (arguments["reg"], arguments["weight_scale"], arguments["seed"]) == (0.25, 0.5, 3)
        assert arguments["use_batchnorm"] is False
        with np.load(tmp_path / "checkpoint_epoch_1.npz") as checkpoint:
            assert checkpoint["W2"].shape == (20, 10)
            assert checkpoint["W2"].dtype == np.float64
            assert "gamma1" not in checkpoint
        rows = history(tmp_path)
        assert [row["iteration"] for row in rows] == ["4", "8"]
        assert [float(row["learning_rate"]) for row in rows] == [0.05, 0.025]
        assert (tmp_path / "checkpoint_epoch_2.npz").exists()

    def test_seed_makes_it_repeatable(self, tmp_path):
        def weights(name, seed):
            run = tmp_path / name
            assert main(["train", "--out", str(run), "--seed", seed, *TINY]) == 0
            with np.load(run / "checkpoint_epoch_2.npz") as checkpoint:
                return checkpoint["W3"]

        np.testing.assert_array_equal(weights("a", "5"), weights("b", "5"))
        assert (weights("c", "6") != weights("d", "5")).any()

    def test_without_matplotlib_one_line_says_what_is_left_out(self, tmp_path):
        done = cnnlib_command("train", "--out", tmp_path, *TINY, start=WITHOUT_PICTURES)
        assert last_line(done).startswith("test_accuracy: ")
        (line,) = [line for line in done.stdout.splitlines() if "they need matplotlib" in line]
        assert all(name in line for name in PICTURES)
        assert "pip install cnnlib[plots]" in line
        assert not list(tmp_path.glob("*.png"))


class TestRunFolder:
    def test_default_is_a_numbered_folder(self, tmp_path, monkeypatch, capsys):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "runs" / "digits-7").mkdir(parents=True)
        assert "run folder: runs/digits-8" in "\n".join(lines(capsys, "train", *TINY))
        assert (tmp_path / "runs" / "digits-8" / "config.json").exists()

    def test_full_folder_is_left_alone_unless_told_otherwise(self, tmp_path, capsys):
        for name in ("notes.txt", "history.csv", "checkpoint_epoch_9.npz"):
            (tmp_path / name).write_text("precious")
        train = ["train", "--out", str(tmp_path), *TINY]
        assert "exists and is not empty; --overwrite replaces" in refused(capsys, *train)
        assert (tmp_path / "history.csv").read_text() == "precious"

        assert main([*train, "--overwrite"]) == 0
        assert (tmp_path / "notes.txt").read_text() == "precious"  # no file of a run
        assert len(history(tmp_path)) == 2
        assert [path.name for path in tmp_path.glob("*.npz")] == ["checkpoint_epoch_2.npz"]

    def test_refused_settings_leave_no_folder(self, tmp_path, capsys):
        assert "--hidden-dim" in refused(capsys, "train", "--out", tmp_path / "run", "--hidden-dim", "10,10")
        assert not (tmp_path / "run").exists()


class TestResume:
    def test_equals_the_uninterrupted_run(self, tmp_path):
        whole, parts = tmp_path / "whole", tmp_path / "parts"
        assert main(["train", "--out", str(whole), *TINY, "--num-epochs", "4"]) == 0
        assert main(["train", "--out", str(parts), *TINY, "--num-epochs", "2"]) == 0
        how = ("--num-epochs", 4, "--threads", 1)
        done = cnnlib_command("train", "--resume", parts, *how, start=WITHOUT_PICTURES)
        assert "going on after epoch 2 of 4" in done.stdout
        assert last_line(done).startswith("test_accuracy: ")
        with (
            np.load(whole / "checkpoint_epoch_4.npz") as want,
            np.load(parts / "checkpoint_epoch_4.npz") as got,
        ):
            for name in ("W1", "b1", "gamma1", "beta1", "W2", "W3", "b3"):
                np.testing.assert_array_equal(got[name], want[name])
        timed = ("epoch_seconds", "samples_per_second")
        rows = [
            [{k: v for k, v in row.items() if k not in timed} for row in history(run)]
            for run in (whole, parts)
        ]
        assert rows[0] == rows[1]
        assert json.loads((parts / "config.json").read_text())["training"]["num_epochs"] == 4

    def test_finished_run_reports_again(self, trained, capsys):
        assert lines(capsys, "train", "--resume", trained[0], "--threads", 1)[-1] == last_line(trained[1])

    @pytest.mark.parametrize(
        ("extra", "complaint"),
        [
            (["--learning-rate", "1"], "does not take --learning-rate"),
            (["--model", "three-layer"], "does not take --model"),
            (["--out", "elsewhere"], "does not take --out"),
            (["--overwrite"], "does not take --overwrite"),
            (["--summary"], "does not take --summary"),
            (["--num-epochs", "3"], "the run has 8 epochs behind it"),
            (["--data", "cifar10:x"], "the run's model is for digits"),
        ],
    )
    def test_what_does_not_go_with_it(self, trained, capsys, extra, complaint):
        assert complaint in refused(capsys, "train", "--resume", trained[0], *extra)

    def interrupted(self, run, when, number=signal.SIGINT):
        """Start a long training, send the signal once `when()`; returns the finished process."""
        command = [sys.executable, "-m", "cnnlib", "train", "--out", run, *TINY, "--num-epochs", "1000000"]
        process = subprocess.Popen(
            list(map(str, command)),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # Whoever runs the tests in the background may have it ignored.
            preexec_fn=functools.partial(signal.signal, number, signal.SIG_DFL),
        )
        deadline = time.monotonic() + 100
        while not when() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(number)
        out, err = process.communicate(timeout=300)
        return subprocess.CompletedProcess(command, process.returncode, out, err)

    @pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals to send to another process")
    @pytest.mark.parametrize(
        ("number", "how", "status"),
        [(signal.SIGINT, "interrupted", 130), (signal.SIGTERM, "terminated", 143)],
        ids=["ctrl-c", "sigterm"],
    )
    def test_after_a_signal(self, tmp_path, number, how, status):
        run = tmp_path / "a run"
        done = self.interrupted(run, lambda: list(run.glob("checkpoint_epoch_*.npz")), number)
        assert done.returncode == status
        files = {path.stem.rpartition("_")[2]: path for path in run.glob("*.npz")}
        epochs = max(int(name) for name in files if name != "interrupted")
        # Without it, the signal came between two epochs.
        checkpoint = files.get("interrupted", files[str(epochs)])
        (line,) = done.stderr.splitlines()[-1:]
        assert line.startswith(f"cnnlib: {how}; {checkpoint} is kept")
        assert line.endswith(f"cnnlib train --resume '{run}'")
        assert "Traceback" not in done.stderr

        how = ("--num-epochs", epochs + 1, "--threads", 1)
        resumed = cnnlib_command("train", "--resume", run, *how, start=WITHOUT_PICTURES)
        where = f"after epoch {epochs}"
        if "interrupted" in files:  # which may hold no iteration of the new epoch yet
            where = rf"(?:{where}|after iteration \d+, in epoch {epochs + 1})"
        assert re.search(rf"^going on {where} of {epochs + 1}$", resumed.stdout, re.MULTILINE)
        assert last_line(resumed).startswith("test_accuracy: ")
        assert len(history(run)) == epochs + 1
        assert [path.name for path in run.glob("*.npz")] == [f"checkpoint_epoch_{epochs + 1}.npz"]


class TestEval:
    def test_repeats_the_test_accuracy(self, trained):
        done = cnnlib_command("eval", trained[0])
        assert last_line(done) == last_line(trained[1])
        counts = [int(line.split()[3]) for line in done.stdout.splitlines()[:-1]]
        assert sum(counts) == 355

    def test_splits_and_checkpoint_file(self, trained, capsys):
        checkpoint = str(trained[0] / "checkpoint_epoch_8.npz")
        assert main(["eval", checkpoint, "--split", "val", "--which", "last"]) == 0
        line = capsys.readouterr().out.splitlines()[-1]
        assert line == f"val_accuracy: {float(history(trained[0])[-1]['val_accuracy']):.4f}"


@needs_pillow
class TestPredict:
    @pytest.fixture
    def digits(self):
        data = load_digits()
        return data["X_test"][:20, 0], data["y_test"][:20]

    def predictions(self, run, paths, capsys, *options):
        assert main(["predict", str(run), *map(str, paths), *options]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert [line.rpartition(": ")[0] for line in lines] == list(map(str, paths))
        return [line.rpartition(": ")[2] for line in lines]

    def save(self, folder, images, suffix, prepare):
        from PIL import Image

        for n, image in enumerate(images):
            prepare(Image.fromarray(np.uint8(np.round(255 * image)))).save(folder / f"{n}.{suffix}")
        return [folder / f"{n}.{suffix}" for n in range(len(images))]

    def test_images_of_the_right_size(self, trained, digits, tmp_path):
        paths = self.save(tmp_path, digits[0], "png", lambda image: image)
        done = cnnlib_command("predict", trained[0], *paths)
        assert done.returncode == 0, done.stderr
        classes, probabilities = zip(*(line.split()[-2:] for line in done.stdout.splitlines()), strict=True)
        assert np.mean([int(k) == y for k, y in zip(classes, digits[1], strict=True)]) >= 0.9
        assert all(0.1 <= float(p) <= 1 for p in probabilities)

    @pytest.mark.parametrize(
        ("suffix", "mode", "inverted"), [("png", "L", True), ("jpg", "RGB", True), ("png", "RGBA", False)]
    )
    def test_scans_and_drawings(self, trained, digits, tmp_path, capsys, suffix, mode, inverted):
        """Large, off the middle, dark on bright: as a drawing programme or a scanner gives them."""
        from PIL import Image, ImageOps

        def prepare(image):
            page = Image.new("L", (400, 300), 0)
            page.paste(image.resize((120, 120), Image.Resampling.NEAREST), (250, 30))
            return (ImageOps.invert(page) if inverted else page).convert(mode)

        got = self.predictions(trained[0], self.save(tmp_path, digits[0], suffix, prepare), capsys)
        assert np.mean([int(text.split()[0]) == y for text, y in zip(got, digits[1], strict=True)]) >= 0.9

    def test_sixteen_bits_and_transparency(self, trained, digits, tmp_path, capsys):
        from PIL import Image

        ink = np.kron(digits[0][0], np.ones((10, 10)))
        deep, glass = tmp_path / "deep.png", tmp_path / "glass.png"
        Image.fromarray(np.uint16(65535 * ink)).save(deep)
        black = np.zeros((80, 80), np.uint8)
        Image.fromarray(np.dstack([black, black, black, np.uint8(255 * ink)])).save(glass)
        for text in self.predictions(trained[0], [deep, glass], capsys):
            assert int(text.split()[0]) == digits[1][0]

    def test_top(self, trained, digits, tmp_path, capsys):
        paths = self.save(tmp_path, digits[0][:1], "png", lambda image: image)
        (text,) = self.predictions(trained[0], paths, capsys, "--top", "10")
        classes, probabilities = zip(*(part.split() for part in text.split(", ")), strict=True)
        assert sorted(classes) == list("0123456789")
        assert sum(map(float, probabilities)) == pytest.approx(1, abs=1e-3)
        assert sorted(map(float, probabilities), reverse=True) == list(map(float, probabilities))

    def test_what_is_no_image(self, trained, tmp_path, capsys):
        (tmp_path / "a.png").write_text("text")
        for name, complaint in (("a.png", "cannot be read as an image"), ("b.png", "there is no image")):
            assert main(["predict", str(trained[0]), str(tmp_path / name)]) == 2
            out, err = capsys.readouterr()
            assert complaint in err
            assert name in err
            assert not out


class TestCifar10:
    @pytest.fixture
    def folder(self, tmp_path, monkeypatch):
        """A folder with a data set in CIFAR-10's layout, smaller by a factor of 500."""
        cifar_files.small_batches(monkeypatch)
        return cifar_files.write_layout(tmp_path / "data", "binary").parent

    def test_train_eval_predict(self, folder, tmp_path, capsys, monkeypatch):
        run = tmp_path / "run"
        assert main(["train", "--data", f"cifar10:{folder}", "--out", str(run), *TINY]) == 0
        out = capsys.readouterr().out
        assert out.startswith("cifar10: 80 training, 20 validation, 20 test images")
        config = json.loads((run / "config.json").read_text())
        assert config["data"] == {"name": "cifar10", "folder": str(folder.resolve())}
        pixels = np.concatenate([cifar_files.batch(name)[0] for name in cifar_files.BATCHES[:4]])
        channels = pixels.reshape(80, 3, 1024).transpose(1, 0, 2).reshape(3, -1).astype(np.float64)
        assert config["preprocessing"]["mean"] == pytest.approx(channels.mean(axis=1))
        assert config["preprocessing"]["std"] == pytest.approx(channels.std(axis=1))

        moved = folder.rename(tmp_path / "moved")
        assert "there is no folder" in refused(capsys, "eval", run)
        assert main(["eval", str(run), "--data", f"cifar10:{moved}"]) == 0
        assert capsys.readouterr().out.splitlines()[-1] == out.splitlines()[-1]

        image = pytest.importorskip("PIL.Image", reason="cnnlib predict reads images with Pillow")
        image.new("RGB", (300, 200), "green").save(tmp_path / "green.jpg")
        assert main(["predict", str(run), str(tmp_path / "green.jpg")]) == 0
        name, probability = capsys.readouterr().out.split()[-2:]
        assert name in cifar10.CIFAR10_CLASSES
        assert 0.1 <= float(probability) <= 1

    def test_default_folder(self, folder, tmp_path, monkeypatch, capsys):
        monkeypatch.setenv("CNNLIB_DATA", str(folder))
        assert (
            main(["train", "--data", "cifar10", "--out", str(tmp_path / "run"), *TINY, "--num-epochs", "1"])
            == 0
        )
        assert capsys.readouterr().out.splitlines()[-1].startswith("test_accuracy: ")


class TestErrors:
    @pytest.mark.parametrize(
        "arguments",
        [
            [],
            ["trane"],
            ["train", "--no-such-option"],
            ["train", "--num-epochs", "0"],
            ["train", "--num-epochs", "many"],
            ["train", "--learning-rate", "nan"],
            ["train", "--seed", "-1"],
            ["train", "--threads", "0"],
            ["train", "--threads", "1025"],
            ["train", "--overwrite"],
            ["train", "--model", "four-layer"],
            ["train", "--data", "mnist"],
            ["train", "--data", "digits:here"],
            ["train", "--data", "cifar10:"],
            ["train", "--data", "cifar10:no/such/folder"],
            ["train", "--model", "fully-connected", "--num-filters", "3"],
            ["train", "--learning-rate", "1e30", "--update-rule", "sgd", "--out", "diverging"],
            ["train", "--resume", "no/such/run"],
            ["eval", "no/such/run"],
            ["eval", "."],
            ["predict", "no/such/run", "image.png"],
            ["bench", "--json", "no/such/folder/file.json", "--quick"],
            ["bench", "--network", "resnet8"],
            ["bench", "--batch-size", "3", "--quick"],
            ["bench", "--profile", "--network", "no-such-network"],
        ],
        ids=" ".join,
    )
    @pytest.mark.filterwarnings("ignore::RuntimeWarning")
    def test_one_line_and_status_2(self, arguments, tmp_path, monkeypatch, capsys):
        monkeypatch.chdir(tmp_path)
        try:
            status = main(arguments)
        except SystemExit as stop:
            status = stop.code
        assert status == 2
        err = capsys.readouterr().err
        assert err.startswith("cnnlib: error: ")
        assert err.count("\n") == 1

    def test_as_a_process(self):
        done = cnnlib_command("train", "--data", "cifar10:no/such/folder")
        assert done.returncode == 2
        assert not done.stdout
        assert done.stderr.startswith("cnnlib: error: ")
        assert done.stderr.count("\n") == 1

    @pytest.mark.parametrize("content", ["", "{", "[]", '{"format": "other"}', '{"format": "cnnlib run"}'])
    def test_damaged_config(self, tmp_path, capsys, content):
        (tmp_path / "config.json").write_text(content)
        assert "config.json" in refused(capsys, "eval", tmp_path)

    def test_run_without_a_checkpoint(self, trained, tmp_path, capsys):
        (tmp_path / "config.json").write_text((trained[0] / "config.json").read_text())
        for command in (["eval"], ["train", "--resume"]):
            assert "holds no checkpoint" in refused(capsys, *command, tmp_path)

    def test_damaged_checkpoint_is_named(self, trained, tmp_path, capsys):
        (tmp_path / "config.json").write_text((trained[0] / "config.json").read_text())
        whole = (trained[0] / "checkpoint_epoch_8.npz").read_bytes()
        (tmp_path / "checkpoint_epoch_8.npz").write_bytes(whole[: len(whole) // 2])
        assert "checkpoint_epoch_8.npz" in refused(capsys, "eval", tmp_path)

    def test_reader_that_stops_early(self):
        """As in ``cnnlib info | head -1``: no traceback, no message."""
        command = [sys.executable, "-m", "cnnlib", "info"]
        info = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        info.stdout.close()
        err = info.stderr.read()
        info.stderr.close()
        assert info.wait() == 141
        assert err == b""

    @pytest.mark.skipif(sys.platform == "win32", reason="has no sh")
    @pytest.mark.parametrize(("closed", "what", "status"), [(1, "--help", 0), (2, "nothing-of-ours", 2)])
    def test_streams_that_are_closed(self, closed, what, status):
        """As in ``cnnlib info >&-``."""
        command = f'"$0" -m cnnlib {what} {closed}>&-'
        done = subprocess.run(["sh", "-c", command, sys.executable], capture_output=True)
        assert (done.returncode, done.stdout, done.stderr) == (status, b"", b"")


class TestInfo:
    def test_info(self, capsys):
        assert main(["info"]) == 0
        out = capsys.readouterr().out
        assert np.__version__ in out
        assert f"threads set by         {thread_rule()}" in out
        assert f"products of bytes      {_core.active_products()}" in out

    def test_extras(self, capsys, monkeypatch):
        monkeypatch.setattr(packages, "installed_version", {"Pillow": "9.2", "matplotlib": "3.8"}.get)
        found = dict(line.split(maxsplit=1) for line in lines(capsys, "info") if line.startswith("  "))
        assert list(found) == list(packages.EXTRAS)
        assert found["plots"] == "matplotlib 3.8"
        assert found["images"] == "lacks filelock: pip install cnnlib[images]"
        assert found["serve"] == ("lacks starlette, uvicorn, python-multipart: pip install cnnlib[serve]")

    @pytest.mark.parametrize("option", ["--stride", "--pad", "--groups", "--algorithm", "--dtype"])
    def test_what_belongs_to_a_convolution(self, option, capsys):
        value = {"--algorithm": "direct", "--dtype": "float64"}.get(option, "1")
        assert f"{option} goes with --conv" in refused(capsys, "info", option, value)
        shapes = ("--conv", "2,4,8,8", "4,4,3,3")
        if option == "--groups":
            shapes = ("--conv", "2,4,8,8", "8,4,3,3")
        assert "forward" in "\n".join(lines(capsys, "info", *shapes, option, value))

    def test_a_convolution_or_a_network(self, capsys):
        message = refused(capsys, "info", "--conv", "2,4,8,8", "4,4,3,3", "--model", "net.npz")
        assert "--conv and --model ask for two things" in message

    def test_what_runs_a_network(self, tmp_path, capsys):
        from cnnlib.models import ConvNet

        for spec, executor in (
            ([{"conv": 2}], "compiled"),
            (
                [{"conv": 2}, {"multiply": [[], ["sigmoid"]]}],
                "layers: node 'multiply3' (multiply) is computed in Python",
            ),
        ):
            ConvNet(spec, (1, 6, 6), 3, seed=0).save(tmp_path / "net.npz")
            said = lines(capsys, "info", "--model", tmp_path / "net.npz")
            assert said[0].startswith("ConvNet(1x6x6 -> 3")
            assert said[1:] == [f"executor: {executor}", "executor of scores: compiled"]

    def test_version(self, capsys):
        import cnnlib

        with pytest.raises(SystemExit) as stop:
            main(["--version"])
        assert stop.value.code == 0
        assert capsys.readouterr().out == f"cnnlib {cnnlib.__version__}\n"

    def test_help_before_a_command_is_that_of_all_commands(self, capsys):
        for arguments in (["--help"], ["--help", "train"]):
            with pytest.raises(SystemExit) as stop:
                main(arguments)
            assert stop.value.code == 0
            assert "completion" in capsys.readouterr().out

    def test_help_imports_nothing_heavy(self):
        printed = run_python("""
            import sys
            from cnnlib.__main__ import main

            for command in ([], ["train"], ["eval"], ["predict"], ["export"], ["bench"], ["info"]):
                try:
                    main([*command, "--help"])
                except SystemExit as stop:
                    assert stop.code == 0
                heavy = {"matplotlib", "torch", "PIL", "pooch", "requests", "tqdm"} & set(sys.modules)
                assert not heavy, (command, heavy)
        """)
        assert len(re.findall("^usage: cnnlib", printed, re.MULTILINE)) == 7

    def test_commands_without_images_wait_for_no_detection(self):
        run_python("""
            import sys
            from cnnlib.__main__ import main

            assert main(["info"]) == 0
            late = {"cnnlib.detection", "cnnlib.data", "cnnlib.solver"} & set(sys.modules)
            assert not late, late
        """)
