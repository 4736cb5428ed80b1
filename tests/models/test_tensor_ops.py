"""Operators on tensors of any rank: beside loops, numerical gradients, what they refuse, and files."""

import itertools
import math

import cnnlib
import numpy as np
import pytest
from cnnlib.gradient_check import eval_numerical_gradient_array
from cnnlib.graph.ops import op_of, tensors
from cnnlib.models import Graph, GraphNet, Node

LAYERS = [op.name for op in tensors.OPS]
DRAWS = range(6)  # random shapes and arguments of each layer
CLOSE = {"rtol": 1e-10, "atol": 1e-12}  # float64
GRADIENT = {"rtol": 1e-6, "atol": 1e-7}  # numerical, with steps of 1e-5


# A loop for each layer --------------------------------------------------------------------------------


def filled(shape, number_at):
    """An array whose number at each place is ``number_at(place)``."""
    out = np.empty(shape)
    for place in np.ndindex(*out.shape):
        out[place] = number_at(place)
    return out


def at(place, axis, index):
    """The place with another index along an axis."""
    return (*place[:axis], index, *place[axis + 1 :])


def transposed(x, axes):
    return filled(
        [x.shape[a] for a in axes], lambda place: x[tuple(place[axes.index(a)] for a in range(x.ndim))]
    )


def reshaped(x, shape):
    rest = math.prod(x.shape[1:]) // math.prod(n for n in shape if n != -1)
    sizes = [rest if n == -1 else n for n in shape]
    numbers = iter(x.ravel())
    return filled((len(x), *sizes), lambda place: next(numbers))


def sliced(x, start, stop, step, axis):
    places = range(x.shape[axis])[start:stop:step]
    return filled(at(x.shape, axis, len(places)), lambda place: x[at(place, axis, places[place[axis]])])


def padded(x, widths, mode, value):
    def number_at(place):
        source = []
        for i, (before, _), n in zip(place[1:], widths, x.shape[1:]):
            i -= before
            if not 0 <= i < n:
                if mode == "constant":
                    return value
                i = (-i if i < 0 else 2 * (n - 1) - i) if mode == "reflect" else (0 if i < 0 else n - 1)
            source.append(i)
        return x[(place[0], *source)]

    return filled((len(x), *(n + sum(sides) for n, sides in zip(x.shape[1:], widths))), number_at)


def expanded(x, shape):
    sizes = [n if m == -1 else m for n, m in zip(x.shape[1:], shape)]
    return filled(
        (len(x), *sizes), lambda place: x[tuple(min(i, n - 1) for i, n in zip(place, x.shape, strict=True))]
    )


def rolled(x, shift, axis):
    by = dict(zip(axis, shift))

    def number_at(place):
        return x[tuple((i - by.get(a, 0)) % n for a, (i, n) in enumerate(zip(place, x.shape)))]

    return filled(x.shape, number_at)


def flipped(x, axis):
    def number_at(place):
        return x[tuple(n - 1 - i if a in axis else i for a, (i, n) in enumerate(zip(place, x.shape)))]

    return filled(x.shape, number_at)


def gathered(x, indices, axis):
    count = indices.ndim

    def number_at(place):
        index = indices[place[axis : axis + count]]
        return x[(*place[:axis], index, *place[axis + count :])]

    return filled((*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]), number_at)


def linear(x, w, b):
    shape = (*x.shape[:-1], w.shape[1])
    return filled(shape, lambda p: b[p[-1]] + sum(x[(*p[:-1], i)] * w[i, p[-1]] for i in range(len(w))))


def normalised(x, gamma, beta, eps):
    out, front = np.empty_like(x), x.ndim - gamma.ndim
    for place in np.ndindex(*x.shape[:front]):
        numbers = x[place].ravel().tolist()
        mean = sum(numbers) / len(numbers)
        var = sum((number - mean) ** 2 for number in numbers) / len(numbers)
        out[place] = (x[place] - mean) / math.sqrt(var + eps) * gamma + beta
    return out


def each(function):
    return lambda *xs: filled(
        xs[0].shape,
        lambda place: function(*(x[place] if isinstance(x, np.ndarray) else x for x in xs)),
    )


