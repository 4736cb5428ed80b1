"""What the layers take as arrays, and what they give back."""

import collections
import collections.abc
import types

import cnnlib
import numpy as np
import pytest
from cnnlib import naive, optim
from cnnlib.models import Graph, GraphNet, Node
from helpers import LAYERS, TOLERANCE, as_tuple, cast, random_arrays

pytestmark = [pytest.mark.borders, pytest.mark.core]

every_layer = pytest.mark.parametrize("layer", LAYERS, ids=str)


def case(layer, rng, dtype):
    """Arrays for a layer, a dout, and its results from them."""
    arrays = layer.arrays(rng, dtype)
    out, _ = layer.forward(*arrays, *layer.rest())
    (dout,) = cast(random_arrays(rng, out.shape), dtype)
    return arrays, dout, layer.run(arrays, dout)


def assert_same(got, want):
    for g, w in zip(got, want, strict=True):
        assert type(g) is np.ndarray
        assert g.dtype == w.dtype
        np.testing.assert_array_equal(g, w)


class Wrapper:
    """An array that NumPy knows only through a protocol."""

    def __init__(self, array):
        self._array = array


class ArrayProtocol(Wrapper):
    def __array__(self, dtype=None, copy=None):
        return self._array if dtype is None else self._array.astype(dtype)


class DLPackProtocol(Wrapper):
    def __dlpack__(self, **keywords):
        return self._array.__dlpack__(**keywords)

    def __dlpack_device__(self):
        return self._array.__dlpack_device__()


def transposed(a):
    """The same values, the last axis the slowest in memory."""
    return np.ascontiguousarray(a.T).T


def reversed_axes(a):
    """The same values, negative strides."""
    flipped = (slice(None, None, -1),) * a.ndim
    return np.ascontiguousarray(a[flipped])[flipped]


def spread(a):
    """The same values with a gap after each, in every axis."""
    wide = np.full([2 * n for n in a.shape], np.nan, a.dtype)
    view = wide[(slice(None, None, 2),) * a.ndim]
    view[...] = a
    return view


def read_only(a):
    a = a.copy()
    a.flags.writeable = False
    return a


def swapped_bytes(a):
    return a.astype(a.dtype.newbyteorder())


def unaligned(a):
    """The same values one byte off the dtype's alignment."""
    buffer = np.zeros(a.nbytes + 1, np.uint8)[1:]
    view = buffer.view(a.dtype).reshape(a.shape)
    view[...] = a
    return view


def memory_mapped(a, path):
    mapped = np.memmap(path, a.dtype, "w+", shape=a.shape)
    mapped[...] = a
    return mapped


FORMS = [
    transposed,
    reversed_axes,
    spread,
    read_only,
    swapped_bytes,
    unaligned,
    np.asfortranarray,
    ArrayProtocol,
    DLPackProtocol,
]


@every_layer
def test_any_form_of_array_gives_the_same_bits(layer, dtype, rng):
    arrays, dout, want = case(layer, rng, dtype)
    for form in FORMS:
        assert_same(layer.run([form(a) for a in arrays], form(dout)), want)


@every_layer
def test_memory_mapped_arrays(layer, dtype, rng, tmp_path):
    arrays, dout, want = case(layer, rng, dtype)
    arrays = [memory_mapped(a, tmp_path / f"{i}.bin") for i, a in enumerate(arrays)]
    assert_same(layer.run(arrays, dout), want)


@pytest.mark.peers
@every_layer
def test_torch_tensors(layer, dtype, rng):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    arrays, dout, want = case(layer, rng, dtype)
    assert_same(layer.run([torch.from_numpy(a) for a in arrays], torch.from_numpy(dout)), want)


@every_layer
def test_results_are_exchanged_without_a_copy(layer, dtype, rng):
    """As DLPack, which PyTorch, JAX and CuPy read."""
    for result in layer.run(*case(layer, rng, dtype)[:2]):
        taken = np.from_dlpack(result)
        assert taken.ctypes.data == result.ctypes.data
        assert taken.dtype == dtype


