"""Networks from ONNX files: what operators mean, against ONNX Runtime, and files that are refused."""

import sys

import numpy as np
import pytest

pytest.importorskip("onnx", reason="onnx is not installed")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")

import cnnlib
import cnnlib.onnx
import onnx
from cnnlib.gradient_check import eval_numerical_gradient, rel_error
from cnnlib.onnx.reading import network as reading
from cnnlib.onnx.reading.constants import FOLDED
from cnnlib.onnx.reading.network import OPERATORS as READERS
from cnnlib.solver import Solver
from onnx.reference import ReferenceEvaluator
from onnx_nets import model, network, run_elsewhere, weights

FEATURES = "pooled = GlobalAveragePool(x) f = Flatten(pooled)"

# name: (operators, arrays as `network` takes them)
OPERATORS = {
    "conv": ("y = Conv<pads=[1,2,0,1], strides=[2,1]>(x, w, b)", {"w": (4, 3, 3, 2), "b": 4}),
    "conv without bias": ("y = Conv(x, w)", {"w": (4, 3, 3, 3)}),
    "conv groups dilations": (
        "y = Conv<group=3, dilations=[2,1], kernel_shape=[3,3]>(x, w)",
        {"w": (6, 1, 3, 3)},
    ),
    "conv same upper": ('y = Conv<auto_pad="SAME_UPPER", strides=[2,2]>(x, w)', {"w": (4, 3, 4, 3)}),
    "conv same lower": ('y = Conv<auto_pad="SAME_LOWER", strides=[2,2]>(x, w)', {"w": (4, 3, 4, 3)}),
    "conv valid": ('y = Conv<auto_pad="VALID">(x, w)', {"w": (4, 3, 4, 3)}),
    "conv transpose": (
        "y = ConvTranspose<strides=[2,2], pads=[1,0,1,1], output_padding=[1,0]>(x, w, b)",
        {"w": (3, 2, 3, 3), "b": 2},
    ),
    "conv transpose groups": (
        "y = ConvTranspose<group=3, output_shape=[17,18], strides=[2,2]>(x, w)",
        {"w": (3, 2, 3, 3)},
    ),
    "max pool": ("y = MaxPool<kernel_shape=[3,2], strides=[2,2], pads=[1,0,1,1]>(x)",),
    "max pool strides 1": ("y = MaxPool<kernel_shape=[3,3], dilations=[2,1]>(x)",),
    "max pool ceil": ("y = MaxPool<kernel_shape=[3,3], strides=[2,2], ceil_mode=1>(x)",),
    "avg pool": ("y = AveragePool<kernel_shape=[3,3], strides=[2,1], pads=[1,1,1,1]>(x)",),
    "avg pool counts": ("y = AveragePool<kernel_shape=[3,3], pads=[1,1,1,1], count_include_pad=1>(x)",),
    "avg pool same": ('y = AveragePool<kernel_shape=[3,3], strides=[2,2], auto_pad="SAME_UPPER">(x)',),
    "global avg pool": ("p = GlobalAveragePool(x) y = Flatten(p)",),
    "global max pool": ("y = GlobalMaxPool(x)",),
    "mean of pixels": ("p = ReduceMean<keepdims=0>(x, axes) y = Gemm(p, w)", {"w": (3, 5), "axes": [-1, 2]}),
    "conv behind a global pool": (
        "p = GlobalAveragePool(x) c = Conv(p, w, b) r = Relu(c) y = Flatten(r)",
        {"w": (5, 3, 1, 1), "b": 5},
    ),
    "batch norm": (
        "y = BatchNormalization<epsilon=0.01>(x, g, b, m, v)",
        {"g": 3, "b": 3, "m": 3, "v": [0.5, 1, 2]},
    ),
    "batch norm of features": (
        f"{FEATURES} y = BatchNormalization(f, g, b, m, v)",
        {"g": 3, "b": 3, "m": 3, "v": [0.5, 1, 2]},
    ),
    "layer norm of features": (f"{FEATURES} y = LayerNormalization<epsilon=0.1>(f, g, b)", {"g": 3, "b": 3}),
    "layer norm without bias": (f"{FEATURES} y = LayerNormalization(f, g)", {"g": 3}),
    "group norm": (
        "c = Conv(x, w) y = GroupNormalization<num_groups=2>(c, g, b)",
        {"w": (6, 3, 3, 3), "g": 6, "b": 6},
    ),
    "group norm by instance norm": (
        "c = Conv(x, w) r = Reshape(c, split) i = InstanceNormalization(r, one, zero) s = Reshape(i, back)"
        "m = Mul(s, g) y = Add(m, b)",
        {
            "w": (6, 3, 3, 3),
            "g": (6, 1, 1),
            "b": (6, 1, 1),
            "split": [0, 2, -1],
            "back": [0, 6, 6, 6],
            "one": [2, 0.5],
            "zero": [0.1, -0.3],
        },
    ),
    "gemm": ("f = Flatten(x) y = Gemm<alpha=0.5, beta=2.0, transB=1>(f, w, b)", {"w": (5, 192), "b": 5}),
    "gemm of one bias": ("f = Flatten(x) y = Gemm(f, w, b)", {"w": (192, 5), "b": (1,)}),
    "matmul and add": ("f = Flatten(x) p = MatMul(f, w) y = Add(b, p)", {"w": (192, 5), "b": 5}),
    "matmul of pixels": (
        "t = Transpose<perm=[0,2,3,1]>(x) p = MatMul(t, w) a = Add(p, b) r = Relu(a) m = Mul(r, g)"
        "y = Transpose<perm=[0,3,1,2]>(m)",
        {"w": (3, 5), "b": 5, "g": 5},
    ),
    "relu": ("y = Relu(x)",),
    "leaky relu": ("y = LeakyRelu<alpha=0.3>(x)",),
    "prelu of one slope": ("y = PRelu(x, s)", {"s": np.full((3, 1, 1), 0.2, np.float32)}),
    "clip to 6": ("y = Clip(x, low, high)", {"low": 0.0, "high": 6.0}),
    "clip to another bound": ("y = Clip(x, low, high)", {"low": 0.0, "high": 0.7}),
    "clip without a bound": ("y = Clip(x, low)", {"low": 0.0}),
    "clip to the largest number": ("y = Clip(x, low, high)", {"low": 0.0, "high": 3.4028234e38}),
    "sigmoid": ("y = Sigmoid(x)",),
    "tanh": ("y = Tanh(x)",),
    "hard sigmoid": ("y = HardSigmoid<alpha=0.3>(x)",),
    "hard swish": ("y = HardSwish(x)",),
    "gelu": ("y = Gelu(x)",),
    "gelu by tanh": ('y = Gelu<approximate="tanh">(x)',),
    "elu": ("y = Elu<alpha=0.4>(x)",),
    "celu": ("y = Celu<alpha=0.4>(x)",),
    "selu": ("y = Selu(x)",),
    "softmax": ("y = Softmax<axis=1>(x)",),
    "softmax of features": (f"{FEATURES} y = Softmax(f)",),
    "instance norm": ("y = InstanceNormalization<epsilon=0.1>(x, g, b)", {"g": 3, "b": 3}),
    "global pool as images": ("y = GlobalAveragePool(x)",),
    "max pool behind a global pool": (
        "p = GlobalAveragePool(x) m = MaxPool<kernel_shape=[1,1]>(p) s = Add(m, p) y = Flatten(s)",
    ),
    "sum of pools": ("p = GlobalAveragePool(x) m = GlobalMaxPool(x) s = Add(p, m) y = Mul(s, x)",),
    "softmax of another shape": (
        "r = Reshape(x, s) m = Softmax<axis=1>(r) f = Flatten(m) y = Gemm(f, w)",
        {"w": (192, 2), "s": [0, 192, 1, 1]},
    ),
    "conv behind a global pool that stays images": (
        "p = GlobalAveragePool(x) c = Conv<pads=[1,1,1,1]>(p, w) r = Relu(c) y = Conv(r, v)",
        {"w": (4, 3, 3, 3), "v": (2, 4, 1, 1)},
    ),
    "global pool enlarged": (
        "p = GlobalAveragePool(x) c = Conv(p, w) u = Resize(c, , s) y = Mul(u, x)",
        {"w": (3, 3, 1, 1), "s": [1.0, 1, 8, 8]},
    ),
    "resize nearest": (
        'y = Resize<coordinate_transformation_mode="asymmetric", nearest_mode="floor">(x, , s)',
        {"s": [1.0, 1, 2, 3]},
    ),
    "resize nearest half pixel": ("y = Resize(x, , s)", {"s": [1.0, 1, 3, 4]}),
    "resize to sizes": ('y = Resize<mode="linear">(x, , , s)', {"s": [3, 3, 16, 24]}),
    "resize scales of the last axes": ("y = Resize<axes=[-2,-1]>(x, , s)", {"s": [2.0, 3]}),
    "resize sizes of the last axes": ("y = Resize<axes=[-2,-1]>(x, , , s)", {"s": [16, 24]}),
    "resize sizes of one axis": ("y = Resize<axes=[-1]>(x, , , s)", {"s": [16]}),
    **{
        f"resize {policy}": (
            f'y = Resize<axes=[2,3], keep_aspect_ratio_policy="{policy}">(x, , , s)',
            {"s": [16, 32]},
        )
        for policy in ("stretch", "not_larger", "not_smaller")
    },
    "resize linear": (
        'y = Resize<mode="linear", coordinate_transformation_mode="pytorch_half_pixel">(x, , s)',
        {"s": [1.0, 1, 2, 2]},
    ),
    "resize to the corners": (
        'y = Resize<mode="linear", coordinate_transformation_mode="align_corners", axes=[3,2]>(x, , s)',
        {"s": [3.0, 2]},
    ),
    "gelu written out": (
        "d = Div(x, r) e = Erf(d) a = Add(e, one) m = Mul(x, a) y = Mul(m, half)",
        {"r": np.float32(np.sqrt(2)), "one": 1.0, "half": 0.5},
    ),
    "gelu written out otherwise": (
        "d = Mul(r, x) e = Erf(d) a = Add(one, e) h = Mul(x, half) y = Mul(h, a)",
        {"r": np.float32(np.sqrt(0.5)), "one": 1.0, "half": 0.5},
    ),
    "swish written out": ("c = Conv(x, w) s = Sigmoid(c) y = Mul(c, s)", {"w": (4, 3, 3, 3)}),
    "swish times nearly 1": ("s = Sigmoid(x) m = Mul(x, s) y = Mul(m, k)", {"k": 0.9995}),
    "gelu by nearly one half": (
        "d = Mul(r, x) e = Erf(d) a = Add(one, e) h = Mul(x, half) m = Mul(h, a) y = Mul(m, k)",
        {"r": np.float32(np.sqrt(0.5)), "one": 1.0, "half": 0.5, "k": 1.0004},
    ),
    "sigmoid that is read twice": ("s = Sigmoid(x) m = Mul(x, s) y = Add(m, s)",),
    "hard swish written out": (
        "a = Add(x, three) c = Clip(a, low, high) m = Mul(x, c) y = Div(m, six)",
        {"three": 3.0, "low": 0.0, "high": 6.0, "six": 6.0},
    ),
    "hard swish by a hard sigmoid": ("s = HardSigmoid<alpha=0.16666667, beta=0.5>(x) y = Mul(s, x)",),
    "dropout": ("d = Dropout(x, ratio) y = Relu(d)", {"ratio": 0.3}),
    "add": ("c = Conv(x, w) y = Add(c, x)", {"w": (3, 3, 1, 1)}),
    "subtract": ("c = Conv(x, w) y = Sub(x, c)", {"w": (3, 3, 1, 1)}),
    "sum": ("c = Conv(x, w) y = Sum(c, x, x)", {"w": (3, 3, 1, 1)}),
    "mean": ("c = Conv(x, w) y = Mean(c, x)", {"w": (3, 3, 1, 1)}),
    "multiply": ("c = Conv(x, w) y = Mul(c, x)", {"w": (3, 3, 1, 1)}),
    "attention": ("p = GlobalAveragePool(x) c = Conv(p, w) s = Relu(c) y = Mul(s, x)", {"w": (3, 3, 1, 1)}),
    "multiply by a number": ("y = Mul(k, x)", {"k": 2.5}),
    "add a number": ("y = Add(x, k)", {"k": 2.5}),
    "constant minus": ("y = Sub(k, x)", {"k": np.array([1, 2, 3], np.float32).reshape(3, 1, 1)}),
    "normalised images": ("s = Sub(x, m) y = Div(s, d)", {"m": (3, 1, 1), "d": (1, 3, 1, 1)}),
    "scale and shift behind conv": (
        "c = Conv(x, w, b) m = Mul(c, g) y = Add(m, h)",
        {"w": (4, 3, 3, 3), "b": 4, "g": (4, 1, 1), "h": (1, 4, 1, 1)},
    ),
    "scale and shift behind conv transpose": (
        "c = ConvTranspose(x, w, b) m = Mul(c, g) y = Add(m, h)",
        {"w": (3, 4, 3, 3), "b": 4, "g": (4, 1, 1), "h": (4, 1, 1)},
    ),
    "scale and shift behind conv transpose in groups": (
        "c = ConvTranspose<group=3>(x, w) m = Mul(c, g) y = Add(m, h)",
        {"w": (3, 2, 3, 3), "g": (6, 1, 1), "h": (6, 1, 1)},
    ),
    "scale and shift behind batch norm": (
        "c = BatchNormalization(x, g, b, b, v) m = Mul(c, g1) a = Add(m, h1) y = Sub(a, k)",
        {"g": 3, "b": 3, "g1": (3, 1, 1), "h1": (3, 1, 1), "v": [0.5, 1, 2], "k": 0.3},
    ),
    "scale and shift behind gemm": (
        "f = Flatten(x) p = Gemm(f, w) m = Mul(p, g) a = Add(m, h) y = Div(a, k)",
        {"w": (192, 5), "g": 5, "h": 5, "k": 3.0},
    ),
    "a number added to a flat conv": (
        "c = Conv(x, w) f = Flatten(c) y = Add(f, k)",
        {"w": (4, 3, 3, 3), "k": 3.0},
    ),
    "scale of what is read twice": (
        "c = Conv(x, w) m = Mul(c, g) a = Add(c, h) y = Add(m, a)",
        {"w": (4, 3, 3, 3), "g": (4, 1, 1), "h": (4, 1, 1)},
    ),
    "shift of what another shape is read of": (
        "c = Conv(x, w) i = Identity(c) a = Add(i, h) y = Add(c, a)",
        {"w": (4, 3, 3, 3), "h": (4, 1, 1)},
    ),
    "concat": ("c = Conv(x, w) y = Concat<axis=1>(x, c, x)", {"w": (4, 3, 1, 1)}),
    "concat of features": (f"{FEATURES} g = Flatten(x) y = Concat<axis=-1>(f, g)",),
    "flatten": ("y = Flatten(x)",),
    "reshape": ("f = Reshape(x, s) y = Gemm(f, w)", {"w": (192, 2), "s": [-1, 192]}),
    "reshape by shape": (
        "n = Shape(x) i = Constant<value=int64 {0}>() k = Gather(n, i) u = Unsqueeze(k, a)"
        "s = Concat<axis=0>(u, m) f = Reshape(x, s) y = Gemm(f, w)",
        {"w": (192, 2), "a": [0], "m": [-1]},
    ),
    "sizes computed": (
        "n = Shape<start=1>(x) d = ReduceProd<keepdims=1>(n) o = Constant<value_ints=[0]>()"
        "s = Concat<axis=0>(o, d) f = Reshape(x, s) y = Gemm(f, w)",
        {"w": (192, 2)},
    ),
    "squeeze and unsqueeze": (
        "p = GlobalAveragePool(x) s = Squeeze(p, a) u = Unsqueeze(s, a) c = Conv(u, w) y = Squeeze(c, a)",
        {"w": (5, 3, 1, 1), "a": [2, 3]},
    ),
    "pad before conv": (
        "p = Pad(x, pads) y = Conv<pads=[0,1,0,0]>(p, w)",
        {"w": (4, 3, 3, 3), "pads": [0, 0, 1, 2, 0, 0, 0, 1]},
    ),
    **{
        f"pad at the end before {pool} with ceil_mode": (
            f"p = Pad(x, pads) y = {pool}<kernel_shape=[2,2], strides=[2,2], ceil_mode=1>(p)",
            {"pads": [0, 0, 0, 0, 0, 0, 1, 1]},
        )
        for pool in ("MaxPool", "AveragePool")
    },
    "pad as wide as the window": (
        "p = Pad(x, pads) y = AveragePool<kernel_shape=[2,2]>(p)",
        {"pads": [0, 0, 2, 0, 0, 0, 0, 3]},
    ),
    "pad before relu": ("p = Pad(x, pads) y = Relu(p)", {"pads": [0, 0, 1, 2, 0, 0, 0, 1]}),
    "pad before max pool": (
        "p = Pad(x, pads) y = MaxPool<kernel_shape=[3,3], strides=[2,2]>(p)",
        {"pads": [0, 0, 1, 1, 0, 0, 1, 1]},
    ),
    "pad of -inf before max pool": (
        "p = Pad(x, pads, v) y = MaxPool<kernel_shape=[3,3], strides=[2,2]>(p)",
        {"pads": [0, 0, 1, 1, 0, 0, 1, 1], "v": np.float32(-np.inf)},
    ),
    "pad before avg pool": (
        "p = Pad(x, pads) y = AveragePool<kernel_shape=[3,3]>(p)",
        {"pads": [0, 0, 1, 1, 0, 0, 1, 1]},
    ),
    "shared weights": ("c = Conv<pads=[1,1,1,1]>(x, w, b) y = Conv(c, w, b)", {"w": (3, 3, 3, 3), "b": 3}),
    "identity": ("i = Identity(w) c = Conv(x, i) y = Identity(c)", {"w": (3, 3, 3, 3)}),
}


