"""``cnnlib train``'s configuration files, logs and early stopping; ``--debug``."""

import csv
import importlib.util
import json
import signal
import struct
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from cnnlib.cli.main import main
from cnnlib.cli.options.config_file import _parsed, write_config_file
from cnnlib.runs.folder import Run
from cnnlib.solver.update import Updater
from helpers import refused

TINY = ("--num-filters", "2", "--hidden-dim", "4", "--threads", "1", "--batch-size", "400")
needs_toml = pytest.mark.skipif(
    importlib.util.find_spec("tomllib" if sys.version_info >= (3, 11) else "tomli") is None,
    reason="tomli reads TOML before Python 3.11",
)


def train(capsys, *options):
    status = main(["train", *map(str, options)])
    out, err = capsys.readouterr()
    assert status == 0, err
    return out


def weights(run):
    (checkpoint,) = run.glob("*.npz")
    with np.load(checkpoint) as file:
        return {name: file[name] for name in file.files if not name.startswith("__")}


def epochs_in_history(run):
    return len((run / "history.csv").read_text().splitlines()) - 1


@needs_toml
class TestConfig:
    def test_a_file_stands_for_options(self, tmp_path, capsys):
        file = tmp_path / "run.toml"
        file.write_text(
            """
            data = "digits"
            model = "fully-connected"
            hidden-dim = [20, 10]        # a list, or "20,10"
            num-epochs = 2
            batch_size = 400
            learning-rate = 2e-3
            batchnorm = true
            summary = false
            lr-decay = 1
            schedule = "cosine:warmup=1"
            rate-factors = {beta = 2, W1 = 0.1}
            augment = [{name = "crop", pad = 1}, "cutout:size=2"]
            early-stopping = {patience = 5, monitor = "val_loss"}
            clip-norm = 3
            """,
            encoding="utf-8-sig",  # with a byte order mark, as some editors on Windows save it
        )
        train(capsys, "--config", file, "--num-epochs", 1, "--out", tmp_path / "run")
        config = Run.open(tmp_path / "run").config
        assert config.network.name == "fully-connected"
        assert config.network.arguments["hidden_dims"] == [20, 10]
        assert config.network.arguments["use_batchnorm"] is True
        training = config.training
        assert training["num_epochs"] == 1  # the command line overrides
        assert (training["batch_size"], training["learning_rate"], training["clip_norm"]) == (400, 2e-3, 3)
        assert training["rate_factors"] == {"beta": 2, "W1": 0.1}
        assert training["schedule"] == {"name": "cosine", "warmup": 1}
        assert training["augment"] == [{"name": "crop", "pad": 1}, {"name": "cutout", "size": 2}]
        assert training["early_stopping"] == {"patience": 5, "monitor": "val_loss"}

    @pytest.mark.slow
    @pytest.mark.parametrize(
        "options",
        [
            TINY,
            ("--model", "fully-connected", "--hidden-dim", "20,10", "--no-batchnorm", "--reg", "0.1"),
            ("--model", "resnet8", "--augment", "flip,crop:pad=1", "--schedule", "cosine:warmup=0.5"),
            (
                *TINY,
                "--early-stopping",
                "3:monitor=val_loss:min_delta=1e-3",
                "--lookahead",
                "steps=2:decay=0.5:power=1",
                "--rate-factors",
                "beta=2,W1=0.1",
                "--update-rule",
                "sgd_momentum",
                "--momentum",
                "0.8",
                "--tta",
                "mirror",
            ),
        ],
        ids=["three-layer", "fully-connected", "resnet8", "everything"],
    )
    def test_what_is_saved_makes_the_same_run(self, options, tmp_path, capsys):
        file, first, second = tmp_path / "run.toml", tmp_path / "first", tmp_path / "second"
        train(capsys, *options, "--num-epochs", 1, "--seed", 5, "--save-config", file, "--out", first)
        again = tmp_path / "again.toml"
        train(capsys, "--config", file, "--save-config", again, "--out", second, "--num-epochs", 1)
        assert again.read_text() == file.read_text()
        configs = [Run.open(run).config for run in (first, second)]
        assert configs[0] == configs[1]
        for name, value in weights(first).items():
            np.testing.assert_array_equal(weights(second)[name], value)

    @pytest.mark.slow
    def test_recipes_with_parts_turned_off(self, tmp_path, capsys, monkeypatch):
        import cifar_files

        cifar_files.small_batches(monkeypatch)
        data = f"cifar10:{cifar_files.write_layout(tmp_path / 'data', 'binary').parent}"
        file = tmp_path / "run.toml"
        off = ["--lookahead", "none", "--rate-factors", "none", "--tta", "none", "--augment", "none"]
        off += ["--update-rule", "adam", "--learning-rate", "1e-3", "--model", "resnet8", "--num-epochs", "1"]
        recipe = ["--recipe", "cifar10-fast", "--data", data, *off]
        train(capsys, *recipe, "--save-config", file, "--out", tmp_path / "first")
        train(capsys, "--config", file, "--out", tmp_path / "second")
        assert Run.open(tmp_path / "first").config == Run.open(tmp_path / "second").config

    @pytest.mark.parametrize(
        ("content", "options", "setting"),
        [
            ("lr-decay = 0.9", ["--schedule", "cosine"], ("schedule", {"name": "cosine"})),
            ('schedule = "cosine"', ["--lr-decay", "0.5"], ("lr_decay", 0.5)),
            ('lookahead = "steps=2"', ["--ema-decay", "0.5"], ("ema_decay", 0.5)),
            ("ema-decay = 0.9", ["--lookahead", "none"], ("ema_decay", 0.9)),
            ('update-rule = "sgd_momentum"\nmomentum = 0.8', ["--update-rule", "adam"], ("momentum", None)),
        ],
    )
    def test_what_is_given_turns_off_what_it_excludes_in_the_file(
        self, content, options, setting, tmp_path, capsys
    ):
        (tmp_path / "run.toml").write_text(content)
        run = tmp_path / "run"
        train(capsys, *TINY, "--config", tmp_path / "run.toml", *options, "--num-epochs", 1, "--out", run)
        name, value = setting
        assert Run.open(run).config.training[name] == value

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ("epochs = 3", "run.toml: there is no option 'epochs'; did you mean 'num-epochs'?"),
            ("xyz = 3", "run.toml: there is no option 'xyz'"),
            ("config = 'other.toml'", "run.toml: there is no option 'config'"),
            (
                "num-epochs = 'many'",
                "run.toml: argument --num-epochs: expected an integer above 0, got 'many'",
            ),
            ("num-epochs = true", "run.toml: argument --num-epochs: expected one argument"),
            (
                "num-epochs = [1, 2]",
                "run.toml: argument --num-epochs: expected an integer above 0, got '1,2'",
            ),
            ("overwrite = 3", "run.toml: argument --overwrite: ignored explicit argument '3'"),
            ("augment = false", "run.toml: unrecognized arguments: --no-augment"),
            ("[training]\nnum-epochs = 3", "run.toml: there is no option 'training'"),
            ("num-epochs = ", "run.toml is no TOML file"),
            ("num-epochs = 3\nnum-epochs = 4", "run.toml is no TOML file"),
            ("a = " + "[" * 100_000, "run.toml is no TOML file"),
        ],
        ids=range(12),
    )
    def test_errors(self, content, message, tmp_path, capsys, monkeypatch):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "run.toml").write_text(content)
        assert message in refused(capsys, "train", "--config", "run.toml", "--out", "run")
        assert not (tmp_path / "run").exists()

    @pytest.mark.parametrize("value", [True, False])
    def test_switches(self, value, tmp_path, capsys):
        file = tmp_path / "run.toml"
        text = "true" if value else "false"
        file.write_text(f"batchnorm = {text}\nkeep-checkpoints = {text}\nnum-epochs = 2\n")
        train(capsys, *TINY, "--config", file, "--out", tmp_path / "run")
        assert Run.open(tmp_path / "run").config.network.arguments["use_batchnorm"] is value
        assert len(list((tmp_path / "run").glob("*.npz"))) == 1 + value

    def test_files_that_are_not_there(self, tmp_path, capsys):
        assert "no.toml" in refused(capsys, "train", "--config", tmp_path / "no.toml")
        out = tmp_path / "run"
        message = refused(capsys, "train", *TINY, "--save-config", tmp_path / "no" / "x.toml", "--out", out)
        assert "x.toml" in message
        assert not out.exists()

    def test_any_text(self, tmp_path):
        text = 'a "quoted" \\ path\twith \x7f, \u00e9 and \U0001f600'
        write_config_file(tmp_path / "x.toml", {"data": text, "reg": 1e-7, "seed": None, "batchnorm": True})
        assert _parsed(tmp_path / "x.toml") == {"data": text, "reg": 1e-7, "batchnorm": True}


