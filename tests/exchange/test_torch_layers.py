"""cnnlib.torch: the functions and modules against PyTorch's own, their derivatives, and torch.compile."""

import subprocess
import sys
from functools import partial

import numpy as np
import pytest
from cnnlib import _core

torch = pytest.importorskip("torch", reason="torch is not installed")

import cnnlib.torch  # noqa: E402
from cnnlib.torch import tensors  # noqa: E402
from torch import nn  # noqa: E402
from torch.autograd import forward_ad, gradcheck, gradgradcheck  # noqa: E402
from torch.nn import functional  # noqa: E402

pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("ignore:Using padding='same':UserWarning")]

TOLERANCE = {torch.float32: 2e-5, torch.float64: 1e-12}
CONVS = {  # shapes of x, w and b, and options
    "3x3": ((2, 2, 4, 5), (3, 2, 3, 3), (3,), {"padding": 1}),
    "strided without bias": ((2, 2, 6, 5), (3, 2, 3, 2), None, {"stride": (2, 3), "padding": (1, 0)}),
    "dilated groups": ((1, 4, 5, 6), (4, 2, 3, 3), (4,), {"dilation": 2, "groups": 2, "padding": 2}),
    "depthwise": ((2, 3, 4, 4), (3, 1, 3, 3), (3,), {"groups": 3, "padding": 1}),
    "same with an even kernel": ((2, 2, 6, 5), (3, 2, 4, 2), (3,), {"padding": "same"}),
    "valid": ((1, 2, 5, 5), (3, 2, 2, 2), (3,), {"padding": "valid", "stride": [2]}),
    "one image": ((2, 4, 5), (3, 2, 3, 3), (3,), {"padding": (1, 2)}),
    "no images": ((0, 3, 7, 8), (4, 3, 3, 3), (4,), {}),
}
POOLS = {
    "2x2": ((2, 2, 6, 4), {"kernel_size": 2}),
    "overlapping, padded": ((1, 2, 7, 6), {"kernel_size": 3, "stride": 2, "padding": 1}),
    "ceil_mode": ((2, 2, 7, 6), {"kernel_size": (3, 2), "stride": 2, "padding": (1, 1), "ceil_mode": True}),
    "dilated": ((1, 2, 5, 6), {"kernel_size": (2, 3), "stride": 1, "dilation": (2, 1)}),
    "one image": ((3, 8, 8), {"kernel_size": 2}),
    "a wide window": ((1, 1, 17, 18), {"kernel_size": (16, 17), "stride": 1}),
}


