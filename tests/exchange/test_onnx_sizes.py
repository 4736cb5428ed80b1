"""ONNX networks that leave height and width open, loaded at one size of images and run at another."""

import numpy as np
import pytest

pytest.importorskip("onnx", reason="onnx is not installed")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")

import cnnlib
import cnnlib.onnx
from onnx_nets import network, run_elsewhere

SIZES = "s = Shape(x) t = Mul(s, twice) n = Slice(t, two, four)"
PIXELS = {"two": [2], "four": [4], "twice": [1, 1, 2, 2]}

# name: (operators, arrays as `network` takes them)
FOLLOWING = {
    "same upper": ('y = Conv<auto_pad="SAME_UPPER", strides=[2,2]>(x, w)', {"w": (4, 3, 3, 3)}),
    "same upper pool": ('y = MaxPool<auto_pad="SAME_UPPER", kernel_shape=[3,3], strides=[2,2]>(x)',),
    "same lower at stride 1": ('y = Conv<auto_pad="SAME_LOWER">(x, w)', {"w": (4, 3, 4, 2)}),
    "same lower of one pixel": ('y = Conv<auto_pad="SAME_LOWER", strides=[2,2]>(x, w)', {"w": (4, 3, 1, 1)}),
    "transposed": ('y = ConvTranspose<auto_pad="SAME_UPPER", strides=[2,2]>(x, w)', {"w": (3, 2, 3, 3)}),
    "scales": ("y = Resize(x, , s)", {"s": [1.0, 1, 2, 3]}),
    "scales of axes": ("y = Resize<axes=[-2,-1]>(x, , s)", {"s": [2.0, 3]}),
    "sizes computed": (f"{SIZES} y = Resize<axes=[2,3]>(x, , , n)", PIXELS),
    "sizes computed in floats": (
        "s = Shape(x) f = Cast<to=1>(s) m = Mul(f, h) r = Floor(m) i = Cast<to=7>(r)"
        "n = Slice(i, two, four) y = Resize<axes=[2,3]>(x, , , n)",
        {**PIXELS, "h": [1.0, 1, 2, 2]},
    ),
    "sizes of another layer's input": (
        'c = Conv<auto_pad="SAME_UPPER">(x, w) r = Relu(c) s = Shape(c) t = Mul(s, twice) '
        'y = Resize<mode="linear">(r, , , t)',
        {"w": (3, 3, 3, 3), "twice": [1, 1, 2, 2]},
    ),
    "group norm by shape": (
        "a = Reshape(c, g) b = InstanceNormalization(a, o, o) s = Shape(c) d = Reshape(b, s) "
        "y = GlobalAveragePool(d)",
        {"w": (4, 3, 1, 1), "o": 2, "g": [0, 2, -1]},
    ),
    "arithmetic with N that nothing reads": (f"{SIZES} p = Resize<axes=[2,3]>(x, , , n) y = Relu(p)", PIXELS),
}
FIXED = {
    "same lower": (
        'y = Conv<auto_pad="SAME_LOWER", strides=[2,2]>(x, w)',
        r"pad is \(\(1, 0\), \(1, 0\)\), and \(\(1, 1\), \(1, 0\)\) for 9x10 images",
        {"w": (4, 3, 3, 3)},
    ),
    "same lower pool": (
        'y = AveragePool<auto_pad="SAME_LOWER", kernel_shape=[2,3], strides=[2,2]>(x)',
        r"pad is \(\(0, 0\), \(1, 0\)\), and \(\(1, 0\), \(1, 0\)\) for 9x10 images",
    ),
    "padding that is too much for the pool at other sizes": (
        'c = Pad(x, p) y = AveragePool<auto_pad="SAME_UPPER", count_include_pad=1, kernel_shape=[3,1], '
        "strides=[2,1]>(c)",
        "which is read as avg_pool of x, and as pad of x for 9x10 images",
        {"p": [0, 0, 2, 0, 0, 0, 0, 0]},
    ),
    "resize to sizes": (
        "y = Resize(x, , , s)",
        r"which is read as upsample of x, and as transpose of x for 9x10 images",
        {"s": [2, 3, 16, 24]},
    ),
    "output_shape": (
        "y = ConvTranspose<strides=[2,2], output_shape=[16,16]>(x, w)",
        r"pad is \(\(1, 0\), \(1, 0\)\), and \(\(2, 1\), \(3, 2\)\) for 9x10 images",
        {"w": (3, 2, 3, 3)},
    ),
    "pads computed": (
        "s = Shape(x) h = Gather(s, two) r = Sub(h, n) p = Concat<axis=0>(z, z, r, z, z, z, r, z) "
        "c = Pad(x, p) y = MaxPool<kernel_shape=[2,2]>(c)",
        r"pad is \(\(1, 1\), \(0, 0\)\), and \(\(2, 2\), \(0, 0\)\) for 9x10 images",
        {"two": [2], "n": [7], "z": [0]},
    ),
    "pads that smaller images alone get": (
        "s = Shape(x) h = Gather(s, two) r = Sub(n, h) m = Max(r, z) "
        "p = Concat<axis=0>(z, z, m, z, z, z, z, z) c = Pad(x, p) y = Relu(c)",
        "which compares what is computed",
        {"two": [2], "n": [3], "z": [0]},
    ),
    "a node with other settings": (
        "s = Shape(x) h = Gather(s, two) r = Sub(h, n) p = Concat<axis=0>(z, z, r, z, z, z, z, z) "
        "c = Pad(x, p) y = Add(c, o)",
        "stride is 1, and None for 9x10 images",
        {"two": [2], "n": [8], "z": [0], "o": [0.5]},
    ),
    "own shape in numbers": ("r = Reshape(x, s) y = Relu(r)", "shape", {"s": [-1, 3, 8, 8]}),
    "a slope for each column": ("y = PRelu(x, s)", "are not joined", {"s": np.full(8, 0.5, np.float32)}),
    "channels last of one pixel": (
        "a = AveragePool<kernel_shape=[8,8]>(x) t = Transpose<perm=[0,2,3,1]>(a) y = Squeeze(t, n)",
        "makes rows of numbers",
        {"n": [1, 2]},
    ),
}


