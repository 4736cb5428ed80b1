"""Files with tensors of any rank beside onnx's own evaluator, and as PyTorch exports them."""

import io

import cnnlib.onnx
import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
from onnx.reference import ReferenceEvaluator  # noqa: E402
from onnx_nets import network  # noqa: E402

SAMPLES = 2
CLOSE = {"rtol": 1e-4, "atol": 1e-5}  # float32
CASES = {
    "slices": ("y = Slice(x, a, b, c, d)", {"a": [1, -1], "b": [9, -99], "c": [1, 3], "d": [1, -2]}),
    "split": ("a, b = Split<axis=3>(x, s) y = Concat<axis=-1>(b, a)", {"s": [3, 5]}),
    "split into parts": (
        "a, b, c = Split<axis=2, num_outputs=3>(x) d = Mul(a, b) y = ReduceSum(d, k)",
        {"k": [2]},
    ),
    "rows joined": ("y = Concat<axis=2>(x, x)", {}),
    "transposed": ("a = Transpose<perm=[0,3,1,2]>(x) b = Relu(a) y = Add(b, k)", {"k": (3, 8)}),
    "samples in the middle": (
        "a = Transpose<perm=[2,0,1,3]>(x) b = Relu(a) y = Transpose<perm=[1,0,2,3]>(b)",
        {},
    ),
    "samples folded": (
        "a = Reshape(x, s) b = Softmax<axis=-1>(a) c = MatMul(b, w) y = Reshape(c, t)",
        {"s": [-1, 4, 16], "w": (16, 5), "t": [-1, 12, 5]},
    ),
    "shapes of shapes": (
        "s = Shape(x) n = Gather<axis=0>(s, zero) m = Unsqueeze(n, zeros) t = Concat<axis=0>(m, rest) "
        "a = Reshape(x, t) y = Transpose<perm=[0,2,1]>(a)",
        {"zero": np.array(0), "zeros": [0], "rest": [3, -1]},
    ),
    "a token": (
        "s = Shape(x) n = Slice(s, zero, one) t = Concat<axis=0>(n, rest) e = Expand(k, t) a = Flatten(x) "
        "b = Reshape(a, u) y = Concat<axis=1>(e, b)",
        {"zero": [0], "one": [1], "rest": [1, 64], "k": (1, 1, 64), "u": [0, 3, 64]},
    ),
    "gathered": (
        "a = Gather<axis=3>(x, i) y = Gather<axis=2>(a, j)",
        {"i": np.array([[0, 3], [-1, 1]]), "j": np.array(-2)},
    ),
    "padded": ('y = Pad<mode="reflect">(x, p)', {"p": [0, 0, 1, 2, 0, 0, 3, 0]}),
    "padded channels": ("a = Pad(x, p, v) y = Relu(a)", {"p": [0, 1, 0, 0, 0, 2, 0, 0], "v": 0.5}),
    "tiled": ("y = Tile(x, r)", {"r": [1, 2, 1, 3]}),
    "depth to space": ("a = Concat<axis=1>(x, x, x, x) b = DepthToSpace<blocksize=2>(a) y = Relu(b)", {}),
    "columns of depth": (
        'a = Concat<axis=1>(x, x, x, x) b = DepthToSpace<blocksize=2, mode="CRD">(a) '
        "y = SpaceToDepth<blocksize=4>(b)",
        {},
    ),
    "arithmetic": (
        "a = Sub(k, x) b = Abs(a) c = Add(b, one) d = Div(x, c) y = Pow(d, two)",
        {"k": (8,), "one": 1.0, "two": 2.0},
    ),
    "roots": ("a = Abs(x) b = Sqrt(a) c = Exp(b) d = Log(c) e = Add(c, d) y = Reciprocal(e)", {}),
    "extremes": (
        "a = Max(x, k) b = Min(a, l) y = Clip(b, low, high)",
        {"k": (8,), "l": (8, 1), "low": -0.3, "high": 0.6},
    ),
    "activations": ("a = Softplus(x) b = Mish(a) y = HardSigmoid<alpha=0.3, beta=0.4>(b)", {}),
    "slopes": ("y = PRelu(x, s)", {"s": (3, 1, 1)}),
    "a mask": ("y = Where(m, x, k)", {"m": np.tri(8, dtype=bool), "k": np.float32(-2)}),
    "sums": (
        "a = ReduceMean(x, i) b = ReduceMax<keepdims=0>(a, j) c = ReduceMin<keepdims=0>(x, j) y = Mul(b, c)",
        {"i": [1], "j": [3]},
    ),
    "a norm": ("a = ReduceL2(x, i) y = Div(x, a)", {"i": [1]}),
    "bins": ("a = Reshape(x, s) b = Softmax<axis=2>(a) y = LogSoftmax<axis=1>(b)", {"s": [0, 4, 6, 8]}),
    "matrices": ("t = Transpose<perm=[0,1,3,2]>(x) a = MatMul(x, t) y = MatMul(k, a)", {"k": (8, 8)}),
    "rows of weights": ("a = MatMul(x, w) y = Add(a, b)", {"w": (8, 5), "b": (5,)}),
    "layer norm": ("y = LayerNormalization<axis=-1>(x, g, b)", {"g": (8,), "b": (8,)}),
    "layer norm of two axes": ("y = LayerNormalization<axis=2>(x, g)", {"g": (8, 8)}),
    "einsum": ('y = Einsum<equation="nchw,ndhw->ncd">(x, x)', {}),
    "attention": (
        "t = Transpose<perm=[0,1,3,2]>(x) a = MatMul(x, t) s = Mul(a, f) p = Softmax<axis=-1>(s) "
        "y = MatMul(p, x)",
        {"f": 0.3},
    ),
    "sizes": (
        'y = Resize<mode="linear", coordinate_transformation_mode="pytorch_half_pixel">(x, , , n)',
        {"n": [2, 3, 5, 11]},
    ),
    "cubic": (
        'y = Resize<mode="cubic", cubic_coeff_a=-0.75, coordinate_transformation_mode="half_pixel">(x, , s)',
        {"s": np.array([1, 1, 1.5, 0.5], np.float32)},
    ),
    "corners": (
        'y = Resize<mode="linear", coordinate_transformation_mode="align_corners">(x, , , n)',
        {"n": [2, 3, 9, 5]},
    ),
    "constant for each pixel": ("y = Add(x, k)", {"k": (3, 8, 8)}),
    "a sum over channels that lie in one": (
        "r = Reshape(x, row) p = GlobalAveragePool(x) c = Reshape(p, column) y = Add(r, c)",
        {"row": [0, 1, 192], "column": [0, 3, 1]},
    ),
    "a norm of rows": (
        "c = Conv(x, w) t = Transpose<perm=[0,2,3,1]>(c) y = BatchNormalization(t, k, k, k, k)",
        {"w": (8, 3, 1, 1), "k": np.ones(8, np.float32)},
    ),
    "divides by less than has a reciprocal": (
        "y = Div(x, k)",
        {"k": np.array([1, 1e-40, 1], np.float32).reshape(3, 1, 1)},
    ),
    "clips to less than has a reciprocal": ("y = Clip(x, l, h)", {"l": 0.0, "h": np.float32(1e-39)}),
    "minus infinity at the end before a pool with ceil_mode": (
        "p = Pad(x, pads, v) y = MaxPool<kernel_shape=[2,2], strides=[2,2], ceil_mode=1>(p)",
        {"pads": [0, 0, 0, 0, 0, 0, 1, 1], "v": np.float32(-np.inf)},
    ),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_files_give_what_onnx_says(name, rng):
    text, given = CASES[name]
    proto = network(rng, text, given)
    x = rng.standard_normal((SAMPLES, 3, 8, 8)).astype(np.float32)
    (want,) = ReferenceEvaluator(proto).run(None, {"x": x})
    net = cnnlib.onnx.load(proto)
    np.testing.assert_allclose(net(x), want, **CLOSE)
    one = net(x[:1])
    np.testing.assert_array_equal(one, net(x)[:1])


def test_negative_padding_cuts(rng):
    """Which onnx's own evaluator refuses."""
    net = cnnlib.onnx.load(network(rng, "y = Pad(x, p)", {"p": [0, 0, -1, 0, 0, 0, 2, -3]}))
    x = rng.standard_normal((2, 3, 8, 8)).astype(np.float32)
    np.testing.assert_array_equal(net(x), np.pad(x[:, :, 1:, :5], ((0, 0), (0, 0), (0, 2), (0, 0))))


def test_another_size_is_taken_where_no_size_is_built_in(rng):
    proto = network(rng, "a, b = Split<axis=1>(x, s) c = Exp(b) y = Concat<axis=1>(c, a)", {"s": [1, 2]})
    x = rng.standard_normal((2, 3, 5, 11)).astype(np.float32)
    (want,) = ReferenceEvaluator(proto).run(None, {"x": x})
    np.testing.assert_allclose(cnnlib.onnx.load(proto)(x), want, **CLOSE)


def test_a_size_that_is_built_in_is_refused_at_the_call(rng):
    net = cnnlib.onnx.load(network(rng, "y = Add(x, k)", {"k": (8, 8)}))
    with pytest.raises(ValueError, match=r"node 'y.*\(N, 3, 9, 8\) and \(N, 3, 8, 8\)"):
        net(np.zeros((1, 3, 9, 8), np.float32))


torch_tensors = pytest.importorskip("test_torch_tensors", reason="torch is not installed")


@pytest.mark.parametrize("name", torch_tensors.FAMILIES)
@pytest.mark.filterwarnings("ignore")
def test_families_that_pytorch_exports(name):
    import torch

    torch.manual_seed(0)
    module, file = torch_tensors.FAMILIES[name]().eval(), io.BytesIO()
    x = torch.randn(SAMPLES, *torch_tensors.DIM)
    torch.onnx.export(module, (x,), file, dynamo=False, input_names=["x"], dynamic_axes={"x": {0: "N"}})
    net = cnnlib.onnx.load(onnx.load_from_string(file.getvalue()))
    x = torch.randn(3, *torch_tensors.DIM)
    with torch.no_grad():
        want = module(x).numpy()
    np.testing.assert_allclose(net(x.numpy()), want, **CLOSE)
