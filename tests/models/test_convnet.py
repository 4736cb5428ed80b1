import copy
import json
import re

import numpy as np
import pytest
from cnnlib import conv_forward, layers
from cnnlib.data import load_digits
from cnnlib.models import NAMED_SPECS, ConvNet, ThreeLayerConvNet
from cnnlib.solver import Solver
from helpers import assert_gradients
from training import assert_same_bits, assert_same_run, digits_like, interpreted, quiet_solver, trained

BLOCK = {"residual": [{"conv": 4, "size": 3}, "batchnorm", "relu", {"conv": 4}, "batchnorm"]}

# One small net for each kind of stage and each sandwich.
SPECS = {
    "conv": [{"conv": 3, "size": (3, 2), "stride": (2, 1), "pad": 1, "bias": False}],
    "dilated": [{"conv": 3, "size": 3, "dilation": 2}, "batchnorm"],
    "groups": [{"conv": 4, "size": 1}, {"conv": 4, "size": 3, "groups": 2}],
    "conv_relu": [{"conv": 3}, "relu"],
    "conv_bn_relu": [{"conv": 3}, "batchnorm", "relu"],
    "conv_relu_pool": [{"conv": 3}, "relu", {"max_pool": 2}],
    "conv_bn_relu_pool": [{"conv": 3}, "batchnorm", "relu", {"max_pool": (3, 2), "stride": 1}],
    "affine_relu": [{"affine": 5}, "relu", {"affine": 4, "bias": False}, "classes"],
    "affine_bn_relu": [{"affine": 5}, {"batchnorm": None, "momentum": 0.5, "eps": 1e-3}, "relu"],
    "depthwise": [{"depthwise": 3, "stride": 2, "multiplier": 2}, "batchnorm", "relu"],
    "groupnorm": [{"conv": 4, "size": 1}, {"groupnorm": 2}, "leaky_relu", {"leaky_relu": 0.2}],
    "avg_pool": [{"conv": 3}, {"avg_pool": 3, "stride": 2, "pad": 1, "count_include_pad": False}],
    "global_avg_pool": [{"conv": 3}, "relu", "global_avg_pool"],
    "dropout": [{"dropout": 0.3}, {"conv": 3}, {"dropout": 0.5}, {"affine": 6}, {"dropout": 0.2}],
    "pool_first": [{"max_pool": 2}, {"conv": 2}, "relu"],
    "identity": [{"conv": 4, "size": 1}, BLOCK, "relu"],
    "projection": [{"residual": [{"conv": 4, "stride": 2}, "relu", {"conv": 4}, "relu"]}, "relu"],
    "shortcut": [{"residual": [{"conv": 3}], "shortcut": [{"conv": 3, "size": 1}, "relu"]}],
    "nested": [{"residual": [{"conv": 2}, {"residual": [{"conv": 2}, "relu"]}, {"conv": 2}]}],
    "bodies_that_hand_on": [
        {"conv": 2},
        {"residual": [{"residual": []}], "shortcut": [{"conv": 2}]},
        {"residual": []},
    ],
    "nested_identities": [{"conv": 2}, {"residual": [{"residual": []}]}],
    "nested_identities_last": [{"conv": 2}, {"residual": [{"conv": 2}, {"residual": [{"residual": []}]}]}],
    "flat_residual": [{"affine": 4}, {"residual": [{"affine": 4}, "relu"]}],
    "dirac": [{"conv": 4, "init": "dirac"}, {"scale": 0.7}, {"batchnorm": None, "scale": False}, "relu"],
    "frozen": [
        {"conv": 3, "frozen": True},
        {"batchnorm": None, "scale": False},
        "relu",
        {"affine": 4},
        "classes",
    ],
    "frozen_filters": [{"conv": 3, "frozen": "filters"}, "relu", {"conv": 3, "frozen": True}, "relu"],
    "frozen_branch": [{"residual": [{"conv": 2, "frozen": True}], "shortcut": [{"conv": 2}]}],
    "global_max_pool": [{"conv": 3}, "global_max_pool", {"scale": 2}],
    "nothing": [],
}