@pytest.mark.parametrize("name", OPERATORS)
def test_an_operator_gives_what_onnx_runtime_gives(name, rng):
    proto = network(rng, *OPERATORS[name])
    x = rng.standard_normal((3, 3, 8, 8)).astype(np.float32)
    wanted = run_elsewhere(proto, x)
    net = cnnlib.onnx.load(proto)
    got = net.loss(x)
    np.testing.assert_allclose(got, wanted, rtol=2e-5, atol=2e-5)


OLD = {
    "upsample": ("y = Upsample(x, s)", 9, {"s": [1.0, 1, 2, 2]}),
    "resize": ("y = Resize(x, s)", 10, {"s": [1.0, 1, 2, 2]}),
    "clip": ("y = Clip<min=0.0, max=6.0>(x)", 10),
    "hard swish": (
        "a = Add(x, three) c = Clip<min=0.0, max=6.0>(a) d = Div(c, six) y = Mul(d, x)",
        10,
        {"three": 3.0, "six": 6.0},
    ),
    "squeeze": ("p = GlobalAveragePool(x) s = Squeeze<axes=[3,2]>(p) y = Unsqueeze<axes=[2,3]>(s)", 11),
    "softmax of images": ("s = Softmax<axis=1>(x) y = Flatten(s)", 11),
    "mean": ("y = ReduceMean<axes=[2,3]>(x)", 13),
    "pad": ("p = Pad<pads=[0,0,1,2,0,0,0,1]>(x) y = Relu(p)", 10),
    "dropout": ("y = Dropout<ratio=0.4>(x)", 10),
    "softmax": ("f = Flatten(x) y = Softmax(f)", 11),
    "size of a reshape": (
        "n = Shape(x) k = Gather<axis=0>(n, i) u = Unsqueeze<axes=[0]>(k) s = Concat<axis=0>(u, m)"
        "f = Reshape(x, s) y = Gemm(f, w)",
        11,
        {"i": np.array(0), "m": [-1], "w": np.full((192, 2), 0.1, np.float32)},
    ),
    "constants": (
        "u = Unsqueeze<axes=[0,3]>(k) s = Squeeze<axes=[0]>(u) c = Slice<axes=[0], starts=[1], ends=[4]>(s)"
        "y = Mul(x, c)",
        9,
        {"k": np.arange(1, 6, dtype=np.float32).reshape(5, 1)},
    ),
    "constants in axes from the end": (
        "u = Unsqueeze<axes=[-2,-1]>(k) s = Squeeze<axes=[-4]>(u) y = Mul(x, s)",
        11,
        {"k": np.arange(1, 4, dtype=np.float32).reshape(1, 3)},
    ),
    "group norm": ("y = GroupNormalization<num_groups=1>(x, g, b)", 18, {"g": [2.0], "b": [0.5]}),
}


