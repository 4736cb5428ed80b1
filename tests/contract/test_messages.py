"""What errors say: what was meant, where it is known."""

import re

import cnnlib
import numpy as np
import pytest
from cnnlib import safetensors
from cnnlib.course import TwoLayerNet
from cnnlib.data import (
    Normalization,
    download_CIFAR10,
    get_CIFAR10_data,
    load_array_folder,
    load_CIFAR10,
    load_image_folder,
    load_target_folder,
    map_CIFAR100,
)
from cnnlib.models import ConvNet, FullyConnectedNet, ThreeLayerConvNet
from cnnlib.solver import Solver, load_weights
from helpers import refused

MODELS = {
    "three-layer": lambda C: ThreeLayerConvNet((C, 6, 8), num_filters=2, filter_size=3, hidden_dim=4),
    "flat": lambda C: ConvNet([{"conv": 2}, "relu"], (C, 6, 8), 10),
    "any size": lambda C: ConvNet([{"conv": 2}, "relu", "global_avg_pool"], (C, 6, 8), 10),
    "fully connected": lambda C: FullyConnectedNet([4], (C, 6, 8)),
    "two-layer": lambda C: TwoLayerNet((C, 6, 8), hidden_dim=4),
}
LAST = "its channels come last, {}.transpose(0, 3, 1, 2) puts them first"


def data(*shape):
    rng = np.random.RandomState(0)
    split = {"X": rng.randn(20, *shape).astype(np.float32), "y": rng.randint(10, size=20)}
    return {f"{name}_{part}": value for part in ("train", "val") for name, value in split.items()}


@pytest.mark.parametrize("model", MODELS)
class TestSamples:
    @pytest.mark.parametrize("C", [1, 3])
    def test_channels_last(self, model, C):
        net, X = MODELS[model](C), np.zeros((2, 6, 8, C), np.float32)
        with pytest.raises(ValueError, match=re.escape(LAST.format("X_train"))):
            Solver(net, data(6, 8, C))
        with pytest.raises(ValueError, match=re.escape(LAST.format("X"))):
            net.loss(X)
        with pytest.raises(ValueError, match=re.escape(LAST.format("X"))):
            cnnlib.prepare(net)(X)

    def test_height_and_width_changed_about(self, model):
        """They have as many numbers, which a flat layer takes in any order."""
        net, X = MODELS[model](3), np.zeros((2, 3, 8, 6))
        if model == "any size":
            assert cnnlib.prepare(net)(X).shape == net.loss(X).shape == (2, 10)
            return
        for call in (net.loss, cnnlib.prepare(net)):
            with pytest.raises(ValueError, match=r"X must have shape \(N, 3, 6, 8\), got \(2, 3, 8, 6\)"):
                call(X)

    def test_the_solver_names_the_split(self, model):
        mixed = {**data(3, 6, 8), "X_val": np.zeros((20, 6, 8, 3))}
        with pytest.raises(ValueError, match="Solver: X_val must"):
            Solver(MODELS[model](3), mixed)
        with pytest.raises(ValueError, match="Solver: X_train must"):
            Solver(MODELS[model](3), data(6, 8, 3), preprocess=Normalization(0, 1))

    def test_another_size(self, model):
        if model == "any size":
            Solver(MODELS[model](1), data(1, 5, 5), verbose=False, num_epochs=1).train()
            return
        with pytest.raises(ValueError, match=r"Solver: X_train must have .*got (shape )?\(20, 1, 5, 5\)"):
            Solver(MODELS[model](1), data(1, 5, 5))

    def test_a_single_image(self, model):
        with pytest.raises(ValueError, match=r"X\[None\]|3x6x8 a sample, got shape \(3, 6, 8\)"):
            MODELS[model](3).loss(np.zeros((3, 6, 8)))

    @pytest.mark.parametrize("dtype", [complex, str, object])
    def test_what_is_no_number(self, model, dtype):
        X, net = np.zeros((2, 3, 6, 8)).astype(dtype), MODELS[model](3)
        for call in (net.loss, cnnlib.prepare(net)):
            with pytest.raises(TypeError, match="X must be numbers, got dtype"):
                call(X)

    def test_what_fits_is_taken(self, model):
        assert MODELS[model](3).loss(np.zeros((2, 3, 6, 8))).shape == (2, 10)


def test_no_axis_of_channels():
    with pytest.raises(ValueError, match=re.escape("the axis of its channel is missing, X[:, None] adds it")):
        MODELS["flat"](1).loss(np.zeros((5, 6, 8)))


