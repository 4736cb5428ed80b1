"""``cnnlib train --task``: masks, numbers and images of the user's own, from the files to the predictions."""

import csv
import io
import json
import shutil
from pathlib import Path

import cnnlib
import numpy as np
import pytest
from cnnlib import data
from cnnlib._system.text import csv_text
from cnnlib.checkpoint import load_checkpoint
from cnnlib.cli.main import main
from cnnlib.cli.report import pictures
from cnnlib.data import Normalization, load_array_folder, load_target_folder
from cnnlib.models import ConvNet
from cnnlib.onnx import load as load_onnx
from cnnlib.onnx import save as save_onnx
from cnnlib.runs import data_sets
from helpers import lines, refused

Image = pytest.importorskip("PIL.Image", reason="Pillow reads image files")
QUICK = ("--threads", "1", "--image-size", "16")


@pytest.fixture
def with_pictures(monkeypatch):
    monkeypatch.setattr("cnnlib.cli.report.command.drawn", pictures.drawn)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Bright squares with their masks, and grey images with their brightness."""
    root, rng = tmp_path_factory.mktemp("tasks"), np.random.default_rng(0)
    for folder in ("squares/images", "squares/masks", "grey/images"):
        (root / folder).mkdir(parents=True)
    rows = ["file,brightness,half"]
    for k in range(40):
        image, mask = rng.integers(0, 90, (20, 20), np.uint8), np.zeros((20, 20), np.uint8)
        top, left = rng.integers(0, 12, 2)
        image[top : top + 8, left : left + 8] += 120
        mask[top : top + 8, left : left + 8] = 1
        mask[0, 0] = 255
        Image.fromarray(image).save(root / f"squares/images/{k:02}.png")
        Image.fromarray(mask).save(root / f"squares/masks/{k:02}.png")
        level = rng.integers(20, 200)
        Image.fromarray(np.full((20, 20), level, np.uint8)).save(root / f"grey/images/{k:02}.png")
        rows.append(f"{k:02}.png,{level},{level / 2}")
    (root / "grey/values.csv").write_text("\n".join(rows) + "\n")
    (root / "squares/classes.txt").write_text("ground\nsquare\n")
    return root


@pytest.fixture(scope="module")
def masks_run(folders, tmp_path_factory):
    run = tmp_path_factory.mktemp("masks") / "run"
    train = [
        "train",
        "--task",
        "pixels",
        "--data",
        f"folder:{folders / 'squares'}",
        "--out",
        str(run),
        *QUICK,
    ]
    assert main([*train, "--num-epochs", "6", "--batch-size", "8", "--learning-rate", "1e-2"]) == 0
    return run


@pytest.fixture(scope="module")
def numbers_run(folders, tmp_path_factory):
    run = tmp_path_factory.mktemp("numbers") / "run"
    train = ["train", "--task", "values", "--data", f"folder:{folders / 'grey'}", "--out", str(run), *QUICK]
    options = ["--num-epochs", "30", "--augment", "none", "--learning-rate", "1e-2", "--batch-size", "8"]
    assert main([*train, *options, "--reg", "0"]) == 0
    return run


def metrics(text):
    """The numbers behind the names in the last line."""
    pairs = (part.rsplit(": ", 1) for part in text.splitlines()[-1].split("; "))
    return {name: float(value) for name, value in pairs}


class TestMasks:
    def test_the_run(self, masks_run, capsys, with_pictures):
        assert main(["report", str(masks_run)]) == 0
        found = metrics(capsys.readouterr().out)
        assert found["test_iou"] > 0.7
        assert found["test_accuracy"] > 0.9
        config = json.loads((masks_run / "config.json").read_text())
        assert (config["data"]["task"], config["data"]["labels"]) == ("pixels", True)
        assert config["classes"] == ["ground", "square"]
        heading = (masks_run / "history.csv").read_text().splitlines()[0]
        assert heading.startswith(
            "epoch,iteration,loss,train_iou,train_accuracy,val_iou,val_accuracy,val_loss,"
        )
        page = (masks_run / "report.html").read_text()
        assert "test_iou" in page
        assert page.count("<img") == 3
        assert "left out (" not in page
        assert {"curves.png", "samples.png"} <= {path.name for path in masks_run.iterdir()}

    def test_eval(self, masks_run, capsys):
        assert main(["eval", str(masks_run), "--threads", "1"]) == 0
        assert metrics(capsys.readouterr().out.replace("\n", "; ").rstrip("; "))["test_iou"] > 0.7

    def test_masks_without_names_have_the_model_s(self, masks_run, folders, tmp_path, capsys):
        want = lines(capsys, "eval", masks_run, "--split", "all")
        moved = shutil.copytree(folders / "squares", tmp_path / "moved")
        (moved / "classes.txt").unlink()
        assert lines(capsys, "eval", masks_run, "--data", f"folder:{moved}", "--split", "all") == want
        mask = Image.fromarray(np.full((20, 20), 2, np.uint8))
        mask.save(moved / "masks/00.png")
        message = refused(capsys, "eval", masks_run, "--data", f"folder:{moved}", "--split", "all")
        assert "has the classes 0, 1, 2; the model's are ground, square" in message

    def test_predictions_are_masks(self, masks_run, folders, tmp_path):
        images = [str(folders / f"squares/images/0{k}.png") for k in range(3)]
        assert main(["predict", str(masks_run), *images, "--out", str(tmp_path / "out")]) == 0
        assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
            name for k in range(3) for name in (f"0{k}-over.png", f"0{k}.png")
        ]
        with Image.open(tmp_path / "out/00.png") as mask, Image.open(tmp_path / "out/00-over.png") as over:
            found, shown = np.array(mask), np.array(over)
        there = np.array(
            Image.open(folders / "squares/masks/00.png").resize((16, 16), Image.Resampling.NEAREST)
        )
        assert (found == there).mean() > 0.85
        assert set(np.unique(found)) <= {0, 1}
        assert shown.shape == (16, 16, 3)
        assert (shown[found == 1].std(axis=1) > 10).all()  # coloured
        assert (np.ptp(shown[found == 0], axis=1) == 0).all()  # grey as it was

    def test_training_goes_on(self, masks_run, capsys):
        assert main(["train", "--resume", str(masks_run), "--num-epochs", "7"]) == 0
        assert "going on after epoch 6 of 7" in capsys.readouterr().out

    def test_predictions_of_many_images(self, masks_run, folders, tmp_path, capsys, monkeypatch):
        """No more are held than a batch needs; a file that cannot be read is left out."""
        images = [folders / f"squares/images/0{k}.png" for k in range(5)]
        (tmp_path / "bad.png").write_bytes(b"no image")
        command = ["predict", masks_run, *images[:2], tmp_path / "bad.png", *images[2:], "--skip-unreadable"]
        assert "10 files in" in lines(capsys, *command, "--out", tmp_path / "whole")[-1]
        monkeypatch.setattr("cnnlib.cli.predict._BATCH_VALUES", 2 * 16 * 16)
        batches, stack = [], np.stack

        def counted(arrays, **how):
            batches.append(len(arrays))
            return stack(arrays, **how)

        monkeypatch.setattr(np, "stack", counted)
        assert "10 files in" in lines(capsys, *command, "--out", tmp_path / "parts")[-1]
        assert max(batches) <= 2
        for path in (tmp_path / "whole").iterdir():
            assert path.read_bytes() == (tmp_path / "parts" / path.name).read_bytes()

    def test_nothing_is_left_of_what_is_refused(self, masks_run, folders, tmp_path, capsys, monkeypatch):
        monkeypatch.chdir(tmp_path)
        image = str(folders / "squares/images/00.png")
        assert "two predictions would be called 00.png" in refused(capsys, "predict", masks_run, image, image)
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize("names", [("a.png",), ("b.jpg", "a.png"), ("c.png", "c-over.png")])
    def test_photos_stay_as_they_are(self, names, masks_run, tmp_path, capsys):
        """A mask has the name of its photo, and is a PNG."""
        for name in names:
            Image.fromarray(np.zeros((16, 16), np.uint8)).save(tmp_path / name)
        before = {path: path.read_bytes() for path in tmp_path.iterdir()}
        message = refused(capsys, "predict", masks_run, tmp_path, "--out", tmp_path / "." / ".")
        assert ("would be called c-over.png" if "c.png" in names else "replace the image") in message
        assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before

    def test_masks_stay_as_they_are(self, folders, masks_run, tmp_path, capsys):
        """Those that were drawn by hand; those of an earlier prediction do not."""
        image = folders / "squares/images/00.png"
        masks = shutil.copytree(folders / "squares/masks", tmp_path / "masks")
        before = {path: path.read_bytes() for path in masks.iterdir()}
        message = refused(capsys, "predict", masks_run, image, "--out", masks)
        assert f"would replace {masks / '00.png'}" in message
        assert {path: path.read_bytes() for path in masks.iterdir()} == before
        for _ in range(2):
            lines(capsys, "predict", masks_run, image, "--out", tmp_path / "new")

    @pytest.mark.parametrize("left", [0, 1])
    def test_what_was_cut_short_is_done_anew(self, left, folders, masks_run, tmp_path, capsys, monkeypatch):
        """The disk is full, or somebody interrupts: no mask is alone, as those drawn by hand."""
        command = ["predict", masks_run, folders / "squares/images/00.png", "--out", tmp_path]
        with monkeypatch.context() as patch:
            saved, save = [], Image.Image.save

            def cut_short(picture, path):
                if len(saved) == left:
                    raise OSError("no space")
                saved.append(path)
                save(picture, path)

            patch.setattr(Image.Image, "save", cut_short)
            assert "no space" in refused(capsys, *command)
        assert len(list(tmp_path.iterdir())) == left
        assert "2 files in" in lines(capsys, *command)[-1]

    def test_results_are_no_images_of_the_next_run(self, masks_run, tmp_path, capsys):
        photos = tmp_path / "photos"
        photos.mkdir()
        Image.fromarray(np.zeros((16, 16), np.uint8)).save(photos / "a.png")
        message = refused(capsys, "predict", masks_run, photos, "--out", photos / "of" / "masks")
        assert "the next run would take" in message
        assert [path.name for path in photos.iterdir()] == ["a.png"]
        assert (
            "2 files in" in lines(capsys, "predict", masks_run, photos, "--out", tmp_path / "photos-out")[-1]
        )


def test_what_lies_beside_images_and_masks_is_neither(folders, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(shutil.copytree(folders / "squares", tmp_path / "squares"))
    out = lines(capsys, "train", "--task", "pixels", "--data", "folder:.", "--num-epochs", "1", *QUICK)
    assert lines(capsys, "predict", "runs/squares-1", "images")[-1].endswith("files in predictions")
    assert out[-1] == "; ".join(lines(capsys, "eval", "runs/squares-1"))
    next(Path("images").iterdir()).unlink()
    assert "no longer holds the run's images" in refused(capsys, "eval", "runs/squares-1")


def test_what_crops_add_to_masks_has_no_label(folders, tmp_path, capsys):
    run = tmp_path / "run"
    train = ("train", "--task", "pixels", "--data", f"folder:{folders / 'squares'}", "--num-epochs", "1")
    lines(capsys, *train, *QUICK, "--out", run, "--augment", "flip,crop:pad=2")
    settings = load_checkpoint(run / "checkpoint_epoch_1.npz")[1]["settings"]
    assert [one.get("target_fill") for one in settings["augment"]] == [None, 255]


class TestNumbers:
    def test_the_run(self, numbers_run, capsys, with_pictures):
        assert main(["report", str(numbers_run)]) == 0
        assert metrics(capsys.readouterr().out)["test_r2"] > 0.8
        page = (numbers_run / "report.html").read_text()
        assert page.count("<img") == 3
        assert "left out (" not in page

    def test_predictions_are_in_the_targets_units(self, numbers_run, folders, capsys):
        images = [str(folders / f"grey/images/{k:02}.png") for k in range(40)]
        assert main(["predict", str(numbers_run), *images]) == 0
        heading, *rows = csv.reader(io.StringIO(capsys.readouterr().out))
        assert heading == ["file", "brightness", "half"]
        levels = [np.array(Image.open(path))[0, 0] for path in images]
        found = np.array([[float(value) for value in row[1:]] for row in rows])
        assert [row[0] for row in rows] == images
        assert np.abs(found[:, 0] - levels).mean() < 20
        assert np.abs(found[:, 1] - np.array(levels) / 2).mean() < 10
        assert main(["predict", str(numbers_run), images[0], "--json"]) == 0
        (row,) = json.loads(capsys.readouterr().out)
        assert row["values"]["brightness"] == pytest.approx(found[0, 0], rel=1e-4)

    def test_an_exported_network_gives_them_too(self, numbers_run, folders, tmp_path, capsys):
        pytest.importorskip("onnx")
        assert main(["export", str(numbers_run), str(tmp_path / "net.onnx")]) == 0
        net = load_onnx(tmp_path / "net.onnx")
        image = np.array(Image.open(folders / "grey/images/00.png").resize((16, 16)))[None, None]
        capsys.readouterr()
        assert main(["predict", str(numbers_run), str(folders / "grey/images/00.png")]) == 0
        printed = float(capsys.readouterr().out.splitlines()[1].split(",")[1])
        assert net.loss(net.preprocess(image))[0, 0] == pytest.approx(printed, rel=1e-3)


def test_masks_are_read_once(folders, monkeypatch):
    read = []
    monkeypatch.setattr(
        data,
        "load_target_folder",
        lambda *folder, **how: read.append(folder) or load_target_folder(*folder, **how),
    )
    root, shares = str(folders / "squares"), {"validation": 0.1, "test": 0.1}
    found = data_sets.data_set_of_files("folder", root, (None, 16, 16), shares, "pixels")
    assert found.load(root, data_sets.PARTS)["y_train"].shape == (32, 16, 16)
    assert len(read) == 1


def test_images_in_deeper_folders(folders, tmp_path, capsys):
    """Beside a folder that holds no images at all."""
    root = tmp_path / "photos"
    (root / "images" / "day 1").mkdir(parents=True)
    (root / "notes").mkdir()
    for k in range(20):
        image = f"{k:02}.png"
        (root / "images" / "day 1" / image).write_bytes((folders / "grey/images" / image).read_bytes())
    rows = (folders / "grey/values.csv").read_text().splitlines()[:21]
    (root / "values.csv").write_text("\n".join([rows[0], *(f"day 1/{row}" for row in rows[1:])]))
    (root / "images" / "day 1" / "IMG_0001.HEIC").touch()
    run, data = tmp_path / "run", f"folder:{root}"
    train = ("train", "--task", "values", "--data", data, "--out", run, "--num-epochs", "1", *QUICK)
    out = lines(capsys, *train)
    assert out[-1].startswith("test_r2: ")
    assert [line for line in out if line.startswith("passed over by their suffixes: .heic (1); images are")]
    assert lines(capsys, "eval", run)[0].startswith("test_r2: ")
    (root / "images" / "day 1" / "00.png").rename(root / "images" / "00.png")
    assert "no longer holds the run's images" in refused(capsys, "eval", run)


def test_images_of_a_saved_model(tmp_path, capsys):
    """One channel is no label."""
    net = ConvNet([{"conv": 4}, "relu", {"pixels": 1}], (1, 8, 8), seed=0)
    net.params["W2"][:], net.params["b2"][:] = 0, 0.5
    net.save(tmp_path / "net.npz", preprocess=Normalization(0, 255))
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "black.png")
    lines(capsys, "predict", tmp_path / "net.npz", tmp_path / "black.png", "--out", tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["black.png"]
    assert np.unique(np.array(Image.open(tmp_path / "out" / "black.png"))).tolist() == [128]


def test_more_labels_than_a_mask_holds(tmp_path, capsys):
    """Label 256 would be written as 0."""
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "black.png")
    for count in (256, 257):
        net = ConvNet([{"conv": 1}, {"pixels": count}], (1, 8, 8), seed=0)
        net.save(tmp_path / f"{count}.npz", preprocess=Normalization(0, 255))
    lines(capsys, "predict", tmp_path / "256.npz", tmp_path / "black.png", "--out", tmp_path / "out")
    text = refused(capsys, "predict", tmp_path / "257.npz", tmp_path / "black.png", "--out", tmp_path / "2")
    assert "a mask's file holds 256 labels, the model has 257" in text


def in_files(net, folder):
    """A network in a file of each kind that predict takes."""
    net.save(folder / "net.npz")
    cnnlib.prepare(net).save(folder / "net.predictor")
    save_onnx(net, folder / "net.onnx")
    load_onnx(folder / "net.onnx").save(folder / "graph.npz")
    return [folder / name for name in ("net.npz", "net.predictor", "net.onnx", "graph.npz")]


def test_numbers_of_a_network_in_a_file(tmp_path, capsys):
    """The last stage says how many there are."""
    net = ConvNet([{"conv": 4}, "relu", "global_avg_pool", {"values": 2}], (1, 8, 8), seed=0)
    net.preprocess, net.classes = Normalization(0, 255), ("width", "height")
    net.params["b2"][:] = 3, 2**24 - 1  # all digits of a float32
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "black.png")
    for file in in_files(net, tmp_path):
        printed = lines(capsys, "predict", file, tmp_path / "black.png")
        assert printed == ["file,width,height", f"{tmp_path / 'black.png'},3,16777215"]
        assert "is a model of values" in refused(capsys, "serve", file)
    with pytest.raises(ValueError, match="classes has 3 names, the model has 2 classes"):
        net.save(tmp_path / "net.npz", classes="abc")


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t"])
def test_names_are_no_formulas_in_csv(start, tmp_path, capsys, monkeypatch):
    """A spreadsheet computes cells that begin so; the numbers, also negative ones, stay numbers."""
    monkeypatch.chdir(tmp_path)
    net = ConvNet([{"conv": 2}, "relu", {"values": 2}], (1, 8, 8), seed=0)
    net.params["W2"][:], net.params["b2"][:] = 0, (-0.5, 2)
    net.save("net.npz", preprocess=Normalization(0, 255), classes=[f"{start}1+1", "plain"])
    name = f"{start}cmd|x.png"
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(name)
    asked = ("predict", "net.npz", "--", name) if start == "-" else ("predict", "net.npz", name)
    capsys.readouterr()
    assert main(list(asked)) == 0
    rows = list(csv.reader(io.StringIO(capsys.readouterr().out)))
    assert rows == [["file", f"'{start}1+1", "plain"], [f"'{name}", "-0.5", "2"]]
    assert csv_text("\r=1") == "'\r=1"


def test_numbers_of_one_name(tmp_path, capsys):
    """In JSON the second would replace the first."""
    net = ConvNet([{"conv": 2}, "relu", {"values": 2}], (1, 8, 8), seed=0)
    net.save(tmp_path / "net.npz", preprocess=Normalization(0, 255), classes=["x", "x"])
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "black.png")
    asked = "predict", tmp_path / "net.npz", tmp_path / "black.png"
    assert lines(capsys, *asked)[0] == "file,x,x"
    assert "--json: two numbers have one name: 'x', 'x'" in refused(capsys, *asked, "--json")


def test_a_network_for_numbers_trains_on_behind_onnx(tmp_path, rng):
    """By the mean squared error, as the network that was written."""
    net = ConvNet([{"conv": 2}, "relu", {"values": 3}], (1, 4, 4), seed=0)
    save_onnx(net, tmp_path / "net.onnx")
    X, y = rng.standard_normal((6, 1, 4, 4)), rng.standard_normal((6, 3))
    assert load_onnx(tmp_path / "net.onnx").loss(X, y)[0] == pytest.approx(net.loss(X, y)[0], rel=1e-5)


def test_masks_of_a_network_in_a_file(folders, masks_run, tmp_path, capsys):
    net = cnnlib.load(masks_run)
    photos = [folders / f"squares/images/{k:02}.png" for k in range(3)]
    lines(capsys, "predict", masks_run, *photos, "--out", tmp_path / "want")
    for file in in_files(net, tmp_path):
        assert cnnlib.load(file).classes == ("ground", "square")
        lines(capsys, "predict", file, *photos, "--out", tmp_path / file.suffix)
        for path in (tmp_path / "want").iterdir():
            with Image.open(path) as want, Image.open(tmp_path / file.suffix / path.name) as found:
                assert np.mean(np.asarray(want) == np.asarray(found)) > 0.99


def write_images(folder, channels):
    """Images with brighter ones."""
    rng = np.random.default_rng(0)
    for part, n in (("train", 16), ("val", 4), ("test", 4)):
        y = rng.random((n, channels, 8, 8), dtype=np.float32)
        np.save(folder / f"X_{part}.npy", y + np.float32(0.1))
        np.save(folder / f"y_{part}.npy", y)


def train_images(folder):
    settings = ("--model", "autoencoder", "--threads", "1", "--num-epochs", "2")
    return "train", "--task", "pixels", "--data", f"npy:{folder}", *settings, "--out", folder / "run"


def test_images_of_arrays(tmp_path, capsys):
    write_images(tmp_path, 1)
    assert metrics("\n".join(lines(capsys, *train_images(tmp_path)))).keys() == {"test_psnr", "test_rmse"}
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "black.png")
    lines(capsys, "predict", tmp_path / "run", tmp_path / "black.png", "--out", tmp_path / "o")
    with Image.open(tmp_path / "o/black.png") as image:
        assert image.size == (8, 8)


def test_images_in_colour_of_a_network_in_a_file(tmp_path, capsys):
    """They are no masks of three labels, in whatever file the network lies."""
    write_images(tmp_path, 3)
    lines(capsys, *train_images(tmp_path))
    photo = tmp_path / "photo.png"
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (8, 8, 3), np.uint8)).save(photo)
    run, out = tmp_path / "run", tmp_path / "out"
    lines(capsys, "predict", run, photo, "--out", out)
    lines(capsys, "export", run, tmp_path / "exported.onnx")
    scores = lines(capsys, "eval", run)
    for file in (*in_files(cnnlib.load(run), tmp_path), tmp_path / "exported.onnx"):
        written = tmp_path / f"by {file.name}"
        lines(capsys, "predict", file, photo, "--out", written)
        assert [path.name for path in written.iterdir()] == ["photo.png"]
        with Image.open(out / "photo.png") as want, Image.open(written / "photo.png") as found:
            np.testing.assert_allclose(np.asarray(found, int), np.asarray(want, int), atol=1)
        assert lines(capsys, "eval", file, "--data", f"npy:{tmp_path}") == scores


def test_targets_of_arrays(tmp_path):
    for part in ("train", "val"):
        np.save(tmp_path / f"X_{part}.npy", np.zeros((4, 1, 6, 5), np.float32))
        np.save(tmp_path / f"y_{part}.npy", np.full((4, 6, 5), 2, np.uint8))
    data = load_array_folder(tmp_path, task="pixels")
    assert data["classes"] == ("0", "1", "2")
    assert data["y_train"].shape == (4, 6, 5)
    with pytest.raises(ValueError, match=r"y_train must be numbers \(N,\) or \(N, M\)"):
        load_array_folder(tmp_path, task="values")
    np.save(tmp_path / "y_train.npy", np.zeros((4, 5, 5), np.uint8))
    with pytest.raises(ValueError, match=r"y_train must be integer labels \(N, 6, 5\) or floats"):
        load_array_folder(tmp_path, task="pixels")


def test_numbers_of_arrays_that_float32_hardly_tells_apart(tmp_path):
    """Those of a constant need not be told apart."""
    for split in ("train", "val"):
        np.save(tmp_path / f"X_{split}.npy", np.zeros((4, 1, 6, 5), np.float32))
        np.save(tmp_path / f"y_{split}.npy", np.array([[0.1, 2**40 + k] for k in range(4)]))
    with pytest.raises(ValueError, match=r"y_train: column '1' spreads by 1.12 around 1.09951162\de\+12, "):
        load_array_folder(tmp_path, task="values")
    np.save(tmp_path / "y_train.npy", np.array([[0.1, 2**40 + 2**20 * k] for k in range(4)]))
    assert load_array_folder(tmp_path, task="values")["y_train"].dtype == np.float32


@pytest.mark.parametrize("value", [np.nan, np.inf, -1e39])
@pytest.mark.parametrize("part", ["train", "val"])
@pytest.mark.parametrize("kind", [np.float16, np.float64])
def test_numbers_of_arrays_that_are_none(value, part, kind, tmp_path):
    """They made all targets NaN, whose first row was blamed, or the validation of every epoch."""
    for split in ("train", "val"):
        np.save(tmp_path / f"X_{split}.npy", np.zeros((4, 1, 6, 5), np.float32))
        y = np.ones(4, kind)
        with np.errstate(over="ignore"):
            y[2] = value if split == part else 0
        np.save(tmp_path / f"y_{split}.npy", y)
    with pytest.raises(ValueError, match=rf"y_{part}\[2\] is \[.*\], expected numbers of at most 3.4e\+38"):
        load_array_folder(tmp_path, task="values")


class TestFiles:
    def test_masks_follow_their_images(self, folders):
        data = load_target_folder(folders / "squares", 20, "pixels")
        for X, y in zip(data["X_train"], data["y_train"], strict=True):
            assert ((X[0] >= 120) == (y == 1))[y != 255].all()
        assert data["classes"] == ("ground", "square")
        assert data["y_train"][0].max() == 255

    def test_masks_of_photos_that_lie_on_their_side(self, tmp_path):
        """A photo that its EXIF data turn upright has an upright mask; one half its size will do."""
        upright = Image.Exif()
        upright[0x0112] = 6
        for kind in ("images", "masks"):
            (tmp_path / kind).mkdir()
        for k in range(5):
            Image.new("L", (40, 20)).save(tmp_path / f"images/{k}.jpg", exif=upright)
            Image.new("L", (10, 20), 255).save(tmp_path / f"masks/{k}.png")
        assert load_target_folder(tmp_path, 8, "pixels")["y_train"].min() == 1

    @pytest.mark.parametrize("suffix", ["png", "tif"])
    def test_masks_that_lie_on_their_side(self, suffix, tmp_path):
        """As their photos do: both are turned."""
        pixels, upright = np.arange(80, dtype=np.uint8).reshape(8, 10), Image.Exif()
        upright[0x0112] = 6
        for kind in ("images", "masks"):
            (tmp_path / kind).mkdir()
            for k in range(5):
                Image.fromarray(pixels).save(tmp_path / kind / f"{k}.{suffix}", exif=upright)
        data = load_target_folder(tmp_path, (10, 8), "pixels")
        np.testing.assert_array_equal(data["X_train"][:, 0], data["y_train"])
        np.testing.assert_array_equal(data["y_train"][0], np.rot90(pixels, -1))

    def test_options_are_checked_by_name(self, folders):
        for options, message in (
            ({"channels": 2}, "channels must be one of"),
            ({"validation": 0.5, "test": 0.5}, "validation \\+ test must be below 1"),
            ({"size": (8, 8, 8)}, "size must be an integer or"),
        ):
            with pytest.raises(ValueError, match=f"^load_target_folder: {message}"):
                load_target_folder(folders / "squares", **{"size": 8, "task": "pixels", **options})

    @pytest.mark.parametrize("task", ["pixels", "values"])
    def test_targets_without_an_image_are_told(self, task, tmp_path):
        """Their images may be lost, or end in a suffix that is passed over."""
        for kind, count in (("images", 10), ("masks", 12)):
            (tmp_path / kind).mkdir()
            for k in range(count):
                Image.new("L", (8, 8), k % 2).save(tmp_path / kind / f"{k}.png")
        (tmp_path / "v.csv").write_text("file,a\n" + "".join(f"{k}.png,{k}\n" for k in range(12)))
        with pytest.warns(UserWarning, match=r"(masks|lines in .*csv) without an image: 2, such as .*10.png"):
            assert len(load_target_folder(tmp_path, 8, task)["y_train"]) == 8

    def test_black_and_white_masks(self, tmp_path):
        for kind, value in (("images", 0), ("masks", 255)):
            (tmp_path / kind).mkdir()
            for k in range(10):
                Image.new("L", (8, 8), value * (k % 2)).save(tmp_path / kind / f"{k}.png")
        data = load_target_folder(tmp_path, 8, "pixels")
        assert set(np.unique(data["y_train"])) == {0, 1}

    @pytest.fixture
    def five(self, tmp_path):
        """A folder of five images, and their masks in two labels."""
        for kind in ("images", "masks"):
            (tmp_path / kind).mkdir()
            for k in range(5):
                Image.new("L", (8, 8), k % 2).save(tmp_path / kind / f"{k}.png")
        return tmp_path

    @pytest.mark.parametrize(
        ("spoil", "text"),
        [
            (lambda root: (root / "masks/3.png").unlink(), "no mask for .*3.png"),
            (lambda root: (root / "masks/3.png").write_bytes(b"?"), "3.png cannot be read as"),
            (lambda root: (root / "classes.txt").write_text("a\n"), "names 1 labels, masks have 2"),
            (
                lambda root: Image.new("L", (8, 8)).save(root / "masks/3.tif"),
                "3.png and .*3.tif are masks of one image",
            ),
            (  # nearly black and nearly white, but two labels no more
                lambda root: (
                    (root / "masks/3.png").unlink(),
                    Image.linear_gradient("L").resize((8, 8)).save(root / "masks/3.jpg"),
                ),
                "3.jpg cannot be read as a mask: a JPEG does not keep labels",
            ),
            (
                lambda root: Image.new("L", (4, 8)).save(root / "masks/3.png"),
                "3.png cannot be read as a mask: it has 4x8 pixels, its image 8x8",
            ),
        ],
    )
    def test_masks_that_lack_something(self, spoil, text, five):
        spoil(five)
        with pytest.raises(ValueError, match=text):
            load_target_folder(five, 8, "pixels")

    @pytest.mark.parametrize(
        ("table", "text"),
        [
            ("file,a\n0.png,x\n", "v.csv, line 2"),
            # float32 has no such number
            ("file,a,b\n0.png,1,2\n1.png,1,-1e39\n", "line 3: expected 2 numbers of at most 3.4e.38, got "),
            ("file,a\n0.png,1\n", "no line in .*1.png"),
            (  # seconds since 1970
                "file,a,time,one\n" + "".join(f"{k}.png,{k},{17e8 + 60 * k},0.1\n" for k in range(5)),
                "column 'time' spreads by 84.9 around 1700000120, but float32, .* off by up to 60 there:",
            ),
            ("file\n", "expected a heading"),
            # of which --json would print one
            ("file,x,x\n0.png,1,2\n", "two columns have one name: 'x', 'x'"),
            ("file,a\n\n0.png,1\n0.png,2\n", "v.csv, line 4: 0.png has a line before"),
            ("file,höhe\n", "v.csv must be text in UTF-8"),
            ("file,a\n" + 200_000 * "x", "v.csv is no CSV file: field larger"),
        ],
    )
    def test_tables_that_lack_something(self, table, text, five):
        (five / "v.csv").write_text(table, encoding="latin-1")
        with pytest.raises(ValueError, match=text):
            load_target_folder(five, 8, "values")

    def test_no_table(self, five):
        with pytest.raises(FileNotFoundError, match="one CSV file, got 0"):
            load_target_folder(five, 8, "values")


def test_colours_tell_labels_apart():
    picture = pictures.colours(np.array([[0, 1, 2], [3, 4, 255]]))
    assert len({tuple(pixel) for pixel in picture.reshape(-1, 3)}) == 6


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["train", "--model", "unet"], "--model unet is for --task pixels, not for --data digits"),
        (["train", "--task", "values"], "--task values takes --data folder:DIR or npy:DIR, not digits"),
        (["train", "--task", "pixels"], "--task pixels takes --data folder:DIR or npy:DIR, not digits"),
        (["train", "--task", "pixels", "--data", "SQUARES", "--model", "resnet8"], "models such as unet"),
        (["train", "--task", "values", "--data", "GREY", "--model", "unet"], "models such as vgg-small"),
        (["train", "--data", "SQUARES", "--model", "unet"], "--task classes is for models such as"),
        (
            ["train", "--task", "pixels", "--data", "SQUARES", "--tta", "mirror"],
            "--tta means nothing to --task",
        ),
        (["train", "--task", "values", "--data", "GREY", "--validation", "0"], "--validation 0: epochs are"),
        (["predict", "MASKS", "IMAGE", "--json"], "--json means nothing to a model of pixels"),
        (["predict", "MASKS", "IMAGE", "--top", "2"], "--top means nothing to a model of pixels"),
        (["predict", "NUMBERS", "IMAGE", "--out", "x"], "--out means nothing to a model of values"),
        (["predict", "MASKS", "IMAGE", "IMAGE"], "two predictions would be called 00.png"),
        (["predict", "MASKS", "IMAGE", "--ink"], "--ink means nothing to a model of pixels"),
        (
            ["train", "--task", "pixels", "--data", "SQUARES", "--label-smoothing", "0.1"],
            "--label-smoothing means nothing to --task pixels",
        ),
    ],
)
def test_refused(arguments, text, folders, masks_run, numbers_run, capsys):
    places = {
        "SQUARES": f"folder:{folders / 'squares'}",
        "GREY": f"folder:{folders / 'grey'}",
        "IMAGE": str(folders / "squares/images/00.png"),
        "MASKS": str(masks_run),
        "NUMBERS": str(numbers_run),
    }
    capsys.readouterr()
    assert text in refused(capsys, *(places.get(argument, argument) for argument in arguments))