@pytest.mark.parametrize("opset", [18, 21])
def test_group_norms_have_a_scale_for_each_group_or_channel(opset, rng):
    """Groups before version 21; the other is refused, as ONNX Runtime does when it comes to that node."""
    x = rng.standard_normal((2, 4, 5, 6)).astype(np.float32)
    for size in (2, 4):
        arrays = weights(rng, g=size, b=size)
        proto = model("y = GroupNormalization<num_groups=2>(x, g, b)", arrays, ("N", 4, 5, 6), opset)
        if size == (2 if opset < 21 else 4):
            got = cnnlib.onnx.load(proto).loss(x)
            np.testing.assert_allclose(got, run_elsewhere(proto, x), rtol=2e-5, atol=2e-5)
        else:
            with pytest.raises(
                ValueError, match=f"scale and bias have {size} and {size} values; version {opset}"
            ):
                cnnlib.onnx.load(proto)


@pytest.mark.parametrize("batch", [1, 3, "N"])
def test_a_squeeze_that_names_no_axes(batch, rng):
    """Of one image it takes the axis of images, too: the others' numbers are different ones then."""
    x = rng.standard_normal((batch if batch == 3 else 1, 3, 8, 8)).astype(np.float32)
    proto = model("p = GlobalAveragePool(x) y = Squeeze(p)", shape=(batch, 3, 8, 8))
    got = cnnlib.onnx.load(proto).loss(x)
    np.testing.assert_allclose(np.squeeze(got), run_elsewhere(proto, x), rtol=2e-5, atol=2e-5)
    proto = model("s = Squeeze(x) y = Softmax<axis=1>(s)", shape=(batch, 3, 8, 8))
    if batch == 1:
        with pytest.raises(ValueError, match="Squeeze 's': has no axes: it takes away that of the one image"):
            cnnlib.onnx.load(proto)
    else:
        x = rng.standard_normal((3, 3, 8, 8)).astype(np.float32)
        np.testing.assert_allclose(
            cnnlib.onnx.load(proto).loss(x), run_elsewhere(proto, x), rtol=2e-5, atol=2e-5
        )