class TestLog:
    def rows(self, run):
        with open(run / "log.csv", newline="") as file:
            return list(csv.DictReader(file))

    def test_lines_for_iterations_and_epochs(self, tmp_path, capsys):
        train(capsys, *TINY, "--num-epochs", 2, "--log", "csv,jsonl", "--out", tmp_path)
        rows = self.rows(tmp_path)
        lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
        assert len(rows) == len(lines) == 3 + 2 * 4  # 4 iterations in an epoch
        for row, line in zip(rows, lines, strict=True):
            filled = {name: float(value) for name, value in row.items() if value}
            assert filled == pytest.approx(line, rel=1e-8)
        assert [line["iteration"] for line in lines] == [0, 1, 2, 3, 4, 4, 5, 6, 7, 8, 8]
        assert [line["epoch"] for line in lines] == [0] + [1] * 5 + [2] * 5
        assert list(lines[1]) == ["epoch", "iteration", "loss"]
        with open(tmp_path / "history.csv", newline="") as file:
            for epoch, line in zip(csv.DictReader(file), (lines[5], lines[10]), strict=True):
                for name in ("train_accuracy", "val_accuracy", "val_loss", "learning_rate"):
                    assert line[name] == pytest.approx(float(epoch[name]), rel=1e-5)
                losses = [x["loss"] for x in lines if x["epoch"] == line["epoch"] and "loss" in x]
                assert np.mean(losses) == pytest.approx(float(epoch["loss"]), rel=1e-5)

    def test_a_resumed_run_goes_on_and_drops_what_it_takes_again(self, tmp_path, capsys):
        whole, parts = tmp_path / "whole", tmp_path / "parts"
        for run in (whole, parts):
            train(capsys, *TINY, "--num-epochs", 3, "--log", "csv", "--keep-checkpoints", "--out", run)
        train(capsys, "--resume", parts / "checkpoint_epoch_1.npz", "--num-epochs", 2, "--log", "jsonl")
        want = [row for row in self.rows(whole) if int(row["epoch"]) <= 2]
        got = self.rows(parts)
        for row in (*want, *got):
            row.pop("epoch_seconds")
        assert got == want
        assert len((parts / "log.jsonl").read_text().splitlines()) == len(got)

    @pytest.mark.parametrize("resumes", [0, 1])
    def test_an_interrupt_in_the_first_epoch_keeps_them(self, tmp_path, capsys, monkeypatch, resumes):
        """Of the run's beginning, and of one that has gone on."""
        log = [[], ["--log", "csv,jsonl"]]
        started = [*TINY, *log[not resumes], "--out", tmp_path], ["--resume", tmp_path, *log[1]]
        with monkeypatch.context() as patch:
            patch.setattr(Updater, "step", lambda *_: signal.raise_signal(signal.SIGINT))
            patch.setattr(Run, "after_epoch", lambda *_, **__: open(tmp_path / "no" / "history.csv", "rb"))
            for options in started[: 1 + resumes]:
                assert main(["train", "--num-epochs", "1", *map(str, options)]) == 130
                assert f"is kept, resume with: cnnlib train --resume {tmp_path}\n" in capsys.readouterr().err
        train(capsys, "--resume", tmp_path)
        assert len(self.rows(tmp_path)) == 1 + 5
        assert len((tmp_path / "log.jsonl").read_text().splitlines()) == 1 + 5

    def test_not_a_number_is_null(self, tmp_path):
        from cnnlib.runs.log import _or_null

        assert json.dumps([_or_null(float("nan")), _or_null(float("inf")), _or_null(1.5), _or_null(3)]) == (
            "[null, null, 1.5, 3]"
        )

    def test_overwrite_removes_them(self, tmp_path, capsys):
        train(capsys, *TINY, "--num-epochs", 1, "--log", "csv,jsonl", "--out", tmp_path)
        train(capsys, *TINY, "--num-epochs", 1, "--out", tmp_path, "--overwrite")
        assert not list(tmp_path.glob("log.*"))

    def test_errors(self, tmp_path, capsys, monkeypatch):
        run = tmp_path / "run"
        assert "expected some of csv, jsonl, tensorboard, got 'csv,xml'" in refused(
            capsys, "train", "--log", "csv,xml", "--out", run
        )
        monkeypatch.setitem(sys.modules, "tensorboardX", None)
        assert "needs tensorboardX: pip install cnnlib[tensorboard]" in refused(
            capsys, "train", "--log", "tensorboard", "--out", run
        )
        assert not run.exists()

    def scalars(self, run):
        """(tag, step, value) of all events, and the steps at which older events were purged."""
        event_pb2 = pytest.importorskip(
            "tensorboardX.proto.event_pb2", reason="it writes TensorBoard's files"
        )
        found, starts = [], []
        for path in sorted((run / "tensorboard").iterdir()):
            content, place = path.read_bytes(), 0
            while place < len(content):  # records: length, its checksum, the event, its checksum
                (length,) = struct.unpack_from("<Q", content, place)
                event = event_pb2.Event.FromString(content[place + 12 : place + 12 + length])
                place += 16 + length
                if event.HasField("session_log"):
                    starts.append(event.step)
                found += [(value.tag, event.step, value.simple_value) for value in event.summary.value]
        return found, starts

    def test_tensorboard(self, tmp_path, capsys, monkeypatch):
        """Of runs that begin within a second, which tensorboardX alone would give one file."""
        pytest.importorskip("tensorboardX", reason="it writes TensorBoard's files")
        one_second = SimpleNamespace(time=lambda: 1e9)
        monkeypatch.setattr("tensorboardX.event_file_writer.time", one_second)
        log = ["--log", "tensorboard,jsonl"]
        train(capsys, *TINY, "--num-epochs", 2, *log, "--keep-checkpoints", "--out", tmp_path)
        names = ("loss", "train_accuracy", "val_accuracy", "val_loss", "learning_rate")

        def want(epochs):
            lines = map(json.loads, (tmp_path / "log.jsonl").read_text().splitlines())
            return sorted(
                (name, line["iteration"], line[name])
                for line in lines
                if line["epoch"] in epochs
                for name in names
                if name in line
            )

        def check(got, epochs):
            assert [row[:2] for row in sorted(got)] == [row[:2] for row in want(epochs)]
            np.testing.assert_allclose([r[2] for r in sorted(got)], [r[2] for r in want(epochs)], rtol=1e-6)

        first, _ = self.scalars(tmp_path)
        check(first, (0, 1, 2))
        train(capsys, "--resume", tmp_path / "checkpoint_epoch_1.npz", "--num-epochs", 3)
        both, starts = self.scalars(tmp_path)
        check(both[len(first) :], (2, 3))
        assert 5 in starts  # epoch 1 ends with iteration 4
        train(capsys, *TINY, "--num-epochs", 1, "--out", tmp_path, "--overwrite")
        assert not list((tmp_path / "tensorboard").iterdir())


