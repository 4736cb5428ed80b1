"""``cnnlib train --model`` with the named deep networks, and ``--recipe``."""

import json
import shutil

import cifar_files
import numpy as np
import pytest
from cnnlib.__main__ import main
from cnnlib.cli.main import build_parser
from cnnlib.cli.options.settings import chosen_settings
from cnnlib.cli.recipes import RECIPES
from cnnlib.graph.compile import CompiledGraph
from cnnlib.runs.folder import Run
from cnnlib.solver import Solver
from helpers import lines, refused

PARTS = ("train", "val", "test")


def test_named_networks_train_with_schedule_and_augmentation(tmp_path, capsys):
    run = tmp_path / "run"
    how = ["--schedule", "cosine:warmup=0.5", "--augment", "crop:pad=1", "--weight-decay", "1e-4"]
    printed = lines(capsys, "train", "--model", "resnet8", "--num-epochs", 1, *how, "--summary", "--out", run)
    assert "conv 16 3x3" in "\n".join(printed)
    assert printed[-1].startswith("test_accuracy: ")
    config = json.loads((run / "config.json").read_text())
    assert config["model"]["name"] == "resnet8"
    assert config["training"]["schedule"] == {"name": "cosine", "warmup": 0.5}
    assert config["training"]["augment"] == [{"name": "crop", "pad": 1}]
    assert lines(capsys, "eval", run)[-1] == printed[-1]


def test_unknown_names_are_one_line_and_status_2(tmp_path, capsys):
    for option, value, hint in (
        ("--schedule", "cosin", "did you mean 'cosine'"),
        ("--augment", "flip,crops:pad=1", "did you mean 'crop'"),
        ("--augment", "crop:pads=1", "did you mean 'pad'"),
    ):
        how = ("--model", "resnet8", option, value, "--out", tmp_path / "run")
        assert hint in refused(capsys, "train", *how)


def test_summary_is_for_networks_that_have_one(tmp_path, capsys):
    assert "--summary" in refused(capsys, "train", "--summary", "--num-epochs", 1, "--out", tmp_path / "run")


@pytest.mark.parametrize(
    ("given", "chosen"),
    [
        (["--schedule", "cosine"], {"schedule": {"name": "cosine"}, "lr_decay": 1.0}),
        (["--lr-decay", "0.9", "--model", "resnet8"], {"schedule": None, "lr_decay": 0.9}),
        (["--recipe", "cifar10-fast", "--lr-decay", "0.9"], {"schedule": None, "lr_decay": 0.9}),
        (["--recipe", "cifar10-fast", "--ema-decay", "0.9"], {"lookahead": None, "ema_decay": 0.9}),
    ],
    ids=" ".join,
)
def test_what_is_given_turns_off_what_it_excludes(given, chosen):
    settings = chosen_settings(build_parser("train").parse_args(["train", *given])).settings
    assert {name: settings[name] for name in chosen} == chosen


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A data set in CIFAR-10's layout, smaller by a factor of 500."""
    with pytest.MonkeyPatch.context() as patch:
        cifar_files.small_batches(patch)
        yield f"cifar10:{cifar_files.write_layout(tmp_path_factory.mktemp('data'), 'binary').parent}"


def train(data, run, *options):
    """The run's settings."""
    assert main(["train", "--recipe", "cifar10-fast", "--data", data, "--out", str(run), *options]) == 0
    return json.loads((run / "config.json").read_text())


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    """The folder of a run with both its checkpoints."""
    run = tmp_path_factory.mktemp("recipe") / "run"
    how = ["--num-epochs", "2", "--batch-size", "20", "--learning-rate", "0.1", "--rate-factors", "W=2,b=3"]
    train(data, run, *how, "--keep-checkpoints")
    return run


