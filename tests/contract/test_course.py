"""The names and arguments that only course notebooks use: each does what its counterpart here does."""

import types

import cnnlib
import numpy as np
import pytest
from cnnlib import course, optim
from cnnlib.checkpoint import load_checkpoint
from cnnlib.course import TwoLayerNet, keep_ratio
from cnnlib.course import optim as course_optim
from cnnlib.gradient_check import rel_error
from cnnlib.models import FullyConnectedNet
from helpers import assert_gradients
from training import assert_same_bits, digits_like, trained


class TestUpdateRules:
    @pytest.fixture
    def arrays(self, rng):
        w, dw, first, second = rng.standard_normal((4, 3, 5))
        return w, dw, first, np.abs(second)

    def test_rmsprop_keeps_its_state_as_cache(self, arrays):
        w, dw, _, cache = arrays
        want = 0.99 * cache + 0.01 * dw**2
        want_w = w - 1e-2 * dw / (np.sqrt(want) + 1e-8)
        config = {"learning_rate": 1e-2, "cache": cache}
        next_w, same = course_optim.rmsprop(w, dw, config=config)
        assert same is config
        assert rel_error(next_w, want_w) < 1e-12
        assert rel_error(config["cache"], want) < 1e-12
        assert config.keys() == {"learning_rate", "decay_rate", "epsilon", "cache"}

    def test_adam_keeps_its_moments_as_m_and_v(self, arrays):
        w, dw, m, v = arrays
        want_m, want_v = 0.9 * m + 0.1 * dw, 0.999 * v + 0.001 * dw**2
        want_w = w - 1e-2 * want_m / (1 - 0.9**6) / (np.sqrt(want_v / (1 - 0.999**6)) + 1e-8)
        config = {"learning_rate": 1e-2, "m": m, "v": v, "t": 5}
        next_w, same = course_optim.adam(w, dw, config=config)
        assert same is config
        assert rel_error(next_w, want_w) < 1e-12
        assert rel_error(config["m"], want_m) < 1e-12
        assert rel_error(config["v"], want_v) < 1e-12
        assert config.keys() == {"learning_rate", "beta1", "beta2", "epsilon", "m", "v", "t"}
        assert config["t"] == 6

    @pytest.mark.parametrize(("rule", "names"), [("rmsprop", {"a": "cache"}), ("adam", {"v": "m", "a": "v"})])
    def test_both_names_give_the_same_steps(self, rule, names, arrays):
        w, dw, *_ = arrays
        ours, theirs, a, b = {"learning_rate": 0.1}, None, w.copy(), w.copy()
        for _ in range(3):
            a, ours = getattr(optim, rule)(a, dw, ours)
            b, theirs = getattr(course_optim, rule)(b, dw, theirs or {"learning_rate": 0.1})
        assert_same_bits(a, b)
        for name, course_name in names.items():
            assert_same_bits(ours[name], theirs[course_name])

    def test_without_a_config(self, arrays):
        w, dw, *_ = arrays
        want, _ = optim.adam(w.copy(), dw)
        assert_same_bits(course_optim.adam(w.copy(), dw)[0], want)

    def test_each_module_knows_its_own_names(self, arrays):
        w, dw, m, v = arrays
        for rule, config in (
            (optim.rmsprop, {"cache": v}),
            (optim.adam, {"m": m}),
            (course_optim.rmsprop, {"a": v}),
            (course_optim.adam, {"a": v}),
        ):
            with pytest.raises(ValueError, match=f"{rule.__name__}: unknown key '{min(config)}' in config"):
                rule(w, dw, config)

    def test_an_error_leaves_the_config_as_it_was(self, arrays):
        w, dw, m, v = arrays
        config = {"learning_rate": 1e-2, "m": m, "v": v[:2], "t": 5}
        with pytest.raises(ValueError, match="adam: "):
            course_optim.adam(w, dw, config)
        assert config.keys() == {"learning_rate", "m", "v", "t"}
        assert config["m"] is m