class TestEarlyStopping:
    def test_ends_the_run(self, tmp_path, capsys):
        # A rate of next to nothing improves nothing.
        options = [*TINY, "--update-rule", "sgd", "--learning-rate", "1e-12", "--num-epochs", "50"]
        out = train(capsys, *options, "--early-stopping", "3:min_delta=0.1", "--out", tmp_path)
        assert "(Epoch 4) stopped early: val_accuracy has not improved by more than 0.1 since epoch 1" in out
        assert epochs_in_history(tmp_path) == 4
        assert "(Epoch 4) stopped early" in train(capsys, "--resume", tmp_path, "--threads", 1)
        out = train(
            capsys, "--resume", tmp_path, "--early-stopping", "none", "--num-epochs", 6, "--threads", 1
        )
        assert "stopped early" not in out
        run = Run.open(tmp_path)
        assert epochs_in_history(run.folder) == 6
        assert run.config.training["early_stopping"] is None

    @pytest.mark.parametrize("text", ["0", "x", "3:monitor", "monitor=val_loss", "3:monitor=loss"])
    def test_errors(self, text, tmp_path, capsys):
        assert "early" in refused(capsys, "train", "--early-stopping", text, "--out", tmp_path / "run")
        assert not (tmp_path / "run").exists()


class TestDebug:
    @pytest.mark.parametrize("place", ["before", "behind"])
    def test_the_traceback_comes_before_the_line(self, place, capsys):
        command = ["eval", "no/such/run"]
        assert main(["--debug", *command] if place == "before" else [*command, "--debug"]) == 2
        err = capsys.readouterr().err
        assert err.startswith("Traceback (most recent call last):\n")
        assert "FileNotFoundError: there is no run no/such/run\n" in err
        assert err.endswith("cnnlib: error: there is no run no/such/run\n")

    def test_without_it_one_line(self, capsys):
        assert "there is no run" in refused(capsys, "eval", "no/such/run")
