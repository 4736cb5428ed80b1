"""cnnlib.torch.from_module at one size of images, run at others: PyTorch's values, or refused in words."""

import cnnlib
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

import cnnlib.torch  # noqa: E402
from test_torch_load import Net, conv  # noqa: E402
from torch import nn  # noqa: E402
from torch.nn import functional  # noqa: E402

pytestmark = pytest.mark.peers

SIZE = (8, 8)
OTHERS = [(9, 11), (16, 16), (24, 8)]


def head(C):
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(C, 3))


def gate(m, x):
    """Squeeze and excitation whose mean is over what the loaded size divides."""
    y = m.conv(x)
    return m.head(y * torch.sigmoid(m.gate(functional.adaptive_avg_pool2d(y, 1))))


def unpadded(size):
    """The zeros to put on both sides of an axis as TensorFlow does for a 3x3 convolution of stride 2."""
    total = max((-(-size // 2) - 1) * 2 + 3 - size, 0)
    return total // 2, total - total // 2


FREE = {
    "pools whose windows tile the images": lambda: nn.Sequential(
        nn.AdaptiveMaxPool2d(4), nn.AdaptiveAvgPool2d((2, 4)), nn.Flatten(), nn.Linear(24, 2)
    ),
    "a pool as large as the images": lambda: nn.Sequential(nn.AdaptiveAvgPool2d(8), nn.Flatten()),
    "squeeze and excitation": lambda: Net(gate, conv=conv(3, 4), gate=conv(4, 4, 1), head=head(4)),
    "views by the shape": lambda: Net(
        lambda m, x: m.conv(x).mean((2, 3)).view(x.shape[0], -1, 1, 1) * m.conv(x), conv=conv(3, 4)
    ),
    "axes taken away and added": lambda: Net(
        lambda m, x: x * functional.adaptive_avg_pool2d(x, 1).squeeze(-1).squeeze(-1)[:, :, None, None]
    ),
    "enlarged": lambda: nn.Sequential(conv(3, 4, stride=2), nn.Upsample(scale_factor=2, mode="bilinear")),
    "spread": lambda: Net(lambda m, x: functional.adaptive_avg_pool2d(x, 1).expand_as(x).relu() + x),
    "enlarged from one size to one": lambda: nn.Sequential(
        nn.AdaptiveAvgPool2d(4), nn.Upsample(size=(8, 12)), conv(3, 2)
    ),
}
FIXED = {
    r"interpolate: the factor is \('2', '2'\) for 8x8 images, \('16/9', '8/5'\) for 9x10": lambda: Net(
        lambda m, x: functional.interpolate(x, size=(16, 16))
    ),
    r"interpolate of Upsample '0': the factor is": lambda: nn.Sequential(nn.Upsample((8, 16)), conv(3, 2)),
    r"interpolate: the factor is \('2', '2'\) for 8x8 images, \('9/5', '2'\)": lambda: Net(
        lambda m, x: m.head(functional.interpolate(m.conv(x), size=x.shape[2:], mode="bilinear")),
        conv=conv(3, 4, stride=2),
        head=head(4),
    ),
    r"avg_pool2d: kernel_size is \(4, 8\)": lambda: Net(
        lambda m, x: functional.avg_pool2d(x, (x.shape[2] // 2, x.shape[3]))
    ),
    r"adaptive_avg_pool2d of .* '0': the result's size is \(8, 2\)": lambda: nn.Sequential(
        nn.AdaptiveAvgPool2d((None, 2))
    ),
    r"permute, which moves axes of length 1": lambda: Net(
        lambda m, x: functional.avg_pool2d(x, 8).permute(0, 1, 3, 2).relu()
    ),
    r"adaptive_max_pool2d: output_size is \(4, 4\)": lambda: Net(
        lambda m, x: functional.adaptive_max_pool2d(x, (x.shape[2] // 2, x.shape[3] // 2))
    ),
    r"pad: pad is \(0, 1, 0, 1\)": lambda: Net(
        lambda m, x: m.conv(functional.pad(x, (*unpadded(x.shape[3]), *unpadded(x.shape[2])))),
        conv=nn.Conv2d(3, 4, 3, 2),
    ),
    r"conv_transpose2d of ConvTranspose2d 'up': output_padding is \(1, 1\)": lambda: Net(
        lambda m, x: m.up(m.down(x), output_size=x.shape[2:]),
        down=conv(3, 4, stride=2),
        up=nn.ConvTranspose2d(4, 3, 3, 2, 1),
    ),
    r"__getitem__: the result is \('as it was', 'as it was', 'as it was', 'as it was'\)": lambda: Net(
        lambda m, x: x[:, :, :8, :8] * 2
    ),
    r"div: other is 8 for 8x8 images": lambda: Net(lambda m, x: x / x.shape[2]),
    r"max_pool2d, which is called for .* images alone": lambda: Net(
        lambda m, x: functional.max_pool2d(x, 2) if x.shape[2] > 20 else x
    ),
    r"node 'squeeze' \(flatten\) makes rows": lambda: Net(
        lambda m, x: m.conv(x).squeeze((2, 3)), conv=nn.Conv2d(3, 4, 8)
    ),
    r"expand_as: the result is of the same shape for 8x8": lambda: Net(
        lambda m, x: functional.adaptive_avg_pool2d(x, 1).expand_as(m.conv(x)).relu(), conv=nn.Conv2d(3, 3, 8)
    ),
    r"the module: PyTorch refuses 9x10 images": lambda: Net(lambda m, x: x.view(x.shape[0], 3, 8, 8).relu()),
    r"view: the result is \('N', 3, 8, 8\) for": lambda: Net(lambda m, x: x.flatten(2).view(x.shape).relu()),
    r"node 'flatten' \(0\) makes rows": lambda: nn.Sequential(nn.Flatten(), nn.Linear(192, 3)),
}


def make(build):
    torch.manual_seed(1)
    return build().double().eval()


@pytest.mark.parametrize("name", FREE)
def test_other_sizes_are_torchs(name, rng):
    module = make(FREE[name])
    net = cnnlib.torch.from_module(module, (3, *SIZE))
    predictor = cnnlib.prepare(net)
    for size in (SIZE, *OTHERS):
        X = rng.standard_normal((3, 3, *size))
        with torch.no_grad():
            want = module(torch.tensor(X)).numpy()
        dtype = net.dtype
        np.testing.assert_allclose(net.loss(X), want, rtol=1e-5, atol=1e-6, err_msg=f"{size} {dtype}")
        np.testing.assert_allclose(predictor(X), want, rtol=1e-5, atol=1e-6, err_msg=f"{size} {dtype}")


@pytest.mark.parametrize("reason", FIXED)
def test_what_cannot_follow_the_size_is_refused_at_the_call(reason, rng):
    module = make(FIXED[reason])
    net = cnnlib.torch.from_module(module, (3, *SIZE))
    X = rng.standard_normal((3, 3, *SIZE))
    with torch.no_grad():
        np.testing.assert_allclose(net.loss(X), module(torch.tensor(X)).numpy(), rtol=1e-5, atol=1e-6)
    for model in (net.loss, cnnlib.prepare(net)):
        with pytest.raises(ValueError, match=rf"got \(1, 3, 9, 9\); the size is fixed by {reason}"):
            model(np.zeros((1, 3, 9, 9)))


def test_a_tensor_that_is_contiguous_at_one_size_alone(rng):
    """With one pixel to a channel there is nothing to copy."""
    module = make(
        lambda: Net(
            lambda m, x: m.norm(x.permute(0, 2, 3, 1).contiguous()).permute(0, 3, 1, 2), norm=nn.LayerNorm(3)
        )
    )
    net, X = cnnlib.torch.from_module(module, (3, 1, 1)), rng.standard_normal((2, 3, 4, 5))
    with torch.no_grad():
        np.testing.assert_allclose(net.loss(X), module(torch.tensor(X)).numpy(), rtol=1e-9, atol=1e-10)


def test_where_torch_refuses_a_size_the_network_does(rng):
    """A U-Net of one step: sizes that halving rounds do not fit its concatenation."""
    module = make(
        lambda: Net(
            lambda m, x: torch.cat([x, functional.interpolate(m.down(x), scale_factor=2)], 1),
            down=nn.Conv2d(3, 4, 2, 2),
        )
    )
    net = cnnlib.torch.from_module(module, (3, *SIZE))
    X = rng.standard_normal((2, 3, 10, 14))
    np.testing.assert_allclose(net.loss(X), module(torch.tensor(X)).detach().numpy(), rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match=r"node 'cat'.*differ in more than their channels"):
        net.loss(np.zeros((1, 3, 9, 8)))


def test_a_module_that_cannot_run_without_data_keeps_its_size():
    """Its table is no buffer, and so not among the tensors that are replaced."""
    table = torch.ones(3, 1, 1)
    net = cnnlib.torch.from_module(Net(lambda m, x: x * table), (3, *SIZE))
    assert net.loss(np.ones((1, 3, 8, 8))).shape == (1, 3, 8, 8)
    with pytest.raises(ValueError, match="fixed by the module, which runs on no tensors without data"):
        net.loss(np.ones((1, 3, 9, 9)))


def test_adaptive_pools_stay_so_and_global_ones_where_only_flattened():
    module = nn.Sequential(
        nn.AdaptiveMaxPool2d(4), nn.AdaptiveAvgPool2d(2), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )
    kinds = [node.layer for node in cnnlib.torch.from_module(module, (3, *SIZE)).graph()]
    assert kinds == ["adaptive_max_pool", "adaptive_avg_pool", "global_avg_pool"]