@every_layer
def test_masked_arrays(layer, rng):
    """Those without a masked value are arrays as others; what a mask hides must not count."""
    arrays, dout, want = case(layer, rng, np.float32)
    assert_same(layer.run([np.ma.masked_array(a) for a in arrays], np.ma.masked_array(dout)), want)
    mask = np.zeros(arrays[0].shape, bool)
    mask.flat[-1] = True
    with pytest.raises(ValueError, match=f"^{layer.name}_forward: {layer.names[0]} has masked values"):
        layer.run([np.ma.masked_array(arrays[0], mask), *arrays[1:]], dout)


@every_layer
def test_nested_lists(layer, rng):
    arrays, dout, want = case(layer, rng, np.float64)
    assert_same(layer.run([a.tolist() for a in arrays], dout.tolist()), want)


@every_layer
def test_arrays_that_repeat_one_value(layer, dtype, rng):
    """broadcast_to gives strides of 0."""
    shapes = layer.shapes
    arrays = [np.broadcast_to(dtype.type(0.5), shape) for shape in shapes]
    out, _ = layer.forward(*[np.ascontiguousarray(a) for a in arrays], *layer.rest())
    dout = np.broadcast_to(dtype.type(2), out.shape)
    want = layer.run([np.ascontiguousarray(a) for a in arrays], np.ascontiguousarray(dout))
    assert_same(layer.run(arrays, dout), want)


@every_layer
def test_inputs_are_never_written(layer, dtype, rng):
    """The copies are taken before the first call, since what writes once may write the same again."""
    arrays = layer.arrays(rng, dtype)
    out, _ = layer.forward(*[array.copy() for array in arrays], *layer.rest())
    (dout,) = cast(random_arrays(rng, out.shape), dtype)
    kept = [a.copy() for a in (*arrays, dout)]
    layer.run(arrays, dout)
    for array, copy in zip((*arrays, dout), kept, strict=True):
        np.testing.assert_array_equal(array, copy)


@every_layer
def test_results_are_fresh_contiguous_writable_arrays(layer, dtype, rng):
    arrays, dout, results = case(layer, rng, dtype)
    for result, shape in zip(results[1:], layer.shapes, strict=True):
        assert result.shape == shape
    for i, result in enumerate(results):
        assert type(result) is np.ndarray
        assert result.dtype == dtype
        assert result.flags.c_contiguous
        assert result.flags.writeable
        assert result.flags.aligned
        for other in (*arrays, dout, *results[:i]):
            assert not np.shares_memory(result, other)


@every_layer
def test_integers_and_bools_become_float64(layer, rng):
    for kind in (np.int64, np.int8, np.uint16, np.bool_):
        arrays = [(rng.integers(0, 2, shape)).astype(kind) for shape in layer.shapes]
        out, _ = layer.forward(*arrays, *layer.rest())
        dout = rng.integers(0, 2, out.shape).astype(kind)
        got = layer.run(arrays, dout)
        assert_same(got, layer.run([a.astype(np.float64) for a in arrays], dout.astype(np.float64)))


@every_layer
@pytest.mark.parametrize("half", ["float16", "bfloat16"])
def test_half_precision_is_computed_in_float32(layer, half, rng):
    if half == "bfloat16":
        half = pytest.importorskip("ml_dtypes", reason="ml_dtypes is not installed").bfloat16
    half = np.dtype(half)
    arrays, dout, _ = case(layer, rng, np.float32)
    arrays, dout = [a.astype(half) for a in arrays], dout.astype(half)
    got = layer.run(arrays, dout)
    want = layer.run([a.astype(np.float32) for a in arrays], dout.astype(np.float32))
    # Two roundings may differ where a forward result was rounded before the backward took it up.
    step = 2.0**-10 if half == np.float16 else 2.0**-7
    for g, w in zip(got, want, strict=True):
        assert type(g) is np.ndarray
        assert g.dtype == half
        # Batch norm takes the mean away, so that a bias before it has no gradient but rounding.
        scale = max(np.max(np.abs(w)), 1e-4)
        np.testing.assert_allclose(g.astype(np.float32), w, rtol=step, atol=4 * step * scale)


