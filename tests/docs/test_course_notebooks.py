"""The calls of CS231n's second assignment (2017 and later), made of what its import lines become here.

docs/how-to/course-notebooks.md has the table of modules; each test imports by it, with a star where the
notebooks have one.
"""

import importlib
import re
from pathlib import Path

import cifar_files
import numpy as np
import pytest
from cnnlib.data import get_CIFAR10_data
from training import digits_like

# A year for each set of calls: 2018 to 2020 are alike, and so are 2021 and all later ones.
YEARS = {"2017": 2017, "2018-2020": 2018, "2021-2026": 2021}
PAGE = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "course-notebooks.md"

LAYERS = """affine_forward affine_backward relu_forward relu_backward softmax_loss svm_loss
batchnorm_forward batchnorm_backward batchnorm_backward_alt layernorm_forward layernorm_backward
dropout_forward dropout_backward conv_forward_naive conv_backward_naive max_pool_forward_naive
max_pool_backward_naive spatial_batchnorm_forward spatial_batchnorm_backward spatial_groupnorm_forward
spatial_groupnorm_backward""".split()
SANDWICHES = """affine_relu_forward affine_relu_backward conv_relu_forward conv_relu_backward
conv_bn_relu_forward conv_bn_relu_backward conv_relu_pool_forward conv_relu_pool_backward""".split()
NAMES = {
    "layers": LAYERS,
    "layer_utils": SANDWICHES,
    "fast_layers": [
        f"{layer}_{way}_fast" for layer in ("conv", "max_pool") for way in ("forward", "backward")
    ],
    "classifiers.fc_net": [
        "TwoLayerNet",
        "FullyConnectedNet",
        *SANDWICHES,
        *(name for name in LAYERS if "_naive" not in name),
    ],
    "classifiers.cnn": ["ThreeLayerConvNet"],
    "optim": ["sgd", "sgd_momentum", "rmsprop", "adam"],
    "solver": ["Solver"],
    "data_utils": ["get_CIFAR10_data", "load_CIFAR10"],
    "gradient_check": """eval_numerical_gradient eval_numerical_gradient_array eval_numerical_gradient_blobs
        eval_numerical_gradient_net grad_check_sparse""".split(),
    "vis_utils": ["visualize_grid"],
}