def test_a_concat_of_version_1_joins_channels_unless_told(rng):
    x = rng.standard_normal((2, 3, 8, 8)).astype(np.float32)
    got = cnnlib.onnx.load(model("y = Concat(x, x)", opset=1)).loss(x)
    np.testing.assert_array_equal(got, np.concatenate([x, x], axis=1))


@pytest.mark.parametrize("elem", ["uint8", "int32"])
def test_integers_that_come_in_become_floats_first(elem, rng):
    x = rng.integers(0, 256, (2, 3, 8, 8)).astype(elem)

    def cast(text):
        proto = model(text, {"k": np.array(7, elem), "s": np.array([0, 3, 64, 1])}, elem=elem)
        proto.graph.output[0].type.tensor_type.elem_type = onnx.TensorProto.FLOAT
        return proto

    proto = cast("i = Identity(x) r = Reshape(i, s) f = Cast<to=1>(r) n = Shape(i) y = Reshape(f, n)")
    np.testing.assert_allclose(
        cnnlib.onnx.load(proto).loss(x.astype("f")), run_elsewhere(proto, x), rtol=1e-6
    )
    for kind in ("Div", "Add"):  # truncates, or wraps around
        with pytest.raises(ValueError, match=f"{kind} 'd': computes in integers"):
            cnnlib.onnx.load(cast(f"t = Identity(x) d = {kind}(t, k) y = Cast<to=1>(d)"))


def test_dilation_widens_the_windows_of_same_padding(rng):
    """As the standard has it; ONNX Runtime's pools pad for windows without dilation."""
    x = rng.standard_normal((1, 3, 8, 9)).astype(np.float32)
    text = 'y = MaxPool<kernel_shape=[3,2], dilations=[2,3], strides=[2,1], auto_pad="SAME_UPPER">(x)'
    proto = model(text, shape=("N", 3, 8, 9))
    (want,) = ReferenceEvaluator(proto).run(None, {"x": x})
    np.testing.assert_array_equal(cnnlib.onnx.load(proto).loss(x), want)


@pytest.mark.parametrize("name", OLD)
def test_an_operator_of_an_older_version(name, rng):
    text, opset, *given = OLD[name]
    proto = network(rng, text, *given, opset=opset)
    x = 2 * rng.standard_normal((3, 3, 8, 8)).astype(np.float32)
    np.testing.assert_allclose(cnnlib.onnx.load(proto).loss(x), run_elsewhere(proto, x), rtol=2e-5, atol=2e-5)


OTHER_AXES = {
    "conv 1d": (
        "y = Conv<strides=[2], pads=[1,0], dilations=[2], group=2>(x, w, b)",
        (4, 9),
        {"w": (6, 2, 3), "b": 6},
    ),
    "conv 1d same": ('y = Conv<auto_pad="SAME_UPPER", strides=[2]>(x, w)', (4, 9), {"w": (6, 4, 4)}),
    "conv 3d": (
        "y = Conv<strides=[1,2,1], pads=[1,0,1,0,2,1]>(x, w, b)",
        (2, 4, 5, 6),
        {"w": (3, 2, 2, 3, 3), "b": 3},
    ),
    "conv 3d same": (
        'y = Conv<auto_pad="SAME_LOWER", strides=[2,2,2]>(x, w)',
        (2, 4, 5, 6),
        {"w": (3, 2, 2, 3, 4)},
    ),
    "max pool 1d": ("y = MaxPool<kernel_shape=[3], strides=[2], pads=[1,0]>(x)", (4, 9)),
    "max pool 3d": (
        "y = MaxPool<kernel_shape=[2,3,2], strides=[1,2,2], pads=[1,0,0,0,1,1]>(x)",
        (2, 4, 5, 6),
    ),
    "avg pool 1d": ("y = AveragePool<kernel_shape=[3], pads=[1,1], count_include_pad=1>(x)", (4, 9)),
    "avg pool 3d": ("y = AveragePool<kernel_shape=[2,3,2], pads=[1,0,0,0,1,1]>(x)", (2, 4, 5, 6)),
    "sequences to features": (
        "c = Conv(x, w) r = Relu(c) p = MaxPool<kernel_shape=[2], strides=[2]>(r) f = Flatten(p)"
        "y = Gemm(f, v)",
        (4, 9),
        {"w": (6, 4, 2), "v": (24, 3)},
    ),
}


@pytest.mark.parametrize("name", OTHER_AXES)
def test_sequences_and_volumes(name, rng):
    text, shape, *given = OTHER_AXES[name]
    proto = network(rng, text, *given, shape=("N", *shape))
    x = rng.standard_normal((3, *shape)).astype(np.float32)
    np.testing.assert_allclose(cnnlib.onnx.load(proto).loss(x), run_elsewhere(proto, x), rtol=2e-5, atol=2e-5)


def test_what_is_read_once_is_the_same_at_other_sizes(rng, monkeypatch):
    """Operators of which channels alone are asked: no other size would show that they hold to this one."""
    asked = []
    for name, described in OPERATORS.items():
        proto = network(rng, *described)
        with monkeypatch.context() as patch:
            patch.setattr(reading, "_again", lambda *_, name=name: asked.append(name) or 1 / 0)
            try:
                cnnlib.onnx.load(proto)
            except ZeroDivisionError:
                continue
        with monkeypatch.context() as patch:
            patch.setattr(reading, "_OF_CHANNELS", set())
            assert cnnlib.onnx.load(proto).graph().fixed_by == "", name
    assert 10 < len(asked) < len(OPERATORS) - 10


WRITTEN_OUT = {"gelu": "gelu", "swish": "silu", "hard swish": "hard_swish"}


@pytest.mark.parametrize("name", [name for name in OPERATORS if "written out" in name or "by a hard" in name])
def test_an_activation_that_is_written_out_is_one_layer(name, rng):
    net = cnnlib.onnx.load(network(rng, *OPERATORS[name]))
    layers = [node.layer for node in net.graph() if node.layer != "conv"]
    assert layers == [next(layer for start, layer in WRITTEN_OUT.items() if name.startswith(start))]