def reduced(function):
    def twin(x, axis, keepdims):
        kept = [1 if a in axis else n for a, n in enumerate(x.shape)]
        groups = {}
        for place in np.ndindex(*x.shape):
            groups.setdefault(tuple(0 if a in axis else i for a, i in enumerate(place)), []).append(x[place])
        out = filled(kept, lambda place: function(groups[place]))
        return out if keepdims else out.reshape([n for a, n in enumerate(x.shape) if a not in axis])

    return twin


def chosen(x, y, mask):
    mask = np.broadcast_to(mask, x.shape)
    return filled(x.shape, lambda place: x[place] if mask[place] else y[place])


def multiplied(x, y):
    def number_at(place):
        *front, i, j = place
        return sum(x[(*front, i, k)] * y[(*front, k, j)] for k in range(x.shape[-1]))

    return filled((*x.shape[:-1], y.shape[-1]), number_at)


TWINS = {
    "transpose": transposed,
    "reshape": reshaped,
    "slice": sliced,
    "pad": padded,
    "expand": expanded,
    "expand_as": lambda x, y: expanded(x, np.broadcast_shapes(x.shape[1:], y.shape[1:])),
    "roll": rolled,
    "flip": flipped,
    "gather": gathered,
    "constant": lambda x, w: filled((len(x), *w.shape), lambda place: w[place[1:]]),
    "linear": linear,
    "trailing_layernorm": normalised,
    "divide": each(lambda x, y: x / y),
    "minimum": each(min),
    "maximum": each(max),
    "where": chosen,
    "power": each(lambda x, exponent: x**exponent),
    "clip": each(lambda x, low, high: min(max(x, low), high)),
    "exp": each(math.exp),
    "log": each(math.log),
    "absolute": each(abs),
    "softplus": each(lambda x: math.log(1 + math.exp(x))),
    "reduce_sum": reduced(sum),
    "reduce_mean": reduced(lambda numbers: sum(numbers) / len(numbers)),
    "reduce_max": reduced(max),
    "matmul": multiplied,
}


# Random calls -----------------------------------------------------------------------------------------


