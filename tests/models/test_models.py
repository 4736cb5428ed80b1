import copy

import numpy as np
import pytest
from cnnlib._params.random import mask_seed
from cnnlib.course import keep_ratio
from cnnlib.models import ConvNet, FullyConnectedNet, Graph, GraphNet, Node, ThreeLayerConvNet
from cnnlib.solver import Solver
from helpers import assert_gradients
from training import assert_same_bits, running_statistics


def conv_net(**options):
    return ThreeLayerConvNet(
        **{
            "input_dim": (2, 6, 5),
            "num_filters": 3,
            "filter_size": 3,
            "hidden_dim": 4,
            "num_classes": 3,
            **options,
        }
    )


def dense_net(hidden_dims=(5, 4), **options):
    return FullyConnectedNet(hidden_dims, **{"input_dim": 6, "num_classes": 3, **options})


def check_gradients(model, X, y):
    for name in model.params.keys() & {"b1", "b2"}:
        model.params[name] += 0.1  # no pre-activation stays at 0, where relu has no derivative
    assert_gradients(model, X, y)


@pytest.mark.parametrize("filter_size", [1, 3, 4])
@pytest.mark.parametrize("reg", [0.0, 0.7])
@pytest.mark.parametrize("use_batchnorm", [False, True])
def test_conv_net_gradients(filter_size, reg, use_batchnorm, rng):
    model = conv_net(
        filter_size=filter_size,
        reg=reg,
        use_batchnorm=use_batchnorm,
        weight_scale=0.3,
        dtype=np.float64,
        seed=1,
    )
    check_gradients(model, rng.standard_normal((5, 2, 6, 5)), np.array([0, 2, 1, 1, 0]))


@pytest.mark.parametrize("hidden_dims", [(), (5,), (5, 4)])
@pytest.mark.parametrize("dropout", [0, 0.4])
@pytest.mark.parametrize("use_batchnorm", [False, True])
def test_dense_net_gradients(hidden_dims, dropout, use_batchnorm, rng):
    model = dense_net(
        hidden_dims,
        dropout=dropout,
        use_batchnorm=use_batchnorm,
        reg=0.3,
        weight_scale=0.5,
        dtype=np.float64,
        seed=1,
    )
    check_gradients(model, rng.standard_normal((5, 2, 3)), np.array([0, 2, 1, 1, 0]))


@pytest.mark.parametrize("use_batchnorm", [False, True])
@pytest.mark.parametrize("build", [conv_net, dense_net])
def test_initial_loss_is_that_of_guessing(build, use_batchnorm, rng):
    model = build(num_classes=7, use_batchnorm=use_batchnorm, weight_scale=1e-3, seed=0)
    X = rng.standard_normal((50, 2, 6, 5) if build is conv_net else (50, 6))
    y = rng.integers(7, size=50)
    loss, _ = model.loss(X, y)
    assert isinstance(loss, float)
    assert loss == pytest.approx(np.log(7), abs=0.02)
    model.reg = 0.5
    penalty = 0.25 * sum(
        np.sum(w.astype(np.float64) ** 2) for name, w in model.params.items() if name[0] == "W"
    )
    assert model.loss(X, y)[0] - loss == pytest.approx(penalty, rel=1e-3)


@pytest.mark.parametrize("build", [conv_net, dense_net])
def test_parameters(build, dtype):
    plain, normed = build(dtype=dtype), build(dtype=dtype, use_batchnorm=True)
    names = [f"{letter}{i}" for i in (1, 2, 3) for letter in "Wb"]
    assert sorted(plain.params) == sorted(names)
    assert sorted(normed.params) == sorted([*names, "gamma1", "beta1", "gamma2", "beta2"])
    assert len(normed.bn_params) == 2
    assert all(value.dtype == dtype for value in normed.params.values())
    assert not plain.params["b1"].any()
    assert (normed.params["gamma1"] == 1).all()
    if build is conv_net:
        assert [plain.params[f"W{i}"].shape for i in (1, 2, 3)] == [(3, 2, 3, 3), (3 * 3 * 2, 4), (4, 3)]