def table():
    """The page's table: for each of the course's modules the names of ours, in order."""
    rows = re.findall(r"^\| `cs231n\.([\w.]+)` \| (.+) \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    return {module: re.findall(r"`(cnnlib[\w.]*)`", ours) for module, ours in rows}


def imported(module, year=2021):
    """What ``from cs231n.<module> import *`` becomes."""
    modules = table()[module]
    if year == 2017:
        modules = [ours for ours in modules if ours != "cnnlib.course.keep_ratio"]
    names = {}
    for ours in modules:
        exec(f"from {ours} import *", names)
    return names


class Notebook:
    """The names that a notebook's first cell imports, as attributes."""

    def __init__(self, year, *modules):
        self.year = year
        for module in (*modules, "gradient_check", "solver"):
            self.__dict__.update(imported(module, year))

    def check_gradients(self, forward, backward, arrays, dout, tolerance=1e-7):
        """backward's results are the numerical gradients of forward(*arrays)."""
        _, cache = forward(*arrays)
        grads = backward(dout, cache)
        for i, (array, grad) in enumerate(zip(arrays, grads if isinstance(grads, tuple) else (grads,))):

            def output(_):
                return forward(*arrays)[0]

            want = self.eval_numerical_gradient_array(output, array, dout)
            np.testing.assert_allclose(grad, want, rtol=tolerance, atol=tolerance, err_msg=str(i))

    def check_model(self, model, X, y, tolerance=1e-6):
        """The cell that goes through ``sorted(grads)``."""
        loss, grads = model.loss(X, y)
        assert np.isfinite(loss)
        assert sorted(grads) == sorted(model.params)
        for name in sorted(grads):
            want = self.eval_numerical_gradient(
                lambda _: model.loss(X, y)[0], model.params[name], verbose=False, h=1e-5
            )
            np.testing.assert_allclose(grads[name], want, rtol=1e-4, atol=tolerance, err_msg=name)


@pytest.mark.parametrize("module", NAMES)
@pytest.mark.parametrize("year", YEARS.values(), ids=YEARS)
def test_every_name_is_there(module, year):
    assert set(NAMES[module]) <= set(imported(module, year))


def test_every_module_of_the_table_is_one():
    assert set(table()) == set(NAMES)
    for modules in table().values():
        for module in modules:
            importlib.import_module(module)


@pytest.fixture(params=[2021])
def fc_net(request):
    """Of the last year: a test of what differs, dropout and the kinds of norms, asks for `each_year`."""
    np.random.seed(231)
    return Notebook(request.param, "layer_utils", "optim", "classifiers.fc_net")


each_year = pytest.mark.parametrize("fc_net", YEARS.values(), ids=YEARS, indirect=True)


@pytest.fixture(scope="module")
def small_data():
    return digits_like(num_train=100)


@pytest.fixture
def rows(rng):
    """X and y of the cells that check a network's gradients."""
    return rng.standard_normal((2, 15)), rng.integers(0, 10, 2)


class TestFullyConnectedNets:
    def test_layers(self, fc_net, rng):
        x, w, b, dout = (rng.standard_normal(shape) for shape in ((2, 3, 4), (12, 5), 5, (2, 5)))
        fc_net.check_gradients(fc_net.affine_forward, fc_net.affine_backward, [x, w, b], dout)
        fc_net.check_gradients(fc_net.affine_relu_forward, fc_net.affine_relu_backward, [x, w, b], dout)
        fc_net.check_gradients(fc_net.relu_forward, fc_net.relu_backward, [x], np.ones_like(x))

    def test_losses(self, fc_net, rng):
        x, y = 1e-3 * rng.standard_normal((50, 10)), rng.integers(0, 10, 50)
        for loss, expected in ((fc_net.svm_loss, 9), (fc_net.softmax_loss, np.log(10))):
            value, dx = loss(x, y)
            assert abs(value - expected) < 0.02
            want = fc_net.eval_numerical_gradient(lambda x, loss=loss: loss(x, y)[0], x, verbose=False)
            np.testing.assert_allclose(dx, want, atol=1e-8)

    def test_two_layer_net(self, fc_net, rng):
        D, H, C, std = 5, 50, 7, 1e-3
        model = fc_net.TwoLayerNet(input_dim=D, hidden_dim=H, num_classes=C, weight_scale=std)
        assert abs(model.params["W1"].std() - std) < std / 10
        assert not model.params["b1"].any()
        # Weights that are put in from outside count in float64, and so does a new `reg`.
        params = {"W1": (D, H), "b1": (H,), "W2": (H, C), "b2": (C,)}
        for name, shape in params.items():
            model.params[name] = np.linspace(-0.7, 0.3, num=int(np.prod(shape))).reshape(shape)
        X, y = rng.standard_normal((3, D)), np.asarray([0, 5, 1])
        hidden = np.maximum(X @ model.params["W1"] + model.params["b1"], 0)
        scores = hidden @ model.params["W2"] + model.params["b2"]
        np.testing.assert_allclose(model.loss(X), scores, rtol=1e-13)
        for reg in (0.0, 0.7):
            model.reg = reg
            loss = -np.mean([s[k] - np.log(np.exp(s).sum()) for s, k in zip(scores, y, strict=True)])
            loss += reg / 2 * sum((model.params[name] ** 2).sum() for name in ("W1", "W2"))
            assert abs(model.loss(X, y)[0] - loss) < 1e-10
            fc_net.check_model(model, X, y)
        assert fc_net.TwoLayerNet(12, 4, 3).params["W1"].shape == (12, 4)

    @pytest.mark.parametrize("reg", [0, 3.14])
    def test_fully_connected_net(self, reg, fc_net, rows):
        model = fc_net.FullyConnectedNet(
            [9, 8], input_dim=15, num_classes=10, reg=reg, weight_scale=5e-2, dtype=np.float64
        )
        assert abs(model.loss(*rows)[0] - np.log(10)) < 0.1 or reg
        fc_net.check_model(model, *rows)

    def test_update_rules(self, fc_net):
        N, D = 4, 5
        w, dw = (np.linspace(low, low + 1, num=N * D).reshape(N, D) for low in (-0.4, -0.6))
        velocity, cache, m = (np.linspace(0.6, 0.9, num=N * D).reshape(N, D) for _ in range(3))
        v = np.linspace(0.7, 0.5, num=N * D).reshape(N, D)

        config = {"learning_rate": 1e-3, "velocity": velocity.copy()}
        next_w, _ = fc_net.sgd_momentum(w.copy(), dw, config=config)
        np.testing.assert_allclose(config["velocity"], 0.9 * velocity - 1e-3 * dw)
        np.testing.assert_allclose(next_w, w + config["velocity"])

        config = {"learning_rate": 1e-2, "cache": cache.copy()}
        next_w, _ = fc_net.rmsprop(w.copy(), dw, config=config)
        np.testing.assert_allclose(config["cache"], 0.99 * cache + 0.01 * dw**2)
        np.testing.assert_allclose(next_w, w - 1e-2 * dw / (np.sqrt(config["cache"]) + 1e-8))

        config = {"learning_rate": 1e-2, "m": m.copy(), "v": v.copy(), "t": 5}
        next_w, _ = fc_net.adam(w.copy(), dw, config=config)
        np.testing.assert_allclose(config["m"], 0.9 * m + 0.1 * dw)
        np.testing.assert_allclose(config["v"], 0.999 * v + 0.001 * dw**2)
        step = config["m"] / (1 - 0.9**6) / (np.sqrt(config["v"] / (1 - 0.999**6)) + 1e-8)
        np.testing.assert_allclose(next_w, w - 1e-2 * step)

    @pytest.mark.parametrize(
        ("update_rule", "rate"), [("sgd", 0.1), ("sgd_momentum", 0.02), ("rmsprop", 1e-3), ("adam", 1e-2)]
    )
    def test_training(self, update_rule, rate, fc_net, small_data, capsys):
        model = fc_net.FullyConnectedNet([30] * 2, (1, 6, 6), 4, weight_scale=0.1)
        solver = fc_net.Solver(
            model,
            small_data,
            num_epochs=15,
            batch_size=25,
            update_rule=update_rule,
            optim_config={"learning_rate": rate},
            verbose=True,
            print_every=10,
        )
        solver.train()
        assert "(Epoch 15 / 15) train_accuracy:" in capsys.readouterr().out
        assert solver.train_acc_history[-1] > 0.75
        assert (len(solver.loss_history), len(solver.val_acc_history)) == (15 * 4, 16)
        predicted = np.argmax(model.loss(small_data["X_val"]), axis=1)
        assert (predicted == small_data["y_val"]).mean() == solver.best_val_acc


class TestBatchNormalization:
    def test_statistics_in_training_and_after_it(self, fc_net, rng):
        bn_param = {"mode": "train"}
        gamma, beta = np.asarray([1.0, 2.0, 3.0]), np.asarray([11.0, 12.0, 13.0])
        out, _ = fc_net.batchnorm_forward(rng.standard_normal((200, 3)), gamma, beta, {"mode": "train"})
        np.testing.assert_allclose(out.mean(axis=0), beta)
        np.testing.assert_allclose(out.std(axis=0), gamma, rtol=1e-4)
        for _ in range(50):
            fc_net.batchnorm_forward(5 + rng.standard_normal((200, 3)), np.ones(3), np.zeros(3), bn_param)
        bn_param["mode"] = "test"
        out, _ = fc_net.batchnorm_forward(
            5 + rng.standard_normal((200, 3)), np.ones(3), np.zeros(3), bn_param
        )
        assert (np.abs(out.mean(axis=0)) < 0.3).all()
        assert (np.abs(out.std(axis=0) - 1) < 0.2).all()

    def test_backward_and_its_alternative(self, fc_net, rng):
        x, gamma, beta, dout = (rng.standard_normal(shape) for shape in ((4, 5), 5, 5, (4, 5)))

        def forward(*arrays):
            return fc_net.batchnorm_forward(*arrays, {"mode": "train"})

        for backward in (fc_net.batchnorm_backward, fc_net.batchnorm_backward_alt):
            fc_net.check_gradients(forward, backward, [x, gamma, beta], dout)

    def test_layer_norm(self, fc_net, rng):
        x, gamma, beta, dout = (rng.standard_normal(shape) for shape in ((4, 5), 5, 5, (4, 5)))
        out, _ = fc_net.layernorm_forward(x, np.full(5, 3.0), np.full(5, 5.0), {"mode": "train"})
        np.testing.assert_allclose(out.mean(axis=1), 5)

        def forward(*arrays):
            return fc_net.layernorm_forward(*arrays, {})

        fc_net.check_gradients(forward, fc_net.layernorm_backward, [x, gamma, beta], dout)

    @each_year
    def test_networks(self, fc_net, rng, small_data):
        kinds = [{"use_batchnorm": True}] if fc_net.year == 2017 else [{"normalization": "batchnorm"}]
        if fc_net.year > 2017:
            kinds += [{"normalization": "layernorm"}, {"normalization": None}]
        X, y = rng.standard_normal((4, 15)), rng.integers(0, 10, 4)
        for kind in kinds:
            model = fc_net.FullyConnectedNet(
                [9, 8], input_dim=15, num_classes=10, weight_scale=5e-2, dtype=np.float64, **kind
            )
            fc_net.check_model(model, X, y, tolerance=1e-5)
            assert ("gamma1" in model.params) == (kind.get("normalization", "") is not None)
            model = fc_net.FullyConnectedNet([20, 20], (1, 6, 6), 4, weight_scale=0.1, **kind)
            solver = fc_net.Solver(
                model,
                small_data,
                num_epochs=10,
                batch_size=10,
                update_rule="adam",
                optim_config={"learning_rate": 3e-3},
                verbose=False,
                print_every=20,
            )
            solver.train()
            assert max(solver.train_acc_history) > 0.7


@each_year
class TestDropout:
    def test_forward_drops_the_share_that_its_year_means(self, fc_net):
        x = np.random.randn(500, 500) + 10
        for p in (0.3, 0.6, 0.75) if fc_net.year == 2017 else (0.25, 0.4, 0.7):
            out, _ = fc_net.dropout_forward(x, {"mode": "train", "p": p})
            tested, _ = fc_net.dropout_forward(x, {"mode": "test", "p": p})
            dropped = p if fc_net.year == 2017 else 1 - p
            assert abs((out == 0).mean() - dropped) < 0.01
            assert abs(out.mean() - x.mean()) < 0.2
            assert (tested == x).all()

    def test_backward(self, fc_net):
        x, dout = np.random.randn(10, 10) + 10, np.random.randn(10, 10)
        param = {"mode": "train", "p": 0.2, "seed": 123}
        fc_net.check_gradients(lambda x: fc_net.dropout_forward(x, param), fc_net.dropout_backward, [x], dout)

    def test_networks(self, fc_net, rows, small_data):
        name = "dropout" if fc_net.year <= 2020 else "dropout_keep_ratio"
        shares = (0, 0.25, 0.5) if fc_net.year == 2017 else (1, 0.75, 0.5)
        losses = []
        for share in shares:
            model = fc_net.FullyConnectedNet(
                [9, 8],
                input_dim=15,
                num_classes=10,
                weight_scale=5e-2,
                dtype=np.float64,
                seed=123,
                **{name: share},
            )
            losses.append(model.loss(*rows)[0])
            for bias in ("b1", "b2"):
                model.params[bias] += 0.1  # away from 0, where relu has no derivative
            fc_net.check_model(model, *rows)
        plain = fc_net.FullyConnectedNet([9, 8], 15, 10, weight_scale=5e-2, dtype=np.float64, seed=123)
        assert losses[0] == plain.loss(*rows)[0]  # the first share of each year drops nothing
        assert len(set(losses)) == 3
        most = 0.75 if fc_net.year == 2017 else 0.25
        model = fc_net.FullyConnectedNet([50], (1, 6, 6), 4, **{name: most})
        assert model.dropout == 0.75


@pytest.fixture
def cnn():
    np.random.seed(231)
    return Notebook(2021, "classifiers.cnn", "layers", "fast_layers", "layer_utils", "vis_utils")


class TestConvolutionalNetworks:
    def test_loops_and_fast_layers_agree(self, cnn, rng):
        x, w, b = (rng.standard_normal(shape) for shape in ((3, 3, 9, 9), (4, 3, 3, 3), 4))
        conv_param, pool_param = {"stride": 2, "pad": 1}, {"pool_height": 2, "pool_width": 2, "stride": 2}
        out, cache = cnn.conv_forward_naive(x, w, b, conv_param)
        fast, cache_fast = cnn.conv_forward_fast(x, w, b, conv_param)
        np.testing.assert_allclose(fast, out, rtol=1e-10, atol=1e-12)
        dout = rng.standard_normal(out.shape)
        for got, want in zip(
            cnn.conv_backward_fast(dout, cache_fast), cnn.conv_backward_naive(dout, cache), strict=True
        ):
            np.testing.assert_allclose(got, want, rtol=1e-10, atol=1e-12)
        out, cache = cnn.max_pool_forward_naive(x, pool_param)
        fast, cache_fast = cnn.max_pool_forward_fast(x, pool_param)
        assert (fast == out).all()
        dout = rng.standard_normal(out.shape)
        dx = cnn.max_pool_backward_fast(dout, cache_fast)
        assert (dx == cnn.max_pool_backward_naive(dout, cache)).all()

    def test_sandwiches(self, cnn, rng):
        x, w, b = (rng.standard_normal(shape) for shape in ((2, 3, 6, 6), (3, 3, 3, 3), 3))
        conv_param, pool_param = {"stride": 1, "pad": 1}, {"pool_height": 2, "pool_width": 2, "stride": 2}
        cnn.check_gradients(
            lambda *arrays: cnn.conv_relu_forward(*arrays, conv_param),
            cnn.conv_relu_backward,
            [x, w, b],
            rng.standard_normal((2, 3, 6, 6)),
        )
        cnn.check_gradients(
            lambda *arrays: cnn.conv_relu_pool_forward(*arrays, conv_param, pool_param),
            cnn.conv_relu_pool_backward,
            [x, w, b],
            rng.standard_normal((2, 3, 3, 3)),
        )

    def test_three_layer_net(self, cnn, rng):
        model = cnn.ThreeLayerConvNet()
        X, y = rng.standard_normal((50, 3, 32, 32)), rng.integers(0, 10, 50)
        assert abs(model.loss(X, y)[0] - np.log(10)) < 0.01
        model.reg = 0.5
        assert model.loss(X, y)[0] > np.log(10) + 0.05

        model = cnn.ThreeLayerConvNet(
            num_filters=3, filter_size=3, input_dim=(3, 8, 8), hidden_dim=7, dtype=np.float64
        )
        for name in ("W1", "W2", "W3"):
            model.params[name] *= (
                100  # so small, only every tenth digit of a numerical gradient would be right
            )
        cnn.check_model(model, rng.standard_normal((2, 3, 8, 8)), np.array([1, 2]))

    def test_training_and_the_picture_of_the_filters(self, cnn, small_data):
        model = cnn.ThreeLayerConvNet((1, 6, 6), 8, 3, 20, 4, weight_scale=0.05, reg=1e-3)
        solver = cnn.Solver(
            model,
            small_data,
            num_epochs=10,
            batch_size=20,
            update_rule="adam",
            optim_config={"learning_rate": 1e-2},
            verbose=False,
            print_every=1,
        )
        solver.train()
        assert solver.check_accuracy(small_data["X_train"], small_data["y_train"]) > 0.8
        assert solver.check_accuracy(small_data["X_val"], small_data["y_val"]) == solver.best_val_acc
        grid = cnn.visualize_grid(model.params["W1"].transpose(0, 2, 3, 1)).astype("uint8")
        assert grid.shape == (11, 11, 1)
        assert (grid.min(), grid.max()) == (0, 255)

    def test_spatial_batchnorm(self, cnn, rng):
        x, gamma, beta, dout = (rng.standard_normal(shape) for shape in ((2, 3, 4, 5), 3, 3, (2, 3, 4, 5)))
        out, _ = cnn.spatial_batchnorm_forward(
            4 * x + 10, np.asarray([3, 4, 5]), np.asarray([6, 7, 8]), {"mode": "train"}
        )
        np.testing.assert_allclose(out.mean(axis=(0, 2, 3)), [6, 7, 8])
        np.testing.assert_allclose(out.std(axis=(0, 2, 3)), [3, 4, 5], rtol=1e-4)
        cnn.check_gradients(
            lambda *arrays: cnn.spatial_batchnorm_forward(*arrays, {"mode": "train"}),
            cnn.spatial_batchnorm_backward,
            [x, gamma, beta],
            dout,
        )

    def test_spatial_groupnorm(self, cnn, rng):
        shapes = ((2, 6, 4, 5), (1, 6, 1, 1), (1, 6, 1, 1), (2, 6, 4, 5))
        x, gamma, beta, dout = (rng.standard_normal(shape) for shape in shapes)
        ones, zeros = np.ones((1, 6, 1, 1)), np.zeros((1, 6, 1, 1))
        out, _ = cnn.spatial_groupnorm_forward(4 * x + 10, ones, zeros, 2, {"mode": "train"})
        grouped = out.reshape(4, -1)
        np.testing.assert_allclose(grouped.mean(axis=1), 0, atol=1e-12)
        np.testing.assert_allclose(grouped.std(axis=1), 1, rtol=1e-4)
        cnn.check_gradients(
            lambda *arrays: cnn.spatial_groupnorm_forward(*arrays, 2, {}),
            cnn.spatial_groupnorm_backward,
            [x, gamma, beta],
            dout,
        )


SECTIONS = PAGE.read_text(encoding="utf-8").split("\n### ")[1:]
CELLS = {
    section.partition("\n")[0]: section.partition("```python\n")[2].partition("```")[0]
    for section in SECTIONS
    if "```python\n" in section
}
NEEDED = {  # by notebook: the course's modules whose names its cells use
    "FullyConnectedNets": ("classifiers.fc_net", "layer_utils", "gradient_check", "solver", "optim"),
    "BatchNormalization": ("classifiers.fc_net", "gradient_check", "solver"),
    "ConvolutionalNetworks": (
        "classifiers.cnn",
        "layers",
        "fast_layers",
        "layer_utils",
        "vis_utils",
        "gradient_check",
    ),
}


@pytest.mark.parametrize("title", CELLS)
def test_cells_to_paste(title, tmp_path, monkeypatch):
    pytest.importorskip("matplotlib.pyplot", reason="the cells import it")
    cifar_files.fill_data_folder(tmp_path / "cs231n" / "datasets", monkeypatch)
    monkeypatch.setattr(get_CIFAR10_data, "__defaults__", (None, 80, 20, 20, True))  # as many as there are
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CNNLIB_DATA", raising=False)
    names = {}
    exec(CELLS[title], names)
    monkeypatch.delenv("CNNLIB_DATA")  # which the cell has set
    assert names["data"]["X_train"].shape == (80, 3, 32, 32)
    notebook, _, years = title.partition(", ")
    missing = [name for module in NEEDED[notebook] for name in NAMES[module] if name not in names]
    # The loops are a student's own, and blobs are of no notebook but that of convolutions.
    own = ("_naive",) if notebook == "ConvolutionalNetworks" else ("_naive", "_blobs", "_net")
    assert [name for name in missing if not name.endswith(own)] == []
    if notebook == "FullyConnectedNets":
        ones = np.ones(1000)
        out, _ = names["dropout_forward"](ones, {"mode": "train", "p": 0.2, "seed": 0})
        assert np.mean(out == 0) == pytest.approx(0.2 if years == "2017" else 0.8, abs=0.05)


def test_there_are_cells_for_each_notebook():
    assert {title.partition(", ")[0] for title in CELLS} == set(NEEDED)
    assert len(CELLS) == 4
