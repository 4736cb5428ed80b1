"""Files with tensors of any rank beside onnx's own evaluator, and as PyTorch exports them."""

import io

import cnnlib.onnx
import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
import random_graphs  # noqa: E402
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


ATTENTION = {
    "plain": ("Attention(x, x, x)", {}),
    "scale and causal": ("Attention<is_causal=1, scale=0.3>(x, x, x)", {}),
    "a short mask": ("Attention<is_causal=1>(x, x, x, m)", {"m": (8, 5)}),
    "a mask of heads": ("Attention(x, x, x, m)", {"m": np.random.default_rng(1).random((3, 8, 8)) < 0.6}),
    "no key for a query": ("Attention(x, x, x, m)", {"m": np.zeros((1, 1, 8, 8), bool)}),
    "shared keys": ("Attention(q, k, k)", {"p": [0, 3, 0, 0, 0, 0, 0, 0], "i": np.array([1])}),
    "rows": (
        "Attention<q_num_heads=4, kv_num_heads=2>(r, h, h, m)",
        {"s": [0, 24, 8], "w": (8, 4), "m": (24, 24)},
    ),
    "constant keys": ("Attention(x, k, v)", {"k": (1, 3, 5, 8), "v": (1, 3, 5, 2)}),
    "high precision": ("Attention<softmax_precision=1>(x, x, x)", {}),
}
BEFORE = {
    "shared keys": "q = Concat<axis=1>(x, x) k = Slice(x, a, b, c) ",
    "rows": "r = Reshape(x, s) h = MatMul(r, w) ",
}


@pytest.mark.parametrize("opset", [23, 24])
@pytest.mark.parametrize("name", ATTENTION)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_attention_is_one_layer(name, opset, rng):
    text, given = ATTENTION[name]
    given = {**given, "a": [0], "b": [2], "c": [1]} if name == "shared keys" else given
    proto = network(rng, f"{BEFORE.get(name, '')}y = {text}", given, opset=opset)
    x = rng.standard_normal((SAMPLES, 3, 8, 8)).astype(np.float32)
    (want,) = ReferenceEvaluator(proto).run(None, {"x": x})
    net = cnnlib.onnx.load(proto)
    np.testing.assert_allclose(net(x), want, **CLOSE)
    assert [node.layer for node in net.graph()].count("attention") == 1