@pytest.mark.parametrize("layer", [layer for layer in LAYERS if len(layer.shapes) > 1], ids=str)
def test_mixed_dtypes_promote_as_numpy_does(layer, rng):
    for first, others, want in (
        (np.float32, np.float64, np.float64),
        (np.float64, np.float32, np.float64),
        (np.float16, np.float32, np.float32),
        (np.int64, np.float32, np.float64),
        (np.float32, np.int64, np.float64),
    ):
        arrays = layer.arrays(rng)
        arrays = [arrays[0].astype(first), *cast(arrays[1:], others)]
        out, cache = layer.forward(*arrays, *layer.rest())
        assert out.dtype == want
        for gradient in as_tuple(layer.backward(np.ones_like(out), cache)):
            assert gradient.dtype == want
        exact, _ = layer.forward(*cast(arrays, np.float64), *layer.rest())
        tolerance = TOLERANCE[np.dtype(want)]
        np.testing.assert_allclose(out, exact, rtol=0, atol=tolerance * np.max(np.abs(exact)))


@every_layer
def test_gradients_have_the_dtype_of_the_result_whatever_dout_is(layer, dtype, rng):
    other = np.float32 if dtype == np.float64 else np.float64
    arrays, dout, want = case(layer, rng, dtype)
    got = layer.run(arrays, dout.astype(other))
    for g, w in zip(got, want, strict=True):
        assert g.dtype == dtype
        np.testing.assert_allclose(g, w, rtol=0, atol=1e-5 * np.max(np.abs(w)))


def test_gradients_are_computed_in_the_dtype_of_the_result(rng):
    """Not in that of dout."""
    _, cache = cnnlib.global_avg_pool_forward(np.ones((2, 3, 3, 5)))
    dout = rng.standard_normal((2, 3)).astype(np.float32)
    want = np.broadcast_to(dout.astype(np.float64)[..., None, None] / 15, (2, 3, 3, 5))
    np.testing.assert_allclose(cnnlib.global_avg_pool_backward(dout, cache), want, rtol=1e-15)


@pytest.mark.parametrize("norm", ["spatial_batchnorm", "spatial_groupnorm"])
def test_a_norms_loops_sum_up_a_narrow_dout_in_the_dtype_of_the_result(norm, rng):
    x, gamma = rng.standard_normal((1, 2, 70, 1000)), np.ones(2)
    more = ({"mode": "train"},) if norm == "spatial_batchnorm" else (2, {})
    _, cache = getattr(naive, f"{norm}_forward_naive")(x, gamma, gamma, *more)
    dout = np.ones(x.shape, np.float16)  # which ends at 65504
    *_, dbeta = getattr(naive, f"{norm}_backward_naive")(dout, cache)
    np.testing.assert_array_equal(dbeta, 70_000)


@pytest.mark.parametrize("name", optim.__all__)
def test_weights_of_another_byte_order_keep_their_dtype(name, dtype, rng):
    w, dw = cast(random_arrays(rng, (3, 5), (3, 5)), dtype)
    want, _ = getattr(optim, name)(w.copy(), dw)
    got, _ = getattr(optim, name)(swapped_bytes(w), swapped_bytes(dw))
    assert got.dtype == dtype
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("name", optim.__all__)
@pytest.mark.parametrize("half", ["float16", "bfloat16"])
def test_weights_of_16_bits_keep_their_dtype(name, half, rng):
    if half == "bfloat16":
        half = pytest.importorskip("ml_dtypes", reason="ml_dtypes is not installed").bfloat16
    w, dw = (array.astype(half) for array in random_arrays(rng, (3, 5), (3, 5)))
    got, config, want, exact = w, None, w.astype(np.float32), None
    for _ in range(3):
        got, config = getattr(optim, name)(got, dw, config)
        want, exact = getattr(optim, name)(want, dw.astype(np.float32), exact)
        want = want.astype(half).astype(np.float32)
        assert got.dtype == half
        np.testing.assert_array_equal(got.astype(np.float32), want)
    assert all(value.dtype == np.float32 for value in config.values() if isinstance(value, np.ndarray))


@pytest.mark.parametrize("half", ["float16", "bfloat16"])
def test_what_stands_beside_the_arrays_may_have_16_bits_too(half, rng):
    """Running statistics, weights of classes, the state of an update rule."""
    if half == "bfloat16":
        half = pytest.importorskip("ml_dtypes", reason="ml_dtypes is not installed").bfloat16
    x, y = cast(random_arrays(rng, (5, 4), (5, 4)), np.float32)
    narrow = rng.random(4).astype(half)

    def results(some):
        bn_param = {"mode": "test", "running_mean": some, "running_var": some}
        return [
            cnnlib.batchnorm_forward(x, x[0], x[1], bn_param)[0],
            cnnlib.softmax_loss(x, np.arange(5) % 4, weights=some)[1],
            cnnlib.bce_loss(x, y, pos_weight=some)[1],
            optim.sgd_momentum(x.copy(), y, {"velocity": np.broadcast_to(some, x.shape)})[0],
        ]

    assert_same(results(narrow), results(narrow.astype(np.float32)))


