"""``cnnlib train --model`` with the named deep networks."""

import json
import subprocess
import sys


def cnnlib_command(*arguments):
    command = [sys.executable, "-m", "cnnlib", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


def test_named_networks_train_with_schedule_and_augmentation(tmp_path):
    run = tmp_path / "run"
    how = ["--schedule", "cosine:warmup=0.5", "--augment", "crop:pad=1", "--weight-decay", "1e-4"]
    trained = cnnlib_command("train", "--model", "resnet8", "--epochs", 1, *how, "--summary", "--out", run)
    assert trained.returncode == 0, trained.stderr
    assert "conv 16 3x3" in trained.stdout
    last = trained.stdout.splitlines()[-1]
    assert last.startswith("test accuracy: ")
    config = json.loads((run / "config.json").read_text())
    assert config["model"]["name"] == "resnet8"
    assert config["training"]["schedule"] == {"name": "cosine", "warmup": 0.5}
    assert config["training"]["augment"] == [{"name": "crop", "pad": 1}]
    assert cnnlib_command("eval", run).stdout.splitlines()[-1] == last


def test_unknown_names_are_one_line_and_status_2(tmp_path):
    for option, value, hint in (
        ("--schedule", "cosin", "did you mean 'cosine'"),
        ("--augment", "flip,crops:pad=1", "did you mean 'crop'"),
        ("--augment", "crop:pads=1", "did you mean 'pad'"),
    ):
        refused = cnnlib_command("train", "--model", "resnet8", option, value, "--out", tmp_path / "run")
        assert refused.returncode == 2
        assert refused.stderr.startswith("cnnlib: error: ")
        assert hint in refused.stderr
        assert refused.stderr.count("\n") == 1


def test_summary_is_for_networks_that_have_one(tmp_path):
    refused = cnnlib_command("train", "--summary", "--epochs", 1, "--out", tmp_path / "run")
    assert refused.returncode == 2
    assert "--summary" in refused.stderr