# Networks of the structure of well-known ones.
NETWORKS = {
    "mobilenet v2": (
        "a = Conv<pads=[1,1,1,1]>(x, w1) b = Clip(a, low, high) c = Conv<group=6, pads=[1,1,1,1]>(b, w2)"
        "d = Clip(c, low, high) e = Conv(d, w3) y = Add(x, e)",
        {"w1": (6, 3, 3, 3), "w2": (6, 1, 3, 3), "w3": (3, 6, 1, 1)},
        ["conv", "relu6", "conv", "relu6", "conv", "add"],
    ),
    "mobilenet v3": (
        "a = Conv(x, w1) h = HardSwish(a) p = GlobalAveragePool(h) r = Conv(p, w2, b2) s = Relu(r)"
        "t = Conv(s, w3, b3) g = HardSigmoid<alpha=0.16666667>(t) m = Mul(g, h) f = GlobalAveragePool(m)"
        "v = Flatten(f) y = Gemm<transB=1>(v, w4)",
        {"w1": (6, 3, 1, 1), "w2": (2, 6, 1, 1), "b2": 2, "w3": (6, 2, 1, 1), "b3": 6, "w4": (5, 6)},
        [
            *["conv", "hard_swish", "global_avg_pool", "affine", "relu", "affine", "hard_sigmoid"],
            *["multiply", "global_avg_pool", "affine"],
        ],
    ),
    "densenet": (
        "n = BatchNormalization(x, g1, b1, m1, v1) r = Relu(n) a = Conv<pads=[1,1,1,1]>(r, w1)"
        "c = Concat<axis=1>(x, a) k = BatchNormalization(c, g2, b2, m2, v2) q = Relu(k)"
        "d = Conv<pads=[1,1,1,1]>(q, w2) e = Concat<axis=1>(x, a, d)"
        "y = AveragePool<kernel_shape=[2,2], strides=[2,2]>(e)",
        {"g1": 3, "b1": 3, "m1": 3, "w1": (2, 3, 3, 3), "g2": 5, "b2": 5, "m2": 5, "w2": (2, 5, 3, 3)},
        [
            "spatial_batchnorm",
            "relu",
            "conv",
            "concat",
            "spatial_batchnorm",
            "relu",
            "conv",
            "concat",
            "avg_pool",
        ],
    ),
    "convnext": (
        "a = Conv<group=3, pads=[3,3,3,3]>(x, w1, b1) t = Transpose<perm=[0,2,3,1]>(a)"
        "n = LayerNormalization<axis=-1, epsilon=0.000001>(t, g1, b1) p = MatMul(n, w2) q = Add(p, b2)"
        "r = Div(q, root) s = Erf(r) u = Add(s, one) v = Mul(q, u) h = Mul(v, half) m = MatMul(h, w3)"
        "o = Add(m, b3) z = Transpose<perm=[0,3,1,2]>(o) l = Mul(z, scale) e = Add(l, x)"
        "f = GlobalAveragePool(e) i = Transpose<perm=[0,2,3,1]>(f) j = LayerNormalization(i, g1, b1)"
        "k = Transpose<perm=[0,3,1,2]>(j) c = Flatten(k) y = Gemm<transB=1>(c, w4)",
        {
            **{"w1": (3, 1, 7, 7), "b1": 3, "g1": 3, "w2": (3, 12), "b2": 12, "w3": (12, 3), "b3": 3},
            **{"scale": (3, 1, 1), "w4": (5, 3)},
        },
        [
            *["conv", "spatial_layernorm", "conv", "gelu", "conv", "add", "global_avg_pool", "layernorm"],
            "affine",
        ],
    ),
    "googlenet": (
        "a = Conv(x, w1) b = Conv(x, w2) c = Conv<pads=[2,2,2,2]>(b, w3)"
        "p = MaxPool<kernel_shape=[3,3], pads=[1,1,1,1], ceil_mode=1>(x) d = Conv(p, w4)"
        "y = Concat<axis=1>(a, c, d)",
        {"w1": (2, 3, 1, 1), "w2": (2, 3, 1, 1), "w3": (3, 2, 5, 5), "w4": (2, 3, 1, 1)},
        ["conv", "conv", "conv", "max_pool", "conv", "concat"],
    ),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_of_a_known_structure(name, rng):
    text, shapes, layers = NETWORKS[name]
    constants = {"low": np.float32(0), "high": np.float32(6), "one": np.float32(1), "half": np.float32(0.5)}
    constants["root"] = np.float32(np.sqrt(2))
    constants |= {f"v{i}": np.linspace(0.5, 2, n, dtype=np.float32) for i, n in ((1, 3), (2, 5))}
    proto = model(text, {**weights(rng, **shapes), **constants})
    net = cnnlib.onnx.load(proto)
    assert [node.layer for node in net.graph()] == layers
    x = rng.standard_normal((3, 3, 8, 8)).astype(np.float32)
    np.testing.assert_allclose(net.loss(x), run_elsewhere(proto, x), rtol=2e-5, atol=2e-5)


RESNET = (
    "c = Conv<pads=[1,1,1,1]>(x, w1) n = BatchNormalization(c, g, b, m, v) r = Relu(n)"
    "d = Conv<pads=[1,1,1,1], strides=[2,2]>(r, w2) s = Conv<strides=[2,2]>(r, w3) a = Add(d, s) q = Relu(a)"
    "o = Concat<axis=1>(q, q) p = GlobalAveragePool(o) f = Flatten(p) y = Gemm<transB=1>(f, w4, b4)"
)
SHAPES = {
    **{"w1": (4, 3, 3, 3), "g": 4, "b": 4, "m": 4, "w2": (6, 4, 3, 3), "w3": (6, 4, 1, 1)},
    **{"w4": (5, 12), "b4": 5},
}


def resnet(rng, dtype=np.float32):
    arrays = {**weights(rng, dtype, **SHAPES), "v": np.array([0.5, 1, 2, 3], dtype)}
    return model(RESNET, arrays, elem="float" if dtype == np.float32 else "double")


def test_a_residual_network_in_float64(rng):
    proto = resnet(rng, np.float64)
    net = cnnlib.onnx.load(proto)
    x = rng.standard_normal((2, 3, 8, 8))
    wanted = ReferenceEvaluator(proto).run(None, {"x": x})[0]
    assert net.dtype == np.float64
    np.testing.assert_allclose(net.loss(x), wanted, rtol=1e-10)
    assert sorted(net.params) == ["b", "b4", "g", "w1", "w2", "w3", "w4"]


def test_two_names_of_one_constant_are_two_parameters(rng):
    proto = model("v = Identity(w) c = Conv(x, w) y = Conv(c, v)", weights(rng, np.float16, w=(3, 3, 1, 1)))
    params = cnnlib.onnx.load(proto).params
    assert set(params) == {"w", "v"}
    assert not np.shares_memory(params["w"], params["v"])


def test_a_loaded_network_trains(rng):
    net = cnnlib.onnx.load(resnet(rng, np.float64))
    x, y = rng.standard_normal((4, 3, 8, 8)), np.array([0, 4, 2, 1])
    _, grads = net.loss(x, y)
    assert grads.keys() == net.params.keys()
    for name in ("w1", "g", "w3", "b4"):
        numerical = eval_numerical_gradient(lambda _: net.loss(x, y)[0], net.params[name])
        assert rel_error(grads[name], numerical) < 1e-5


def test_a_solver_trains_a_loaded_network_which_is_then_saved(tmp_path, rng):
    """The names of exporters, with slashes and colons, are names of parameters too."""
    proto = resnet(rng)
    for tensor in proto.graph.initializer:
        for node in proto.graph.node:
            names = [f"/layer/onnx::{name}" if name == tensor.name else name for name in node.input]
            node.input[:] = names
        tensor.name = f"/layer/onnx::{tensor.name}"
    net = cnnlib.onnx.load(proto)
    x, y = rng.standard_normal((20, 3, 8, 8)).astype(np.float32), rng.integers(5, size=20)
    before = net.loss(x, y)[0]
    data = {"X_train": x, "y_train": y, "X_val": x, "y_val": y}
    options = {"update_rule": "adam", "optim_config": {"learning_rate": 1e-2}, "verbose": False, "seed": 0}
    Solver(net, data, batch_size=10, num_epochs=5, checkpoint_name=str(tmp_path / "run"), **options).train()
    assert net.loss(x, y)[0] < 0.9 * before
    net.save(tmp_path / "net.npz")
    loaded = cnnlib.load(tmp_path / "net.npz")
    assert np.array_equal(loaded.loss(x), net.loss(x))
    cnnlib.onnx.save(net, tmp_path / "net.onnx")
    assert np.array_equal(cnnlib.onnx.load(tmp_path / "net.onnx").loss(x), net.loss(x))


@pytest.mark.parametrize("inner", ["a", "input"])
def test_a_loaded_network_can_be_prepared(inner, rng):
    """Whatever its input is called, and though another value may be called 'input'."""
    proto = model(
        RESNET.replace("a =", f"{inner} =").replace("(a)", f"({inner})"),
        {**weights(rng, **SHAPES), "v": np.ones(4, np.float32)},
    )
    net = cnnlib.onnx.load(proto)
    x = rng.standard_normal((3, 3, 8, 8)).astype(np.float32)
    np.testing.assert_allclose(cnnlib.prepare(net)(x), net.loss(x), rtol=1e-4, atol=1e-5)


# Refusals -----------------------------------------------------------------------------------------------

REFUSED = {
    "unknown operator": (
        'n = Conv(x, w) y = Einsum<equation="abcd->abdc">(n)',
        r"Einsum 'y'",
        {"w": (3, 3, 1, 1)},
    ),
    **{
        f"another axis in front, by {kind}": (
            f"p = GlobalAveragePool(x) f = Flatten(p) y = {kind}(f, k)",
            "output 'y': its first axis is not that of the samples",
            {"k": np.full((1, 1, 1), 0.5, np.float32)},
        )
        for kind in ("Add", "Sub", "Mul", "Div", "PRelu")
    },
    "gelu written out, with another axis in front": (
        "p = GlobalAveragePool(x) f = Flatten(p) d = Div(f, r) e = Erf(d) a = Add(e, one) m = Mul(f, a) "
        "y = Mul(m, half)",
        "Erf 'e': this operator has no counterpart",
        {"r": np.full((1, 1, 1), np.sqrt(2), np.float32), "one": 1.0, "half": 0.5},
    ),
    "kernel_shape of another window": (
        "y = Conv<kernel_shape=[1,3]>(x, w)",
        r"Conv 'y': attribute kernel_shape is \[1, 3\]",
        {"w": (4, 3, 3, 3)},
    ),
    "exclude_outside": (
        "y = Resize<exclude_outside=1>(x, , s)",
        "Resize 'y': attribute exclude_outside",
        {"s": np.ones(4, np.float32)},
    ),
    "sizes of twice the images": ("s = Shape(x) t = Add(s, s) y = Resize(x, , , t)", "the number of images"),
    "attribute without counterpart": ("y = Relu<speed=3>(x)", "Relu 'y': attribute speed"),
    "attribute of another type": ('y = Gemm<transB="yes">(x, w)', "Gemm 'y'", {"w": (3, 3)}),
    "weights computed": ("y = Conv(x, x)", "w is computed from the images"),
    "missing weights": ("y = Conv(x)", "input 1 is missing"),
    "value made by nothing": ("y = Add(x, z)", "reads 'z', which nothing before it makes"),
    "second output": ("y, i = MaxPool<kernel_shape=[2,2]>(x) j = Cast<to=1>(i) z = Add(j, y)", "output 'i'"),
    "shapes that do not fit": ("y = Conv(x, w)", "Conv 'y': conv_forward: ", {"w": (4, 2, 3, 3)}),
    "window larger than the image": ("y = MaxPool<kernel_shape=[9,9]>(x)", "MaxPool 'y': max_pool"),
    "three dimensions": ("y = Conv<pads=[0,0,0,0,0,0]>(x, w)", "attribute pads", {"w": (4, 3, 1, 1)}),
    "filters of three dimensions": (
        "y = Conv(x, w)",
        r"w has the shape \(4, 3, 1, 1, 1\)",
        {"w": (4, 3, 1, 1, 1)},
    ),
    "training": (
        "y = BatchNormalization<training_mode=1>(x, g, g, g, v)",
        "training_mode is 1",
        {"g": 3, "v": np.ones(3, np.float32)},
    ),
    "operators of several kinds": (
        "a = Erf(x) b = CumSum(x, k) c = Relu(a) d = Add(c, b) y = Det(d)",
        "Erf 'a': this operator .*; CumSum 'b': this operator .*; Det 'y': this operator",
        {"k": np.array(1)},
    ),
    "samples mixed": ("y = Reshape(x, s)", "output 'y': its first axis", {"s": [-1, 3]}),
    "samples transposed": ("y = Transpose<perm=[1,0,2,3]>(x)", "output 'y': its first axis"),
    "constant blown up": (
        "k = ConstantOfShape(s) y = Add(x, k)",
        "ConstantOfShape 'k': makes a constant of shape",
        {"s": np.array([2**20, 2**20])},
    ),
    "arithmetic with the number of images": (
        "n = Shape<end=1>(x) d = Mul(n, two) y = Reshape(x, d)",
        "for 89 samples",
        {"two": [2]},
    ),
    "resized by the number of images": (
        "s = Shape(x) t = Mul(s, k) y = Resize(x, , , t)",
        "the number of images is to stay open, but it decides sizes",
        {"k": [2, 1, 2, 2]},
    ),
    "scaled by the number of images": (
        "s = Shape<end=1>(x) f = Cast<to=1>(s) y = Mul(x, f)",
        "the number of images is to stay open, but it decides node 'y'",
    ),
    "padded by the number of images": (
        "s = Shape(x) n = Gather(s, z) q = Div(n, four) m = Mul(q, four) r = Sub(n, m)"
        "p = Concat<axis=0>(z, z, r, z, z, z, z, z) c = Pad(x, p) y = Relu(c)",
        "the number of images is to stay open, but it decides",
        {"z": [0], "four": [4]},
    ),
    **{
        f"{kind} of the number of images": (
            f"s = Shape<end=1>(x) {text} f = Cast<to=1>(r) y = Mul(x, f)",
            f"the number of images is to stay open, but it decides node '{node}'",
            {"k": [k]},
        )
        for kind, node, text, k in (
            *(("Min", "r", "r = Min(s, k)", 2), ("Equal", "e", "e = Equal(s, k) r = Where(e, s, k)", 2)),
            ("rest", "y", "q = Div(s, k) m = Mul(q, k) r = Sub(s, m)", 101),
            ("quotient", "y", "r = Div(s, k)", 1000),
        )
    },
    "squeezed along no axes, which is all to some programs": (
        "p = GlobalAveragePool(x) y = Squeeze(p, a)",
        "Squeeze 'y': axes is empty",
        {"a": np.zeros(0, np.int64)},
    ),
    "a shape squeezed along no axes": (
        "s = Shape<end=1>(x) r = Squeeze(s, a) y = Reshape(x, r)",
        "Squeeze 'r': axes is empty",
        {"a": np.zeros(0, np.int64)},
    ),
    **{
        f"{kind} along an axis that is not there": (
            f"p = GlobalAveragePool(x) y = {kind}<axis=5>({inputs})",
            f"{kind} 'y': axis is 5, where there are 4",
            {"g": np.ones(3, np.float32)},
        )
        for kind, inputs in (
            *(("Flatten", "p"), ("Softmax", "p"), ("Concat", "p, p"), ("LayerNormalization", "p, g")),
        )
    },
    "axes that are not there": ("y = Unsqueeze(x, a)", "Unsqueeze 'y': axis is 9", {"a": [9]}),
    "output without the input": ("y = Add(k, k)", "does not depend on its input", {"k": 3}),
    "padding beside VALID": (
        'y = ConvTranspose<auto_pad="VALID", pads=[1,1,1,1]>(x, w)',
        r"attribute pads is \[1, 1, 1, 1\]",
        {"w": (3, 2, 3, 3)},
    ),
    "a value that is made twice": ("a = Relu(x) y = Mul(x, a) a = Sigmoid(x)", "makes 'a' 2 times"),
    "a constant that is made, too": ("k = Relu(x) y = Add(k, x)", "makes 'k' 2 times", {"k": 3}),
    "a slope for each image": (
        "y = PRelu(x, s)",
        r"PRelu 'y': a constant of shape \(2, 1, 1, 1\) .* differs between samples",
        {"s": np.full((2, 1, 1, 1), 0.25)},
    ),
    "a negative alpha of Celu": ("y = Celu<alpha=-1.0>(x)", r"Celu 'y': attribute alpha is -1\.0"),
    "enormous padding": ("y = Conv<pads=[2147483647,0,0,0]>(x, w)", "Conv 'y': makes", {"w": (4, 3, 1, 1)}),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_counterpart_is_refused_by_name(name, rng):
    text, message, *given = REFUSED[name]
    proto = network(rng, text, *given, outputs="z" if "z = " in text else "y")
    with pytest.raises(ValueError, match=message) as caught:
        cnnlib.onnx.load(proto)
    assert str(caught.value).startswith("the model: ")


@pytest.mark.parametrize("kind", sorted({*READERS, *FOLDED} - {"Swish"}))
def test_every_operator_refuses_an_attribute_that_it_does_not_have(kind):
    count = max(1, onnx.defs.get_schema(kind, 9 if kind == "Upsample" else 21, "").min_input)
    proto = model(f"y = {kind}<speed=3>({', '.join('x' * count)})", opset=9 if kind == "Upsample" else 21)
    with pytest.raises(ValueError, match=rf"the model: {kind} 'y': attribute speed"):
        cnnlib.onnx.load(proto)


@pytest.mark.parametrize(
    ("text", "opset", "message"),
    [
        (
            "y = AveragePool<kernel_shape=[2,2], dilations=[2,2]>(x)",
            18,
            "AveragePool 'y': attribute dilations",
        ),
        ("y = Squeeze<axes=[2]>(x)", 13, "Squeeze 'y': attribute axes, which version 13"),
        ("y = Dropout<ratio=0.5>(x)", 12, "Dropout 'y': attribute ratio, which version 12"),
        ("y = Add<axis=1, broadcast=1>(x, x)", 7, "Add 'y': attribute axis, which version 7"),
        (
            "k = Constant<value=float[2,2] {1,2,3,4}>() b = Constant<value=float[2] {1,2}>()"
            "c = Add<axis=0, broadcast=1>(k, b) y = Mul(x, c)",
            6,
            "Add 'c': attribute axis is 0",
        ),
        ("y = BatchNormalization<spatial=1>(x, x, x, x, x)", 9, "attribute spatial, which version 9"),
        ("y = BatchNormalization(x, x, x, x, x)", 6, "BatchNormalization 'y': attribute is_test is 0"),
        ("y = Dropout(x)", 6, "Dropout 'y': attribute is_test is 0"),
        ("y = Gemm<transA=1>(x, x)", 21, "Gemm 'y': attribute transA is 1"),
        ("y = MaxPool(x)", 21, "MaxPool 'y': attribute kernel_shape is missing"),
        ("y = Relu(x, x)", 21, "Relu 'y': 2 inputs"),
        ("y = Gelu(x)", 13, "Gelu 'y': version 13 of the standard operators has no Gelu"),
        ("y = Relu(x)", 99, "version 99 of the standard operators is newer"),
    ],
)
def test_an_operator_is_read_as_its_version_has_it(text, opset, message):
    with pytest.raises(ValueError, match=message):
        cnnlib.onnx.load(model(text, opset=opset))


def _calls(function, *args):
    """How many functions are called, those of C included."""
    count = 0

    def note(frame, event, arg):
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(note)
    try:
        function(*args)
    finally:
        sys.setprofile(None)
    return count


def _chain(text, count, rng):
    lines = [text.replace("#", str(i)).replace("@", f"v{i - 1}" if i else "x") for i in range(count)]
    arrays = {f"g{i}": rng.uniform(0.9, 1.1, (3, 1, 1)).astype(np.float32) for i in range(count)}
    return model(f"{' '.join(lines)} y = Relu(v{count - 1})", {**arrays, **weights(rng, w=(3, 3, 1, 1))})


@pytest.mark.parametrize(
    "text",
    [
        "v# = Relu(@)",
        "c# = Conv(@, w) v# = Mul(c#, g#)",
        "v# = Add(@, g#)",
        "v# = Mul(@, g#)",
        "v# = Add(@, x)",
        "s# = Sigmoid(@) v# = Mul(@, s#)",
    ],
)
def test_the_work_of_loading_grows_with_the_nodes(text, rng):
    """Twice as many nodes are twice as many calls, and not four times."""
    few, many = (_calls(cnnlib.onnx.load, _chain(text, count, rng)) for count in (100, 300))
    assert many < 4 * few


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        (("N", 3, "H", "W"), r"input 'x' has the shape \(N, 3, \?, \?\)"),
        (("N", 3, 0, 8), r"\(N, 3, \?, 8\)"),
        (("N",), r"\(N, \)"),
    ],
)
def test_an_input_of_unknown_sizes_is_refused(shape, message):
    with pytest.raises(ValueError, match=message):
        cnnlib.onnx.load(model("y = Relu(x)", shape=shape))