class TestFullyConnectedNet:
    @pytest.mark.parametrize("normalization", [None, "batchnorm", "layernorm"])
    def test_gradients(self, normalization, rng):
        model = FullyConnectedNet(
            [5, 4],
            input_dim=6,
            num_classes=3,
            weight_scale=0.5,
            reg=0.1,
            dtype=np.float64,
            seed=1,
            normalization=normalization,
            dropout=0.2,
        )
        for name in model.params.keys() & {"b1", "b2", "beta1", "beta2"}:
            model.params[name] += 0.1  # away from 0, where relu has no derivative
        X, y = rng.standard_normal((7, 6)), rng.integers(0, 3, 7)
        assert ("gamma1" in model.params) == (normalization is not None)
        assert_gradients(model, X, y)

    def test_the_same_norm_under_each_name(self):
        def net(*args, **options):
            return FullyConnectedNet([5], 6, 3, *args, seed=0, **options)

        normed = [net(0, True), net(normalization="batchnorm"), net(0, True, normalization="batchnorm")]
        assert {model.normalization for model in normed} == {"batchnorm"}
        assert net(0, False).normalization is None
        assert net(normalization="layernorm").normalization == "layernorm"
        X, y = np.eye(6), np.array([0, 1, 2, 0, 1, 2])
        losses = {model.loss(X, y)[0] for model in normed}
        assert len(losses) == 1
        assert net(normalization="layernorm").loss(X, y)[0] not in losses

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"normalization": "groupnorm"}, "normalization must be one of 'batchnorm', 'layernorm'"),
            ({"use_batchnorm": True, "normalization": "layernorm"}, "use_batchnorm=True and normalization="),
            ({"dropout": 1}, "dropout must be below 1, got 1: .* cnnlib.course.keep_ratio has the network"),
            ({"dropout": 1.5}, r"dropout must be in \[0, 1\]"),
        ],
    )
    def test_settings_are_checked(self, options, message):
        with pytest.raises(ValueError, match=f"FullyConnectedNet: {message}"):
            FullyConnectedNet([5], **options)

    @pytest.mark.parametrize("value", ["batchnorm", None, 1])
    def test_use_batchnorm_is_a_flag(self, value):
        with pytest.raises(TypeError, match="FullyConnectedNet: use_batchnorm must be True or False"):
            FullyConnectedNet([5], use_batchnorm=value)

    def test_layer_norm_learns(self):
        data = digits_like(num_train=120)
        model = FullyConnectedNet([20], (1, 6, 6), 4, normalization="layernorm", weight_scale=0.1, seed=0)
        rate = {"learning_rate": 1e-2}
        solver = trained(model, data, update_rule="adam", optim_config=rate, num_epochs=20, seed=0)
        assert solver.best_val_acc > 0.6
        assert solver.loss_history[-1] < solver.loss_history[0] / 2

    @pytest.mark.parametrize("normalization", [None, "batchnorm", "layernorm"])
    def test_saved_and_loaded(self, normalization, tmp_path, rng):
        def net(seed):
            return FullyConnectedNet([5], 6, 3, seed=seed, normalization=normalization)

        X, y = rng.standard_normal((8, 6)), rng.integers(0, 3, 8)
        model, other = net(0), net(1)
        model.loss(X, y)  # running statistics are saved too
        model.save(tmp_path / "best.npy")
        other.load(tmp_path / "best.npy")
        assert_same_bits(other.loss(X), model.loss(X))
        assert set(np.load(tmp_path / "best.npy")) >= set(model.params)  # without pickle

    def test_a_file_holds_each_parameter_once(self, tmp_path):
        model = FullyConnectedNet([5], 6, 3, use_batchnorm=True)
        model.save(tmp_path / "net.npz")
        params, _ = load_checkpoint(tmp_path / "net.npz")
        assert_same_bits(params, model.params)
        with np.load(tmp_path / "net.npz") as file:
            assert sum("W1" in name for name in file) == 1

    def test_another_networks_file_is_refused(self, tmp_path):
        FullyConnectedNet([5], 6, 3).save(tmp_path / "five.npz")
        model = FullyConnectedNet([4], 6, 3, seed=0)
        before = model.params["W1"].copy()
        with pytest.raises(ValueError, match=r"five.npz was written for another model"):
            model.load(tmp_path / "five.npz")
        assert_same_bits(model.params["W1"], before)


class TestTwoLayerNet:
    def test_is_a_net_with_one_hidden_layer(self, rng):
        X, y = rng.standard_normal((4, 3, 2)), np.array([0, 1, 1, 0])
        model = TwoLayerNet(6, 5, 2, weight_scale=0.3, reg=0.5, seed=3)
        same = FullyConnectedNet([5], 6, 2, weight_scale=0.3, reg=0.5, seed=3, dtype=np.float64)
        assert list(model.params) == ["W1", "b1", "W2", "b2"]
        assert {value.dtype for value in model.params.values()} == {np.dtype(np.float64)}
        assert model.loss(X, y)[0] == same.loss(X, y)[0]

    def test_errors_name_the_class(self):
        with pytest.raises(ValueError, match="TwoLayerNet: reg must be"):
            TwoLayerNet(reg=-1)


