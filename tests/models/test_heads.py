"""ConvNets that end in numbers or maps of pixels: shapes, losses, training, files, other engines."""

import cnnlib
import numpy as np
import pytest
from cnnlib import layers
from cnnlib.gradient_check import eval_numerical_gradient, rel_error
from cnnlib.models import ConvNet
from cnnlib.solver import Solver
from helpers import assert_gradients

SMALL = [{"conv": 4}, "relu"]
POOLED = [*SMALL, "global_avg_pool"]


def images(rng, n=6, shape=(2, 8, 8)):
    return rng.standard_normal((n, *shape))


@pytest.mark.parametrize(
    ("spec", "head", "out"),
    [
        (POOLED, "classes", (3,)),
        ([*POOLED, "classes"], "classes", (3,)),
        ([*POOLED, {"values": 5}], "values", (5,)),
        ([*POOLED, "values"], "values", (3,)),
        ([*SMALL, "pixels"], "pixels", (3, 8, 8)),
        ([*SMALL, {"pixels": 2}], "pixels", (2, 8, 8)),
        ([], "classes", (3,)),
        (["pixels"], "pixels", (3, 8, 8)),
    ],
)
def test_what_a_head_gives(spec, head, out, rng):
    net = ConvNet(spec, (2, 8, 8), 3)
    assert net.head == head
    assert net.loss(images(rng)).shape == (6, *out)
    assert repr(net).startswith(f"ConvNet(2x8x8 -> {out[0]}{' a pixel' * (head == 'pixels')}, ")


@pytest.mark.parametrize(
    ("spec", "error", "text"),
    [
        (["values", "relu"], ValueError, "stage 1: values is a head, which comes last"),
        ([{"pixels": 3, "size": 1}], ValueError, "stage 1: pixels is a head"),
        ([{"values": 0}], ValueError, "values must be .*0"),
        (["flat", "pixels"], ValueError, "stage 1: unknown kind 'flat'"),
        ([{"affine": 5}, "pixels"], ValueError, "head 1 .*needs images"),
    ],
)
def test_a_wrong_head_is_refused(spec, error, text):
    with pytest.raises(error, match=text):
        ConvNet(spec, (2, 8, 8), 3)


@pytest.mark.parametrize("name", ["unet", "autoencoder"])
def test_named_networks_take_any_size_that_4_divides(name, rng):
    net = ConvNet(name, (1, 16, 16), 2)
    for size in ((16, 16), (8, 20), (4, 4)):
        assert net.loss(images(rng, 2, (1, *size))).shape == (2, 2, *size)


def test_a_size_that_halving_does_not_give_back_is_refused(rng):
    with pytest.raises(ValueError, match=r"concat.*\(N, 64, 5, 8\)"):
        ConvNet("unet", (1, 16, 16), 2).loss(images(rng, 2, (1, 10, 16)))


@pytest.mark.parametrize(
    ("head", "loss", "make"),
    [
        ("values", layers.mse_loss, lambda rng, out: rng.standard_normal(out.shape)),
        ("pixels", layers.mse_loss, lambda rng, out: rng.standard_normal(out.shape)),
        ("pixels", layers.softmax_loss, lambda rng, out: rng.integers(0, 3, (len(out), *out.shape[2:]))),
    ],
)
def test_the_loss_of_a_head(head, loss, make, rng):
    net = ConvNet([*(POOLED if head == "values" else SMALL), head], (2, 8, 8), 3, dtype=np.float64, seed=0)
    X = images(rng)
    y = make(rng, net.loss(X))
    assert net.loss(X, y)[0] == loss(net.loss(X), y)[0]
    assert_gradients(net, X, y)


@pytest.mark.parametrize(
    "loss", ["svm", "svm_loss", {"name": "svm"}, layers.svm_loss], ids=["short", "whole", "dict", "function"]
)
def test_a_loss_by_name(loss, rng):
    net = ConvNet(POOLED, (2, 8, 8), 3, dtype=np.float64, seed=0)
    X, y = images(rng), rng.integers(0, 3, 6)
    want, dscores = layers.svm_loss(net.loss(X), y)
    value, grads = net.loss(X, y, loss)
    assert value == want != net.loss(X, y)[0]
    np.testing.assert_allclose(grads["b2"], dscores.sum(0), rtol=1e-12, atol=1e-15)
    with pytest.raises(ValueError, match="ConvNet: unknown loss 'svn'; did you mean 'svm'"):
        net.loss(X, y, "svn")
    with pytest.raises(TypeError, match="ConvNet: loss must be a name, a dict with a 'name', or a callable"):
        net.loss(X, y, 3)


