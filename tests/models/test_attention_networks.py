"""Networks with attention: trained and prepared by the core, written to ONNX."""

import cnnlib
import numpy as np
import pytest
from cnnlib import prepare
from cnnlib.layers import mse_loss
from cnnlib.models import Graph, GraphNet
from helpers import assert_gradients
from training import interpreted

HEADS, TOKENS, FEATURES = 4, 7, 6


def attending(rng, dtype=np.float64, shared=False, **options):
    """Images whose rows are tokens and whose channels are heads; q, k and v are convolutions of them."""
    kv = 2 if shared else HEADS
    graph = Graph()
    biases = {"q": "bq", "k": None, "v": "bv"}  # one of keys changes no weight
    values = [graph.conv(f"W{name}", bias, x="input", name=name) for name, bias in biases.items()]
    graph.attention(*values, **options)
    graph.relu()
    graph.affine("W", "b")
    heads = {"q": HEADS, "k": kv, "v": kv}
    params = {f"W{name}": rng.standard_normal((count, 3, 1, 1)) for name, count in heads.items()}
    params |= {"bq": rng.standard_normal(HEADS), "bv": rng.standard_normal(kv)}
    params |= {"W": rng.standard_normal((HEADS * TOKENS * FEATURES, 5)), "b": rng.standard_normal(5)}
    params = {name: value.astype(dtype) for name, value in params.items()}
    return GraphNet(graph, params, (3, TOKENS, FEATURES), dtype=dtype)


def drawn(rng, net, N=3):
    X = rng.standard_normal((N, 3, TOKENS, FEATURES)).astype(net.dtype)
    return X, rng.standard_normal((N, 5)).astype(net.dtype)


def options_of(name, rng):
    bias = rng.standard_normal((1, HEADS, TOKENS, TOKENS)).astype(np.float32)
    return {
        "plain": {},
        "scale": {"scale": 0.2},
        "causal": {"causal": True},
        "bias": {"bias": bias},
        "mask": {"bias": bias[:, :1] > -0.5, "causal": True},
        "shared": {"shared": True},
    }[name]


NAMES = ("plain", "scale", "causal", "bias", "mask", "shared")


@pytest.mark.parametrize("name", NAMES)
def test_the_core_trains_it_with_the_bits_of_the_layers(name, dtype, isa, rng):
    net = attending(rng, dtype, **options_of(name, rng))
    X, y = drawn(rng, net)
    twin = interpreted(net)
    found = [model.loss(X, y, loss=mse_loss) for model in (net, twin)]
    assert net.executor == "compiled"
    assert found[0][0] == found[1][0]
    for key, grad in found[0][1].items():
        np.testing.assert_array_equal(grad, found[1][1][key])
    np.testing.assert_array_equal(net.loss(X), twin.loss(X))
    assert net.scores_executor == "compiled"


@pytest.mark.parametrize("name", NAMES)
def test_gradients(name, rng):
    net = attending(rng, **options_of(name, rng))
    net.loss_function = mse_loss
    X, y = drawn(rng, net)
    loss = net.loss

    def mean_square(X, y):
        return loss(X, y, loss=mse_loss)

    net.loss = mean_square
    assert_gradients(net, X, y)


def test_one_value_is_queries_keys_and_values(rng):
    """Its gradient is the sum of three."""
    graph = Graph()
    graph.conv("W1", None, pad=1, name="x")
    graph.attention("x", "x", "x")
    graph.affine("W2", None)
    params = {"W1": rng.standard_normal((4, 2, 3, 3)), "W2": rng.standard_normal((4 * 30, 3))}
    net = GraphNet(graph, params, (2, 6, 5), dtype=np.float64)
    X, y = rng.standard_normal((2, 2, 6, 5)), np.array([0, 2])
    assert_gradients(net, X, y)
    assert net.executor == "compiled"
    twin = interpreted(net)
    for key, grad in net.loss(X, y)[1].items():
        np.testing.assert_array_equal(grad, twin.loss(X, y)[1][key])


@pytest.mark.parametrize("name", NAMES)
def test_prepared(name, dtype, isa, rng, num_threads, tmp_path):
    net = attending(rng, dtype, **options_of(name, rng))
    X, _ = drawn(rng, net, N=9)
    predictor = prepare(net)
    want = net.loss(X)
    np.testing.assert_allclose(predictor(X), want, rtol=0, atol=1e-5 * np.max(np.abs(want)))
    for threads in (1, 3, 16):
        num_threads(threads)
        np.testing.assert_array_equal(predictor(X)[4:6], predictor(X[4:6]))
    for model in (predictor, net):
        model.save(tmp_path / "net")
        np.testing.assert_array_equal(cnnlib.load(tmp_path / "net")(X), model(X))


@pytest.mark.parametrize("name", NAMES[:-1])
def test_written_to_onnx(name, dtype, rng, tmp_path):
    onnx = pytest.importorskip("onnx", reason="onnx is not installed")
    from cnnlib.onnx import save
    from onnx.reference import ReferenceEvaluator

    net = attending(rng, dtype, **options_of(name, rng))
    X, _ = drawn(rng, net)
    save(net, tmp_path / "net.onnx")
    onnx.checker.check_model(onnx.load(tmp_path / "net.onnx"), full_check=True)
    (scores,) = ReferenceEvaluator(str(tmp_path / "net.onnx")).run(None, {"input": X})
    want = net.loss(X)
    np.testing.assert_allclose(scores, want, rtol=0, atol=1e-5 * np.max(np.abs(want)))


def test_heads_that_share_keys_are_not_written_to_onnx(rng, tmp_path):
    pytest.importorskip("onnx", reason="onnx is not installed")
    from cnnlib.onnx import save

    with pytest.raises(ValueError, match="heads of q that share one of k and v have no operator"):
        save(attending(rng, shared=True), tmp_path / "net.onnx")


@pytest.mark.parametrize(
    ("values", "options", "message"),
    [
        ("ikk", {}, r"k must have the features of q, 6, got \(N, 4, 7, 4\)"),
        ("kik", {}, r"k must have the features of q, 4, got \(N, 3, 7, 6\)"),
        ("iii", {"bias": np.zeros((1, 3, 6, 7))}, r"bias must have shape \(1, 3, 7, 7\), or 1 in place of a"),
        ("iii", {"bias": np.zeros((2, 3, 7, 7))}, r"bias must have shape \(1, 3, 7, 7\), or 1 in place of a"),
        ("lii", {}, r"the heads of k must divide those of q, 4, got 3"),
        ("rii", {}, r"q must be \(N, heads, tokens, features\), got \(N, 126\)"),
    ],
)
def test_what_does_not_fit_is_refused(values, options, message, rng):
    graph = Graph()
    params = {name: rng.standard_normal((4, 3, 1, 1)) for name in ("Wk", "Wl")}
    makers = {
        "k": lambda: graph.conv("Wk", None, stride=(1, 2), pad=(0, 1), x="input", name="k"),
        "l": lambda: graph.conv("Wl", None, x="input", name="l"),
        "r": lambda: graph.flatten(x="input", name="r"),
    }
    made = {letter: makers[letter]() if letter in makers else "input" for letter in sorted(set(values))}
    graph.attention(*(made[letter] for letter in values), name="out", **options)
    params = {name: params[name] for node in graph for name in node.params if name}
    with pytest.raises(ValueError, match=rf"node 'out' \(attention\): attention: {message}"):
        GraphNet(graph, params, (3, TOKENS, FEATURES))
