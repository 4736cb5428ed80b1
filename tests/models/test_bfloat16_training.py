"""Training on bfloat16: each layer beside the loops in float64, its bits, and networks that learn."""

import logging
import math

import numpy as np
import pytest
from cnnlib import _core, get_num_threads, naive, set_num_threads
from cnnlib.data import load_digits
from cnnlib.graph.compile import CompiledGraph
from cnnlib.graph.graph import Graph, Node
from cnnlib.graph.ops.bfloat16 import rounded
from cnnlib.graph.run import Run
from cnnlib.models import ConvNet, GraphNet
from helpers import without_bfloat16
from training import assert_same_bits, quiet_solver

needs_instructions = pytest.mark.skipif(
    _core.active_bfloat16() is None, reason="this processor has no instructions for bfloat16"
)
F32 = np.dtype(np.float32)

# Largest errors. A value of bfloat16 is off by 2^-9 of itself, and by twice that where a sum of float32 and
# one of float64 lie on both sides of a tie; tiles of Winograd are rounded to bfloat16, too. Gradients of
# parameters are sums in float32 of exact products, but for wide 3x3 weights, where they are made of tiles.
# These are shares of the largest value; of the gradients of values only projections are seen, whose errors
# are summed up as independent ones are.
VALUE, WINOGRAD, PARAMETER, WIDE_PARAMETER = 0.005, 0.012, 2e-5, 0.01
PROJECTION, WINOGRAD_PROJECTION = 0.01, 0.03


def random(rng, *shape):
    """Values of bfloat16."""
    return rounded(rng.standard_normal(shape).astype(np.float32))


def graph_of(nodes):
    graph = Graph([Node(*node) for node in nodes], "input")
    graph.output = graph.nodes[-1].output
    return graph


def entry(C):
    """A depthwise convolution by ones: a trained parameter before the layer, so that its dx is asked for."""
    return ("conv", ("input",), "x", ("one", None), ({"groups": C},))


def compiled(nodes, params, x, frozen=(), bfloat16=True):
    graph, C = graph_of([entry(x.shape[1]), *nodes]), x.shape[1]
    params = {"one": np.ones((C, 1, 1, 1), np.float32), **params}
    how = {"train": True, "bfloat16": bfloat16, "where": "loss", "frozen": frozen}
    return CompiledGraph(graph, params, x.shape[1:], F32, **how), params


def norms_of(nodes, params):
    """The parameter dicts of the batch norms."""
    return {
        node[2]: {
            **node[4][0],
            "running_mean": np.zeros(len(params[node[3][0]]), np.float32),
            "running_var": np.ones(len(params[node[3][0]]), np.float32),
        }
        for node in nodes
        if node[0] == "spatial_batchnorm"
    }


def step(nodes, params, x, dout, **how):
    """The output, the gradients of parameters, and the norms' dicts behind the step."""
    form, params = compiled(nodes, params, x, **how)
    run = Run(params, True, norms_of(nodes, params))
    batch, (out,) = form.forward(run, x)
    grads = {}
    form.backward(batch, [dout], grads)
    return out, grads, run.norms


def functions_of(layer, loops):
    """Forward and backward."""
    op = Node(layer, ("input",), "out").op
    return op.naive if loops else (op.forward, op.backward)


def as_bfloat16(array):
    return rounded(array.astype(np.float32)).astype(np.float64)


def reference(nodes, params, x, dout, loops=True):
    """The same in float64 by the loops or the layers' functions, with what each layer writes rounded.

    The last one is the gradient of x.
    """
    values, caches, grads = (
        {"x": x * params.get("one", np.ones(1)).reshape(1, -1, 1, 1).astype(np.float64)},
        [],
        {},
    )
    for layer, inputs, output, names, args in nodes:
        xs = [values[name] for name in inputs]
        own = [None if name is None else params[name].astype(np.float64) for name in names]
        if layer == "add":
            out, cache = xs[0] + xs[1], None
        elif layer == "concat":
            out, cache = np.concatenate(xs, axis=1), np.cumsum([len(x[0]) for x in xs])[:-1]
        else:
            if layer == "spatial_batchnorm":
                args = ({**args[0], "mode": "train"},)
            forward, _ = functions_of(layer, loops)
            out, cache = forward(*xs, *own, *args)
        values[output] = as_bfloat16(out)
        caches.append(cache)
    douts = {nodes[-1][2]: dout.astype(np.float64)}
    for (layer, inputs, output, names, _), cache in zip(nodes[::-1], caches[::-1], strict=True):
        dy = as_bfloat16(douts.pop(output))
        if layer == "add":
            dxs = [dy, dy]
        elif layer == "concat":
            dxs = np.split(dy, cache, axis=1)
        else:
            _, backward = functions_of(layer, loops)
            made = backward(dy, cache)
            dx, *others = made if isinstance(made, tuple) else (made,)
            dxs = [dx]
            grads |= {name: grad for name, grad in zip(names, others, strict=True) if name is not None}
        for name, dx in zip(inputs, dxs, strict=True):
            douts[name] = douts.get(name, 0) + dx
    return values[nodes[-1][2]], grads, douts["x"]