ABSURD = {
    "Transpose 'y'.*axis is 9, where there are 4": ("y = Transpose<perm=[0,1,2,9]>(x)", {}),
    "Transpose 'y'.*axis is -9": ("y = Transpose<perm=[0,1,2,-9]>(x)", {}),
    "Transpose 'y'.*the order .* is none of the 4 axes": ("y = Transpose<perm=[0,1,1,2]>(x)", {}),
    "Softmax 'y'.*axis is 9": ("y = Softmax<axis=9>(x)", {}),
    "LogSoftmax 'y'.*axis is -5": ("y = LogSoftmax<axis=-5>(x)", {}),
    "Concat 'y'.*axis is 4": ("y = Concat<axis=4>(x, x)", {}),
    "Concat 'y'.*differ": ("s = Slice(x, a, b, c) y = Concat<axis=2>(x, s)", {"a": [0], "b": [2], "c": [1]}),
    "Slice 'y'.*axis is 9": ("y = Slice(x, a, b, c)", {"a": [0], "b": [1], "c": [9]}),
    "Slice 'y'.*takes nothing": ("y = Slice(x, a, b, c)", {"a": [5], "b": [1], "c": [2]}),
    "Split 'a'.*split is": ("a, b = Split<axis=1>(x, s) y = Add(a, b)", {"s": [2, 2]}),
    "Split 'a'.*axis is -8": ("a, b = Split<axis=-8>(x, s) y = Add(a, b)", {"s": [2, 2]}),
    "Gather 'y'.*axis is -9": ("y = Gather<axis=-9>(x, i)", {"i": np.array([0])}),
    "Gather 'y'.*indices lie from 3 to 3": ("y = Gather<axis=1>(x, i)", {"i": np.array([3])}),
    "Gather 'y'.*index is 8": ("y = Gather<axis=2>(x, i)", {"i": np.array(8)}),
    "ReduceSum 'y'.*axis is 11": ("y = ReduceSum(x, i)", {"i": [11]}),
    "ReduceSum 'y'.*axis 0 is that of the samples": ("y = ReduceSum(x, i)", {"i": [0]}),
    "Unsqueeze 'y'.*axis is 40": ("y = Unsqueeze(x, i)", {"i": [40]}),
    "Squeeze 'y'.*axes are": ("y = Squeeze(x, i)", {"i": [2]}),
    "Expand 'y'.*does not spread": ("y = Expand(x, s)", {"s": [1, 3, 8, 5]}),
    "Reshape 'y'.*shape is": ("y = Reshape(x, s)", {"s": [0, 5, -1]}),
    "Tile 'y'.*is that of the samples": ("y = Tile(x, r)", {"r": [2, 1, 1, 1]}),
    "Pad 'y'.*that of the samples": ("y = Pad(x, p)", {"p": [1, 0, 0, 0, 0, 0, 0, 0]}),
    "Tile 'y'.*times along its axes": ("y = Tile(x, r)", {"r": [1, 0, 1, 1]}),
    "Slice 'y'.*none may be 0": ("y = Slice(x, a, b, c, d)", {"a": [0], "b": [5], "c": [2], "d": [0]}),
    "Pad 'y'.*for the axes .*, expected two for each": ("y = Pad(x, p, , q)", {"p": [1, 2, 3], "q": [-1]}),
    "Pad 'y'.*for the axes .*two for each": ("y = Pad(x, p)", {"p": [1, 2, 3, 4]}),
    "DepthToSpace 'y'.*blocksize is 2, which does not divide": ("y = DepthToSpace<blocksize=2>(x)", {}),
    "DepthToSpace 'y'.*blocksize is 0": ("y = DepthToSpace<blocksize=0>(x)", {}),
    "DepthToSpace 'y'.*mode is 'XYZ', here only": ('y = DepthToSpace<blocksize=1, mode="XYZ">(x)', {}),
    "SpaceToDepth 'y'.*blocksize is 3, which does not divide": ("y = SpaceToDepth<blocksize=3>(x)", {}),
    "SpaceToDepth 'y'.*takes images": ("a = Flatten(x) y = SpaceToDepth<blocksize=2>(a)", {}),
    "Gemm 'y'.*C has the shape": ("a = Flatten<axis=2>(x) y = Gemm(a, w, c)", {"w": (64, 5), "c": (3, 5)}),
    "Pad 'y'.*do not fit": ('y = Pad<mode="reflect">(x, p)', {"p": [0, 0, 8, 0, 0, 0, 0, 0]}),
    "MatMul 'y'.*the product of .* has no counterpart": ("y = MatMul(x, w)", {"w": (1, 3, 7, 8)}),
    "Where 'y'.*a mask of shape": ("y = Where(m, x, x)", {"m": np.ones((5, 8), bool)}),
    "Where 'y'.*is computed from the images": ("y = Where(x, x, x)", {}),
    "LayerNormalization 'y'.*axis is 9": ("y = LayerNormalization<axis=9>(x, g)", {"g": (8,)}),
    "LayerNormalization 'y'.*scale and bias": ("y = LayerNormalization<axis=2>(x, g)", {"g": (8,)}),
    "Einsum 'y'.*equation": ('y = Einsum<equation="nchw,nchw->nhh">(x, x)', {}),
    "Einsum 'y'.*does not fit": ('y = Einsum<equation="n...abcde,ij->n...j">(x, w)', {"w": (8, 8)}),
    "Resize 'y'.*which no memory holds": ("y = Resize(x, , , n)", {"n": [89, 3, 10**9, 8]}),
    "Resize 'y'.*not the number of images and channels": ("y = Resize(x, , , n)", {"n": [89, 5, 9, 9]}),
    "Resize 'y'.*makes images of": ("y = Resize(x, , , n)", {"n": [89, 3, 0, -3]}),
    "Resize 'y'.*'tf_crop_and_resize', which has no counterpart": (
        'y = Resize<coordinate_transformation_mode="tf_crop_and_resize">(x, r, , n)',
        {"n": [89, 3, 5, 5], "r": np.float32([0, 0, 0, 0, 1, 1, 1, 1])},
    ),
    "Resize 'y'.*attribute antialias is 1": ("y = Resize<antialias=1>(x, , , n)", {"n": [89, 3, 5, 5]}),
    "Resize 'y'.*where programs differ": (
        'y = Resize<mode="cubic", coordinate_transformation_mode="pytorch_half_pixel">(x, , , n)',
        {"n": [89, 3, 1, 5]},
    ),
    "Clip 'y'.*low must not be above high": ("y = Clip(x, a, b)", {"a": 1.0, "b": -1.0}),
    "Attention 'y'.*softcap is 2": ("y = Attention<softcap=2.0>(x, x, x)", {}),
    "Attention 'y'.*past_key is given": ("y = Attention(x, x, x, , p, p)", {"p": (1, 3, 2, 8)}),
    "Attention 'y'.*softmax_precision is 11": ("y = Attention<softmax_precision=11>(x, x, x)", {}),
    "Attention 'y'.*has 5 heads, of 8": (
        "r = Reshape(x, s) y = Attention<q_num_heads=5, kv_num_heads=5>(r, r, r)",
        {"s": [0, 24, 8]},
    ),
    "Attention 'y'.*has None heads": ("r = Reshape(x, s) y = Attention(r, r, r)", {"s": [0, 24, 8]}),
    "Attention 'y'.*bias must have shape": ("y = Attention(x, x, x, m)", {"m": (5, 8)}),
    "Attention 'y'.*a mask of shape": ("y = Attention(x, x, x, m)", {"m": (5, 8, 8)}),
    "Attention 'y'.*its output 'k'": ("y, k = Attention(x, x, x) z = Add(y, k)", {}),
    "Add 'y'.*differs between samples": ("y = Add(x, k)", {"k": (89, 1, 1, 1)}),
}