@pytest.mark.parametrize("loss", [cnnlib.softmax_loss, cnnlib.svm_loss])
def test_losses_take_any_form_of_array(loss, dtype, rng):
    (x,) = cast(random_arrays(rng, (5, 4)), dtype)
    y = np.array([0, 3, 1, 1, 2])
    value, dx = loss(x, y)
    for form in FORMS:
        got, got_dx = loss(form(x), y if form is spread or form is DLPackProtocol else form(y))
        assert got == value
        assert_same([got_dx], [dx])


@pytest.mark.parametrize("form", FORMS)
def test_weights_of_a_loss_take_any_form_of_array(form, rng):
    x, y, factors = random_arrays(rng, (5, 4), (5, 4), (4,))
    want = (
        cnnlib.bce_loss(x, y, pos_weight=factors**2),
        cnnlib.softmax_loss(x, np.arange(5) % 4, weights=factors**2),
    )
    factors = form(factors**2)
    got = cnnlib.bce_loss(x, y, pos_weight=factors), cnnlib.softmax_loss(x, np.arange(5) % 4, weights=factors)
    assert_same([dx for _, dx in got], [dx for _, dx in want])


@pytest.mark.parametrize("form", [spread, reversed_axes, swapped_bytes, ArrayProtocol])
def test_batchnorm_takes_any_form_of_running_statistics(form, dtype, rng):
    x, gamma, beta, mean = cast(random_arrays(rng, (5, 4), (4,), (4,), (4,)), dtype)
    param = {"mode": "test", "running_mean": mean, "running_var": mean**2}
    want, _ = cnnlib.batchnorm_forward(x, gamma, beta, param)
    other = {"mode": "test", "running_mean": form(mean), "running_var": form(mean**2)}
    assert_same([cnnlib.batchnorm_forward(x, gamma, beta, other)[0]], [want])


class Parameters(collections.abc.Mapping):
    """A mapping that is no dict."""

    def __init__(self, **values):
        self._values = values

    def __getitem__(self, key):
        return self._values[key]

    def __iter__(self):
        return iter(self._values)

    def __len__(self):
        return len(self._values)


@pytest.mark.parametrize(
    "layer", [cnnlib.conv_forward, cnnlib.conv_transpose_forward], ids=["conv", "transpose"]
)
@pytest.mark.parametrize("kind", [dict, Parameters, collections.OrderedDict, types.SimpleNamespace])
@pytest.mark.parametrize(
    ("stride", "pad"),
    [
        (np.int32(2), np.uint8(1)),
        ([2, np.int64(2)], [1, 1]),
        ((2, 2), ((1, 1), [1, np.int8(1)])),
        (np.array(2), np.array(1)),
        (np.array([2, 2]), np.array([[1, 1], [1, 1]])),
    ],
    ids=["numpy", "lists", "nested", "0-d", "arrays"],
)
def test_conv_param_in_any_form(layer, kind, stride, pad, rng):
    x, w = random_arrays(rng, (2, 3, 7, 6), (3, 3, 3, 3))
    want, _ = layer(x, w, None, {"stride": 2, "pad": 1})
    param = {"stride": stride, "pad": pad, "dilation": (1, 1), "algorithm": np.str_("auto")}
    if kind is types.SimpleNamespace:
        with pytest.raises(TypeError, match="conv_param must be a dict, got SimpleNamespace"):
            layer(x, w, None, kind(**param))
        return
    assert_same([layer(x, w, None, kind(**param))[0]], [want])


