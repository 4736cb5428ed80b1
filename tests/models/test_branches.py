"""ConvNet's branches: names, joins, whole networks of them at a tiny size, and input sizes that are free."""

import json
import re

import numpy as np
import pytest
from cnnlib.layers import conv_forward, global_avg_pool_forward
from cnnlib.models import ConvNet
from helpers import assert_gradients
from training import assert_same_bits, digits_like, trained


def dense_layer(k):
    return {
        "concat": [[], ["batchnorm", "relu", {"conv": 2 * k, "size": 1}, "batchnorm", "relu", {"conv": k}]]
    }


def transition(F):
    return ["batchnorm", "relu", {"conv": F, "size": 1}, {"avg_pool": 2}]


def fire(squeeze, expand):
    """SqueezeNet's module: narrow 1x1 filters, then 1x1 and 3x3 ones side by side (arXiv:1602.07360)."""
    branches = [[{"conv": expand, "size": size}, "relu"] for size in (1, 3)]
    return [{"conv": squeeze, "size": 1}, "relu", {"concat": branches}]


def inverted_residual(C, factor):
    """MobileNetV2's block: widen, filter each channel, narrow, and add (arXiv:1801.04381)."""
    body = [{"conv": C * factor, "size": 1}, "batchnorm", "relu6"]
    body += [{"depthwise": 3}, "batchnorm", "relu6", {"conv": C, "size": 1}, "batchnorm"]
    return {"residual": body}


def excitation(C, squeeze, gate="sigmoid"):
    return {"multiply": [[], ["global_avg_pool", {"affine": squeeze}, "relu", {"affine": C}, gate]]}


SPECS = {
    "densenet": [{"conv": 4}, dense_layer(2), dense_layer(2), *transition(4), "relu", "global_avg_pool"],
    "squeezenet": [{"conv": 3, "stride": 2}, "relu", *fire(2, 3), {"conv": 3, "size": 1}, "global_avg_pool"],
    "mobilenetv2": [{"conv": 3}, "batchnorm", "relu", inverted_residual(3, 2), "global_avg_pool"],
    "excitation": [{"conv": 4}, excitation(4, 2), "relu"],
    "mobilenetv3": [
        {"conv": 3},
        "batchnorm",
        "hard_swish",
        excitation(3, 2, "hard_sigmoid"),
        "global_avg_pool",
    ],
    "smooth": [
        "tanh",
        {"conv": 3},
        "silu",
        {"conv": 3},
        "elu",
        {"elu": 0.5},
        "gelu",
        {"gelu": "tanh"},
        "softmax",
        "classes",
    ],
    "norms": [
        {"conv": 3},
        {"instancenorm": None, "eps": 1e-3},
        "layernorm",
        "sigmoid",
        {"affine": 4},
        "layernorm",
        "tanh",
    ],
    "resized": [
        {"adaptive_avg_pool": (3, 2)},
        {"conv": 2},
        {"upsample": 2, "mode": "bilinear", "align_corners": True},
        {"upsample": (1, 3)},
        {"conv": 2},
        {"adaptive_max_pool": 2},
    ],
    "global_max_pool": [{"conv": 3}, "global_max_pool", {"scale": 2}],
    "inception": [
        {
            "concat": [
                [{"conv": 2, "size": 1}, "relu"],
                [{"conv": 2, "size": 1}, "relu", {"conv": 2, "size": 5}, "relu"],
                [{"max_pool": 3, "stride": 1, "pad": 1}, {"conv": 1, "size": 1}],
            ]
        },
        "global_avg_pool",
    ],
    "unet": [
        {"conv": 2, "name": "fine"},
        {"max_pool": 2, "name": "coarse"},
        {"conv": 3},
        "relu",
        {"conv_transpose": 2, "size": 2, "stride": 2},
        {"concat": ["fine", []]},
        {"conv": 2, "size": 1},
    ],
    "conv_transpose": [
        {"conv_transpose": 4, "stride": (2, 1), "groups": 2, "output_pad": (1, 0)},
        "batchnorm",
    ],
    "by_name": [
        {"conv": 2, "name": "a"},
        {"relu": None, "name": "b"},
        {"conv": 2, "from": "a"},
        {"add": [[], "b", "input", [{"conv": 2, "from": "b"}]]},
        {"multiply": ["a", [], ["global_avg_pool"]]},
    ],
    "flat": [{"affine": 3, "name": "a"}, "relu", {"concat": ["a", [{"affine": 2}], []]}],
}


def build(spec, **options):
    settings = {"input_dim": (2, 6, 4), "num_classes": 3, "dtype": np.float64, "seed": 1, "weight_scale": 0.4}
    return ConvNet(spec, **{**settings, **options})