class TestKeepRatio:
    def test_p_is_the_share_that_is_kept(self):
        x = np.full((200, 300), 2.0)
        param = {"mode": "train", "p": 0.25, "seed": 1}
        out, cache = keep_ratio.dropout_forward(x, param)
        assert abs((out == 0).mean() - 0.75) < 0.01
        assert set(np.unique(out)) == {0, 8}
        assert cache[0] is param
        dropped, _ = cnnlib.dropout_forward(x, {**param, "p": 0.75})
        assert_same_bits(out, dropped)
        assert_same_bits(cnnlib.dropout_backward(x, cache), out)

    def test_test_mode_drops_nothing(self, rng):
        x = rng.standard_normal((3, 4))
        out, cache = keep_ratio.dropout_forward(x, {"mode": "test", "p": 0.25})
        assert_same_bits(out, x)
        assert_same_bits(cnnlib.dropout_backward(x, cache), x)

    def test_errors(self):
        with pytest.raises(ValueError, match=r"dropout_forward: p must be in \[0, 1\], got 1.5"):
            keep_ratio.dropout_forward(np.ones(3), {"mode": "train", "p": 1.5})
        with pytest.raises(KeyError, match="dropout_forward: dropout_param lacks 'p'"):
            keep_ratio.dropout_forward(np.ones(3), {"mode": "train"})
        for options, message in (
            ({"dropout": 0.5, "dropout_keep_ratio": 0.5}, "dropout and dropout_keep_ratio exclude"),
            ({"dropout_keep_ratio": 0}, "dropout_keep_ratio must be above 0"),
            ({"dropout": 0}, "dropout_keep_ratio must be above 0"),
            ({"dropout_keep_ratio": 1.5}, r"dropout_keep_ratio must be in \[0, 1\]"),
        ):
            with pytest.raises(ValueError, match=f"FullyConnectedNet: {message}"):
                keep_ratio.FullyConnectedNet([5], **options)

    def test_the_share_that_is_kept_is_the_complement_of_the_one_that_is_dropped(self):
        X, y = np.eye(6), np.array([0, 1, 2, 0, 1, 2])
        options = {"input_dim": 6, "num_classes": 3, "seed": 0, "weight_scale": 1.0}
        dropped = FullyConnectedNet([50], dropout=0.75, **options)
        kept = keep_ratio.FullyConnectedNet([50], dropout_keep_ratio=0.25, **options)
        everything = keep_ratio.FullyConnectedNet([50], dropout_keep_ratio=1, **options)
        assert kept.loss(X, y)[0] == dropped.loss(X, y)[0] != everything.loss(X, y)[0]
        assert everything.loss(X, y)[0] == FullyConnectedNet([50], **options).loss(X, y)[0]

    def test_the_constructors_order_is_that_of_the_later_years(self):
        net = keep_ratio.FullyConnectedNet([5], 6, 3, 0.75, "layernorm", 0.1, 0.5, np.float64, 0)
        assert (net.dropout, net.normalization, net.reg) == (0.25, "layernorm", 0.1)
        assert net.params["W1"].dtype == np.float64
        named = keep_ratio.FullyConnectedNet([5], 6, 3, dropout=0.75)
        assert named.dropout == 0.25
        assert keep_ratio.FullyConnectedNet([5], 6, 3, dropout=1).dropout == 0


class TestVisualizeGrid:
    def test_images_stand_on_black_in_a_square(self, rng):
        filters = rng.standard_normal((5, 4, 3, 2))
        grid = course.visualize_grid(filters, ubound=10, padding=2)
        assert grid.shape == (3 * 4 + 2 * 2, 3 * 3 + 2 * 2, 2)
        want = np.zeros(grid.shape)
        for n, image in enumerate(filters):
            tile = want[n // 3 * 6 :, n % 3 * 5 :][:4, :3]
            tile[:] = 10 * (image - image.min()) / (image.max() - image.min())
        np.testing.assert_allclose(grid, want)

    def test_a_constant_image_is_black(self):
        assert (course.visualize_grid(np.full((1, 2, 2, 3), 7.0)) == 0).all()

    def test_shape_is_checked(self):
        with pytest.raises(
            ValueError, match=r"visualize_grid: Xs must be \(N, H, W, C\), got shape \(4, 4, 3\)"
        ):
            course.visualize_grid(np.zeros((4, 4, 3)))


class TestBlobs:
    @pytest.fixture
    def blobs(self, rng):
        x, w, out = rng.standard_normal((3, 4)), rng.standard_normal((4, 2)), rng.standard_normal((3, 2))
        return [types.SimpleNamespace(vals=vals, diffs=np.zeros_like(vals)) for vals in (x, w)], (
            types.SimpleNamespace(vals=np.zeros((3, 2)), diffs=out)
        )

    @pytest.mark.parametrize("form", ["blobs", "net"])
    def test_gradients_of_a_product(self, form, blobs):
        (x, w), out = blobs

        def product(x, w, out):
            out.vals[:] = x.vals @ w.vals

        if form == "blobs":
            dx, dw = course.eval_numerical_gradient_blobs(product, (x, w), out)
        else:
            net = types.SimpleNamespace(forward=lambda: product(x, w, out))
            dx, dw = course.eval_numerical_gradient_net(net, (x, w), out)
        np.testing.assert_allclose(dx, out.diffs @ w.vals.T, rtol=1e-8)
        np.testing.assert_allclose(dw, x.vals.T @ out.diffs, rtol=1e-8)


def test_other_names_of_layers():
    assert course.affine_batchnorm_relu_forward is cnnlib.affine_bn_relu_forward
    assert course.affine_batchnorm_relu_backward is cnnlib.affine_bn_relu_backward
    assert course.batchnorm_backward_alt is cnnlib.batchnorm_backward