@pytest.mark.parametrize("message", ABSURD)
def test_absurd_settings_are_refused_by_name(message, rng):
    text, given = ABSURD[message]
    outputs = "z" if " z = " in text else "y"
    proto = network(rng, text, given, opset=23, outputs=outputs)
    with pytest.raises(ValueError, match=rf"^the model: {message}"):
        cnnlib.onnx.load(proto)


def any_axis(rng, rank):
    """An axis that is not that of the samples, counted from either end."""
    return int(rng.integers(1, rank)) - rank * int(rng.integers(2))


def random_file(rng, kind, shape):
    """The text of an operator on x of the given shape, and its constants."""
    rank, axis = len(shape), any_axis(rng, len(shape))
    size = shape[axis]
    others = [int(a) for a in rng.permutation(range(1, rank))]
    if kind in ("Softmax", "LogSoftmax"):
        return f"y = {kind}<axis={axis}>(x)", {}
    if kind.startswith("Reduce"):
        keep = int(rank == 2 or rng.integers(2))
        return f"y = {kind}<keepdims={keep}>(x, a)", {"a": [axis]}
    if kind == "Concat":
        return f"a = Tanh(x) y = Concat<axis={axis}>(a, x, a)", {}
    if kind == "Transpose":
        return f"y = Transpose<perm={[0, *others]}>(x)", {}
    if kind == "Slice":
        low, high = sorted(int(n) for n in rng.choice(size + 1, 2, replace=False))
        step = (1, -1)[rng.integers(2)]
        ends = (low, high) if step > 0 else (high - 1, low - 1 if low else -99)
        return "y = Slice(x, a, b, c, d)", {"a": [ends[0]], "b": [ends[1]], "c": [axis], "d": [step]}
    if kind == "Split":
        return f"a, b = Split<axis={axis}>(x, s) y = Concat<axis={axis}>(b, a)", {"s": [1, size - 1]}
    if kind == "Gather":
        return f"y = Gather<axis={axis}>(x, i)", {"i": rng.integers(-size, size, size=(2, 3))}
    if kind == "Unsqueeze":
        return "y = Unsqueeze(x, i)", {"i": [axis if axis < 0 else axis + 1]}
    if kind == "Expand":
        return "r = ReduceMean(x, a) y = Expand(r, s)", {"a": [axis], "s": [1, *shape[1:]]}
    if kind == "Tile":
        return "y = Tile(x, r)", {"r": [1, *(int(n) for n in rng.integers(1, 3, size=rank - 1))]}
    if kind == "Pad":
        pads = [0, *(int(n) for n in rng.integers(0, 2, size=rank - 1))] * 2
        mode = ("constant", "edge", "reflect")[rng.integers(3)]
        return f'y = Pad<mode="{mode}">(x, p)', {"p": pads}
    if kind == "Where":
        return "y = Where(m, x, k)", {
            "m": rng.random(shape[1:]) < 0.5,
            "k": (size,) if axis in (-1, rank - 1) else (1,),
        }
    if kind == "MatMul":
        return "y = MatMul(x, w)", {"w": (shape[-1], 3)}
    if kind == "LayerNormalization":
        place = axis % rank
        return f"y = LayerNormalization<axis={axis}>(x, g, b)", dict.fromkeys("gb", shape[place:])
    if kind in ("Exp", "Abs", "Softplus", "Mish", "Neg"):
        return f"y = {kind}(x)", {}
    if kind == "Clip":
        return "y = Clip(x, a, b)", {"a": -0.5, "b": 0.25}
    if kind == "Pow":
        return "a = Abs(x) y = Pow(a, k)", {"k": 1.5}
    constant = tuple(n if rng.integers(2) else 1 for n in shape[1:])
    return f"k = Abs(c) y = {kind}(x, k)" if kind == "Div" else f"y = {kind}(x, c)", {"c": constant}