@pytest.mark.parametrize("name", SPECS)
def test_gradients(name, rng):
    net = build(SPECS[name], reg=0.1)
    for param, value in net.params.items():
        if param[0] in "bg":  # biases and norms away from their special initial values
            value += 0.3 * rng.standard_normal(value.shape)
    X, y = rng.standard_normal((4, 2, 6, 4)), np.array([0, 2, 1, 1])
    assert_gradients(net, X, y)


@pytest.mark.parametrize("name", SPECS)
def test_specs_are_plain_data(name):
    net = build(SPECS[name])
    written = json.loads(json.dumps(net.spec))
    assert json.loads(json.dumps(SPECS[name])) == written
    again = build(written)
    assert again.summary() == net.summary()
    for param, value in net.params.items():
        assert_same_bits(again.params[param], value)


def test_by_hand(rng):
    net = build([{"conv": 3, "name": "a"}, {"concat": ["input", [], [{"conv": 2, "from": "input"}]]}, "relu"])
    X, p = rng.standard_normal((2, 2, 6, 4)), net.params
    a, _ = conv_forward(X, p["W1"], p["b1"], {"pad": 1})
    b, _ = conv_forward(X, p["W2"], p["b2"], {"pad": 1})
    joined = np.maximum(np.concatenate([X, a, b], axis=1), 0).reshape(2, -1)
    np.testing.assert_allclose(net.loss(X), joined @ p["W3"] + p["b3"], rtol=1e-12, atol=1e-12)
    gated = build([{"multiply": ["input", ["global_avg_pool"]]}])
    means, _ = global_avg_pool_forward(X)
    want = (X * means[:, :, None, None]).reshape(2, -1) @ gated.params["W1"] + gated.params["b1"]
    np.testing.assert_allclose(gated.loss(X), want, rtol=1e-12, atol=1e-12)


def test_summary_of_branches():
    net = build([{"conv": 4, "name": "a"}, excitation(4, 2), {"concat": ["a", []]}])
    lines = [re.split(r"\s{2,}", line.strip())[:2] for line in net.summary().splitlines()[2:-2]]
    assert lines == [
        ["input", "2x6x4"],
        ["conv 4 3x3", "4x6x4"],
        ["multiply", "4x6x4"],
        ["1: as it is", "4x6x4"],
        ["2: global_avg_pool", "4"],
        ["2: affine 2", "2"],
        ["2: relu", "2"],
        ["2: affine 4", "4"],
        ["2: sigmoid", "4"],
        ["concat", "8x6x4"],
        ["1: a", "4x6x4"],
        ["2: as it is", "4x6x4"],
        ["affine 3", "3"],
    ]
    assert net.multiply_adds == 4 * 24 * 18 + 4 * 2 + 2 * 4 + 8 * 24 * 3


def test_the_published_sizes_of_a_densenet():
    """DenseNet-BC of 100 layers, growth 12, has 0.8 million parameters (arXiv:1608.06993, table 2)."""
    spec, C = [{"conv": 24}], 24
    for block in range(3):
        spec += [
            {
                "concat": [
                    [],
                    ["batchnorm", "relu", {"conv": 48, "size": 1}, "batchnorm", "relu", {"conv": 12}],
                ]
            }
        ] * 16
        C += 16 * 12
        if block < 2:
            C //= 2
            spec += ["batchnorm", "relu", {"conv": C, "size": 1}, {"avg_pool": 2}]
    net = ConvNet([*spec, "batchnorm", "relu", "global_avg_pool"], (3, 32, 32), 10)
    assert round(net.num_params / 1e6, 1) == 0.8


def test_a_bias_stays_where_the_norm_does_not_follow_alone():
    assert "b1" in build([{"conv": 2, "name": "a"}, "batchnorm", {"add": ["a", []]}]).params
    assert "b1" not in build([{"conv_transpose": 2}, "batchnorm"]).params


ANY_SIZE = ["densenet", "squeezenet", "mobilenetv2", "mobilenetv3", "inception", "resized", "global_max_pool"]


@pytest.mark.parametrize("name", ANY_SIZE)
def test_images_of_any_size_behind_a_global_pool(name, rng):
    """The same weights, whatever input_dim said; for training as well."""
    net, y = build(SPECS[name]), np.array([0, 2, 1])
    for shape in ((2, 9, 12), (2, 6, 4), (2, 5, 5)):
        twin, X = build(SPECS[name], input_dim=shape), rng.standard_normal((3, *shape))
        loss, grads = net.loss(X, y)
        twin_loss, twin_grads = twin.loss(X, y)
        assert loss == twin_loss
        for param, grad in grads.items():
            assert_same_bits(grad, twin_grads[param])
        for mine, its in zip(net.bn_params, twin.bn_params, strict=True):
            its.update({key: mine[key] for key in ("running_mean", "running_var")})
        assert_same_bits(net.loss(X), twin.loss(X))
    with pytest.raises(ValueError, match=r"ConvNet: X must have shape \(N, 2, H, W\), got \(1, 3, 9, 9\)"):
        net.loss(np.zeros((1, 3, 9, 9)))
    with pytest.raises(ValueError, match=r"ConvNet: X must have shape \(N, 2, H, W\), got \(2, 6\)"):
        net.loss(np.zeros((2, 6)))