def test_smoothed_labels_of_pixels(rng):
    net = ConvNet([*SMALL, "pixels"], (2, 4, 4), 3, dtype=np.float64, seed=0)
    net.label_smoothing = 0.2
    X, y = images(rng, 2, (2, 4, 4)), rng.integers(0, 3, (2, 4, 4))
    targets = 0.8 * np.moveaxis(np.eye(3)[y], -1, 1) + 0.2 / 3
    want, _ = layers.cross_entropy(net.loss(X), targets)
    value, grads = net.loss(X, y)
    assert value == pytest.approx(want, rel=1e-12)
    numerical = eval_numerical_gradient(lambda _: net.loss(X, y)[0], net.params["W2"])
    assert rel_error(grads["W2"], numerical) < 1e-6


def segmentation(rng, n=24):
    """Images whose bright pixels are of class 1."""
    X = rng.standard_normal((n, 1, 8, 8)).astype(np.float32)
    return {
        "X_train": X,
        "y_train": (X[:, 0] > 0).astype(int),
        "X_val": X,
        "y_val": (X[:, 0] > 0).astype(int),
    }


def test_training_a_segmentation(rng):
    net = ConvNet([{"conv": 8, "size": 1}, "relu", "pixels"], (1, 8, 8), 2, seed=0)
    options = {"update_rule": "adam", "optim_config": {"learning_rate": 0.05}, "metrics": ["accuracy", "iou"]}
    solver = Solver(net, segmentation(rng), **options, num_epochs=20, batch_size=8, seed=0, verbose=False)
    solver.train()
    assert solver.histories["val_accuracy"][-1] > 0.97
    assert solver.histories["val_iou"][-1] > 0.9
    assert solver.histories["val_loss"][-1] < 0.1


def test_training_numbers(rng):
    X = rng.standard_normal((40, 1, 6, 6)).astype(np.float32)
    y = np.stack([6 * X.mean(axis=(1, 2, 3)), X[:, 0, 0, 0]], axis=1)
    net = ConvNet([{"values": 2}], (1, 6, 6), seed=0)
    data = {"X_train": X, "y_train": y, "X_val": X, "y_val": y}
    options = {"update_rule": "adam", "optim_config": {"learning_rate": 0.02}, "metrics": "r2"}
    solver = Solver(net, data, **options, num_epochs=60, batch_size=10, seed=0, verbose=False)
    solver.train()
    assert solver.histories["val_r2"][-1] > 0.9


def test_a_resumed_segmentation_has_the_same_bits(rng, tmp_path):
    data = segmentation(rng)
    options = {"update_rule": "adam", "num_epochs": 4, "batch_size": 8, "seed": 3, "verbose": False}

    def net():
        return ConvNet("unet", (1, 8, 8), 2, seed=1)

    whole = Solver(net(), data, **options)
    whole.train()
    first = Solver(net(), data, **{**options, "num_epochs": 2}, checkpoint_name=str(tmp_path / "run"))
    first.train()
    again = Solver.resume(tmp_path / "run_epoch_2.npz", net(), data, num_epochs=4)
    again.train()
    assert again.loss_history == whole.loss_history
    assert again.histories["val_accuracy"] == whole.histories["val_accuracy"]
    for name, value in whole.model.params.items():
        np.testing.assert_array_equal(again.model.params[name], value)


@pytest.mark.parametrize("name", ["unet", "autoencoder"])
def test_prepared_and_saved(name, rng, tmp_path):
    net = ConvNet(name, (3, 16, 16), 4, seed=0)
    X = images(rng, 3, (3, 16, 16)).astype(np.float32)
    for _ in range(3):
        net.loss(X, rng.integers(0, 4, (3, 16, 16)))  # moves the running statistics
    want = net.loss(X)
    predictor = cnnlib.prepare(net)
    predictor.save(tmp_path / "net.predictor")
    net.save(tmp_path / "net.npz", classes=list("abcd"))
    for other in (
        predictor,
        cnnlib.inference.load(tmp_path / "net.predictor"),
        cnnlib.load(tmp_path / "net.npz").loss,
    ):
        np.testing.assert_allclose(other(X), want, atol=1e-5 * np.abs(want).max())
    assert predictor.predict(X).shape == (3, 16, 16)
    for head, dim in (({"values": 3}, (1, 4, 4)), ({"pixels": 1}, (1, 4, 4))):
        numbers = cnnlib.prepare(ConvNet([head], dim, seed=0))
        with pytest.raises(ValueError, match=r"Predictor\.predict_proba: the network gives numbers"):
            numbers.predict_proba(np.zeros((2, *dim)))
        np.testing.assert_array_equal(numbers.predict(np.ones((2, *dim))), numbers(np.ones((2, *dim))))
    np.testing.assert_allclose(predictor.predict_proba(X).sum(axis=1), 1, rtol=1e-5)
    wide = images(rng, 2, (3, 8, 24)).astype(np.float32)
    np.testing.assert_allclose(predictor(wide), net.loss(wide), atol=1e-5 * np.abs(want).max())