def build(spec, seed=1, **options):
    return ConvNet(
        spec, **{"input_dim": (2, 6, 5), "num_classes": 3, "dtype": np.float64, "seed": seed, **options}
    )


@pytest.mark.parametrize("name", SPECS)
def test_gradients(name, rng):
    net = build(SPECS[name], reg=0.1, weight_scale=0.4)
    net.label_smoothing = 0.2
    for param, value in net.params.items():
        if param[0] in "bg":  # biases and norms away from their special initial values
            value += 0.3 * rng.standard_normal(value.shape)
    X, y = rng.standard_normal((4, 2, 6, 5)), np.array([0, 2, 1, 1])
    assert_gradients(net, X, y)


@pytest.mark.parametrize("name", NAMED_SPECS)
def test_named_specs(name, rng):
    net = ConvNet(name, (3, 16, 16), 7, seed=0)
    X = rng.standard_normal((20, 3, 16, 16))
    net.initialize(X)
    positions = (16, 16) if net.head == "pixels" else ()
    y = rng.integers(7, size=(20, *positions))
    loss, grads = net.loss(X, y)
    assert loss == pytest.approx(np.log(7), abs=0.15)
    assert grads.keys() == net.params.keys() - set(net.frozen)
    assert all(grad.dtype == np.float32 and grad.shape == net.params[k].shape for k, grad in grads.items())
    assert net.loss(X).shape == (20, 7, *positions)
    assert json.loads(json.dumps(net.spec)) == net.spec == NAMED_SPECS[name]


def whitening_net(filters=24, **options):
    first = {"conv": filters, "size": 2, "pad": 0, "init": "whiten", "frozen": "filters"}
    return ConvNet([first, "relu"], (3, 8, 7), 4, dtype=np.float64, seed=0, **options)


def photo_like(rng, N=60):
    """Images whose neighbours and channels are correlated."""
    noise = rng.standard_normal((N, 3, 10, 9))
    noise[:, 1] += noise[:, 0]
    return (noise[:, :, 1:-1, 1:-1] + noise[:, :, 2:, 1:-1] + 2 * noise[:, :, 1:-1, 2:]) + [
        [[2]],
        [[-1]],
        [[0]],
    ]


def test_whitening(rng):
    net, X = whitening_net(), photo_like(rng)
    net.initialize(X, eps=0)
    w = net.params["W1"]
    out, _ = conv_forward(X, w[:12], None, {})
    covariance = np.cov(out.transpose(1, 0, 2, 3).reshape(12, -1), bias=True)
    np.testing.assert_allclose(covariance, np.eye(12), atol=1e-9)
    np.testing.assert_array_equal(w[12:], -w[:12])
    lengths = (w[:12] ** 2).sum(axis=(1, 2, 3))  # one over the eigenvalue
    assert (np.diff(lengths) > 0).all()

    few = whitening_net(6)
    few.initialize(X, eps=0)
    np.testing.assert_array_equal(few.params["W1"][:3], w[:3])
    damped = whitening_net()
    damped.initialize(X, eps=0.5)
    want = 1 / (1 / lengths + 0.5)
    np.testing.assert_allclose((damped.params["W1"][:12] ** 2).sum(axis=(1, 2, 3)), want)


def test_whitening_happens_once(rng):
    net, X = whitening_net(), photo_like(rng)
    with pytest.raises(ValueError, match=r"stage 1 waits for images to whiten: call initialize\(X\) first"):
        net.loss(X)
    data = {"X_train": X, "y_train": np.arange(60) % 4, "X_val": X[:8], "y_val": np.arange(8) % 4}
    quiet_solver(net, data, seed=0).train()
    want = whitening_net()
    want.initialize(X)
    assert_same_bits(net.params["W1"], want.params["W1"])
    net.initialize(3 * X)
    assert_same_bits(net.params["W1"], want.params["W1"])