KINDS = (
    *("Softmax", "LogSoftmax", "ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceL2", "Concat"),
    *("Transpose", "Slice", "Split", "Gather", "Unsqueeze", "Expand", "Tile", "Pad", "Where", "MatMul"),
    *("LayerNormalization", "Exp", "Abs", "Softplus", "Mish", "Neg", "Clip", "Pow"),
    *("Add", "Sub", "Mul", "Div", "Min", "Max"),
)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_operators_at_random_shapes(kind):
    """Samples of one to four axes, axes counted from either end."""
    for seed in range(8):
        rng = np.random.default_rng(seed)
        shape = tuple(int(n) for n in rng.integers(2, 6, size=1 + rng.integers(1, 5)))
        text, given = random_file(rng, kind, shape)
        proto = network(rng, text, given, shape=("N", *shape[1:]))
        x = rng.standard_normal((SAMPLES, *shape[1:])).astype(np.float32)
        (want,) = ReferenceEvaluator(proto).run(None, {"x": x})
        got = cnnlib.onnx.load(proto)(x)
        assert got.shape == want.shape, (seed, shape, text)
        np.testing.assert_allclose(got, want, **CLOSE, err_msg=f"{seed} {shape} {text}")


@pytest.mark.parametrize("seed", range(2 * len(random_graphs.KINDS)))
def test_random_graphs_give_what_onnx_says(seed):
    """Each operator comes first twice; random_graphs.py goes on."""
    assert random_graphs.check_onnx(seed) == ""


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