@pytest.fixture(autouse=True)
def one_thread():
    """PyTorch works faster on these small tensors when it does not share them out."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def tensor(rng, shape, dtype=torch.float64):
    if shape is None:
        return None
    return torch.tensor(rng.standard_normal(shape), dtype=dtype).requires_grad_()


def gradients(function, inputs, dout):
    """The output and the gradients of all inputs."""
    out = function(*inputs)
    leaves = [t for t in inputs if t is not None]
    return [out.detach(), *torch.autograd.grad(out, leaves, dout[: out.shape[0]].to(out.dtype))]


def assert_same(ours, theirs, inputs, rng, tolerance):
    want_out = theirs(*inputs)
    dout = torch.tensor(rng.standard_normal(want_out.shape), dtype=want_out.dtype)
    got, want = gradients(ours, inputs, dout), gradients(theirs, inputs, dout)
    for g, w in zip(got, want, strict=True):
        assert g.shape == w.shape
        assert g.dtype == w.dtype
        scale = max(1.0, float(w.abs().max())) if w.numel() else 1.0
        torch.testing.assert_close(g, w, rtol=0, atol=tolerance * scale)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("case", CONVS)
def test_conv2d_equals_torch(case, dtype, rng):
    x, w, b, options = CONVS[case]
    inputs = [tensor(rng, shape, dtype) for shape in (x, w, b)]
    ours, theirs = (partial(f, **options) for f in (cnnlib.torch.conv2d, functional.conv2d))
    assert_same(ours, theirs, inputs, rng, TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("case", POOLS)
def test_max_pool2d_equals_torch(case, dtype, rng):
    shape, options = POOLS[case]
    x = tensor(rng, shape, dtype)
    x.data.mul_(2).round_()  # ties
    ours, theirs = (partial(f, **options) for f in (cnnlib.torch.max_pool2d, functional.max_pool2d))
    assert_same(ours, theirs, [x], rng, TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("shape", [(5, 3), (4, 3, 5, 6), (4, 3, 7), (2, 3, 2, 3, 4)], ids=str)
@pytest.mark.parametrize("affine", [True, False])
def test_batch_norm_equals_torch(shape, training, affine, dtype, rng):
    inputs = [tensor(rng, s, dtype) for s in (shape, *([(3,), (3,)] if affine else []))]
    mean, var = torch.randn(3, dtype=dtype), torch.rand(3, dtype=dtype) + 0.5
    statistics = [(mean.clone(), var.clone()) for _ in range(2)]

    def of(function, running, x, weight=None, bias=None):
        running = tuple(map(torch.clone, running))
        return function(x, *running, weight, bias, training, 0.3, 1e-3)

    ours, theirs = (partial(of, f, (mean, var)) for f in (cnnlib.torch.batch_norm, functional.batch_norm))
    assert_same(ours, theirs, inputs, rng, TOLERANCE[dtype])
    for function, running in zip((cnnlib.torch.batch_norm, functional.batch_norm), statistics):
        function(inputs[0], *running, training=training, momentum=0.3)
    for before, ours, theirs in zip((mean, var), *statistics):
        assert torch.equal(ours, before) != training
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("case", [case for case in CONVS if case != "no images"])
def test_derivatives_of_conv2d(case, rng):
    x, w, b, options = CONVS[case]
    inputs = [tensor(rng, shape) for shape in (x, w, b)]
    function = partial(cnnlib.torch.conv2d, **options)
    assert gradcheck(function, inputs)
    assert gradgradcheck(function, inputs, fast_mode=True)


def test_third_derivative_of_conv2d(rng):
    x, w = tensor(rng, (1, 2, 4, 4)), tensor(rng, (2, 2, 3, 3))

    def squared_gradient(x, w):
        out = cnnlib.torch.conv2d(x, w, padding=1)
        return torch.autograd.grad((out**2).sum(), (x, w), create_graph=True)

    assert gradgradcheck(squared_gradient, (x, w), fast_mode=True)


@pytest.mark.parametrize("case", POOLS)
def test_derivatives_of_max_pool2d(case, rng):
    shape, options = POOLS[case]
    order = rng.permutation(int(np.prod(shape))).reshape(shape)  # no ties, far from a change of the maximum
    x = torch.tensor(order, dtype=torch.float64).mul_(0.1).requires_grad_()
    function = partial(cnnlib.torch.max_pool2d, **options)
    assert gradcheck(function, [x])
    assert gradgradcheck(function, [x], fast_mode=True)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("shape", [(5, 3), (2, 3, 2, 3)], ids=str)
def test_derivatives_of_batch_norm(shape, training, rng):
    inputs = [tensor(rng, s) for s in (shape, (3,), (3,))]
    mean, var = torch.zeros(3, dtype=torch.float64), torch.full((3,), 0.7, dtype=torch.float64)

    def function(x, weight, bias):
        return cnnlib.torch.batch_norm(x, mean.clone(), var.clone(), weight, bias, training)

    assert gradcheck(function, inputs)
    assert gradgradcheck(function, inputs, fast_mode=True)


def test_gradients_nobody_asks_for_are_not_computed(rng, monkeypatch):
    asked = []
    backward = cnnlib.torch.convolution._conv_backward

    def watched(function, dout, cache, needs):
        asked.append(needs)
        return backward(function, dout, cache, needs)

    monkeypatch.setattr(cnnlib.torch.convolution, "_conv_backward", watched)
    x, w, b = (tensor(rng, shape) for shape in ((1, 2, 5, 5), (3, 2, 3, 3), (3,)))
    for frozen, want in (([x], [("dw", "db")]), ([w], [("dx",)]), ([x, w], []), ([w, b], [("dx",)])):
        inputs = [t.detach() if any(t is f for f in frozen) else t for t in (x, w, b)]
        asked.clear()
        cnnlib.torch.conv2d(*inputs).sum().backward()
        assert asked == want


LAYOUTS = {
    "channels last": lambda t: t.contiguous(memory_format=torch.channels_last),
    "transposed": lambda t: t.transpose(2, 3).contiguous().transpose(2, 3),
    "every other": lambda t: torch.stack([t, t], -1)[..., 0],
    "flipped batch": lambda t: t.flip(0),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_strides(layout, rng):
    plain = [tensor(rng, shape) for shape in ((2, 3, 6, 7), (4, 3, 3, 3))]
    laid = [LAYOUTS[layout](t.detach()).requires_grad_() for t in plain]
    plain = [t.detach().contiguous().requires_grad_() for t in laid]

    def network(x, w):
        y = cnnlib.torch.conv2d(x, w)
        y = cnnlib.torch.batch_norm(y, None, None, training=True)
        return cnnlib.torch.max_pool2d(y.mT, 2)

    dout = torch.randn(2, 4, 2, 2, dtype=torch.float64)
    for got, want in zip(gradients(network, laid, dout), gradients(network, plain, dout), strict=True):
        assert torch.equal(got, want)


def test_no_copies(rng):
    x = tensor(rng, (2, 3, 4, 5), torch.float32)
    assert tensors.as_array(x).ctypes.data == x.data_ptr()
    array = np.ones((2, 3), np.float32)
    assert tensors.from_array(array).data_ptr() == array.ctypes.data
    (prepared,), dtype = tensors.prepare("f", ("x",), x)
    assert prepared is x
    assert dtype == torch.float32


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16], ids=str)
def test_halves_are_computed_in_float32(half, rng):
    x, w = (tensor(rng, shape).detach().to(half) for shape in ((2, 3, 6, 6), (4, 3, 3, 3)))
    out = cnnlib.torch.conv2d(x, w, padding=1)
    assert out.dtype == half
    assert torch.equal(out, cnnlib.torch.conv2d(x.float(), w.float(), padding=1).to(half))
    assert cnnlib.torch.max_pool2d(x, 2).dtype == half
    assert cnnlib.torch.conv2d(x, w.float()).dtype == torch.float32


def test_autocast(rng):
    network = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 2)
    )
    ours = cnnlib.torch.convert(network)
    x = torch.tensor(rng.standard_normal((2, 1, 8, 8)), dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        ours(x).sum().backward()
    assert all(p.grad.dtype == torch.float32 for p in ours.parameters())


OPERATORS = {
    "conv2d": lambda x, w, b: (x, w, b, [2, 1], [1, 0, 2, 1], [1, 2], 1),
    "conv2d_input_gradient": lambda x, w, b: (
        w.detach()[..., :2].sum(1)[None].repeat(2, 1, 1, 1),
        w,
        [5, 4],
        [1, 1],
        [0] * 4,
        [1, 1],
        1,
    ),
    "conv2d_weight_gradient": lambda x, w, b: (x[:, :, 1:, 1:], x, [2, 2], True, [1, 1], [0] * 4, [1, 1], 1),
    "max_pool2d": lambda x, w, b: (x, [3, 2], [2, 2], [1, 1], [1, 1], True),
    "batch_norm_train": lambda x, w, b: (x, b, b * 2, 1e-5),
    "batch_norm_normalize": lambda x, w, b: (x, b, b * 2, b.detach(), b.detach() + 9),
    "batch_norm_backward": lambda x, w, b: (x.detach() + 1, x, b, b.detach(), b.detach() + 9, True),
}


# opcheck of torch 2.15 reads .grad of the operators' inputs, which need not be leaves.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
@pytest.mark.parametrize("name", OPERATORS)
def test_operators_keep_torchs_rules(name, rng):
    """Schema, fake kernel, autograd and tracing with symbolic sizes, by PyTorch's own checks."""
    x, w, b = (tensor(rng, shape) for shape in ((2, 3, 7, 6), (3, 3, 3, 3), (3,)))
    arguments = [  # leaves, of which alone PyTorch compares the gradients
        a.detach().clone().requires_grad_(a.requires_grad) if isinstance(a, torch.Tensor) else a
        for a in OPERATORS[name](x, w, b)
    ]
    torch.library.opcheck(getattr(torch.ops.cnnlib, name).default, arguments)