def test_images_of_one_size_where_rows_are_made_of_them():
    for name in ("excitation", "unet", "flat"):
        with pytest.raises(
            ValueError, match=r"ConvNet: X must have shape \(N, 2, 6, 4\), got \(1, 2, 4, 6\)"
        ):
            build(SPECS[name]).loss(np.zeros((1, 2, 4, 6)))


def test_images_that_are_too_small():
    with pytest.raises(ValueError, match=r"ConvNet: node 'avg_pool.*' \(avg_pool 2x2\): avg_pool_forward: "):
        build(SPECS["densenet"]).loss(np.zeros((1, 2, 1, 9)))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            [{"conv": 3, "from": "a"}],
            "ConvNet: stage 1 (conv): no stage before has the name 'a'; named: input",
        ),
        ([{"concat": [[], "a"]}], "stage 1 (concat): no stage before has the name 'a'"),
        ([{"relu": None, "name": "relu"}], "stage 1 (relu): the name 'relu' is a kind of stage"),
        ([{"relu": None, "name": "a"}] * 2, "stage 2 (relu): the name 'a' is taken"),
        ([{"relu": None, "name": "input"}], "stage 1 (relu): the name 'input' is taken"),
        ([{"concat": [[]]}], "stage 1 (concat): needs two branches or more, got 1"),
        ([{"add": []}], "stage 1 (add): needs two branches or more, got 0"),
        (
            [{"concat": [[], ["relu", "rellu"]]}],
            "ConvNet: stage 1, branch 2 stage 2: unknown kind 'rellu'; did you mean 'relu'",
        ),
        ([{"concat": [[], [{"max_pool": 2}]]}], "differ in more than their channels: (N, 2, 6, 4), (N, 2, 3"),
        ([{"add": [[], [{"conv": 3}]]}], "for each channel of the first: got (N, 2, 6, 4) and (N, 3, 6, 4)"),
        ([{"multiply": [["global_avg_pool"], []]}], "each channel of the first: got (N, 2) and (N, 2, 6, 4)"),
        (["relu", {"conv": 2, "from": "input"}], "ConvNet: nothing reads what node 'relu1' (relu) makes"),
        ([{"conv": 2, "nam": "a"}], "unknown key 'nam' in conv; did you mean 'name'"),
        ([{"relu": 6}], "stage 1: relu takes no value, got 6: {'relu': None, ...}"),
        ([{"softmax": 1}], "stage 1: softmax takes no value, got 1"),
        ([{"gelu": "erf"}], "stage 1 (gelu): approximate must be one of 'none', 'tanh'"),
        (["upsample"], "stage 1: upsample needs a value: {'upsample': ...}"),
        ([{"upsample": 0}], "stage 1 (upsample): "),
        ([{"upsample": 2, "mode": "cubic"}], "stage 1 (upsample): "),
        ([{"adaptive_max_pool": (0, 2)}], "stage 1 (adaptive_max_pool): "),
        ([{"layernorm": None, "eps": -1}], "stage 1 (layernorm): "),
        ([{"affine": 3}, "instancenorm"], "stage 2 (instancenorm): needs images"),
        ([{"conv_transpose": 3, "pad": "same"}], "stage 1 (conv_transpose): "),
        ([{"conv_transpose": 3, "stride": 0}], "stage 1 (conv_transpose): "),
        ([{"conv_transpose": 3, "groups": 2}], "stage 1 (conv_transpose): "),
    ],
)
def test_refuses_bad_branches(spec, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        build(spec)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ([{"concat": "ab"}], "stage 1 (concat): needs a list of branches, got 'ab'"),
        ([{"concat": [[], 3]}], "ConvNet: stage 1, branch 2 stages must be a list, got 3"),
        ([{"relu": None, "name": 3}], "stage 1 (relu): name must be a string, got 3"),
        ([{"relu": None, "from": 3}], "stage 1 (relu): a value is read by its name, got 3"),
    ],
)
def test_refuses_wrong_types(spec, message):
    with pytest.raises(TypeError, match=re.escape(message)):
        build(spec)


def test_it_learns():
    data = digits_like()
    C, H, W = data["X_train"].shape[1:]
    net = ConvNet([{"conv": 4}, dense_layer(4), excitation(8, 4), "relu"], (C, H, W), 4, seed=0)
    solver = trained(
        net, data, update_rule="adam", optim_config={"learning_rate": 3e-3}, num_epochs=4, seed=0
    )
    assert solver.loss_history[-1] < 0.5 * solver.loss_history[0]