def test_flat_samples_have_no_channels():
    assert FullyConnectedNet([4], 144).loss(np.zeros((2, 6, 8, 3))).shape == (2, 10)
    assert FullyConnectedNet([4], (3, 6, 8)).loss(np.zeros((2, 144))).shape == (2, 10)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"learning_rate": 0.1}, "it is a setting of the update rule: optim_config={'learning_rate': 0.1}"),
        ({"lr": 0.1}, "optim_config={'learning_rate': 0.1}"),
        ({"momentum": 0.8}, "optim_config={'momentum': 0.8}"),
        ({"epochs": 3}, "did you mean 'num_epochs'?"),
        ({"optimizer": "adam"}, "did you mean 'update_rule'?"),
        ({"patience": 3}, "did you mean 'early_stopping'?"),
        ({"batchsize": 3}, "did you mean 'batch_size'?"),
        ({"zzz": 3}, "known: update_rule, optim_config"),
    ],
    ids=str,
)
def test_arguments_that_the_solver_does_not_have(given, message):
    with pytest.raises(TypeError, match=re.escape(message)) as error:
        Solver(MODELS["two-layer"](1), data(1, 6, 8), **given)
    assert str(error.value).startswith(f"Solver: unknown argument {next(iter(given))}; ")


@pytest.mark.parametrize("key", ["kernel_size", "pool_size"])
def test_the_size_of_a_pool_by_another_name(key):
    for forward in (cnnlib.max_pool_forward, cnnlib.avg_pool_forward):
        with pytest.raises(ValueError, match="did you mean 'size'"):
            forward(np.zeros((1, 1, 4, 4)), {key: 2})
    with pytest.raises(ValueError, match="did you mean 'size'"):
        cnnlib.max_pool1d_forward(np.zeros((1, 1, 4)), {key: 2})


@pytest.mark.parametrize(
    ("key", "meant"), [("padding", "pad"), ("strides", "stride"), ("dilatation", "dilation")]
)
def test_other_keys_by_another_name(key, meant):
    with pytest.raises(ValueError, match=f"did you mean '{meant}'"):
        cnnlib.conv_forward(np.zeros((1, 1, 4, 4)), np.zeros((1, 1, 3, 3)), None, {key: 1})


def test_a_stage_whose_value_is_a_dict():
    for stage in ({"max_pool": {"pool_height": 2, "pool_width": 2}}, {"max_pool": {"size": 2}, "stride": 1}):
        with pytest.raises(
            TypeError, match=re.escape("max_pool takes its value itself, and options beside it: {'max")
        ):
            ConvNet([stage], (1, 8, 8), 10)


@pytest.mark.parametrize("name", ["conv", "conv1d", "conv3d"])
def test_a_window_that_is_too_large_is_that_of_w(name):
    axes = {"conv": 2, "conv1d": 1, "conv3d": 3}[name]
    x, w = np.zeros((1, 1, *[4] * axes)), np.zeros((1, 1, *[5] * axes))
    with pytest.raises(ValueError, match=r"the window of w is larger than the padded input along .: 5 > 4"):
        getattr(cnnlib, f"{name}_forward")(x, w, None, {})


def test_articles():
    with pytest.raises(TypeError, match=r"got an int$"):
        Solver(5, {})
    with pytest.raises(TypeError, match=r"got a str$"):
        Solver(MODELS["flat"](1), "data")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: FullyConnectedNet(10),
            "FullyConnectedNet: hidden_dims must be a list of integers, got an int",
        ),
        (
            lambda: ThreeLayerConvNet(num_filter=3),
            "ThreeLayerConvNet: got an unexpected keyword argument 'num",
        ),
        (lambda: cnnlib.prepare(TwoLayerNet), "prepare: model must be one of cnnlib.models, or from"),
        (
            lambda: safetensors.save(MODELS["flat"](1), "x"),
            "save: x: params must be a dict of arrays, got a C",
        ),
    ],
)
def test_what_is_no_list_no_model_no_dict(call, message):
    with pytest.raises(TypeError, match=f"^{re.escape(message)}"):
        call()