def small_network():
    return nn.Sequential(
        nn.Conv2d(2, 6, 3, padding=1, bias=False),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.MaxPool2d(3, 2, 1, ceil_mode=True),
        nn.Conv2d(6, 6, 3, padding=1, padding_mode="reflect", groups=3),
        nn.BatchNorm2d(6, affine=False, momentum=None),
        nn.Conv2d(6, 4, (2, 4), padding="same", padding_mode="circular"),
        nn.BatchNorm2d(4, track_running_stats=False),
        nn.Conv2d(4, 3, 2, padding="valid", padding_mode="replicate", stride=2),
        nn.Conv2d(3, 3, 2, padding=(1, 0), padding_mode="reflect"),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    ).double()


def train(network, X, y, steps=4):
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = functional.cross_entropy(network(X), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def test_a_converted_network_trains_as_the_original(rng):
    theirs = small_network()
    ours = cnnlib.torch.convert(theirs)
    assert [type(layer) for layer in theirs.modules() if type(layer).__module__.startswith("cnnlib")] == []
    kinds = {
        type(layer).__name__ for layer in ours.modules() if type(layer).__module__ == "cnnlib.torch.modules"
    }
    assert kinds == {"Conv2d", "BatchNorm2d", "MaxPool2d"}
    X, y = torch.tensor(rng.standard_normal((6, 2, 12, 11))), torch.tensor(rng.integers(0, 3, 6))
    np.testing.assert_allclose(train(ours, X, y), train(theirs, X, y), rtol=1e-10)
    for mode in (True, False):
        torch.testing.assert_close(ours.train(mode)(X), theirs.train(mode)(X))
    got, want = ours.state_dict(), theirs.state_dict()
    assert list(got) == list(want)
    for name in want:
        torch.testing.assert_close(got[name], want[name])
    theirs.load_state_dict(got)


def test_convert_in_place_keeps_objects_and_hooks():
    network, seen = small_network(), []
    weight = network[0].weight
    network[0].register_forward_hook(lambda *_: seen.append(1))
    assert cnnlib.torch.convert(network, inplace=True) is network
    assert network[0].weight is weight
    network(torch.zeros(1, 2, 12, 11, dtype=torch.float64))
    assert seen
    assert type(cnnlib.torch.convert(nn.Conv2d(1, 1, 1))) is cnnlib.torch.Conv2d


def test_convert_leaves_what_it_cannot_compute():
    class Own(nn.Conv2d):
        pass

    normed = nn.utils.parametrizations.weight_norm(nn.Conv2d(1, 1, 1))
    layers = [
        Own(1, 1, 1),
        normed,
        nn.MaxPool2d(2, return_indices=True),
        nn.LazyConv2d(1, 1),
        nn.Conv3d(1, 1, 1),
    ]
    network = cnnlib.torch.convert(nn.ModuleList(layers), inplace=True)
    assert not any(type(layer).__module__.startswith("cnnlib") for layer in network.modules())
    with pytest.raises(TypeError, match=r"torch\.nn\.Module"):
        cnnlib.torch.convert([nn.Conv2d(1, 1, 1)])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("dynamic", [False, True])
def test_compiled_without_graph_breaks(dynamic, rng):
    """Without code generation, which has nothing to generate here but needs a compiler and a minute."""
    network = cnnlib.torch.convert(
        nn.Sequential(
            nn.Conv2d(2, 4, 3, stride=2), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2, ceil_mode=True)
        )
    ).double()
    compiled = torch.compile(
        cnnlib.torch.convert(network), fullgraph=True, dynamic=dynamic, backend="aot_eager"
    )
    for size in ((3, 2, 12, 14), (2, 2, 17, 10)):
        X = torch.tensor(rng.standard_normal(size)).requires_grad_()
        want, got = network(X), compiled(X)
        torch.testing.assert_close(got, want)
        (want_dx,) = torch.autograd.grad(want.square().sum(), X)
        (got_dx,) = torch.autograd.grad(got.square().sum(), X)
        torch.testing.assert_close(got_dx, want_dx)
    torch._dynamo.reset()