def test_sizes_left_open_are_given():
    proto = model("y = Relu(x)", shape=("N", 3, "H", "W"))
    assert cnnlib.onnx.load(proto, input_dim=(3, 4, 5)).input_dim == (3, 4, 5)
    unknown = model("y = Relu(x)", shape=("N", 3, 0, 8))
    assert cnnlib.onnx.load(unknown, input_dim=(3, 4, 8)).input_dim == (3, 4, 8)
    with pytest.raises(TypeError, match=r"the model: input_dim must be an integer, got 4\.5"):
        cnnlib.onnx.load(proto, input_dim=(3, 4.5, 5))
    with pytest.raises(ValueError, match="input_dim is"):
        cnnlib.onnx.load(proto, input_dim=(4, 4, 5))


def test_several_outputs_have_their_names():
    """Those of the file, also where one is another in a new shape, and is read on."""
    proto = model("a = GlobalAveragePool(x) y = Flatten(a) z = Relu(y) b = Identity(z)", outputs="b y z")
    net = cnnlib.onnx.load(proto)
    x = np.random.default_rng(0).standard_normal((2, *net.input_dim)).astype(np.float32)
    means = x.mean((2, 3))
    out = net.loss(x)
    assert net.outputs == tuple(out) == ("b", "y", "z")
    for name, want in (("y", means), ("z", np.maximum(means, 0)), ("b", np.maximum(means, 0))):
        np.testing.assert_allclose(out[name], want, rtol=1e-6, atol=1e-6)