@pytest.mark.parametrize(
    ("call", "argument"),
    [
        (lambda path: load_array_folder(path), "load_array_folder: root"),
        (lambda path: load_image_folder(path, 8), "load_image_folder: root"),
        (lambda path: load_target_folder(path, 8, "pixels"), "load_target_folder: root"),
        (lambda path: load_CIFAR10(path), "load_CIFAR10: root"),
        (lambda path: get_CIFAR10_data(path), "get_CIFAR10_data: cifar10_dir"),
        (lambda path: map_CIFAR100(path), "map_CIFAR100: root"),
        (lambda path: download_CIFAR10(path), "download_CIFAR10: dest"),
        (lambda path: load_weights(path, MODELS["flat"](1)), "load_weights: path"),
        (lambda path: Solver.resume(path, MODELS["flat"](1), data(1, 6, 8)), "Solver.resume: path"),
        (
            lambda path: cnnlib.features(MODELS["flat"](1), data(1, 6, 8)["X_val"], cache=path),
            "features: cache",
        ),
    ],
)
def test_what_is_no_path(call, argument):
    with pytest.raises(TypeError, match=rf"^{re.escape(argument)} must be a string or a path, got 3$"):
        call(3)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"X_train": [np.zeros((1, 6, size)) for size in range(20)]}, "Solver: X_train is not an array: "),
        ({"y_val": None}, "Solver: y_val must be an array, got None"),
    ],
)
def test_the_solver_names_data_that_are_no_array(wrong, message):
    with pytest.raises((TypeError, ValueError), match=f"^{message}"):
        Solver(MODELS["flat"](1), data(1, 6, 8) | wrong)


@pytest.mark.parametrize("options", [{}, {"micro_batches": 2}], ids=["whole", "parts"])
@pytest.mark.parametrize("returned", [2.5, (2.5, {}, {})], ids=["loss", "three"])
def test_a_model_whose_loss_returns_no_gradients(options, returned):
    class Model:
        def __init__(self):
            self.params = {"w": np.zeros(3)}

        def loss(self, X, y=None):
            return np.zeros((len(X), 10)) if y is None else returned

    solver = Solver(Model(), data(3), num_epochs=1, verbose=False, **options)
    with pytest.raises(
        TypeError, match=r"Solver: the model's loss\(X, y\) must return \(loss, grads\), got a "
    ):
        solver.train()


class TestDtypesOfTwoExtensions:
    """Promote float16 and bfloat16 as NumPy does: to float32 from ml_dtypes 0.7 on, to nothing before."""

    def arrays(self):
        ml_dtypes = pytest.importorskip("ml_dtypes")
        x = np.full((1, 1, 3, 3), 1.5, np.float16)
        return x, x.astype(ml_dtypes.bfloat16)

    def test_those_with_a_common_dtype(self):
        x, w = self.arrays()
        if _common(x, w) is None:
            with pytest.raises(TypeError, match="conv_forward: the dtypes have none in common"):
                cnnlib.conv_forward(x, w, None, {})
        else:
            out, _ = cnnlib.conv_forward(x, w, None, {})
            assert out.dtype == _common(x, w)
            assert out.item() == 9 * 1.5**2

    def test_those_without(self, monkeypatch):
        def refuse(*dtypes):
            raise TypeError(f"no common dtype for {dtypes}")

        x, w = self.arrays()
        monkeypatch.setattr("cnnlib._params.arrays.np.result_type", refuse)
        with pytest.raises(
            TypeError, match="conv_forward: the dtypes have none in common: x has float16, w has bfloat16"
        ):
            cnnlib.conv_forward(x, w, None, {})


def _common(*arrays):
    """Return NumPy's common dtype of the arrays, or None where it has none."""
    try:
        return np.result_type(*arrays)
    except TypeError:
        return None


class TestCommand:
    @pytest.mark.parametrize("option", ["--lr", "--epochs", "--num-epo"])
    def test_no_option_is_short_for_another(self, option, capsys):
        assert f"unrecognized arguments: {option} 3" in refused(capsys, "train", option, "3")

    def test_a_folder_for_a_name(self, tmp_path, capsys, monkeypatch):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "photos" / "cat").mkdir(parents=True)
        assert "did you mean folder:photos, for images by class" in refused(
            capsys, "train", "--data", "photos"
        )
        (tmp_path / "photos" / "X_train_0.npy").touch()
        assert "did you mean npy:photos, for arrays" in refused(capsys, "train", "--data", "photos")
        assert "did you mean" not in refused(capsys, "train", "--data", "nothing")

    def test_suffixes_that_are_passed_over(self, tmp_path, capsys):
        pytest.importorskip("PIL", reason="Pillow reads image files")
        (tmp_path / "photos" / "cat").mkdir(parents=True)
        for name in ("a.HEIC", "b.heic", "c.txt", ".hidden.mov", "README"):
            (tmp_path / "photos" / "cat" / name).touch()
        with pytest.raises(
            ValueError, match=re.escape("suffixes: .heic (2), .txt (1), none (1); images are .png")
        ):
            load_image_folder(tmp_path / "photos", 8)
        model = ConvNet(["relu"], (3, 4, 4), 2)
        model.save(tmp_path / "m.npz", preprocess=Normalization(0, 255))
        message = refused(capsys, "predict", tmp_path / "m.npz", tmp_path / "photos")
        assert "passed over by their suffixes: .heic (2)" in message
