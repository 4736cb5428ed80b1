"""``cnnlib`` on images of the user's own, and on models that were trained in Python."""

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

import cnnlib
import numpy as np
import pytest
from cnnlib.cli.main import main
from cnnlib.data import Normalization, load_digits, load_image_folder
from cnnlib.data.image_cache import CACHE_SUFFIX
from cnnlib.data.image_files import find_images, open_image
from cnnlib.data.writing import ink_of
from cnnlib.models import ConvNet, FullyConnectedNet
from cnnlib.runs.data_sets import parse_data
from cnnlib.runs.folder import Run
from cnnlib.solver import Solver
from helpers import lines, refused
from image_folders import write_folder

Image = pytest.importorskip("PIL.Image", reason="Pillow reads image files")
TINY = ("--image-size", "16", "--num-epochs", "3", "--threads", "1", "--model", "resnet8")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    root = tmp_path_factory.mktemp("pictures") / "my photos"
    write_folder(root, {"ant": 60, "bee": 60, "cat": 60}, size=(20, 24))
    return root


@pytest.fixture(scope="module")
def trained(photos, tmp_path_factory):
    """A run on these, and what it printed."""
    folder = tmp_path_factory.mktemp("trained")
    command = [sys.executable, "-m", "cnnlib", "train", "--data", f"folder:{photos}", *TINY]
    done = subprocess.run(
        [*command, "--num-epochs", "12"], cwd=folder, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return folder / "runs" / "my photos-1", done.stdout.splitlines()


@pytest.fixture(scope="module")
def saved(photos, tmp_path_factory):
    """A model that was trained in Python, saved."""
    data = load_image_folder(photos, (16, 20), verbose=False)
    normalize = Normalization.fit(data["X_train"])
    model = ConvNet("resnet8", data["X_train"].shape[1:], len(data["classes"]), seed=0)
    settings = {"update_rule": "adam", "batch_size": 32, "num_epochs": 8, "seed": 0, "verbose": False}
    solver = Solver(model, data, preprocess=normalize, **settings)
    solver.train()
    path = tmp_path_factory.mktemp("saved") / "model.npz"
    model.save(path, preprocess=normalize, classes=data["classes"])
    return path, solver.check_accuracy(data["X_test"], data["y_test"])


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """A run's folder, its model saved, and scans in ink on paper."""
    folder = tmp_path_factory.mktemp("ink")
    options = ["--num-filters", "4", "--hidden-dim", "16", "--num-epochs", "2", "--threads", "1"]
    assert main(["train", *options, "--out", str(folder / "run")]) == 0
    run = Run.open(folder / "run")
    model = run.load_model(folder / "run", "best")
    X = load_digits()["X_train"]
    normalize = Normalization.fit(X)
    assert normalize == run.normalization
    model.save(folder / "model.npz", preprocess=normalize)
    model.save(folder / "plain.npz", preprocess=Normalization.fit(X, ink=False))
    for n, image in enumerate(load_digits()["X_test"][:20]):
        page = np.full((60, 90), 250, np.uint8)
        ink = np.kron(image[0], np.ones((4, 4)))
        page[5:37, 50:82] = 250 - np.uint8(220 * ink)
        Image.fromarray(page).save(folder / f"{n}.png")
    return folder


class TestTrain:
    @pytest.mark.slow
    def test_what_it_prints(self, trained):
        run, out = trained
        assert out[0].startswith(
            "my photos: 144 training, 18 validation, 18 test images of 3x16x16 in 3 classes; resnet8 model"
        )
        assert out[1] == "run folder: runs/my photos-1"
        name, accuracy = out[-1].split(": ")
        assert name == "test_accuracy"
        assert float(accuracy) > 0.9
        assert run.is_dir()

    def test_the_run_says_what_its_images_are(self, trained, photos):
        config = json.loads((trained[0] / "config.json").read_text())
        assert len(config["data"].pop("names")) == 16
        assert config["data"] == {
            "name": "folder",
            "folder": str(photos),
            "size": [16, 16],
            "channels": 3,
            "validation": 0.1,
            "test": 0.1,
        }
        assert config["classes"] == ["ant", "bee", "cat"]
        X = load_image_folder(photos, 16, verbose=False)["X_train"].astype(np.float64)
        assert config["preprocessing"]["mean"] == pytest.approx(X.mean(axis=(0, 2, 3)))
        assert config["preprocessing"]["std"] == pytest.approx(X.std(axis=(0, 2, 3)))
        assert config["preprocessing"]["white"] == 255
        assert config["model"]["arguments"]["input_dim"] == [3, 16, 16]

    def test_its_options(self, photos, tmp_path, capsys):
        options = ["--image-size", "12x16", "--colours", "grey", "--validation", "0.2", "--test", "0"]
        out = lines(
            capsys,
            "train",
            "--data",
            f"folder:{photos}",
            *TINY,
            *options,
            "--num-epochs",
            1,
            "--out",
            tmp_path / "r",
        )
        assert "144 training, 36 validation, 0 test images of 1x12x16" in out[0]
        assert out[-1].startswith("val_accuracy: ")
        assert "holds no images out" in refused(capsys, "eval", tmp_path / "r")
        assert lines(capsys, "eval", tmp_path / "r", "--split", "val")[-1] == out[-1]

    def test_resume_equals_the_uninterrupted_run(self, photos, tmp_path, capsys):
        train = ["train", "--data", f"folder:{photos}", *TINY, "--schedule", "cosine", "--keep-checkpoints"]
        whole, parts = tmp_path / "whole", tmp_path / "parts"
        want = lines(capsys, *train, "--out", whole)[-1]
        shutil.copytree(whole, parts)
        for epoch in (2, 3):
            (parts / f"checkpoint_epoch_{epoch}.npz").unlink()
        assert lines(capsys, "train", "--resume", parts, "--threads", 1)[-1] == want
        with np.load(whole / "checkpoint_epoch_3.npz") as w, np.load(parts / "checkpoint_epoch_3.npz") as p:
            for name in ("W1", "W9", "gamma1"):
                np.testing.assert_array_equal(p[name], w[name])
        assert "does not take --image-size" in refused(capsys, "train", "--resume", parts, "--image-size", 16)

    @pytest.mark.parametrize("model", ["three-layer", "fully-connected", "mobile-small", "vgg-whitened"])
    def test_other_models(self, tmp_path, capsys, model):
        write_folder(tmp_path / "photos", {"ant": 12, "bee": 12}, size=(20, 24))
        data = f"folder:{tmp_path / 'photos'}"
        train = ["train", "--data", data, *TINY, "--num-epochs", 1, "--image-size", 32]
        out = lines(capsys, *train, "--model", model, "--out", tmp_path / "run")
        assert out[-1].startswith("test_accuracy: ")
        assert lines(capsys, "eval", tmp_path / "run")[-1] == out[-1]

    def test_errors(self, photos, tmp_path, capsys, monkeypatch):
        monkeypatch.chdir(tmp_path)
        for data, message in (
            ("folder", "lacks the folder"),
            ("folder:", "lacks the folder"),
            ("folder:nowhere", "there is no folder"),
        ):
            assert message in refused(capsys, "train", "--data", data)
        assert "--image-size means nothing to --data digits" in refused(capsys, "train", "--image-size", 8)
        broken = shutil.copytree(photos, tmp_path / "broken")
        (broken / "ant" / "0.png").write_text("text")
        assert "broken/ant/0.png cannot be read" in refused(
            capsys, "train", "--data", f"folder:{broken}", *TINY
        )
        for option, value in (("--image-size", "0"), ("--image-size", "8x8x8"), ("--test", "1")):
            assert "expected" in refused(capsys, "train", "--data", f"folder:{photos}", option, value)
        assert not (tmp_path / "runs").exists()


def test_a_folder_of_the_users_home(monkeypatch):
    """No shell expands what stands behind a colon."""
    monkeypatch.setenv("HOME", "/home/somebody")
    monkeypatch.setenv("USERPROFILE", "/home/somebody")
    assert parse_data("folder:~/photos") == ("folder", "/home/somebody/photos")


class TestEval:
    def test_of_a_run(self, trained, capsys):
        out = lines(capsys, "eval", trained[0])
        assert out[-1] == trained[1][-1]
        assert [line.split()[0] for line in out[:-1]] == ["ant", "bee", "cat"]

    def test_images_that_have_moved(self, trained, photos, tmp_path, capsys):
        moved = shutil.copytree(photos, tmp_path / "moved")
        assert lines(capsys, "eval", trained[0], "--data", f"folder:{moved}")[-1] == trained[1][-1]
        (moved / "bee").rename(moved / "wasp")
        message = refused(capsys, "eval", trained[0], "--data", f"folder:{moved}", "--split", "all")
        assert "has the classes ant, cat, wasp; the model's are ant, bee, cat" in message
        assert "the run's model is for folder, not for --data digits" in refused(
            capsys, "eval", trained[0], "--data", "digits"
        )

    def test_other_images_have_another_split(self, trained, photos, tmp_path, capsys):
        """An image more, and some that the model has learnt would be in the test split."""
        more = shutil.copytree(photos, tmp_path / "more")
        shutil.copy(more / "bee" / "0.png", more / "bee" / "1000.png")
        for command in (["eval", trained[0]], ["train", "--resume", trained[0]]):
            message = refused(capsys, *command, "--data", f"folder:{more}")
            assert "no longer holds the run's images" in message
        out = lines(capsys, "eval", trained[0], "--data", f"folder:{more}", "--split", "all")
        assert [int(line.split()[3]) for line in out[:-1]] == [60, 61, 60]
        assert out[-1].startswith("all_accuracy: ")
        right = sum(int(line.split()[1]) for line in out[:-1])
        assert float(out[-1].split()[-1]) == pytest.approx(right / 181, abs=1e-4)

    def test_of_a_saved_model(self, saved, photos, capsys):
        path, accuracy = saved
        assert main(["eval", str(path), "--data", f"folder:{photos}"]) == 0
        out, err = capsys.readouterr()
        assert err.startswith(
            "cnnlib: test split as load_image_folder makes it by default: images in a folder"
        )
        assert out.splitlines()[-1] == f"test_accuracy: {accuracy:.4f}"

    def test_of_a_predictor_and_of_an_onnx_file(self, saved, photos, tmp_path, capsys):
        path, accuracy = saved
        model = cnnlib.load(path)
        cnnlib.prepare(model).save(tmp_path / "model.cnnlib")
        files = [tmp_path / "model.cnnlib"]
        if importlib.util.find_spec("onnx"):
            cnnlib.onnx.save(model, tmp_path / "model.onnx")
            files.append(tmp_path / "model.onnx")
        for file in files:
            out = lines(capsys, "eval", file, "--data", f"folder:{photos}")
            assert out[-1] == f"test_accuracy: {accuracy:.4f}"
        assert "is a predictor, which belongs to no data set" in refused(capsys, "eval", files[0])

    def test_a_saved_model_without_what_it_needs(self, saved, photos, tmp_path, capsys):
        path, _ = saved
        assert "name one with --data" in refused(capsys, "eval", path)
        assert "has the parameters of one epoch" in refused(
            capsys, "eval", path, "--which", "last", "--data", f"folder:{photos}"
        )
        assert "those of digits are (1, 8, 8)" in refused(capsys, "eval", path, "--data", "digits")
        bare = tmp_path / "bare.npz"
        model = cnnlib.load(path)
        known, classes, model.preprocess, model.classes = model.preprocess, model.classes, None, None
        model.save(bare)
        for command in (["predict", bare, photos], ["eval", bare, "--data", f"folder:{photos}"]):
            assert "give --mean and --std (of pixels 0..255), or save it" in refused(capsys, *command)
        numbers = (f"--{name}={','.join(map(str, getattr(known, name)))}" for name in ("mean", "std"))
        names = tmp_path / "names.txt"
        names.write_text("\n".join(classes))
        want = lines(capsys, "eval", path, "--data", f"folder:{photos}")
        assert lines(capsys, "eval", bare, "--data", f"folder:{photos}", *numbers, "--classes", names) == want
        flat = tmp_path / "flat.npz"
        FullyConnectedNet([4], 48, 3).save(flat, preprocess=Normalization(0, 255))
        assert "takes arrays of shape (48,)" in refused(capsys, "predict", flat, photos)
        one = tmp_path / "one.npz"  # a number, and no second class
        ConvNet(["global_avg_pool"], (3, 4, 4), 1).save(one, preprocess=Normalization(0, 1))
        assert "does not give an image a score for each class" in refused(capsys, "predict", one, photos)
        broken = ConvNet([{"conv": 2}, "global_avg_pool"], (3, 4, 4), 2)
        broken.params["W1"][:] = np.nan
        broken.save(one, preprocess=Normalization(0, 1))
        assert "--json: the model gives NaN" in refused(capsys, "predict", one, photos, "--json")

    def test_scores_that_are_nan_are_of_no_class(self, tmp_path, capsys):
        broken = ConvNet(["relu"], (1, 8, 8), 10)
        broken.params["b1"][3:] = np.nan
        broken.save(tmp_path / "m.npz", preprocess=Normalization(0, 1, white=1))
        *of_classes, accuracy = lines(capsys, "eval", tmp_path / "m.npz", "--data", "digits")
        assert [line.split()[1] for line in of_classes] == ["0"] * 10
        assert accuracy == "test_accuracy: 0.0000"

    def test_a_saved_model_of_the_digits(self, tmp_path, capsys):
        """Their white is 1, that of image files 255."""
        data = load_digits()
        normalize = Normalization.fit(data["X_train"])
        model = FullyConnectedNet([50], (1, 8, 8), 10, weight_scale=0.1, seed=0)
        settings = {"update_rule": "adam", "num_epochs": 12, "seed": 0, "verbose": False}
        solver = Solver(model, data, preprocess=normalize, **settings)
        solver.train()
        model.save(tmp_path / "m.npz", preprocess=normalize)
        accuracy = solver.check_accuracy(data["X_test"], data["y_test"])
        out = lines(capsys, "eval", tmp_path / "m.npz", "--data", "digits")
        assert out[-1] == f"test_accuracy: {accuracy:.4f}"
        paths = [tmp_path / f"{n}.png" for n in range(50)]
        for path, image in zip(paths, data["X_test"], strict=False):
            Image.fromarray(np.uint8(np.round(255 * image[0]))).save(path)
        rows = json.loads("\n".join(lines(capsys, "predict", tmp_path / "m.npz", *paths, "--json")))
        scores = model.loss(normalize(data["X_test"][:50]))
        p = np.exp(scores - scores.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        got = [row["predictions"][0]["probability"] for row in rows]
        np.testing.assert_allclose(got, p.max(axis=1), atol=0.02)  # the files have 255 shades, not 16
        assert [int(row["predictions"][0]["class"]) for row in rows] == p.argmax(axis=1).tolist()


def test_a_class_that_cannot_be_learned(tmp_path, capsys):
    write_folder(tmp_path / "photos", {"ant": 20, "bee": 1})  # which validates
    train = ("train", "--data", f"folder:{tmp_path / 'photos'}", *TINY, "--num-epochs", 1)
    assert "no training images of bee" in lines(capsys, *train, "--out", tmp_path / "run")


class TestSkipUnreadable:
    def test_train_eval_and_predict(self, tmp_path, capsys):
        root = tmp_path / "photos"
        write_folder(root, {"ant": 20, "bee": 20})
        broken = root / "bee" / "3.png"
        broken.write_text("text")
        (root / "bee" / "IMG_0001.HEIC").touch()
        command = [
            "train",
            "--data",
            f"folder:{root}",
            *TINY,
            "--num-epochs",
            "1",
            "--out",
            str(tmp_path / "run"),
        ]
        assert "3.png cannot be read" in refused(capsys, *command)
        assert main([*command, "--skip-unreadable"]) == 0
        out, err = capsys.readouterr()
        assert out.splitlines()[-1].startswith("test_accuracy: ")
        assert "\npassed over by their suffixes: .heic (1); images are " in out
        assert err.splitlines()[0] == "cnnlib: left out 1 file that cannot be read:"
        assert err.splitlines()[1].startswith(f"  {broken} cannot be read")
        assert main(["eval", str(tmp_path / "run")]) == 0
        capsys.readouterr()
        assert "3.png" in refused(capsys, "predict", tmp_path / "run", root)
        assert main(["predict", str(tmp_path / "run"), str(root), "--skip-unreadable", "--json"]) == 0
        out, err = capsys.readouterr()
        assert [row["file"] for row in json.loads(out)] == [
            str(path) for path in find_images(root, deep=True) if path != broken
        ]
        assert err.startswith("cnnlib: left out 1 file that cannot be read:\n")
        assert main(["predict", str(tmp_path / "run"), str(broken), "--skip-unreadable"]) == 0
        assert capsys.readouterr().out == ""
        assert "means nothing to" in refused(capsys, "train", "--skip-unreadable")


@pytest.mark.parametrize("more", [(), ("--out", "new/run"), ("--from", "net.npz")])
def test_a_run_is_no_class_of_its_images(more, tmp_path, monkeypatch, capsys):
    """Its pictures would be one for the next run, and its own images would count as changed."""
    write_folder(tmp_path / "photos", {"ant": 10, "bee": 10})
    monkeypatch.chdir(tmp_path / "photos")
    assert "the next run would take" in refused(capsys, "train", "--data", "folder:.", *more)
    assert {path.name for path in Path().iterdir()} == {"ant", "bee"}


class TestInk:
    """A saved model reads scans of writing as the run does, in whose data set its images were."""

    def test_of_a_saved_model(self, digits, capsys):
        scans = sorted(digits.glob("*.png"))
        want = lines(capsys, "predict", digits / "run", *scans)
        assert lines(capsys, "predict", digits / "model.npz", *scans) == want
        assert lines(capsys, "predict", digits / "plain.npz", *scans) != want
        assert lines(capsys, "predict", digits / "plain.npz", *scans, "--ink") == want
        without = lines(capsys, "predict", digits / "model.npz", *scans, "--no-ink")
        assert without == lines(capsys, "predict", digits / "plain.npz", *scans)

    def test_eval_reads_what_predict_reads(self, digits, capsys, tmp_path):
        labels = [*load_digits()["y_test"][:18], 3, 4]  # of which these two are not
        for n, label in enumerate(labels):
            (tmp_path / str(label)).mkdir(exist_ok=True)
            shutil.copy(digits / f"{n}.png", tmp_path / str(label))
        rows = json.loads("\n".join(lines(capsys, "predict", digits / "model.npz", tmp_path, "--json")))
        right = sum(row["predictions"][0]["class"] == Path(row["file"]).parent.name for row in rows)
        assert right > 10
        out = lines(capsys, "eval", digits / "model.npz", "--data", f"folder:{tmp_path}", "--split", "all")
        assert out[-1] == f"all_accuracy: {right / len(rows):.4f}"
        data, parts = f"folder:{tmp_path}", ("val", "test")
        found = [
            lines(capsys, "eval", digits / "model.npz", "--data", data, "--split", part) for part in parts
        ]
        assert not list(tmp_path.parent.glob(f"*{CACHE_SUFFIX}"))  # the files were decoded once, as writing
        split = load_image_folder(tmp_path, 8)
        for part, out in zip(parts, found, strict=True):
            files = list(map(str, split[f"files_{part}"]))
            right = [
                row["predictions"][0]["class"] == Path(row["file"]).parent.name
                for row in rows
                if row["file"] in files
            ]
            assert out[-1] == f"{part}_accuracy: {np.mean(right):.4f}"

    def test_calibration_reads_what_predict_reads(self, digits, tmp_path):
        """Photographs of the scans, which are black on white, would show other ranges."""
        for n in range(18):
            (tmp_path / f"{n % 2}").mkdir(exist_ok=True)
            shutil.copy(digits / f"{n}.png", tmp_path / f"{n % 2}")
        model = cnnlib.load(digits / "model.npz")
        images = np.float32([[ink_of(open_image(file), 8, 8)] for file in tmp_path.glob("*/*.png")])
        by_array, by_folder = (
            cnnlib.prepare(model, precision="int8", calibration=calibration, ranges="minmax")
            for calibration in (model.preprocess(images), tmp_path)
        )
        X = model.preprocess(load_digits()["X_test"])
        np.testing.assert_array_equal(by_folder(X), by_array(X))

    def test_of_colours(self, saved, photos, capsys):
        assert "writing is grey" in refused(capsys, "predict", saved[0], photos, "--ink")


@pytest.mark.parametrize("size", [(24, 40), (40, 24), (3, 8), (8, 1), (1, 5), (56, 56)])
def test_writing_is_scaled_by_means_of_blocks(size, rng):
    """As Pillow's box filter scales it in the middle of a ground that the longer side of the ink fills."""
    H, W = 8, 8
    ink = rng.integers(60, 256, size, dtype=np.uint8)
    page = np.pad(ink, ((3, 9), (20, 1)))
    longer = max(size)
    ground = np.zeros((longer, longer), np.float32)
    top, left = (longer - size[0]) // 2, (longer - size[1]) // 2
    ground[top : top + size[0], left : left + size[1]] = ink / np.float32(255)
    want = np.asarray(Image.fromarray(ground).resize((W, H), Image.Resampling.BOX))
    for image in (page, 255 - page):  # bright on dark, dark on bright
        got = ink_of(Image.fromarray(image), H, W)
        assert (got.dtype, got.shape) == (np.float32, (H, W))
        np.testing.assert_allclose(got, want, atol=1e-6)


class TestPredict:
    @pytest.mark.parametrize("kind", ["run", "checkpoint", "saved model"])
    def test_a_folder(self, trained, saved, photos, capsys, kind):
        (checkpoint,) = trained[0].glob("*.npz")
        model = {"run": trained[0], "checkpoint": checkpoint, "saved model": saved[0]}[kind]
        out = lines(capsys, "predict", model, photos)
        assert len(out) == 180
        right = 0
        for line in out:
            path, prediction = line.split(": ")
            name, probability = prediction.split()
            assert 1 / 3 <= float(probability) <= 1
            right += name == path.split("/")[-2]
        assert right > 160
        assert out[0].startswith(f"{photos}/ant/0.png: ")
        assert len({line.rindex(" ") for line in out}) == 1  # a column

    def test_json(self, trained, photos, capsys):
        files = [photos / "bee" / "3.png", photos / "cat" / "5.png"]
        rows = json.loads("\n".join(lines(capsys, "predict", trained[0], *files, "--json", "--top", 2)))
        assert [row["file"] for row in rows] == list(map(str, files))
        for row, name in zip(rows, ("bee", "cat"), strict=True):
            assert [list(p) for p in row["predictions"]] == [["class", "probability"]] * 2
            assert row["predictions"][0]["class"] == name
            first, second = (p["probability"] for p in row["predictions"])
            assert 1 >= first >= second >= 0

    def test_agrees_with_python(self, saved, photos, capsys):
        path, _ = saved
        model = cnnlib.load(path)
        data = load_image_folder(photos, (16, 20), verbose=False)
        scores = model.loss(model.preprocess(data["X_val"]))
        p = np.exp(scores - scores.max(axis=1, keepdims=True))
        want = np.sort((p / p.sum(axis=1, keepdims=True)).max(axis=1))
        rows = json.loads("\n".join(lines(capsys, "predict", path, photos, "--json")))
        got = {round(row["predictions"][0]["probability"], 4) for row in rows}
        assert {round(float(value), 4) for value in want} <= {
            round(v + d, 4) for v in got for d in (-1e-4, 0, 1e-4)
        }

    def test_errors(self, trained, photos, tmp_path, capsys):
        (tmp_path / "empty").mkdir()
        assert "there are no images in" in refused(capsys, "predict", trained[0], tmp_path / "empty")
        assert "there is no image" in refused(capsys, "predict", trained[0], tmp_path / "no.png")
        shutil.copytree(photos / "ant", tmp_path / "ant")
        (tmp_path / "ant" / "7.png").write_text("text")
        assert "ant/7.png cannot be read" in refused(capsys, "predict", trained[0], tmp_path / "ant")
        assert "ant/7.png is of a kind that is not known here: it begins with b'text'" in refused(
            capsys, "predict", tmp_path / "ant" / "7.png", photos
        )
        assert "there is no run" in refused(capsys, "predict", tmp_path / "nothing", photos)

    @pytest.mark.filterwarnings("error")
    def test_pixels_that_are_no_numbers_are_refused(self, trained, tmp_path, capsys):
        Image.fromarray(np.full((16, 16), np.nan, np.float32)).save(tmp_path / "a.tif")
        assert "a.tif cannot be read as an image: it holds NaN" in refused(
            capsys, "predict", trained[0], tmp_path / "a.tif"
        )

    def test_a_damaged_saved_model_is_named(self, saved, photos, tmp_path, capsys):
        content = saved[0].read_bytes()
        (tmp_path / "cut.npz").write_bytes(content[:-10])
        assert "cut.npz" in refused(capsys, "predict", tmp_path / "cut.npz", photos)


@pytest.mark.parametrize(
    "change",
    [
        {"size": [16]},
        {"size": [16, 0]},
        {"size": "16"},
        {"channels": 2},
        {"channels": None},
        {"folder": None},
        {"validation": "x"},
        {"classes": []},
        {"classes": [1, 2, 3]},
        {"classes": None},
    ],
    ids=str,
)
def test_damaged_config_is_named(change, trained, tmp_path, capsys):
    run = shutil.copytree(trained[0], tmp_path / "run")
    config = json.loads((run / "config.json").read_text())
    (config if "classes" in change else config["data"]).update(change)
    (run / "config.json").write_text(json.dumps(config))
    for command in (["eval"], ["train", "--resume"]):
        assert "config.json" in refused(capsys, *command, run)


def test_one_class_alone_is_refused(tmp_path, capsys):
    write_folder(tmp_path / "photos", {"cats": 10})
    how = ("--num-epochs", 1, "--image-size", 8, "--threads", 1, "--model", "three-layer", "--filter-size", 3)
    message = refused(
        capsys, "train", "--data", f"folder:{tmp_path / 'photos'}", *how, "--out", tmp_path / "run"
    )
    assert "there is one class alone, 'cats': a network tells two or more apart" in message
    assert not (tmp_path / "run").exists()
