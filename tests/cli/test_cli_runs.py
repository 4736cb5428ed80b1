"""A run's folder over its life: resumed from an older checkpoint, used by two at once, damaged."""

import contextlib
import csv
import inspect
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from cnnlib._files.exclusive import LOCK_FILE
from cnnlib._files.written import TEMPORARY
from cnnlib.cli.main import main
from cnnlib.cli.options.settings import RULE_SETTINGS, TRAINING
from cnnlib.runs.folder import Run, locked
from cnnlib.solver import Solver
from cnnlib.solver.options import OPTIONS
from helpers import WITHOUT_PICTURES, cnnlib_command, refused

TINY = ("--num-filters", "2", "--hidden-dim", "4", "--threads", "1", "--batch-size", "400")


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A run of four epochs with all their checkpoints."""
    run = tmp_path_factory.mktemp("kept") / "run"
    assert main(["train", "--out", str(run), "--num-epochs", "4", "--keep-checkpoints", *TINY]) == 0
    return run


@pytest.fixture
def run(kept, tmp_path):
    return shutil.copytree(kept, tmp_path / "run")


def checkpoints(run):
    return {path.name: path.read_bytes() for path in run.glob("*.npz")}


class TestOlderCheckpoint:
    def test_newer_files_stay_until_they_are_overwritten(self, run, capsys):
        before = checkpoints(run)
        older = str(run / "checkpoint_epoch_1.npz")
        assert main(["train", "--resume", older, "--num-epochs", "2", "--threads", "1"]) == 0
        out = capsys.readouterr().out
        assert "later epochs (2, 3, 4) stay until they are overwritten" in out
        assert f"checkpoint: {run / 'checkpoint_epoch_2.npz'}" in out
        after = checkpoints(run)
        assert after.keys() == before.keys()
        assert [name for name in after if after[name] != before[name]] == ["checkpoint_epoch_2.npz"]

    def test_what_reads_the_run_takes_the_epoch_it_has_come_to(self, run, capsys):
        older = str(run / "checkpoint_epoch_1.npz")
        assert main(["train", "--resume", older, "--num-epochs", "2", "--threads", "1"]) == 0
        want = capsys.readouterr().out.splitlines()[-1]
        (run / "checkpoint_epoch_4.npz").write_bytes(b"stale")
        assert main(["eval", str(run)]) == 0
        assert capsys.readouterr().out.splitlines()[-1] == want
        assert main(["train", "--resume", str(run), "--threads", "1"]) == 0
        assert "going on after epoch 2 of 2" in capsys.readouterr().out

    def test_a_lone_checkpoint_makes_room_for_its_successor(self, tmp_path):
        run = tmp_path / "run"
        assert main(["train", "--out", str(run), "--num-epochs", "1", *TINY]) == 0
        assert main(["train", "--resume", str(run), "--num-epochs", "3", "--threads", "1"]) == 0
        assert list(checkpoints(run)) == ["checkpoint_epoch_3.npz"]
        with open(run / "history.csv", newline="") as file:
            assert [row["epoch"] for row in csv.DictReader(file)] == ["1", "2", "3"]


def test_what_is_replaced_while_it_is_looked_for(run, monkeypatch):
    """By a training that has come to the next epoch: `eval` and others may look at a run that goes on."""
    newest, find = run / "checkpoint_epoch_4.npz", Run.checkpoint

    def find_and_replace(self, path):
        found = find(self, path)
        if found == newest:
            newest.rename(run / "checkpoint_epoch_5.npz")
        return found

    want = Run.open(run).load_model(run, "last")
    monkeypatch.setattr(Run, "checkpoint", find_and_replace)
    model = Run.open(run).load_model(run, "last")
    np.testing.assert_array_equal(model.params["W1"], want.params["W1"])


def test_another_programs_files_are_not_overwritten(tmp_path, capsys):
    file = tmp_path / "config.json"
    file.write_text('{"format": "another"}')
    assert "is not that of a cnnlib run" in refused(capsys, "train", "--out", tmp_path, "--overwrite", *TINY)
    assert file.read_text() == '{"format": "another"}'


def test_numpy_alone_is_enough(tmp_path):
    """For a training, its lock, going on with it, and its evaluation: no package of an extra is there."""
    extras = "filelock matplotlib mpi4py onnx PIL pooch python_multipart shtab sklearn starlette tensorboardX"
    hide = f"import sys; sys.modules.update(dict.fromkeys('{extras} torch tqdm uvicorn'.split()))"
    start = ("-c", f"{hide}; from cnnlib.__main__ import main; sys.exit(main())")
    run = tmp_path / "run"
    for command in (
        ["train", "--out", run, "--num-epochs", "1", *TINY],
        ["train", "--resume", run, "--num-epochs", "2", "--threads", "1"],
        ["eval", run],
    ):
        done = cnnlib_command(*command, start=start)
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        assert done.stdout.splitlines()[-1].startswith("test_accuracy: ")
    assert list(checkpoints(run)) == ["checkpoint_epoch_2.npz"]


class TestLock:
    def test_the_second_of_two_is_refused(self, run, tmp_path, capsys):
        before = checkpoints(run)
        for command in (
            ["--out", str(tmp_path / "new")],
            ["--out", str(run), "--overwrite"],
            ["--resume", str(run)],
        ):
            folder = tmp_path / "new" if "new" in command[1] else run
            folder.mkdir(exist_ok=True)
            with locked(folder):
                assert main(["train", *command]) == 2
            err = capsys.readouterr().err
            assert "is in use: another training is writing to it" in err
            assert err.count("\n") == 1
        assert checkpoints(run) == before
        assert [path.name for path in (tmp_path / "new").iterdir()] == [LOCK_FILE]

    def test_started_together(self, tmp_path):
        command = [sys.executable, *WITHOUT_PICTURES, "train", "--out", tmp_path / "new", "--num-epochs", "3"]
        processes = [
            subprocess.Popen([*command, "--seed", str(seed), *TINY], stderr=subprocess.PIPE, text=True)
            for seed in (1, 2)
        ]
        errors = [process.communicate(timeout=300)[1] for process in processes]
        assert sorted(process.returncode for process in processes) == [0, 2]
        (error,) = [error for error in errors if error]
        assert error.count("\n") == 1

    def test_it_is_given_back(self, tmp_path):
        for _ in range(2):
            with locked(tmp_path), pytest.raises(ValueError, match="is in use"), locked(tmp_path):
                pass
        assert [path.name for path in tmp_path.iterdir()] == [LOCK_FILE]
        assert main(["train", "--out", str(tmp_path), "--num-epochs", "1", *TINY]) == 0  # as it is empty

    def test_where_there_is_no_lock_it_is_told(self, tmp_path, monkeypatch, capsys):
        monkeypatch.setitem(sys.modules, "sqlite3", None)
        assert main(["train", "--out", str(tmp_path), "--num-epochs", "1", *TINY]) == 0
        told = f"no lock can be held in {tmp_path}: nothing keeps another training from writing to it"
        assert capsys.readouterr().err == f"cnnlib: {told}\n"

    @pytest.mark.parametrize("command", ["resume", "overwrite"])
    def test_what_a_killed_training_did_not_finish_is_removed(self, run, command):
        unfinished = run / f".checkpoint_epoch_5.npz.01234567{TEMPORARY}"
        users_own = run / f".net.onnx.01234567{TEMPORARY}"
        for path in (unfinished, users_own):
            path.write_bytes(b"PK")
        options = ["--resume", str(run)] if command == "resume" else ["--out", str(run), "--overwrite", *TINY]
        assert main(["train", *options, "--num-epochs", "5", "--threads", "1"]) == 0
        assert [path.exists() for path in (unfinished, users_own)] == [False, True]


@pytest.mark.parametrize(
    "change",
    [
        {"preprocessing": None},
        {"training": "x"},
        {"model": 3},
        {"data": []},
        {"data": {}},
        {"data": {"name": ["digits"]}},
        {"data": {"name": "letters"}},
        {"data": {"name": "digits", "folder": 3}},
        {"preprocessing": {}},
        {"preprocessing": {"mean": [0.1], "std": "x", "white": 1.0}},
        {"preprocessing": {"mean": [0.1, 0.2], "std": [1.0, 1.0], "white": 1.0}},
        {"preprocessing": {"mean": [None], "std": [1.0], "white": 1.0}},
        {"preprocessing": {"mean": [0.1], "std": [1.0]}},
        {"training": {"tta": "upside-down"}},
        {"model": {"name": "three-layer"}},
        {"model": {"arguments": {}}},
        {"model": {"name": "three-layer", "arguments": 3}},
        {"model": {"name": [], "arguments": {"dtype": "float32"}}},
        {"model": {"name": "fully-connected", "arguments": {"hidden_dims": 3, "dtype": "float32"}}},
        None,
    ],
    ids=str,
)
def test_damaged_config_is_named(change, run, capsys):
    config = run / "config.json"
    if change is None:
        config.write_text('{"format": ' + "[" * 100_000)
    else:
        config.write_text(json.dumps({**json.loads(config.read_text()), **change}))
    for command in (["eval"], ["predict"], ["train", "--resume"]):
        assert main([*command, str(run), *(["x.png"] if command == ["predict"] else [])]) == 2
        err = capsys.readouterr().err
        assert "config.json" in err
        assert err.count("\n") == 1


@pytest.mark.parametrize("version", [0, 2, "1", None])
def test_another_version_is_refused(version, run, capsys):
    """The message names the file, its version, and the one that is read."""
    file = run / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "version": version}))
    message = f"{file} is a run's config.json of version {version!r}, and this cnnlib reads version 1"
    for command in (["eval", run], ["train", "--resume", run], ["report", run], ["export", run, "net.onnx"]):
        assert message in refused(capsys, *command)


@pytest.mark.parametrize("content", ["", "epoch\n", "epoch,loss\nx,y\n", "\0"])
def test_damaged_history_is_no_obstacle(content, run, capsys):
    (run / "history.csv").write_text(content)
    assert main(["eval", str(run)]) == 0
    assert main(["train", "--resume", str(run), "--threads", "1"]) == 0
    assert "going on after epoch 4 of 4" in capsys.readouterr().out


def test_every_flag_of_the_solvers_table_is_an_option(capsys):
    with contextlib.suppress(SystemExit):
        main(["train", "--help"])
    out = capsys.readouterr().out
    settings = [*RULE_SETTINGS, *(name for name, option in OPTIONS.items() if option.kind is not None)]
    assert all(f"--{name.replace('_', '-')} " in out for name in settings)
    assert set(settings) | {"tta"} == set(TRAINING)
    assert set(OPTIONS) < set(inspect.signature(Solver).parameters)


def test_the_solver_gets_every_setting(kept):
    with np.load(kept / "checkpoint_epoch_4.npz") as file:
        settings = json.loads(str(file["__cnnlib__/state"]))["state"]["settings"]
    assert settings["batch_size"] == 400
    assert settings["num_epochs"] == 4
    assert settings["optim_config"] == {"learning_rate": 1e-3}
    assert settings["lr_decay"] == 0.95