def test_dirac_filters_pass_channels_on(rng):
    net = build([{"conv": 5, "init": "dirac", "bias": False}])
    w, X = net.params["W1"], rng.standard_normal((3, 2, 6, 5))
    np.testing.assert_array_equal(conv_forward(X, w, None, {"pad": 1})[0][:, :2], X)
    wide = ConvNet([{"conv": 200, "init": "dirac"}], (8, 4, 4), seed=0).params["W1"]
    assert (wide[8:] ** 2).sum(axis=(1, 2, 3)).mean() == pytest.approx(1 / 3, rel=0.05)


def test_frozen_parameters_stay_and_cost_nothing(monkeypatch):
    called = []

    def noted(name):
        backward = getattr(layers, name)

        def wrapper(dout, cache, **options):
            needs = options.get("needs", ())
            called.append((name, *(("dx", "dw", "db") if needs is None else needs)))
            return backward(dout, cache, **options)

        return wrapper

    for name in ("conv_relu_backward", "conv_backward", "affine_backward", "avg_pool_backward"):
        monkeypatch.setattr(layers, name, noted(name))
    for frozen, want in (
        (True, [("affine_backward", "dx", "dw", "db"), ("conv_backward", "dw", "db")]),
        (
            "filters",
            [
                ("affine_backward", "dx", "dw", "db"),
                ("conv_backward", "dx", "dw", "db"),
                ("avg_pool_backward",),
                ("conv_relu_backward", "db"),
            ],
        ),
    ):
        spec = [{"conv": 3, "frozen": frozen}, "relu", {"avg_pool": 1}, {"conv": 2}]
        net = ConvNet(spec, (1, 6, 6), 4, reg=0.1, seed=0)
        before = {name: value.copy() for name, value in net.params.items()}
        called.clear()
        interpreted(net).loss(digits_like()["X_train"], digits_like()["y_train"])
        assert called == want
        solver = trained(net, digits_like(), update_rule="adam", weight_decay=0.1, seed=0)
        still = {name for name, value in net.params.items() if (value == before[name]).all()}
        assert still == set(net.frozen) == ({"W1", "b1"} if frozen is True else {"W1"})
        assert solver.optim_configs.keys() == net.params.keys() - still


@pytest.mark.parametrize(
    ("name", "num_params", "multiply_adds"),
    # resnet20: the figures that published lists of CIFAR-10 models give for projection shortcuts.
    [
        ("resnet20", 272_474, 40_813_184),
        ("resnet8", 78_042, 12_501_632),
        ("three-layer", 825_046, 5_637_096),
        ("vgg-whitened", 1_972_802, 118_147_360),
    ],
)
def test_sizes(name, num_params, multiply_adds):
    net = ConvNet(name)
    assert (net.num_params, net.multiply_adds) == (num_params, multiply_adds)
    assert sum(w.size for w in net.params.values()) == num_params


def test_three_layer_is_the_three_layer_net(rng):
    net = ConvNet("three-layer", (2, 8, 8), 4, reg=0.3, seed=0)
    same = ThreeLayerConvNet((2, 8, 8), num_classes=4, reg=0.3)
    same.params = {name: value.copy() for name, value in net.params.items()}
    X, y = rng.standard_normal((6, 2, 8, 8)), np.arange(6) % 4
    assert_same_bits(net.loss(X), same.loss(X))
    assert_same_bits(net.loss(X, y), same.loss(X, y))


def test_initial_weights_follow_he():
    net = ConvNet([{"conv": 64, "size": 3}, "relu", {"affine": 50}, "classes"], (3, 16, 16), 10, seed=0)
    assert np.std(net.params["W1"]) == pytest.approx(np.sqrt(2 / 27), rel=0.05)
    assert np.std(net.params["W2"]) == pytest.approx(np.sqrt(2 / (64 * 256)), rel=0.01)
    assert np.std(net.params["W3"]) == pytest.approx(0.01, rel=0.1)
    assert not net.params["b1"].any()
    fixed = ConvNet([{"conv": 64, "size": 3}], (3, 16, 16), 10, weight_scale=0.5, seed=0)
    assert np.std(fixed.params["W1"]) == pytest.approx(0.5, rel=0.05)
    assert np.std(fixed.params["W2"]) == pytest.approx(0.5, rel=0.05)