class TestRecipe:
    def test_the_run_has_its_settings(self, run, capsys):
        recipe, config = dict(RECIPES["cifar10-fast"]), json.loads((run / "config.json").read_text())
        assert config["recipe"] == "cifar10-fast"
        assert config["data"]["name"] == recipe.pop("data")
        assert config["model"]["name"] == recipe.pop("model")
        assert config["model"]["arguments"]["reg"] == recipe.pop("reg")
        recipe |= {"num_epochs": 2, "batch_size": 20, "learning_rate": 0.1, "rate_factors": {"W": 2, "b": 3}}
        assert {name: config["training"][name] for name in recipe} == recipe

        with np.load(run / "checkpoint_epoch_2.npz") as checkpoint:
            filters = checkpoint["W1"]
        assert np.isfinite(filters).all()
        np.testing.assert_array_equal(filters[12:], -filters[:12])  # still the whitening ones

        solver = Solver.resume(
            run / "checkpoint_epoch_2.npz", Run.open(run).build_model(), Run.open(run).load_data(None, PARTS)
        )
        assert solver.options.optim_config == {"learning_rate": 0.1, "momentum": recipe["momentum"]}
        assert solver.options.lookahead == recipe["lookahead"]
        assert solver.options.keep == "last"

        # eval looks at the images as the run did, in six views, unless it is told otherwise.
        seen = self.views(run, capsys)
        assert [seen(), seen("--tta", "none"), seen("--tta", "mirror")] == [6, 1, 2]

    def views(self, run, capsys):
        def seen(*options):
            calls, scores = [], CompiledGraph.scores
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(
                    CompiledGraph, "scores", lambda self, X, w: calls.append(len(X)) or scores(self, X, w)
                )
                assert main(["eval", str(run), *options]) == 0
            capsys.readouterr()
            assert set(calls) == {20}
            return len(calls)

        return seen

    def test_resume_and_predict(self, run, tmp_path, capsys):
        halved = tmp_path / "halved"
        assert "it does not take --recipe" in refused(
            capsys, "train", "--recipe", "cifar10-fast", "--resume", run
        )
        shutil.copytree(run, halved)
        (halved / "checkpoint_epoch_2.npz").unlink()
        last = lines(capsys, "train", "--resume", halved)[-1]
        assert last == lines(capsys, "eval", run)[-1]
        with (
            np.load(run / "checkpoint_epoch_2.npz") as want,
            np.load(halved / "checkpoint_epoch_2.npz") as got,
        ):
            for name in (name for name in want.files if name[0] in "Wbg"):
                np.testing.assert_array_equal(got[name], want[name])

        image = pytest.importorskip("PIL.Image", reason="cnnlib predict reads images with Pillow")
        image.new("RGB", (40, 32), "navy").save(tmp_path / "sea.png")
        (line,) = lines(capsys, "predict", run, tmp_path / "sea.png", "--top", "10")
        parts = line.split(": ")[1].split(", ")
        assert sum(float(part.split()[1]) for part in parts) == pytest.approx(1, abs=1e-3)

    def test_what_it_names_can_be_turned_off(self, data, tmp_path):
        off = ["--lookahead", "none", "--rate-factors", "none", "--tta", "none", "--augment", "none"]
        off += ["--update-rule", "adam", "--model", "resnet8", "--num-epochs", "1", "--keep", "best"]
        config = train(data, tmp_path / "run", *off)
        training = config["training"]
        assert config["model"]["name"] == "resnet8"
        assert [training[name] for name in ("lookahead", "rate_factors", "tta", "momentum")] == [None] * 4
        assert training["augment"] == []
        assert training["label_smoothing"] == 0.2

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (["--recipe", "cifar10-fst"], "invalid choice: 'cifar10-fst'"),
            (["--recipe", "cifar10-fast", "--data", "digits"], "is for --data cifar10, not for digits"),
            (["--recipe", "cifar10-fast", "--model", "three-layer"], "fits models such as"),
            (["--model", "vgg-whitened"], "the images of digits are too small for a vgg-whitened model"),
            (["--momentum", "0.9"], "--momentum means nothing to adam"),
            (["--lookahead", "5"], "expected KEY=VALUE, got '5'"),
            (["--rate-factors", "beta"], "expected NAME=NUMBER, got 'beta'"),
            (["--rate-factors", "bta=2"], "the model has no parameter 'bta'; did you mean 'beta'"),
            (["--lookahead", "stps=5"], "unknown key 'stps' in lookahead; did you mean 'steps'"),
        ],
    )
    def test_errors(self, options, message, tmp_path, capsys):
        try:
            status = main(["train", "--out", str(tmp_path / "run"), *options])
        except SystemExit as stop:
            status = stop.code
        assert status == 2
        err = capsys.readouterr().err
        assert message in err
        assert err.count("\n") == 1

    def test_help_lists_them(self, capsys):
        with pytest.raises(SystemExit):
            main(["train", "--help"])
        out = capsys.readouterr().out
        assert "recipe cifar10-fast:" in out
        assert "lookahead steps=5:decay=0.95:power=3" in out