def drawn(layer, rng):
    """Random inputs, arrays and arguments of a layer; samples of one to four axes."""
    rank = int(rng.integers(2 if layer == "matmul" else 1, 5))
    shape = tuple(int(n) for n in rng.integers(2, 5, size=rank))
    axes = sorted(int(a) for a in rng.permutation(rank)[: rng.integers(1, rank + 1)] + 1)
    axis = axes[0]
    x, y = (rng.standard_normal((2, *shape)) for _ in range(2))
    size = shape[axis - 1]
    start, stop = sorted(int(i) for i in rng.choice(size + 1, 2, replace=False))
    positive = np.abs(x) + 0.5
    norm = rng.standard_normal((2, *shape[-(1 + rank // 3) :]))
    mask = rng.random(tuple(n if rng.random() < 0.7 else 1 for n in shape)) < 0.5
    ones = tuple(1 if a + 1 in axes else n for a, n in enumerate(shape))
    calls = {
        "transpose": ([x], [], [(0, *(int(a) for a in rng.permutation(rank) + 1))]),
        "reshape": ([x], [], [[(-1,), (1, -1), (shape[0], -1, 1), shape[::-1]][rng.integers(4)]]),
        "slice": (
            [x],
            [],
            [(start, stop, 1), (-size, None, 2), (None, None, -1), (stop - 1, None, -2)][rng.integers(4)]
            + (axis,),
        ),
        "pad": (
            [x],
            [],
            [
                tuple((int(a), int(b)) for a, b in rng.integers(0, 2, size=(rank, 2))),
                ("constant", "reflect", "replicate")[rng.integers(3)],
                0.75,
            ],
        ),
        "expand": (
            [x[tuple(slice(None if n > 1 else 1) for n in (2, *ones))]],
            [],
            [tuple(3 if n == 1 else -1 for n in ones)],
        ),
        "expand_as": ([x[..., :1], y[:, :1]] if rank > 1 else [x[:, :1], y], [], []),
        "roll": ([x], [], [tuple(int(n) for n in rng.integers(-6, 7, size=len(axes))), tuple(axes)]),
        "flip": ([x], [], [tuple(axes)]),
        "gather": ([x], [], [rng.integers(-size, size, size=(2, 3)[: rng.integers(1, 3)]), axis]),
        "constant": ([x], [rng.standard_normal(shape[::-1])], []),
        "linear": ([x], [rng.standard_normal((shape[-1], 3)), rng.standard_normal(3)], []),
        "trailing_layernorm": ([x], [*norm], [2.0**-10]),  # which float32, as in files, holds, too
        "divide": ([x, positive * np.sign(y)], [], []),
        "where": ([x, y], [], [mask]),
        "power": ([positive], [], [float(rng.uniform(-2, 3))]),
        "clip": ([x], [], [-0.4, (0.6, math.inf)[rng.integers(2)]]),
        "log": ([positive], [], []),
        "matmul": ([x, rng.standard_normal((2, *shape[:-2], shape[-1], 3))], [], []),
        **dict.fromkeys(("minimum", "maximum"), ([x, y], [], [])),
        **dict.fromkeys(("exp", "absolute", "softplus"), ([x], [], [])),
        **dict.fromkeys(
            ("reduce_sum", "reduce_mean", "reduce_max"), ([x], [], [tuple(axes), bool(rng.integers(2))])
        ),
    }
    return calls[layer]


@pytest.mark.parametrize("draw", DRAWS)
@pytest.mark.parametrize("layer", LAYERS)
def test_a_layer_is_its_loop(layer, draw):
    op = op_of(layer)
    xs, arrays, args = drawn(layer, np.random.default_rng(draw))
    before = [x.copy() for x in (*xs, *arrays)]
    out, _ = op.forward(*xs, *arrays, *args)
    np.testing.assert_allclose(out, TWINS[layer](*xs, *arrays, *args), **CLOSE)
    assert op.shape(layer, *(x.shape[1:] for x in xs), *arrays, *args) == out.shape[1:]
    for array, kept in zip((*xs, *arrays), before, strict=True):
        np.testing.assert_array_equal(array, kept)


@pytest.mark.parametrize("draw", DRAWS)
@pytest.mark.parametrize("layer", LAYERS)
def test_gradients_are_numerical_ones(layer, draw):
    op, rng = op_of(layer), np.random.default_rng(draw)
    xs, arrays, args = drawn(layer, rng)
    values = [np.array(x) for x in (*xs, *arrays)]
    out, cache = op.forward(*values, *args)
    dout = rng.standard_normal(out.shape)
    found = op.backward(dout.copy(), cache, (True,) * len(xs))
    assert len(found) == len(values)
    for place, (value, grad) in enumerate(zip(values, found, strict=True)):

        def run(changed, place=place):
            return op.forward(*values[:place], changed, *values[place + 1 :], *args)[0]

        wanted = eval_numerical_gradient_array(run, value, dout)
        assert grad.dtype == value.dtype
        np.testing.assert_allclose(grad, wanted, **GRADIENT)


@pytest.mark.parametrize("layer", LAYERS)
def test_float32_stays_and_an_image_is_independent_of_its_batch(layer):
    op = op_of(layer)
    for draw in DRAWS:
        xs, arrays, args = drawn(layer, np.random.default_rng(draw))
        single = [x.astype(np.float32) for x in xs], [a.astype(np.float32) for a in arrays]
        out, cache = op.forward(*single[0], *single[1], *args)
        assert out.dtype == np.float32
        for grad in op.backward(np.ones_like(out), cache, (True,) * len(xs)):
            assert grad.dtype == np.float32
        alone, _ = op.forward(*(x[1:] for x in single[0]), *single[1], *args)
        np.testing.assert_array_equal(alone, out[1:])


REFUSED = {
    "transpose": [
        (
            [(2, 3)],
            [(1, 0, 2)],
            r"axes must be an order of the axes of x that begins with 0, got \(1, 0, 2\)",
        ),
        ([(2, 3)], [(0, 1)], r"axes must be an order"),
        ([(2, 3)], [(0, 1, -1)], r"axes must be an order"),
        ([(2, 3)], [(0, 1, 10**12)], r"axes must be an order"),
    ],
    "reshape": [
        ([(2, 3)], [(4, 2)], r"shape \(4, 2\) does not hold the numbers of x, got x \(N, 2, 3\)"),
        ([(2, 3)], [(-1, -1)], r"shape must be sizes of at least 1, of which one may be -1"),
        ([(2, 3)], [(0, -1)], r"shape must be sizes of at least 1"),
        ([(2, 3)], [(4, -1)], r"does not hold the numbers"),
    ],
    "slice": [
        ([(2, 3)], [0, 1, 1, 3], r"axis must be one or several behind that of the samples, got \(3,\)"),
        ([(2, 3)], [0, 1, 1, 0], r"axis must be"),
        ([(2, 3)], [0, 1, 0, 1], r"step must not be 0"),
    ],
    "pad": [
        ([(2, 3)], [((0, 0),), "constant", 0.0], r"widths must be \(before, after\) for each axis"),
        ([(2, 3)], [((0, 0), (0, 0)), "wrap", 0.0], r"in mode 'wrap'"),
        ([(2, 3)], [((0, 2), (0, 0)), "reflect", 0.0], r"widths .* in mode 'reflect' do not fit"),
        ([(2, 3)], [((0, -1), (0, 0)), "constant", 0.0], r"do not fit"),
    ],
    "expand": [
        ([(2, 3)], [(4, 3)], r"shape \(4, 3\) is none that x spreads to, got x \(N, 2, 3\)"),
        ([(2, 3)], [(3,)], r"shape \(3,\) is none"),
        ([(1, 3)], [(0, 3)], r"shape \(0, 3\) is none"),
    ],
    "expand_as": [
        ([(2, 3), (3,)], [], r"the axes of x must have the sizes of y, or 1, got x \(N, 2, 3\), \(N, 3\)"),
        ([(2, 3), (4, 3)], [], r"the axes of x must have the sizes of y"),
    ],
    "roll": [
        ([(2, 3)], [(1, 1), (1,)], r"shift must have a number for each axis of \(1,\), got \(1, 1\)"),
        ([(2, 3)], [(1,), (0,)], r"axis must be"),
    ],
    "flip": [([(2, 3)], [(3,)], r"axis must be"), ([(2, 3)], [(1, 1)], r"axis must be")],
    "gather": [
        ([(2, 3)], [np.array([3]), 2], r"indices must lie in axis 2, got 3 to 3"),
        ([(2, 3)], [np.array([-3]), 1], r"indices must lie in axis 1, got -3 to -3"),
        ([(2, 3)], [np.array([0.5]), 1], r"indices must be integers, got float64"),
        ([(2, 3)], [np.array([0]), 0], r"axis must be"),
    ],
    "linear": [
        ([(2, 3)], [np.zeros((2, 4)), None], r"x is \(N, 2, 3\), so w must be \(3, M\), got \(2, 4\)")
    ],
    "trailing_layernorm": [
        ([(2, 3)], [np.zeros(2), np.zeros(2), 1e-5], r"got gamma \(2,\) and beta \(2,\) for its last axes"),
        ([(3,)], [np.zeros((2, 3)), np.zeros((2, 3)), 1e-5], r"got gamma \(2, 3\)"),
    ],
    **{
        layer: [([(2, 3), (3,)], [], r"the inputs must have one shape, got x \(N, 2, 3\), \(N, 3\)")]
        for layer in ("divide", "minimum", "maximum")
    },
    "where": [
        (
            [(2, 3), (2, 3)],
            [np.ones((2, 2), bool)],
            r"mask must be booleans of shape \(2, 3\), or 1 in place",
        ),
        ([(2, 3), (2, 3)], [np.ones((2, 3))], r"got float64 of shape \(2, 3\)"),
    ],
    "clip": [([(2,)], [1.0, 0.0], r"low must not be above high, got 1.0 and 0.0")],
    **{
        layer: [([(2, 3)], [(1, 1), True], r"axis must be"), ([(2, 3)], [(-1,), True], r"axis must be")]
        for layer in ("reduce_sum", "reduce_mean", "reduce_max")
    },
    "matmul": [
        ([(2, 3), (2, 3)], [], r"the inputs must be matrices that fit, and alike in the axes before"),
        ([(5, 2, 3), (1, 3, 2)], [], r"the inputs must be matrices that fit"),
        ([(3,), (3,)], [], r"the inputs must be matrices that fit"),
    ],
}


@pytest.mark.parametrize(
    ("layer", "shapes", "args", "message"),
    [(layer, *case) for layer, cases in REFUSED.items() for case in cases],
)
def test_what_does_not_fit_is_refused_by_name(layer, shapes, args, message):
    with pytest.raises(ValueError, match=rf"^the call: .*{message}"):
        op_of(layer).shape("the call", *shapes, *args)


@pytest.mark.parametrize("layer", LAYERS)
def test_a_network_of_it_comes_back_from_its_file_and_from_onnx(layer, tmp_path):
    """Behind a layer that is trained, with random arguments; ONNX's file by its own evaluator, too."""
    op = op_of(layer)
    for draw in DRAWS:
        rng = np.random.default_rng(draw)
        xs, arrays, args = drawn(layer, rng)
        graph, params = Graph(), dict(zip(op.roles, arrays, strict=True))
        reads = ["input"] * len(xs)
        if len(xs) == 2 and layer != "matmul":
            reads[1] = graph.scale(factor=-0.5)
        if layer == "matmul":
            order = (*range(xs[0].ndim - 2), xs[0].ndim - 1, xs[0].ndim - 2)
            reads[1] = graph.transpose(axes=order)
        graph.append(Node(layer, tuple(reads), "out", op.roles, tuple(args)))
        if layer == "constant":
            made = graph.add("out", "out")
            graph.append(
                Node("add", ("input", made), "sum")
                if xs[0].shape[1:] == arrays[0].shape
                else Node("concat", (graph.flatten(x="input"), graph.flatten(x=made)), "sum")
            )
        net = GraphNet(graph, params, xs[0].shape[1:], dtype=np.float64)
        want = net(xs[0])
        net.save(tmp_path / "net")
        np.testing.assert_array_equal(cnnlib.load(tmp_path / "net")(xs[0]), want)
        onnx = pytest.importorskip("onnx", reason="onnx is not installed")
        from cnnlib.onnx import load
        from onnx.reference import ReferenceEvaluator

        net.export(tmp_path / "net.onnx")
        onnx.checker.check_model(onnx.load(tmp_path / "net.onnx"), full_check=True)
        (theirs,) = ReferenceEvaluator(str(tmp_path / "net.onnx")).run(None, {"input": xs[0]})
        np.testing.assert_allclose(theirs.reshape(want.shape), want, **CLOSE)
        read = load(tmp_path / "net.onnx")
        np.testing.assert_allclose(read(xs[0]).reshape(want.shape), want, **CLOSE)


def test_every_layer_has_a_loop_and_a_draw():
    assert TWINS.keys() == {*LAYERS}
    for layer, draw in itertools.product(LAYERS, DRAWS):
        assert drawn(layer, np.random.default_rng(draw))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("layer", LAYERS)
def test_a_prepared_network_of_it_is_the_layer(layer, dtype, tmp_path):
    """Also from its file, and an image alone as in its batch."""
    op = op_of(layer)
    for draw in DRAWS:
        xs, arrays, args = drawn(layer, np.random.default_rng(draw))
        joined = np.concatenate([x.reshape(len(x), -1) for x in xs], axis=1).astype(dtype)
        graph, ends = Graph(), np.cumsum([0, *(x[0].size for x in xs)]).tolist()
        reads = []
        for start, stop, x in zip(ends, ends[1:], xs):
            part = graph.slice(start=start, stop=stop, step=1, axis=1, x="input")
            reads.append(graph.reshape(shape=x.shape[1:], x=part))
        graph.append(Node(layer, tuple(reads), "out", op.roles, tuple(args)))
        params = {role: array.astype(dtype) for role, array in zip(op.roles, arrays, strict=True)}
        net = GraphNet(graph, params, joined.shape[1:], dtype=dtype)
        want, _ = op.forward(*(x.astype(dtype) for x in xs), *params.values(), *args)
        predictor = cnnlib.prepare(net)
        got, close = predictor(joined), 1e-5 if dtype == np.float32 else 1e-12
        assert got.dtype == dtype
        np.testing.assert_allclose(got, want, rtol=close, atol=close)
        np.testing.assert_array_equal(predictor(joined[1:]), got[1:])
        predictor.save(tmp_path / "predictor")
        np.testing.assert_array_equal(cnnlib.load(tmp_path / "predictor")(joined), got)
        scores = net(joined)
        np.testing.assert_allclose(scores, want, rtol=close, atol=close)
        if not op.own_bits:
            np.testing.assert_array_equal(scores, want)