def error(got, want):
    """The largest error as a share of the largest value."""
    return float(np.abs(got - want).max() / max(np.abs(want).max(), 1e-9))


def compare(nodes, params, x, seed, value=VALUE, parameter=PARAMETER, projection=PROJECTION, loops=True):
    """Compare a step with the loops."""
    shape = reference_shape(nodes, params, x)
    dout = random(np.random.default_rng(seed), *shape)
    out, grads, _ = step(nodes, params, x, dout)
    want, want_grads, dx = reference(nodes, params, x, dout, loops)
    assert out.shape == want.shape
    assert np.array_equal(out, rounded(out)), "the output is bfloat16"
    found = {"out": error(out, want) / value}
    for name, grad in want_grads.items():
        assert grads[name].dtype == np.float32
        found[f"d{name}"] = error(grads[name], grad) / parameter
    products = dx * x
    scale = np.sqrt((products**2).sum((0, 2, 3)).max())
    off = np.abs(grads["one"].reshape(-1) - products.sum((0, 2, 3))).max()
    found["dx"] = float(off / max(scale, 1e-9) / projection)
    assert {name: share for name, share in found.items() if not share <= 1} == {}, found


def reference_shape(nodes, params, x):
    form, _ = compiled(nodes, params, x)
    return len(x), *form.shapes[nodes[-1][2]]


def conv(conv_param, source="x", output="c", w="w", b="b"):
    return ("conv", (source,), output, (w, b), (conv_param,))


def weights(rng, F, C, *sizes):
    return {
        "w": rounded(random(rng, F, C, *sizes) / np.float32(math.sqrt(C * math.prod(sizes)))),
        "b": random(rng, F),
    }