def test_numbers_have_no_accuracy(rng):
    X, labels = images(rng), np.arange(6) % 2
    colours = ConvNet([*SMALL, {"pixels": 2}], (2, 8, 8), seed=0)
    values = ConvNet([*POOLED, {"values": 2}], (2, 8, 8), seed=0)
    for model, targets in (
        (values, rng.standard_normal((6, 2))),
        (values, np.eye(6, 2, dtype=int)),
        (colours, X),
    ):
        data = {"X_train": X, "y_train": targets, "X_val": X, "y_val": targets}
        solver = Solver(model, data, verbose=False)
        for y in (targets, labels):
            with pytest.raises(ValueError, match="check_accuracy: the model learns numbers"):
                solver.check_accuracy(X, y)
    # Classes that are learned as numbers have an accuracy.
    data = {"X_train": X, "y_train": np.eye(2)[labels], "X_val": X, "y_val": np.eye(2)[labels]}
    solver = Solver(ConvNet(POOLED, (2, 8, 8), 2, seed=0), data, loss="mse", metrics=["mae"], verbose=False)
    want = np.mean(np.argmax(solver.model.loss(X), axis=1) == labels)
    assert solver.check_accuracy(X, labels) == want


@pytest.mark.parametrize("spec", ["unet", "autoencoder", [*POOLED, "values"]], ids=str)
def test_onnx(spec, rng, tmp_path):
    onnx, runtime = pytest.importorskip("cnnlib.onnx"), pytest.importorskip("onnxruntime")
    net = ConvNet(spec, (3, 16, 16), 4, seed=0)
    X = images(rng, 3, (3, 16, 16)).astype(np.float32)
    path = str(tmp_path / "net.onnx")
    onnx.save(net, path)
    session = runtime.InferenceSession(path)
    want = net.loss(X)
    (theirs,) = session.run(None, {session.get_inputs()[0].name: X})
    loaded = onnx.load(path)
    for scores in (theirs, loaded.loss(X)):
        np.testing.assert_allclose(scores, want, atol=1e-5 * max(np.abs(want).max(), 1))
    y = rng.standard_normal(want.shape)
    assert loaded.loss(X, y, layers.mse_loss)[0] == pytest.approx(net.loss(X, y)[0], rel=1e-5)


@pytest.mark.peers
def test_a_u_net_of_torch(rng):
    torch = pytest.importorskip("torch")
    load = pytest.importorskip("cnnlib.torch").from_module
    from torch import nn

    def pair(C, F):
        return nn.Sequential(
            nn.Conv2d(C, F, 3, padding=1), nn.BatchNorm2d(F), nn.ReLU(), nn.Conv2d(F, F, 3, padding=1)
        )

    class UNet(nn.Module):
        def __init__(self):
            super().__init__()
            self.down, self.bottom, self.last = pair(3, 8), pair(8, 16), pair(16, 8)
            self.up, self.head = nn.ConvTranspose2d(16, 8, 2, stride=2), nn.Conv2d(8, 4, 1)

        def forward(self, x):
            fine = self.down(x)
            coarse = self.up(self.bottom(nn.functional.max_pool2d(fine, 2)))
            return self.head(self.last(torch.cat([coarse, fine], 1)))

    module = UNet().eval()
    net = load(module, (3, 16, 16))
    X = images(rng, 2, (3, 16, 16)).astype(np.float32)
    want = module(torch.from_numpy(X)).detach().numpy()
    np.testing.assert_allclose(net.loss(X), want, atol=1e-5)
    np.testing.assert_allclose(cnnlib.prepare(net)(X), want, atol=1e-5)
    value, grads = net.loss(X, rng.integers(0, 4, (2, 16, 16)))
    assert value > 0
    assert len(grads) == len(net.params)
