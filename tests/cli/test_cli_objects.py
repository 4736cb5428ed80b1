"""``cnnlib predict`` and what else the command does with networks that find objects."""

import json

import cnnlib
import numpy as np
import pytest
from cnnlib.cli.main import main
from cnnlib.detection import draw
from detectors import NAMES, photo, square_net
from helpers import lines, refused

Image = pytest.importorskip("PIL.Image", reason="Pillow reads image files")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Networks and photos, in the working directory."""
    monkeypatch.chdir(tmp_path)
    for task in ("detect", "segment", "pose"):
        square_net(task).save(f"{task}.npz")
    (tmp_path / "photos").mkdir()
    for name, pixels in {
        "a": photo(4, 12, 0),
        "b": photo(20, 0, 2),
        "c": photo(8, 8, 1, scale=3),
        "none": 0 * photo(0, 0, 0),
    }.items():
        Image.fromarray(pixels.transpose(1, 2, 0)).save(f"photos/{name}.png")
    return tmp_path


def pixels_of(path):
    with Image.open(path) as image:
        return np.asarray(image).transpose(2, 0, 1)


@pytest.mark.parametrize("task", ["detect", "segment", "pose"])
def test_draws_the_objects_and_lists_them(task, folder, capsys):
    out = lines(capsys, "predict", f"{task}.npz", "photos")
    assert out == [
        "photos/a.png: red 1.0000, x 12 to 20, y 4 to 12",
        "photos/b.png: blue 1.0000, x 0 to 8, y 20 to 28",
        "photos/c.png: green 1.0000, x 24 to 48, y 24 to 48",
        "photos/none.png: nothing",
        "4 files in predictions",
    ]
    for name in ("a", "b", "c", "none"):
        pixels = pixels_of(f"photos/{name}.png")
        (found,) = cnnlib.detect(square_net(task), pixels)
        np.testing.assert_array_equal(pixels_of(f"predictions/{name}.png"), draw(pixels, found))


@pytest.mark.parametrize("task", ["detect", "segment", "pose"])
def test_json(task, folder, capsys):
    files = ["photos/a.png", "photos/c.png", "photos/none.png"]
    rows = json.loads("\n".join(lines(capsys, "predict", f"{task}.npz", *files, "--json")))
    want = [found.described() for found in cnnlib.detect(square_net(task), files)]
    assert rows == [{"file": name, "objects": objects} for name, objects in zip(files, want, strict=True)]
    assert not (folder / "predictions").exists()
    lines(capsys, "predict", f"{task}.npz", *files, "--json", "--out", "drawn")
    assert len(list((folder / "drawn").iterdir())) == 3


def test_the_limits(folder, capsys):
    """The red square is found with a score of 1, a darker one with 0.6."""
    Image.fromarray((photo(4, 12, 0) * 0.6).astype(np.uint8).transpose(1, 2, 0)).save("dark.png")
    assert "red 0.6" in lines(capsys, "predict", "detect.npz", "dark.png")[0]
    assert lines(capsys, "predict", "detect.npz", "dark.png", "--score", "0.7")[0] == "dark.png: nothing"
    for option, text in (("--score", "1.5"), ("--score", "x"), ("--overlap", "-0.1"), ("--overlap", "nan")):
        message = refused(capsys, "predict", "detect.npz", "dark.png", option, text)
        assert "expected a number from 0 to 1" in message
    net = square_net()
    net.params["W"], net.params["b"] = (
        np.zeros_like(net.params["W"]),
        np.array([9, 9, 4, 4, 0.9, 0.8, 0], "f4"),
    )
    net.save("fixed.npz")
    assert "x 7 to 11" in lines(capsys, "predict", "fixed.npz", "dark.png", "--overlap", "0")[0]


def test_options_of_other_tasks(folder, capsys):
    message = refused(capsys, "predict", "detect.npz", "photos", "--top", "2")
    assert "--top means nothing to a model of objects" in message
    net = cnnlib.models.ConvNet([{"conv": 2}, "global_avg_pool"], (3, 8, 8), 4, seed=0)
    net.save("classes.npz", preprocess=cnnlib.data.Normalization(0, 255))
    for option in ("--score", "--overlap"):
        message = refused(capsys, "predict", "classes.npz", "photos", option, "0.5")
        assert f"{option} means nothing to a model of classes" in message
    for option in (["--classes", "names.txt"], ["--mean", "0", "--std", "1"]):
        (folder / "names.txt").write_text("a\nb\nc\n")
        assert "says itself how its" in refused(capsys, "predict", "detect.npz", "photos", *option)


def test_files_stay_as_they_are(folder, capsys):
    message = refused(capsys, "predict", "detect.npz", "photos", "--out", "photos")
    assert "replace the image photos/a.png" in message
    assert "the next run would take" in refused(
        capsys, "predict", "detect.npz", "photos", "--out", "photos/new"
    )
    assert "two predictions would be called a.png" in refused(
        capsys, "predict", "detect.npz", "photos/a.png", "./photos/a.png"
    )
    assert not (folder / "predictions").exists()


def test_unreadable_files(folder, capsys):
    (folder / "photos/bad.png").write_bytes(b"no image")
    assert "bad.png cannot be read" in refused(capsys, "predict", "detect.npz", "photos")
    assert "; --skip-unreadable leaves such files out" in refused(capsys, "predict", "detect.npz", "photos")
    assert main(["predict", "detect.npz", "photos", "--skip-unreadable"]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[-1] == "4 files in predictions"
    assert "bad.png cannot be read" in err
    assert "--skip-unreadable" not in err


def test_few_photos_are_held_at_a_time(folder, capsys, monkeypatch):
    batches, outputs = [], cnnlib.detection.Detector.outputs

    def counted(self, images):
        batches.append(len(images))
        return outputs(self, images)

    monkeypatch.setattr(cnnlib.detection.Detector, "outputs", counted)
    want = lines(capsys, "predict", "detect.npz", *["photos/a.png", "photos/b.png"] * 5, "--json")
    assert batches == [4, 4, 2]
    monkeypatch.setattr("cnnlib.cli.predict._PHOTOS", 1)
    assert lines(capsys, "predict", "detect.npz", *["photos/a.png", "photos/b.png"] * 5, "--json") == want


@pytest.mark.parametrize("suffix", ["onnx", "cnnlib"])
def test_an_exported_network_finds_them_too(suffix, folder, capsys):
    if suffix == "onnx":
        pytest.importorskip("onnx", reason="it writes and reads the file")
    want = lines(capsys, "predict", "pose.npz", "photos", "--json")
    lines(capsys, "export", "pose.npz", f"net.{suffix}")
    assert lines(capsys, "predict", f"net.{suffix}", "photos", "--json") == want
    lines(capsys, "export", f"net.{suffix}", f"again.{suffix}")
    assert lines(capsys, "predict", f"again.{suffix}", "photos", "--json") == want


def test_a_network_without_a_preprocess_takes_pixels_from_0_to_1(folder, capsys):
    net = square_net()
    net.preprocess = None
    net.save("net.npz")
    assert "red 1.0000" in lines(capsys, "predict", "net.npz", "photos/a.png")[0]


def test_what_is_not_for_objects_says_so(folder, capsys):
    assert "detect.npz finds objects" in refused(capsys, "eval", "detect.npz", "--data", "digits")
    net = square_net()
    net.detection = cnnlib.detection.DetectionHead(NAMES[:2])
    net.save("wrong.npz")
    message = refused(capsys, "predict", "wrong.npz", "photos")
    assert "the boxes of 2 classes and 0 further numbers must be" in message


@pytest.mark.parametrize("command", ["predict", "serve", "export"])
def test_eight_bits_are_calibrated_in_python(command, folder, capsys):
    if command == "serve":
        pytest.importorskip("uvicorn", reason="uvicorn is not installed")
    others = {"predict": ["photos"], "export": ["new.npz"]}.get(command, [])
    message = refused(capsys, command, "detect.npz", *others, "--int8", "--data", "digits")
    assert "cnnlib.prepare(net, precision='int8', calibration=images) makes a Predictor" in message
    images = np.stack([photo(top, 12, k) for top in (4, 20) for k in range(3)])
    predictor = cnnlib.prepare(square_net(), precision="int8", calibration=square_net().preprocess(images))
    predictor.save("eight.cnnlib")
    assert lines(capsys, "predict", "eight.cnnlib", "photos/a.png")[0].startswith("photos/a.png: red ")


@pytest.mark.parametrize("command", ["predict", "serve"])
@pytest.mark.parametrize("option", ["--ink", "--no-ink"])
def test_ink_is_for_classes(command, option, folder, capsys, monkeypatch):
    if command == "serve":
        pytest.importorskip("uvicorn", reason="uvicorn is not installed")
        monkeypatch.setattr("cnnlib.cli.server.listening.bound_socket", None)  # it must not come so far
    others = ["photos"] if command == "predict" else []
    message = refused(capsys, command, "detect.npz", *others, option)
    assert "--ink means nothing to a model of objects" in message


def test_benchmark_compares_one_output(folder, capsys):
    options = ("--peers", "--batch", "1", "--seconds", "0.002", "--no-memory")
    assert any("cnnlib float32" in line for line in lines(capsys, "benchmark", "detect.npz", *options))
    for train in ((), ("--train",)):
        message = refused(capsys, "benchmark", "segment.npz", *options, *train)
        assert "model must have one output, whose scores are compared; this one has boxes, masks" in message