def test_defaults_are_the_documented_ones():
    model = ThreeLayerConvNet(seed=0)
    shapes = {"W1": (32, 3, 7, 7), "W2": (32 * 16 * 16, 100), "W3": (100, 10)}
    assert {name: w.shape for name, w in model.params.items() if name[0] == "W"} == shapes
    assert np.std(model.params["W2"]) == pytest.approx(1e-3, rel=0.01)
    assert model.params["W1"].dtype == np.float32
    assert FullyConnectedNet([20]).params["W1"].shape == (3072, 20)
    assert FullyConnectedNet([20], input_dim=(3, 4, 5)).params["W1"].shape == (60, 20)


@pytest.mark.parametrize("build", [conv_net, dense_net])
def test_computes_in_its_dtype(build, dtype, rng):
    model = build(dtype=dtype, use_batchnorm=True)
    X = rng.integers(256, size=(4, 2, 6, 5) if build is conv_net else (4, 6)).astype(np.int16)
    assert model.loss(X).dtype == dtype
    _, grads = model.loss(X, np.array([0, 1, 2, 0]))
    assert all(grad.dtype == dtype for grad in grads.values())


NORMED = {
    "ThreeLayerConvNet": lambda **dtype: conv_net(use_batchnorm=True, **dtype),
    "FullyConnectedNet": lambda **dtype: FullyConnectedNet([7, 5], 180, 3, use_batchnorm=True, **dtype),
    "keep_ratio": lambda **dtype: keep_ratio.FullyConnectedNet(
        [7, 5], 180, 3, normalization="batchnorm", **dtype
    ),
    "ConvNet": lambda **dtype: ConvNet("resnet20", (3, 6, 5), 3, **dtype),
    "GraphNet": lambda **dtype: _graph_net({"mode": "train", "running_mean": None}, **dtype),
}


def _graph_net(bn_param, dtype):
    nodes = [
        Node("spatial_batchnorm", ("input",), "n", ("g", "h"), (bn_param,)),
        Node("affine", ("n",), "scores", ("W1", None)),
    ]
    params = {"g": np.ones(2), "h": np.zeros(2), "W1": np.ones((60, 3))}
    return GraphNet(Graph(nodes, output="scores"), params, (2, 6, 5), dtype=dtype)


@pytest.mark.parametrize("name", NORMED)
def test_batch_norms_of_a_new_model_leave_values_as_they_are(name, dtype, rng):
    """With a running variance of 0 an untrained network multiplied them by 300 for each norm."""
    model = NORMED[name](dtype=dtype)
    for statistics in running_statistics(model):
        mean, var = statistics["running_mean"], statistics["running_var"]
        assert (mean.dtype, var.dtype, mean.any(), (var == 1).all()) == (dtype, dtype, False, True)
    shape = getattr(model, "input_dim", None) or (180,)
    scores = model.loss(rng.standard_normal((4, *shape)))
    assert np.abs(scores).max() < 100


def test_given_statistics_stay():
    given = {"mode": "train", "running_mean": np.full(2, 3.0), "running_var": np.full(2, 4.0)}
    model = _graph_net(given, np.float64)
    (own,) = model.bn_params
    assert own.keys() == {"running_mean", "running_var"}
    assert (own["running_mean"] == 3).all()
    assert (own["running_var"] == 4).all()
    model.loss(np.ones((3, 2, 6, 5)), [0, 1, 2])
    assert (own["running_mean"] != 3).all()
    assert (given["running_mean"] == 3).all()  # the user's array is not the model's


def test_test_mode_uses_the_running_statistics(rng):
    model = conv_net(use_batchnorm=True, seed=0)
    X, y = rng.standard_normal((8, 2, 6, 5)), np.arange(8) % 3
    model.loss(X, y)
    before = copy.deepcopy(running_statistics(model))
    assert before[0]["running_mean"].shape == (3,)
    scores = model.loss(X)
    np.testing.assert_array_equal(model.loss(X[:3]), scores[:3])
    assert_same_bits(running_statistics(model), before)


@pytest.mark.parametrize("build", [conv_net, dense_net])
def test_seed_governs_the_weights_and_spares_the_global_state(build):
    np.random.seed(7)
    state = np.random.get_state()[1].copy()
    first, again, other = build(seed=3), build(seed=3), build(seed=4)
    np.testing.assert_array_equal(np.random.get_state()[1], state)
    assert_same_bits(first.params, again.params)
    assert (first.params["W1"] != other.params["W1"]).any()
    by_global = build()
    np.random.seed(7)
    assert_same_bits(build().params, by_global.params)