def _open(rng, text, given=()):
    if "c = " not in text and "(c" in text:
        text = f"c = Conv(x, w) {text}"
    return network(rng, text, given, shape=("N", 3, "H", "W"))


@pytest.mark.parametrize("name", FOLLOWING)
def test_a_network_follows_the_size_of_images(name, rng):
    proto = _open(rng, *FOLLOWING[name])
    net = cnnlib.onnx.load(proto, input_dim=(3, 8, 8))
    assert net.graph().fixed_by == ""
    for size in ((8, 8), (9, 9), (7, 10)):
        x = rng.standard_normal((2, 3, *size)).astype(np.float32)
        np.testing.assert_allclose(net.loss(x), run_elsewhere(proto, x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", FIXED)
def test_a_network_that_cannot_refuses_other_sizes(name, rng):
    text, reason, *given = FIXED[name]
    proto = _open(rng, text, *given)
    net = cnnlib.onnx.load(proto, input_dim=(3, 8, 8))
    x = rng.standard_normal((2, 3, 8, 8)).astype(np.float32)
    np.testing.assert_allclose(net.loss(x), run_elsewhere(proto, x), rtol=1e-4, atol=1e-5)
    for scores in (net.loss, cnnlib.prepare(net)):
        with pytest.raises(ValueError, match=f"the size is fixed by node .*{reason}"):
            scores(np.zeros((2, 3, 9, 9), np.float32))


def test_sizes_that_no_image_follows_fix_nothing(rng):
    """Behind a global pool all is of one size."""
    proto = _open(rng, "p = GlobalAveragePool(x) y = Resize(p, , , s)", {"s": [2, 3, 4, 4]})
    net = cnnlib.onnx.load(proto, input_dim=(3, 8, 8))
    assert net.loss(np.zeros((2, 3, 9, 7), np.float32)).shape == (2, 3, 4, 4)


@pytest.mark.parametrize("join", ["Add", "Mul", "Concat<axis=1>"])
def test_where_a_join_refuses_a_size_the_network_does(join, rng):
    """A step of a feature pyramid: sizes that halving rounds do not fit what is joined."""
    proto = _open(
        rng,
        f"d = Conv<strides=[2,2], pads=[1,1,1,1]>(x, w) u = Resize(d, , s) y = {join}(u, x)",
        {"w": (3, 3, 3, 3), "s": [1.0, 1, 2, 2]},
    )
    net = cnnlib.onnx.load(proto, input_dim=(3, 8, 8))
    for size in ((8, 8), (10, 14)):
        x = rng.standard_normal((2, 3, *size)).astype(np.float32)
        np.testing.assert_allclose(net.loss(x), run_elsewhere(proto, x), rtol=1e-4, atol=1e-5)
    for scores in (net.loss, cnnlib.prepare(net)):
        with pytest.raises(ValueError, match=r"node 'y'.*(must have one shape|differ in more)"):
            scores(np.zeros((2, 3, 9, 8), np.float32))


def test_sizes_that_no_memory_holds_fix_nothing(rng):
    proto = _open(rng, "y = Conv(x, w)", {"w": (64, 3, 1, 1)})
    assert cnnlib.onnx.load(proto, input_dim=(3, 4096, 4096)).graph().fixed_by == ""