X, W = torch.ones(1, 2, 5, 5), torch.ones(3, 2, 3, 3)
ERRORS = {
    "conv2d: x must be a tensor, got ndarray": lambda: cnnlib.torch.conv2d(X.numpy(), W),
    "conv2d: x has dtype torch.int64": lambda: cnnlib.torch.conv2d(X.long(), W),
    "conv2d: w must be a dense tensor": lambda: cnnlib.torch.conv2d(X, W.to_sparse()),
    "conv2d: w must have 4 dimensions": lambda: cnnlib.torch.conv2d(X, W[0]),
    "conv2d: x must have 4 dimensions": lambda: cnnlib.torch.conv2d(X[0, 0], W),
    "conv2d: .*channels": lambda: cnnlib.torch.conv2d(X, W[:, :1]),
    "conv2d: padding must be": lambda: cnnlib.torch.conv2d(X, W, padding="full"),
    "conv2d: padding='same' is defined at stride 1": lambda: cnnlib.torch.conv2d(X, W, None, 2, "same"),
    "conv2d: stride must be an integer or": lambda: cnnlib.torch.conv2d(X, W, stride=(1, 1, 1)),
    "conv2d: .*larger than the padded": lambda: cnnlib.torch.conv2d(X[..., :2], W),
    "conv2d: b must have shape": lambda: cnnlib.torch.conv2d(X, W, torch.ones(4)),
    "max_pool2d: padding must be at most half": lambda: cnnlib.torch.max_pool2d(X, 3, padding=2),
    "max_pool2d: the window is larger": lambda: cnnlib.torch.max_pool2d(X, 6),
    "MaxPool2d: return_indices": lambda: cnnlib.torch.MaxPool2d(2, return_indices=True),
    "batch_norm: expected more than 1 value": lambda: cnnlib.torch.batch_norm(
        X[..., :1, :1], None, None, training=True
    ),
    "batch_norm: running_mean and running_var are required": lambda: cnnlib.torch.batch_norm(X, None, None),
    "batch_norm: running_var must have shape": lambda: cnnlib.torch.batch_norm(
        X, X[0, :, 0, 0], torch.ones(3)
    ),
    "batch_norm: running_mean must have shape": lambda: cnnlib.torch.batch_norm(
        X, torch.zeros(5, 2), None, training=True
    ),
    "batch_norm: running_var has dtype torch.int64": lambda: cnnlib.torch.batch_norm(
        X, None, torch.ones(2).long(), training=True
    ),
    "batch_norm: weight must have shape": lambda: cnnlib.torch.batch_norm(
        X, None, None, torch.ones(3), training=True
    ),
}