def test_a_bias_before_batchnorm_is_left_out():
    net = build(
        [{"conv": 3}, "batchnorm", {"conv": 3}, "relu", "batchnorm", {"affine": 4, "bias": True}, "batchnorm"]
    )
    assert sorted(name for name in net.params if name[0] == "b" and name[1] != "e") == ["b2", "b3", "b4"]


def test_depthwise_filters_see_one_channel_each():
    net = build([{"depthwise": (3, 1), "multiplier": 2}])
    assert net.params["W1"].shape == (4, 1, 3, 1)
    assert net.loss(np.ones((1, 2, 6, 5))).shape == (1, 3)


def test_label_smoothing(rng):
    net = build([{"affine": 4}, "relu"])
    X, y = rng.standard_normal((5, 2, 6, 5)), np.array([0, 2, 1, 1, 0])
    net.label_smoothing = 0.3
    scores = net.loss(X)
    log_p = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
    target = 0.7 * np.eye(3)[y] + 0.1
    assert net.loss(X, y)[0] == pytest.approx(-(target * log_p).sum(axis=1).mean(), rel=1e-12)
    assert net.loss(X[:0], y[:0])[0] == 0


def test_dropout_masks_of_layers_differ():
    net = build([{"affine": 60}, {"dropout": 0.5}, {"affine": 60}, {"dropout": 0.5}], weight_scale=1.0)
    _, grads = net.loss(np.ones((1, 2, 6, 5)), np.array([0]))
    assert ((grads["b1"] == 0) != (grads["b2"] == 0)).any()
    assert net.loss(np.ones((1, 2, 6, 5)), np.array([0]))[1]["b1"].tobytes() == grads["b1"].tobytes()
    without = build([{"affine": 60}, {"affine": 60}, "classes"], weight_scale=1.0)
    np.testing.assert_array_equal(net.loss(np.ones((1, 2, 6, 5))), without.loss(np.ones((1, 2, 6, 5))))


def test_seed_and_global_state():
    np.random.seed(1)
    state = np.random.get_state()[1].copy()
    assert_same_bits(build("resnet8", seed=2).params, build("resnet8", seed=2).params)
    np.testing.assert_array_equal(np.random.get_state()[1], state)
    by_global = build("resnet8", seed=None)
    np.random.seed(1)
    assert_same_bits(build("resnet8", seed=None).params, by_global.params)


def test_the_spec_is_not_shared():
    spec = [{"conv": 3}]
    net = build(spec)
    spec[0]["conv"] = 4
    assert net.spec == [{"conv": 3}]
    other = copy.deepcopy(net)
    other.params["W1"][:] = 0
    assert net.params["W1"].any()


def test_summary():
    text = build(
        [{"conv": 4, "size": (3, 1), "stride": 2}, "batchnorm", "relu", BLOCK, {"affine": 5}, "classes"]
    ).summary()
    rows = [re.split(r"\s{2,}", line.strip()) for line in text.splitlines()]
    assert rows[0] == ["stage", "output", "parameters", "multiply-adds"]
    assert rows[2:6] == [
        ["input", "2x6x5"],
        ["conv 4 3x1 stride 2", "4x3x3", "24", "216"],
        ["batchnorm", "4x3x3", "8"],
        ["relu", "4x3x3"],
    ]
    assert rows[7] == ["conv 4 3x3", "4x3x3", "144", "1,296"]
    assert rows[-3] == ["affine 3", "3", "18", "15"]
    assert rows[-1] == ["total", "539", "3,003"]


def test_learns_real_digits():
    data = load_digits()
    net = ConvNet("resnet8", (1, 8, 8), 10, seed=0)
    solver = Solver(
        net,
        data,
        update_rule="adam",
        optim_config={"learning_rate": 5e-3},
        batch_size=64,
        num_epochs=3,
        num_train_samples=200,
        verbose=False,
        seed=0,
    )
    solver.train()
    assert solver.check_accuracy(data["X_test"], data["y_test"]) > 0.93


