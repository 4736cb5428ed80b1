"""``cnnlib train --from FILE``: networks that others trained, on photos in a folder."""

import re
import shlex
import shutil
from dataclasses import replace
from pathlib import Path

import cnnlib
import numpy as np
import pytest
from cnnlib.cli.main import main
from cnnlib.data import Normalization
from cnnlib.data.normalization import NORMALIZATIONS
from cnnlib.inference.predictor import Predictor
from cnnlib.models import ConvNet, Graph, GraphNet
from cnnlib.pretrained.head import (
    by_count,
    doubtful_labels,
    fine_tuned,
    fit_head,
    near_duplicates,
    plane,
    rest_behind,
    with_fitted_head,
)
from cnnlib.pretrained.trunk import block_starts, open_trunk
from image_folders import write_folder

PAGE = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "pretrained.md"
RNG = np.random.default_rng(0)
COUNTS = {"cats": 20, "dogs": 16, "newts": 14}


def network(seed=0, **options):
    return ConvNet("resnet8", (3, 16, 16), 10, seed=seed, **options)


def statistics(net):
    names = ("running_mean", "running_var")
    return {f"{name}{k}": p[name] for k, p in enumerate(net.bn_params, start=1) for name in names}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Photos, and a network in files of all kinds."""
    pytest.importorskip("PIL")
    folder = tmp_path_factory.mktemp("place")
    write_folder(folder / "photos", COUNTS, size=(20, 18), suffix="jpg")
    net = network()
    net.loss(RNG.standard_normal((20, 3, 16, 16)), np.arange(20) % 10)
    cnnlib.safetensors.save({**net.params, **statistics(net)}, folder / "net.safetensors")
    net.preprocess = Normalization(120, 60)
    net.save(folder / "net.npz")
    cnnlib.prepare(net).save(folder / "net.cnnlib")
    return folder


@pytest.fixture
def here(place, tmp_path, monkeypatch):
    shutil.copytree(place, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CNNLIB_CACHE", raising=False)
    return tmp_path


def run(capsys, *arguments):
    status = main(["train", "--data", "folder:photos", *map(str, arguments)])
    out, err = capsys.readouterr()
    return status, out, err


@pytest.mark.parametrize("kind", ["npz", "cnnlib", "onnx", "safetensors"])
def test_trunks_of_all_kinds_of_files(here, kind):
    net = cnnlib.load("net.npz")
    options = {}
    if kind == "onnx":
        pytest.importorskip("onnx")
        cnnlib.onnx.save(net, "net.onnx")
    if kind == "safetensors":
        options = {"normalization": net.preprocess, "size": (16, 16), "network": "resnet8"}
    trunk = open_trunk(f"net.{kind}", **options)
    X = RNG.standard_normal((4, 3, 16, 16)).astype(np.float32)
    np.testing.assert_allclose(trunk.loss(X), net.cut().loss(X), rtol=1e-4, atol=1e-5)
    assert trunk.preprocess == net.preprocess
    if kind == "onnx":
        return  # strides with 'same' padding hold to one size there
    larger = open_trunk(f"net.{kind}", **{**options, "size": (24, 20)})
    assert larger.input_dim == (3, 24, 20)
    assert larger.num_classes == 64


def test_from_photos_to_a_model_that_predicts(here, capsys, monkeypatch):
    status, out, _ = run(capsys, "--from", "net.npz", "--fine-tune", 1, "--out", "first")
    assert status == 0
    assert "39 training, 6 validation, 5 test images of 3x16x16 in 3 classes" in out
    assert "features: 78 of 78" in out
    page = (here / "first/report.html").read_text()
    assert "left out" not in out + page
    for title in ("Are more photos worth while?", "Classes", "Map of the features", "t-SNE"):
        assert title in page
    model = cnnlib.load("first/model.npz")
    assert model.classes == ("cats", "dogs", "newts")
    right = float(out.split("test_accuracy: ")[1].split(";")[0])
    assert right >= 0.6
    assert main(["eval", "first/model.npz", "--data", "folder:photos"]) == 0
    assert f"test_accuracy: {right:.4f}" in capsys.readouterr().out
    assert main(["predict", "first/model.npz", "photos/newts"]) == 0
    assert capsys.readouterr().out.count("newts 0.") >= 10

    counts = []
    call = Predictor.__call__
    monkeypatch.setattr(Predictor, "__call__", lambda self, X: counts.append(len(X)) or call(self, X))
    compute = cnnlib.pretrained.extraction._computed

    def no_features(predictor, source, jobs, *rest):
        assert not jobs
        return compute(predictor, source, jobs, *rest)

    monkeypatch.setattr(cnnlib.pretrained.extraction, "_computed", no_features)
    assert run(capsys, "--from", "net.npz", "--fine-tune", 1, "--out", "second")[0] == 0
    again = cnnlib.load("second/model.npz")
    for name, value in model.params.items():
        np.testing.assert_array_equal(again.params[name], value)
    assert run(capsys, "--from", "net.npz", "--out", "second")[0] == 2


def test_what_is_needed_is_asked_for(here, capsys):
    net = cnnlib.load("net.npz")
    net.preprocess = None
    net.save("bare.npz")
    status, _, err = run(capsys, "--from", "bare.npz")
    assert status == 2
    assert "bare.npz does not say how its images are normalised" in err
    assert "--normalization torchvision" in err
    assert open_trunk("bare.npz", normalization=NORMALIZATIONS["torchvision"]).preprocess.mean[0] == 123.675


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--from", "net.npz", "--cut", "relu99"], "there is no node 'relu99'"),
        (["--from", "net.npz", "--mean", "1", "--std", "1"], "says itself how its images are normalised"),
        (["--from", "net.npz", "--mean", "1"], "--mean and --std go together"),
        (["--from", "net.npz", "--fine-tune", "4"], "of 4 blocks the first one stays"),
        (["--from", "net.npz", "--learning-rate", "1"], "--learning-rate means nothing to --from"),
        (["--from", "net.npz", "--resume", "x"], "--resume means nothing to --from"),
        (["--from", "net.npz", "--task", "values"], "--task values means nothing to it"),
        (["--from", "net.npz", "--comm-timeout", "3"], "--comm-timeout means nothing to --from"),
        (["--from", "net.npz", "--colours", "grey"], "the network takes images of 3 channels"),
        (["--from", "net.npz", "--validation", "0"], "found by validation"),
        (["--from", "net.npz", "--network", "resnet8"], "says itself of which network it is"),
        (["--from", "photos/cats/0.jpg"], "0.jpg is none of|is no file of a network"),
        (["--from", "nowhere.onnx"], "nowhere.onnx"),
        (["--from", "net.safetensors"], "has arrays but no network: name it (--network)"),
        (["--from", "net.npz", "--data", "digits"], "needs images in a folder for each class"),
        (["--cut", "relu1"], "--cut belongs to --from FILE"),
    ],
)
def test_bad_input(here, capsys, arguments, text):
    status, _, err = run(capsys, *arguments)
    assert status == 2
    assert any(part in err for part in text.split("|")), err
    assert not (here / "runs").exists()


def test_images_that_are_too_small(here):
    net = ConvNet([{"conv": 4, "size": 5, "pad": 0}, "relu", "global_avg_pool"], (3, 16, 16), 3, seed=0)
    net.save("five.npz", preprocess=Normalization(0, 1))
    with pytest.raises(ValueError, match=r"five\.npz, at images of 4x4: .*the window of w is larger"):
        open_trunk("five.npz", size=(4, 4))


def test_a_fixed_size(here):
    net = ConvNet([{"conv": 4}, "relu", {"affine": 8}, "relu"], (3, 16, 16), 3, seed=0)
    net.save("fixed.npz", preprocess=Normalization(0, 1))
    with pytest.raises(ValueError, match=r"fixed\.npz takes images of 16x16 alone.*got 24x24"):
        open_trunk("fixed.npz", size=(24, 24))


def test_no_affine_layer(here):
    net = ConvNet([{"conv": 4}, "relu", "pixels"], (3, 16, 16), 3, seed=0)
    net.save("pixels.npz", preprocess=Normalization(0, 1))
    with pytest.raises(ValueError, match=r"pixels\.npz: .*no affine layer.*--cut NODE"):
        open_trunk("pixels.npz")
    assert open_trunk("pixels.npz", "relu2").num_classes == 4


def test_a_class_with_two_photos(here, capsys):
    shutil.move("photos/newts", "newts")
    (here / "photos/newts").mkdir()
    for k in range(2):
        shutil.copy(here / f"newts/{k}.jpg", here / "photos/newts")
    status, _, err = run(capsys, "--from", "net.npz")
    assert status == 2
    assert "newts has 2 photos: a class needs at least 3" in err


@pytest.mark.parametrize("make", [network, lambda: ConvNet("mobile-small", (3, 16, 16), 5, seed=0)])
def test_what_is_behind_a_block_completes_it(make):
    net = make()
    X = RNG.standard_normal((5, 3, 16, 16)).astype(np.float32)
    net.loss(X, np.arange(5))
    trunk = net.cut()
    starts = block_starts(trunk.graph())
    assert starts[0] == "input"
    assert len(starts) == (4 if make is network else 11)
    for start in starts[1:]:
        rest = rest_behind(net, start)
        np.testing.assert_allclose(rest.loss(trunk.cut(start).loss(X)), net.loss(X), rtol=1e-5, atol=1e-6)


def test_a_batch_norm_whose_name_is_a_pattern_rests_alone():
    """As ``block[1].gamma``, which stands for ``block1.gamma`` among patterns."""
    names = {"W1": "w", "gamma1": "block[1]", "beta1": "beta", "W2": "block1", "b2": "c"}
    net = ConvNet([{"conv": 2}, "batchnorm", "relu"], (1, 4, 4), 2, seed=0)
    graph = net.graph()
    nodes = [replace(node, params=tuple(name and names[name] for name in node.params)) for node in graph]
    renamed = {names[name]: value for name, value in net.params.items()}
    rest = rest_behind(GraphNet(Graph(nodes, graph.input, graph.output), renamed, (1, 4, 4)), graph.input)
    assert rest.frozen == ("block[1]", "beta")


def labelled(count, seed):
    y = np.arange(count) % 3
    X = np.random.default_rng(seed).standard_normal((count, 6)).astype(np.float32)
    X[np.arange(count), y] += 4
    return X * [1, 10, 100, 1, 1, 0] + 50, y


@pytest.mark.parametrize("hidden", [None, 8])
def test_heads_take_features_as_they_are(hidden):
    (X, y), (Z, z) = labelled(200, 0), labelled(60, 1)
    fit = fit_head({"X_train": X, "y_train": y, "X_val": Z, "y_val": z}, 3, hidden)
    assert np.mean(fit.model.loss(Z).argmax(axis=1) == z) == fit.val_accuracy > 0.9
    assert set(fit.settings) == {"learning_rate", "reg"}


def test_fine_tuning_changes_the_last_blocks_alone():
    net = network().cut().with_head(3, seed=0)
    start = block_starts(net.graph())[-2]
    X = RNG.standard_normal((60, 3, 16, 16)).astype(np.float32)
    y = (X.mean(axis=(1, 2, 3)) > 0).astype(int)
    rows = net.cut(start).loss(X)
    before = {name: value.copy() for name, value in net.params.items()}
    data = {"X_train": rows, "y_train": y, "X_val": rows, "y_val": y}
    fit, loss = fine_tuned(net, start, data)
    assert fit.val_loss < loss
    changed = {name for name, value in net.params.items() if not np.array_equal(value, before[name])}
    assert changed == {"W7", "W8", "W9", "W_head1", "b_head1"}


def test_what_the_report_finds():
    (X, y), (Z, z) = labelled(150, 0), labelled(60, 1)
    wrong = np.array([3, 50, 101])
    y = y.copy()
    y[wrong] = (y[wrong] + 1) % 3
    Z[7] = X[20] * 1.0001
    data = {"X_train": X, "y_train": y, "X_val": Z, "y_val": z}
    fit = fit_head(data, 3)
    p = doubtful_labels(X, y, 3, fit, None)
    assert set(np.argsort(p[np.arange(150), y])[:3]) == set(wrong)
    assert [pair[:2] for pair in near_duplicates(Z, X) if pair[2] < 1e-3] == [(7, 20)]
    counts, shares = zip(*by_count(data, "val", 3, fit, None), strict=True)
    assert counts == pytest.approx([12.33, 25, 50], abs=0.7)
    assert min(shares) > 0.8
    mirrored = {**data, "X_train": np.concatenate([X, X]), "y_train": np.tile(y, 2)}
    assert by_count(mirrored, "val", 3, fit, None, views=2)[0][0] == counts[0]  # photos, not views of them
    assert plane(X, "PCA").min() == 0
    assert plane(X, "PCA").max() == 1


def test_a_head_on_a_trunk_is_the_two_together():
    net = network()
    X = RNG.standard_normal((30, 3, 16, 16)).astype(np.float32)
    rows, y = net.cut().loss(X), np.arange(30) % 3
    head = fit_head({"X_train": rows, "y_train": y, "X_val": rows, "y_val": y}, 3).model
    model = with_fitted_head(net.cut(), head, None)
    np.testing.assert_allclose(model.loss(X), head.loss(rows), rtol=1e-5, atol=1e-5)


@pytest.mark.slow
@pytest.mark.skipif(not PAGE.exists(), reason="the tests lie elsewhere than in a checkout")
def test_what_the_page_shows_happens(tmp_path, monkeypatch, capsys, num_threads):
    pytest.importorskip("PIL")
    num_threads(1)
    monkeypatch.setattr("cnnlib.cli.report.transfer_report._map", lambda about: "")  # as long as the rest
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CNNLIB_CACHE", raising=False)
    text = PAGE.read_text(encoding="utf-8")
    first, second = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (console,) = re.findall(r"```console\n(.*?)```", text, re.DOTALL)
    names = {}
    exec(first, names)
    printed = ""
    for line in console.splitlines():
        if line.startswith("$ cnnlib "):
            assert main(shlex.split(line.removeprefix("$ cnnlib "))) == 0
            printed = capsys.readouterr().out
        else:
            parts = map(re.escape, line.split("..."))
            assert re.search(".*".join(parts), printed), (line, printed)
    exec(second, names)
    assert names["rows"].shape == (2 * 630, 64)
    _, grads = names["model"].loss(np.zeros((2, 1, 8, 8)), [0, 4])
    assert list(grads) == ["W_head1", "b_head1"]