def test_outputs_that_are_none():
    proto = model("y = Relu(x)")
    del proto.graph.output[:]
    with pytest.raises(ValueError, match="the network has no output"):
        cnnlib.onnx.load(proto)


def test_several_inputs_are_refused():
    proto = model("y = Relu(x)")
    proto.graph.input.add().CopyFrom(onnx.helper.make_tensor_value_info("z", 1, ["N", 2]))
    with pytest.raises(ValueError, match="one input here, this one 2: 'x', 'z'"):
        cnnlib.onnx.load(proto)


@pytest.mark.parametrize("place", [0, 1])
def test_another_domain_is_refused(place):
    """Also where an operator of its name would be part of a written-out activation."""
    proto = model("s = Sigmoid(x) y = Mul(x, s)")
    proto.graph.node[place].domain = "com.example"
    with pytest.raises(ValueError, match=r"operators of com\.example"):
        cnnlib.onnx.load(proto)


def test_both_names_of_the_standard_operators(rng):
    proto = model("k = Neg(c) y = Mul(x, k)", {"c": np.full(1, 3, np.float32)})
    for node in proto.graph.node:
        node.domain = "ai.onnx"
    x = rng.standard_normal((2, 3, 8, 8)).astype(np.float32)
    np.testing.assert_allclose(cnnlib.onnx.load(proto).loss(x), -3 * x)