def test_dropout_masks(rng):
    X = np.abs(rng.standard_normal((2, 6)))

    def build(seed):
        model = dense_net((200,), dropout=0.5, seed=seed)
        model.params["W1"][:] = (
            1  # every hidden value is positive, so b1's gradient is 0 where one is dropped
        )
        return model

    def dropped(model, X):
        return (model.loss(X, np.array([0]))[1]["b1"] == 0).tolist()

    model = build(5)
    state = np.random.get_state()[1].copy()
    mask = dropped(model, X[:1])
    assert dropped(model, X[:1]) == mask
    assert dropped(model, X[1:]) != mask
    assert dropped(build(5), X[:1]) == mask
    assert dropped(build(6), X[:1]) != mask
    np.testing.assert_array_equal(np.random.get_state()[1], state)

    model = build(None)
    np.random.seed(1)
    masks = [dropped(model, X[:1]) for _ in range(2)]
    assert masks[0] != masks[1]
    np.random.seed(1)
    assert dropped(model, X[:1]) == masks[0]


@pytest.mark.parametrize("shape", [(128, 28, 28), (100, 3, 32, 32), (64, 1, 1024), (1, 6)])
def test_every_column_of_a_minibatch_tells_it_from_others(shape):
    """Masks follow from the minibatch, of which a large one is not read whole."""
    seeds = {mask_seed(5, np.zeros(shape), 1)}
    columns = range(0, shape[-1], max(1, shape[-1] // 28))
    for column in columns:
        X = np.zeros(shape)
        X[..., column] = 1
        assert mask_seed(5, X, 1) == mask_seed(5, X.copy(), 1)
        seeds.add(mask_seed(5, X, 1))
    assert len(seeds) == 1 + len(columns)


def test_dropout_is_the_probability_of_dropping(rng):
    model = dense_net((4000,), dropout=0.2, weight_scale=1.0, seed=5)
    X = np.abs(rng.standard_normal((1, 6)))
    model.params["W1"][:] = 1  # every hidden value is positive
    grads = model.loss(X, np.array([0]))[1]
    assert np.mean(grads["b1"] == 0) == pytest.approx(0.2, abs=0.03)
    scores = model.loss(X)
    model.dropout = 0
    np.testing.assert_array_equal(model.loss(X), scores)  # nothing is dropped without labels


@pytest.mark.parametrize("build", [conv_net, dense_net])
@pytest.mark.parametrize("use_batchnorm", [False, True])
def test_overfits_a_few_samples(build, use_batchnorm, rng):
    X = rng.standard_normal((12, 2, 6, 5) if build is conv_net else (12, 6))
    y = np.arange(12) % 3
    data = {"X_train": X, "y_train": y, "X_val": X, "y_val": y}
    options = {"hidden_dim": 30, "num_filters": 8} if build is conv_net else {"hidden_dims": (50, 30)}
    model = build(use_batchnorm=use_batchnorm, weight_scale=0.1, seed=0, **options)
    solver = Solver(
        model,
        data,
        update_rule="adam",
        optim_config={"learning_rate": 1e-2},
        batch_size=6,
        num_epochs=40,
        verbose=False,
        seed=0,
    )
    solver.train()
    assert solver.best_val_acc == 1.0
    assert solver.loss_history[-1] < 0.1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: conv_net(input_dim=(6, 5)), r"input_dim must be \(C, H, W\)"),
        (lambda: conv_net(input_dim=(2, 1, 5)), "at least 2x2"),
        (lambda: conv_net(num_filters=0), "num_filters must be at least 1, got 0"),
        (lambda: conv_net(reg=-1), "reg must be"),
        (lambda: conv_net(dtype=np.int64), "dtype must be float32 or float64, got int64"),
        (lambda: conv_net(dtype="single-"), "dtype must be float32 or float64, got 'single-'"),
        (lambda: conv_net(seed=-1), "seed must be"),
        (lambda: dense_net(dropout=1), "dropout must be below 1"),
        (lambda: dense_net((5, 0)), "hidden_dims must be at least 1"),
        (lambda: dense_net(weight_scale=float("nan")), "weight_scale must be"),
    ],
)
def test_refuses_bad_settings(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_refuses_wrong_types():
    with pytest.raises(TypeError, match="num_classes must be an integer"):
        conv_net(num_classes=3.0)
    with pytest.raises(TypeError, match="dropout must be a number"):
        dense_net(dropout="0.5")