@pytest.mark.parametrize("layer", ["conv", "conv_transpose"])
def test_steps_as_arrays_in_a_network(layer, rng, tmp_path):
    """Its shapes, files and a predictor take them, too."""
    x, w = random_arrays(rng, (2, 3, 7, 6), (3, 3, 3, 3))
    param = {"stride": np.array([2, 2]), "pad": np.array([[1, 1], [1, 1]])}
    graph = Graph([Node(layer, ("input",), "a", ("W", None), (param,))], output="a")
    net = GraphNet(graph, {"W": w}, (3, 7, 6))
    want, _ = getattr(cnnlib, f"{layer}_forward")(x, w, None, {"stride": 2, "pad": 1})
    np.testing.assert_allclose(net.loss(x), want, rtol=1e-5, atol=1e-5)
    cnnlib.prepare(net).save(tmp_path / "net.cnnlib")
    np.testing.assert_allclose(cnnlib.load(tmp_path / "net.cnnlib")(x), want, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "layer", ["batchnorm", "spatial_batchnorm", "affine_bn_relu", "conv_bn_relu", "conv_bn_relu_pool"]
)
def test_bn_param_that_cannot_be_written_to(layer, rng):
    """In training it takes the running statistics; to refuse it later would waste the work."""
    (layer,) = [known for known in LAYERS if known.name == layer]
    arrays = layer.arrays(rng)

    def forward(kind, mode):
        rest = [kind({**param, "mode": mode}) if "mode" in param else param for param in layer.rest()]
        return layer.forward(*arrays, *rest)[0], rest

    for kind in (types.MappingProxyType, lambda param: Parameters(**param)):
        with pytest.raises(TypeError, match=rf"^{layer.name}_forward: .* bn_param, a \w+ is read-only$"):
            forward(kind, "train")
        assert_same([forward(kind, "test")[0]], [forward(dict, "test")[0]])
    want, params = forward(dict, "train")
    got, others = forward(collections.UserDict, "train")
    assert_same([got], [want])
    for other, param in zip(others, params, strict=True):
        assert all(np.array_equal(other[key], param[key]) for key in param)


@pytest.mark.parametrize("value", [True, np.True_, 1.0, None, "1", (1, True), [1, None]], ids=repr)
def test_what_is_no_integer_is_no_step(value, rng):
    x, w = random_arrays(rng, (2, 3, 7, 6), (3, 3, 3, 3))
    for key in ("stride", "dilation", "pad"):
        if key == "pad" and value == "1":
            continue  # would have to be 'same' or 'valid'
        with pytest.raises(TypeError, match=f"conv_forward: {key} must be an integer, got"):
            cnnlib.conv_forward(x, w, None, {key: value})


def test_conv_param_may_change_while_it_is_read(rng):
    """Other threads, and the __index__ of a value, may write to it: what was read is held meanwhile."""
    x, w = random_arrays(rng, (1, 1, 5, 5), (1, 1, 1, 1))
    param = {}

    class Two:
        def __index__(self):
            param.clear()
            param["stride"] = 10**6
            return 2

    for _ in range(100):
        param.clear()
        param.update(stride=(Two(), 2), pad=[Two(), 1], dilation=(1, 1000 - 999))
        assert cnnlib.conv_forward(x, w, None, param)[0].shape == (1, 1, 5, 4)


def test_parameters_are_read_anew():
    """A call takes nothing from an earlier one: not a list that changed, nor objects that look alike."""
    x, w = np.ones((1, 1, 9, 9)), np.ones((1, 1, 3, 3))

    def rows(param):
        return cnnlib.conv_forward(x, w, None, param)[0].shape[2]

    pad = [1, 1]
    param = {"pad": pad}
    assert rows(param) == 9
    pad[0] = 2
    assert rows(param) == 11
    param["pad"] = ((pad, pad), pad)[1]
    pad[0] = 0
    assert rows(param) == 7
    nested = ([3, 1], (1, 1))
    assert rows({"pad": nested}) == 11
    nested[0][0] = 1
    assert rows({"pad": nested}) == 9
    for _ in range(2):
        for stride in range(1, 40):
            assert rows({"stride": (stride, 1)}) == 1 + 6 // stride
            assert rows({"stride": stride, "pad": 1}) == 1 + 8 // stride
        assert rows({"stride": 1}) == 7
        with pytest.raises(TypeError, match="conv_forward: stride must be an integer, got True"):
            rows({"stride": True})
        with pytest.raises(ValueError, match="conv_forward: stride must be between 1"):
            rows({"stride": 0})