def test_resume_equals_uninterrupted(tmp_path):
    spec = [
        {"conv": 6, "size": 2, "init": "whiten", "frozen": "filters"},
        "relu",
        {"conv": 4, "init": "dirac"},
    ]
    spec += [{"batchnorm": None, "scale": False}, "relu", {"dropout": 0.3}, BLOCK, "relu", {"dropout": 0.2}]

    def net():
        return ConvNet(spec, (1, 6, 6), 4, seed=3)

    data = digits_like()
    whole = trained(net(), data, num_epochs=3, update_rule="adamw", seed=1, checkpoint_name=tmp_path / "run")
    resumed = Solver.resume(tmp_path / "run_epoch_1.npz", net(), data)
    resumed.train()
    assert_same_run(resumed, whole)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("resnet9", "unknown spec 'resnet9'; did you mean 'resnet8'"),
        (["rellu"], "stage 1: unknown kind 'rellu'; did you mean 'relu'"),
        (["conv"], "stage 1: conv needs a value"),
        ([{"conv": 3, "strid": 2}], "stage 1: unknown key 'strid' in conv; did you mean 'stride'"),
        (["relu", {"conv": 0}], "stage 2 (conv): filters must be at least 1"),
        ([{"conv": 3, "size": 9, "pad": 0}], "stage 1 (conv): "),
        ([{"conv": 3, "groups": 2}], "stage 1 (conv): "),
        ([{"conv": 3, "pad": "sane"}], "stage 1 (conv): "),
        ([{"max_pool": 7}], "stage 1 (max_pool): "),
        (
            [{"affine": 3}, {"conv": 3}],
            "stage 2 (conv): needs images (C, H, W), but here a sample has shape (3,)",
        ),
        (["global_avg_pool", {"max_pool": 2}], "stage 2 (max_pool): needs images"),
        ([{"conv": 4, "init": "diracs"}], "stage 1 (conv): init must be one of 'normal', 'dirac', 'whiten'"),
        ([{"conv": 4, "size": 2, "init": "dirac"}], "a dirac filter needs a middle, and 2x2 has none"),
        (["relu", {"conv": 4}, {"conv": 4, "init": "whiten"}], "only a first convolution, without groups"),
        ([{"conv": 4, "groups": 2, "init": "whiten"}], "only a first convolution, without groups"),
        ([{"conv": 5, "size": 2, "init": "whiten"}], "an even number of filters, 16 at most, got 5"),
        ([{"conv": 18, "size": 2, "init": "whiten"}], "an even number of filters, 16 at most, got 18"),
        ([{"dropout": 1}], "stage 1 (dropout): dropout must be below 1"),
        ([{"groupnorm": 3}], "stage 1 (groupnorm): "),
        ([{"batchnorm": None, "momentum": 2}], "stage 1 (batchnorm): momentum must be"),
        ([{"residual": ["relu", "rellu"]}], "stage 1, body stage 2: unknown kind 'rellu'"),
        ([{"residual": ["relu"], "shortcut": [{"conv": 3}]}], "the body gives 2x6x5, the shortcut 3x6x5"),
        ([{"residual": [{"affine": 4}]}], "from 2x6x5 to 4 a shortcut has to be given"),
    ],
)
def test_refuses_bad_specs(spec, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        build(spec)


@pytest.mark.parametrize(
    "spec", [[3], {"conv": 3}, [{}], [{"conv": "3"}], [{"conv": 3, "bias": 1}], [{"conv": 3, "frozen": 1}], 7]
)
def test_refuses_wrong_types(spec):
    with pytest.raises(TypeError, match="ConvNet: stage"):
        build(spec)


def test_refuses_other_images(rng):
    with pytest.raises(ValueError, match=r"X must have shape \(N, 2, 6, 5\), got \(3, 1, 6, 5\)"):
        build(SPECS["conv"]).loss(rng.standard_normal((3, 1, 6, 5)))
    with pytest.raises(ValueError, match="input_dim must be"):
        build([], input_dim=(2, 3))