@pytest.mark.parametrize("message", ERRORS)
def test_errors(message):
    with pytest.raises((ValueError, TypeError), match=message):
        ERRORS[message]()


@pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")
@pytest.mark.parametrize(
    "function",
    [
        lambda x: cnnlib.torch.conv2d(x, W),
        lambda x: cnnlib.torch.conv2d(X, W, x[0, 0, 0, :3]),
        lambda x: cnnlib.torch.max_pool2d(x, 2),
        lambda x: cnnlib.torch.batch_norm(x, None, None, training=True),
    ],
)
def test_forward_mode_derivatives_are_refused(function):
    """PyTorch would make zeros of them."""
    with pytest.raises(NotImplementedError, match=r"(x|b) has a tangent"):
        torch.func.jvp(function, (X,), (X,))
    with forward_ad.dual_level(), pytest.raises(NotImplementedError, match=r"(x|b) has a tangent"):
        function(forward_ad.make_dual(X, X))


def test_other_devices_are_refused():
    class Elsewhere(torch.Tensor):
        device = torch.device("cuda")

    with pytest.raises(ValueError, match="x is on cuda; cnnlib computes on the CPU"):
        cnnlib.torch.conv2d(X.as_subclass(Elsewhere), W)


def test_threads_are_torchs(num_threads, monkeypatch):
    num_threads(2)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)  # as if it had an OpenMP library of its own
    with tensors.torch_threads():
        assert _core.get_num_threads() == 1
    assert _core.get_num_threads() == 2


def test_a_missing_torch_is_named():
    code = "import sys; sys.modules['torch'] = None; import cnnlib.torch"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (
        result.stderr.splitlines()[-1] == "ImportError: cnnlib.torch needs PyTorch: pip install cnnlib[torch]"
    )