@needs_instructions
class TestConv:
    @pytest.mark.parametrize("seed", range(24))
    def test_random_shapes(self, seed):
        rng = np.random.default_rng(seed)
        N, C, F = (int(rng.integers(*ends)) for ends in ((1, 6), (2, 50), (1, 70)))
        sizes, stride = rng.integers(1, 6, 2).tolist(), rng.integers(1, 4, 2).tolist()
        pad = tuple(map(tuple, rng.integers(0, 3, (2, 2)).tolist()))
        dilation = int(rng.integers(1, 3)) if stride == [1, 1] else 1
        H, W = (int(rng.integers(size * dilation, 24)) for size in sizes)
        groups = C if rng.random() < 0.3 else 1
        F = C if groups > 1 else F
        conv_param = {"stride": tuple(stride), "pad": pad, "dilation": dilation, "groups": groups}
        params = weights(rng, F, C // groups, *sizes)
        winograd = sizes == [3, 3] and stride == [1, 1]
        limits = {"value": WINOGRAD, "projection": WINOGRAD_PROJECTION} if winograd else {}
        compare([conv(conv_param)], params, random(rng, N, C, H, W), seed, **limits)

    @pytest.mark.parametrize(("N", "C", "F", "size"), [(2, 33, 40, 13), (1, 64, 32, 7), (3, 48, 64, 10)])
    def test_winograd(self, N, C, F, size, rng):
        params, x = weights(rng, F, C, 3, 3), random(rng, N, C, size, size)
        limits = {"value": WINOGRAD, "projection": WINOGRAD_PROJECTION}
        compare([conv({"pad": 1})], params, x, 1, **limits)

    def test_winograd_of_wide_weights(self, rng):
        """Of 64 channels and filters and 1024 tiles of 2x2 and more, where dw is made of tiles, too.

        The loops take too long; the functions of float64 stand in.
        """
        params, x = weights(rng, 64, 64, 3, 3), random(rng, 4, 64, 33, 31)
        limits = {"value": WINOGRAD, "projection": WINOGRAD_PROJECTION, "parameter": WIDE_PARAMETER}
        compare([conv({"pad": 1})], params, x, 1, **limits, loops=False)


def norm(source="x", output="n", gamma="gamma", beta="beta"):
    return ("spatial_batchnorm", (source,), output, (gamma, beta), ({"eps": 1e-5, "momentum": 0.9},))


def scales(rng, C):
    return {"gamma": 1 + random(rng, C) / 4, "beta": random(rng, C) / 4}


def relu(source, output="r"):
    return ("relu", (source,), output, (), ())


@needs_instructions
class TestNorm:
    @pytest.mark.parametrize(
        "shape", [(2, 5, 7, 6), (4, 32, 5, 5), (3, 70, 9, 4), (8, 16, 1, 1), (1, 33, 8, 8)]
    )
    @pytest.mark.parametrize("rectified", [False, True])
    @pytest.mark.parametrize("alone", [False, True])
    def test_beside_the_loops(self, shape, rectified, alone, rng):
        """Behind a convolution, which a norm and a ReLU join, and `alone` behind a pool of single values."""
        source = "p" if alone else "x"
        nodes = [("max_pool", ("x",), "p", (), ({"size": 1, "stride": 1},))] if alone else []
        nodes += [norm(source), *([relu("n")] if rectified else [])]
        compare(nodes, scales(rng, shape[1]), random(rng, *shape), 1)

    def test_running_statistics(self, rng):
        x, params = rounded(random(rng, 4, 20, 6, 5) + 2), scales(rng, 20)
        _, _, norms = step([norm()], params, x, random(rng, *x.shape))
        want = {
            "mode": "train",
            "eps": 1e-5,
            "momentum": 0.9,
            "running_mean": np.zeros(20),
            "running_var": np.ones(20),
        }
        naive.spatial_batchnorm_forward_naive(x.astype(np.float64), np.ones(20), np.zeros(20), want)
        for name in ("running_mean", "running_var"):
            np.testing.assert_allclose(norms["n"][name], want[name], rtol=1e-5, atol=1e-6)

    @pytest.mark.parametrize(("C", "F", "size", "stride"), [(6, 9, 3, 1), (33, 48, 1, 1), (8, 40, 3, 2)])
    def test_conv_norm_and_relu(self, C, F, size, stride, rng):
        """Where the sums that the norm sees lie on both sides of a tie, values move by a step."""
        nodes = [conv({"pad": size // 2, "stride": stride}, b=None), norm("c"), relu("n")]
        params = {"w": weights(rng, F, C, size, size)["w"], **scales(rng, F)}
        winograd = size == 3 and stride == 1
        limits = {"value": WINOGRAD, "projection": 0.1} if winograd else {"value": 0.01, "projection": 0.05}
        compare(nodes, params, random(rng, 3, C, 10, 9), 1, parameter=0.02, **limits)


@needs_instructions
class TestPool:
    @pytest.mark.parametrize("layer", ["max_pool", "avg_pool"])
    @pytest.mark.parametrize(
        "pool_param",
        [
            {"size": 2, "stride": 2},
            {"size": 3, "stride": 2},
            {"size": 3, "stride": 2, "pad": 1},
            {"size": 3, "stride": 1, "pad": 1},
            {"size": (2, 3), "stride": (1, 2)},
            {"size": 2, "stride": 3},
        ],
    )
    @pytest.mark.parametrize("C", [3, 32, 37])
    def test_beside_the_loops(self, layer, pool_param, C, rng):
        compare([(layer, ("x",), "p", (), (pool_param,))], {}, random(rng, 2, C, 9, 8), 1)

    @pytest.mark.parametrize("pool_param", [{"size": 2, "stride": 2}, {"size": 3, "stride": 2, "pad": 1}])
    @pytest.mark.parametrize("C", [5, 32])
    def test_of_equal_values_the_first_counts(self, pool_param, C, rng):
        """All values are 0 times x: the gradient of that 0 says which x had the gradient of the window."""
        zero = {"one": np.zeros((C, 1, 1, 1), np.float32)}
        compare([("max_pool", ("x",), "p", (), (pool_param,))], zero, random(rng, 3, C, 8, 8), 1)

    @pytest.mark.parametrize("shape", [(2, 5, 7, 7), (3, 32, 4, 5), (1, 40, 1, 1)])
    def test_global(self, shape, rng):
        compare([("global_avg_pool", ("x",), "p", (), ())], {}, random(rng, *shape), 1)


@needs_instructions
class TestOthers:
    @pytest.mark.parametrize(
        "layer", ["relu", "relu6", "leaky_relu", "silu", "gelu", "sigmoid", "tanh", "elu"]
    )
    def test_activations(self, layer, rng):
        args = (0.01,) if layer == "leaky_relu" else ()
        # Gradients of some are made of the rounded output.
        compare([(layer, ("x",), "a", (), args)], {}, random(rng, 2, 35, 6, 5), 1, projection=0.02)

    @pytest.mark.parametrize("rectified", [False, True])
    def test_sums(self, rectified, rng):
        nodes = [conv({"groups": 34}), ("add", ("c", "x"), "s", (), ()), *([relu("s")] if rectified else [])]
        compare(nodes, weights(rng, 34, 1, 2, 2) | weights(rng, 34, 1, 1, 1), random(rng, 2, 34, 5, 6), 1)

    @pytest.mark.parametrize("C", [5, 32])
    def test_concat(self, C, rng):
        nodes = [conv({}), ("concat", ("x", "c", "x"), "k", (), ())]
        compare(nodes, weights(rng, 7, C, 1, 1), random(rng, 2, C, 5, 6), 1)

    def test_a_value_of_several_readers(self, rng):
        nodes = [
            conv({"pad": 1, "groups": 20}, "x", "c"),
            ("max_pool", ("x",), "p", (), ({"size": 3, "stride": 1, "pad": 1},)),
            ("add", ("c", "p"), "s", (), ()),
            ("add", ("s", "x"), "out", (), ()),
        ]
        compare(nodes, weights(rng, 20, 1, 3, 3), random(rng, 2, 20, 6, 6), 1, value=0.01, projection=0.02)


def small_network(C=40):
    """Layers of each kind, behind one another; their parameters."""
    rng = np.random.default_rng(3)
    nodes = [
        conv({"pad": 1}, "x", "c1", "w1", None),
        norm("c1", "n1", "g1", "h1"),
        relu("n1", "r1"),
        ("max_pool", ("r1",), "p1", (), ({"size": 3, "stride": 2, "pad": 1},)),
        conv({"pad": 1, "groups": C}, "p1", "c2", "w2", "b2"),
        norm("c2", "n2", "g2", "h2"),
        ("add", ("n2", "p1"), "s", (), ()),
        relu("s", "r2"),
        conv({"pad": 1, "stride": 2}, "r2", "c3", "w3", "b3"),
        ("silu", ("c3",), "a", (), ()),
        ("concat", ("a", "c3"), "k", (), ()),
        ("avg_pool", ("k",), "v", (), ({"size": 2, "stride": 2},)),
        ("global_avg_pool", ("v",), "out", (), ()),
    ]
    shapes = {"w1": (C, C, 3, 3), "w2": (C, 1, 3, 3), "w3": (24, C, 3, 3)}
    params = {name: weights(rng, F, *rest)["w"] for name, (F, *rest) in shapes.items()}
    params |= {"b2": random(rng, C), "b3": random(rng, 24)}
    params |= {f"g{k}": scales(rng, C)["gamma"] for k in (1, 2)} | {f"h{k}": random(rng, C) for k in (1, 2)}
    return nodes, params, random(rng, 9, C, 14, 13), random(rng, 9, 48)


@pytest.fixture
def threads():
    """The number of threads, as after the test."""
    before = get_num_threads()
    yield set_num_threads
    set_num_threads(before)


@needs_instructions
class TestBits:
    def test_any_threads_of_either_engine(self, threads, thread_pool):
        network, found = small_network(), []
        for pool in (False, True):
            thread_pool(pool)
            for count in (1, 2, 3, 7, 64):
                threads(count)
                found.append(step(*network))
        for other in found[1:]:
            assert_same_bits(other, found[0])

    def test_frozen_parameters_have_no_gradient(self):
        network = small_network()
        _, want, _ = step(*network)
        frozen = ("w1", "w2", "b2", "b3")
        _, grads, _ = step(*network, frozen=frozen)
        assert set(grads) == set(want) - set(frozen)
        assert_same_bits(grads, {name: want[name] for name in grads})

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    def test_what_is_not_finite_stays_in_its_image(self, value):
        """Behind layers that look at one image at a time."""
        nodes, params, x, dout = small_network()
        nodes = [
            conv({"pad": 1}, "x", "c1", "w1", None),
            ("max_pool", ("c1",), "p", (), ({"size": 2, "stride": 2},)),
            ("global_avg_pool", ("p",), "out", (), ()),
        ]
        dout = np.ascontiguousarray(dout[:, :40])
        want, _, _ = step(nodes, params, x, dout)
        x = x.copy()
        x[4, :, 5, 6] = value
        out, grads, _ = step(nodes, params, x, dout)
        assert not np.isfinite(out[4]).any()
        assert_same_bits(np.delete(out, 4, 0), np.delete(want, 4, 0))
        assert not np.isfinite(grads["w1"]).all()

    def test_a_gradient_that_is_not_finite_is_seen(self):
        nodes, params, x, dout = small_network()
        dout[2, 3] = np.nan
        _, grads, _ = step(nodes, params, x, dout)
        assert np.isnan(grads["w1"]).any()
        assert np.isnan(grads["one"]).any()

    @pytest.mark.parametrize("large", [3e38, -3e38])
    def test_values_beyond_bfloat16_become_infinite(self, large):
        nodes = [conv({}, b=None)]
        x = np.full((1, 3, 2, 2), large, np.float32)
        out, _, _ = step(nodes, {"w": np.eye(3, dtype=np.float32).reshape(3, 3, 1, 1)}, x, np.ones_like(x))
        assert_same_bits(out, rounded(x))
        x[:] = np.sign(large) * np.finfo(np.float32).max
        assert np.isinf(rounded(x)).all()


def digits_net(precision):
    net = ConvNet("resnet8", (1, 8, 8), 10, seed=0)
    net.precision = precision
    return net


@needs_instructions
class TestNetworks:
    def test_it_learns_as_in_float32(self):
        data, found = load_digits(), {}
        mean, std = data["X_train"].mean(), data["X_train"].std()
        data |= {
            name: ((X - mean) / std).astype(np.float32) for name, X in data.items() if name.startswith("X")
        }
        data |= {name: data[name][:600] for name in ("X_train", "y_train")}
        for precision in ("float32", "bfloat16"):
            solver = quiet_solver(
                digits_net(precision),
                data,
                update_rule="adam",
                optim_config={"learning_rate": 2e-3},
                schedule="one-cycle",
                num_epochs=4,
                batch_size=25,
                num_train_samples=1,
                seed=0,
            )
            solver.train()
            found[precision] = solver.best_val_acc
        assert found["float32"] > 0.85
        assert abs(found["bfloat16"] - found["float32"]) < 0.04

    def test_a_norm_may_be_the_output(self, rng):
        """Whose running statistics are called by the value that it writes."""
        graph = Graph()
        graph.conv("W", pad=1)
        graph.spatial_batchnorm("gamma", "beta")
        params = {
            "W": random(rng, 8, 2, 3, 3),
            "gamma": np.ones(8, np.float32),
            "beta": np.zeros(8, np.float32),
        }
        net = GraphNet(graph, params, (2, 6, 6))
        net.precision = "bfloat16"
        X = random(rng, 4, 2, 6, 6)
        loss, grads = net.loss(X, random(rng, *net(X).shape), loss="mse")
        assert np.isfinite(loss)
        assert set(grads) == set(net.params)
        assert net.bn_params[0]["running_mean"].any()


class TestWithoutInstructions:
    def test_it_trains_with_the_bits_of_float32_and_says_so(self, caplog, rng):
        X, y = random(rng, 8, 1, 8, 8), rng.integers(0, 10, 8)
        want = digits_net("float32").loss(X, y)
        with without_bfloat16(), caplog.at_level(logging.WARNING, "cnnlib"):
            net = digits_net("bfloat16")
            assert_same_bits(net.loss(X, y), want)
        assert "ConvNet: this processor has no instructions for bfloat16: float32 computes" in caplog.text
        if _core.active_bfloat16() is not None:  # the same model where there are some
            assert net.loss(X, y)[0] != want[0]