def test_a_wrong_argument_is_a_type_error():
    with pytest.raises(TypeError, match=r"expected a path or an onnx\.ModelProto, got int"):
        cnnlib.onnx.load(3)


def test_the_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ImportError, match=r"cnnlib\[onnx\]"):
        cnnlib.onnx.load("net.onnx")


# Files --------------------------------------------------------------------------------------------------


def test_a_file_with_external_data(tmp_path, rng):
    proto = resnet(rng)
    x = rng.standard_normal((2, 3, 8, 8)).astype(np.float32)
    wanted = cnnlib.onnx.load(proto).loss(x)
    path = tmp_path / "net.onnx"
    onnx.save(proto, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    assert np.array_equal(cnnlib.onnx.load(path).loss(x), wanted)
    with pytest.raises(ValueError, match="give the model's path"):
        cnnlib.onnx.load(onnx.load(path, load_external_data=False))


def external(tmp_path, **entries):
    """A model whose weights lie in a file, by such entries."""
    proto = model("y = Conv(x, w)", {"w": np.ones((4, 3, 3, 3), np.float32)})
    tensor = proto.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=str(value))
    folder = tmp_path / "models"
    folder.mkdir()
    (folder / "weights.bin").write_bytes(bytes(4 * 3 * 9 * 4))
    (tmp_path / "secret.bin").write_bytes(bytes(4 * 3 * 9 * 4))
    (folder / "link.bin").symlink_to(tmp_path / "secret.bin")
    path = folder / "net.onnx"
    path.write_bytes(proto.SerializeToString())
    return path


@pytest.mark.parametrize(
    "entries",
    [
        {"location": "../secret.bin"},
        {"location": "link.bin"},
        {"location": "/etc/passwd"},
        {"location": ""},
        {"location": "none.bin"},
        {"location": "."},
        {"location": "weights.bin", "offset": 4},
        {"location": "weights.bin", "offset": -4},
        {"location": "weights.bin", "offset": "x"},
        {"location": "weights.bin", "length": 4},
    ],
    ids=str,
)
def test_external_data_that_are_not_the_files_own_are_refused(tmp_path, entries):
    path = external(tmp_path, **entries)
    with pytest.raises(ValueError, match="tensor 'w'") as caught:
        cnnlib.onnx.load(path)
    assert str(caught.value).startswith(str(path))


def test_external_data_in_place(tmp_path):
    assert not cnnlib.onnx.load(external(tmp_path, location="weights.bin")).params["w"].any()


def test_external_data_of_an_attribute_are_the_files_own(tmp_path, monkeypatch):
    """They are no other's that lies where the program was started."""
    text = "s = ConstantOfShape<value=float[1] {2}>(n) y = Mul(x, s)"
    proto = model(text, {"n": np.array([1, 3, 1, 1])})
    tensor = proto.graph.node[0].attribute[0].t
    tensor.ClearField("float_data")
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="two.bin")
    monkeypatch.chdir(tmp_path)
    np.full(1, 2, np.float32).tofile("two.bin")
    with pytest.raises(ValueError, match="give the model's path"):
        cnnlib.onnx.load(proto)
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "net.onnx").write_bytes(proto.SerializeToString())
    with pytest.raises(ValueError, match=r"its data 'two\.bin' are no file in the model's folder"):
        cnnlib.onnx.load("models/net.onnx")


@pytest.mark.parametrize(
    "content", [b"", b"PK\x03\x04 not a model", b"\x80\x04\x95 pickled", bytes(100)], ids=repr
)
def test_a_foreign_file_is_refused(tmp_path, content):
    path = tmp_path / "net.onnx"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"is not an ONNX model|is a pickle") as caught:
        cnnlib.onnx.load(path)
    assert str(path) in str(caught.value)


def test_a_missing_file_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.onnx"):
        cnnlib.onnx.load(tmp_path / "none.onnx")


def test_sizes_that_multiply_past_memory_are_refused():
    proto = model("y = Conv(x, w)", {"w": np.ones((4, 3, 3, 3), np.float32)})
    proto.graph.initializer[0].dims[:] = [2**40, 2**40, 3, 3]
    with pytest.raises(ValueError, match="tensor 'w' is damaged"):
        cnnlib.onnx.load(proto)
    with pytest.raises(ValueError, match="no memory holds"):
        cnnlib.onnx.load(
            model("f = Flatten(x) y = Gemm(f, w)", {"w": np.ones((2, 2), np.float32)}, ("N", 2**40, 2**40, 2))
        )


def test_damaged_files_are_refused_or_read(tmp_path, rng):
    """Whatever bytes are missing or altered: a network, or an error that names the file."""
    content = resnet(rng).SerializeToString()
    path = tmp_path / "net.onnx"
    messages = []
    for trial in range(400):
        damaged = bytearray(content)
        if trial % 2:
            del damaged[rng.integers(len(damaged)) :]
        else:
            for place in rng.integers(len(damaged), size=rng.integers(1, 8)):
                damaged[place] = rng.integers(256)
        path.write_bytes(damaged)
        try:
            cnnlib.onnx.load(path)
        except ValueError as error:
            messages.append(str(error))
    assert len(messages) > 200
    assert all(message.startswith(str(path)) for message in messages)


def test_constants_of_one_file_keep_to_one_limit():
    """Each Concat doubles what the one before made: the last of these would be of 64 million numbers."""
    text = "c0 = Identity(k) "
    text += " ".join(f"c{i + 1} = Concat<axis=0>(c{i}, c{i})" for i in range(26))
    text += " s = Gather<axis=0>(c26, i) y = Mul(x, s)"
    proto = model(text, {"k": np.ones(1, np.float32), "i": np.array(0)})
    with pytest.raises(ValueError, match=r"Concat 'c24': makes a constant .* the limit"):
        cnnlib.onnx.load(proto)
    many = (
        " ".join(f"c{i} = Neg(k)" for i in range(40)) + f" s = Sum({', '.join(f'c{i}' for i in range(40))})"
    )
    proto = model(many + " y = Mul(x, s)", {"k": np.ones(2**20, np.float32)})
    with pytest.raises(ValueError, match=r"Neg 'c\d+': makes a constant .* the limit"):
        cnnlib.onnx.load(proto)
    ends = {"a": np.array(-(2**63)), "b": np.array(2**63 - 1), "d": np.array(2**38)}  # int64 wraps around
    proto = model("r = Range(a, b, d) s = Cast<to=1>(r) y = Mul(x, s)", ends)
    with pytest.raises(ValueError, match=r"Range 'r': makes a constant .* the limit"):
        cnnlib.onnx.load(proto)


def test_a_norm_of_flattened_pixels_is_one_of_rows(rng):
    text = "a = MaxPool<kernel_shape=[8,8]>(x) f = Flatten(a) y = BatchNormalization(f, g, g, g, v)"
    proto = model(text, {**weights(rng, g=1), "v": np.ones(1, np.float32)}, shape=("N", 1, 8, 8))
    x = rng.standard_normal((2, 1, 8, 8)).astype(np.float32)
    net = cnnlib.onnx.load(proto)
    np.testing.assert_allclose(net.loss(x), run_elsewhere(proto, x), rtol=1e-5)
    assert [node.layer for node in net.graph()] == ["max_pool", "flatten", "batchnorm"]
