"""Networks on tensors of any rank beside PyTorch: outputs and gradients in float64."""

import math

import cnnlib.torch
import numpy as np
import pytest
import torch
from cnnlib.torch.sizes import attributes_kept
from torch import nn
from torch.nn import functional

DIM = (4, 6, 8)
CLOSE = 1e-8  # float64, outputs and gradients of order 1


class Net(nn.Module):
    """A module of layers, parameters and a function that uses them."""

    def __init__(self, forward, **parts):
        super().__init__()
        for name, part in parts.items():
            setattr(self, name, part)
        self.run = forward

    def forward(self, x):
        return self.run(self, x)


def parameter(*shape):
    return nn.Parameter(torch.randn(*shape))


def compare(module, dim=DIM, samples=3):
    """Outputs, and gradients of the parameters that the network has, are PyTorch's; return the network."""
    torch.manual_seed(0)
    module = module.double().eval()
    with torch.no_grad():
        for part in module.parameters():
            part.copy_(torch.randn_like(part) * (0.3 if part.ndim > 1 else 1))
    net = cnnlib.torch.from_module(module, dim)
    x = torch.randn(samples, *dim, dtype=torch.float64)
    want = module(x)
    got, caches = net._program.forward(net._run(train=False), x.numpy())
    np.testing.assert_allclose(got, want.detach().numpy(), rtol=CLOSE, atol=CLOSE)
    np.testing.assert_allclose(net(x.numpy()), want.detach().numpy(), rtol=CLOSE, atol=CLOSE)
    dout = torch.randn_like(want)
    want.backward(dout) if want.requires_grad else None
    grads = {}
    net._program.backward(dout.numpy(), caches, grads)
    theirs = dict(module.named_parameters())
    matrices = {node.params[0] for node in net.graph() if node.layer in ("affine", "linear")}
    for name in grads.keys() & theirs.keys():  # others are of constants that are computed from parameters
        wanted, grad = theirs[name].grad.numpy(), grads[name].T if name in matrices else grads[name]
        np.testing.assert_allclose(grad.reshape(wanted.shape), wanted, rtol=CLOSE, atol=CLOSE, err_msg=name)
    return net, grads


def learned(m, x):
    return m.first(x)


FUNCTIONS = {
    "chunk": lambda x: torch.cat([x.chunk(2, 1)[1], x.chunk(3, 3)[0].mean(3, keepdim=True) * x], 1),
    "split": lambda x: torch.cat(x.split([1, 3], 1)[::-1], 1) + torch.cat(x.split(3, 2), 2),
    "unbind": lambda x: x.unbind(1)[2] - x.unbind(-1)[0][..., None].sum(1),
    "slices": lambda x: x[:, 1:, ::2, -3:] * x[:, :3, 1::2, :3],
    "select": lambda x: x[:, 1] + x.select(3, -1).sum(1)[..., None],
    "narrow": lambda x: x.narrow(2, 1, 4),
    "transposes": lambda x: (x.transpose(1, 3) @ x.permute(0, 3, 1, 2).transpose(2, 3).mT).flatten(2),
    "movedim": lambda x: x.movedim(1, -1).movedim((1, 2), (2, 1)).contiguous(),
    "samples in the middle": lambda x: (x.flatten(2).permute(2, 0, 1) * 2).sum(0),
    "samples folded": lambda x: x.reshape(-1, 6, 8).softmax(-1).view(-1, 4, 6, 8),
    "samples last": lambda x: (x.flatten(1).t() + 1).t().contiguous(),
    "expand": lambda x: x.mean(1, keepdim=True).expand(-1, 4, -1, -1) * x,
    "repeat": lambda x: x.repeat(1, 2, 1, 3)[:, 2:6],
    "repeat_interleave": lambda x: x.repeat_interleave(3, 2),
    "stack": lambda x: torch.stack([x, 2 * x, x.exp()], 2).amax(2),
    "cat rows": lambda x: torch.cat([x, x.flip(2)], -2),
    "roll": lambda x: x.roll((1, -3), (2, 3)) * x,
    "flip": lambda x: x.flip(1, 3),
    "index": lambda x: (
        x[:, :, torch.tensor([0, 3, 3, -1])] + x.index_select(1, torch.tensor([2]))[..., :4, :]
    ),
    "pad": lambda x: functional.pad(x, (1, 2, 0, 1, 2, 0), value=0.5),
    "crop": lambda x: functional.pad(x, (-1, 2)),
    "reflect": lambda x: functional.pad(x, (2, 1, 1, 3), mode="reflect"),
    "replicate": lambda x: functional.pad(x, (2, 1, 1, 3), mode="replicate"),
    "circular": lambda x: functional.pad(x, (2, 1, 1, 3), mode="circular"),
    "softmax of bins": lambda x: x.flatten(2).softmax(2).log_softmax(1),
    "arithmetic": lambda x: (1 - x) / (2 + x.abs()) - x.pow(2) * (x + 1) + x.square().add(1).rsqrt(),
    "broadcast": lambda x: x / (x[:, :1].exp() + x.mean((1, 3), keepdim=True).square()),
    "extremes": lambda x: torch.maximum(x, x.flip(1)) - torch.minimum(x, x.roll(1, 3)) + x.amin(2, True),
    "clamp": lambda x: x.clamp(-0.5, 0.25) + x.clamp(min=0.1) + x.clamp_max(0.2),
    "roots": lambda x: (x.abs() + 1).sqrt().log() + (x.exp() + 0.1).reciprocal() + (x.abs() + 1) ** 0.3,
    "sums": lambda x: x.sum((1, 3)) + x.mean(-1).amax(1) + x.norm(dim=(1, 3)) + x.std(3).sum(1),
    "variance": lambda x: x.var((2, 3), unbiased=False) + x.flatten(1).std(1, keepdim=True),
    "activations": lambda x: (
        functional.mish(x) + functional.softplus(x, 2) + functional.selu(x) + functional.celu(x, 0.5)
    ),
    "gates": lambda x: functional.glu(x, 1) + functional.logsigmoid(x)[:, :2] + functional.hardtanh(x)[:, :2],
    "matmul": lambda x: x @ x.mT @ x,
    "bmm": lambda x: torch.bmm(x.flatten(0, 1), x.flatten(0, 1).mT).view(-1, 4, 6, 6),
    "einsum": lambda x: torch.einsum("nchw,ndhw->ncd", x, x.exp()),
    "attention": lambda x: functional.scaled_dot_product_attention(x, x.flip(2), x.roll(1, 3)),
    "causal": lambda x: functional.scaled_dot_product_attention(x, x, x, is_causal=True, scale=0.3),
    "masked": lambda x: functional.scaled_dot_product_attention(
        x, x, x, attn_mask=torch.tensor(np.tri(6, dtype=bool))
    ),
    "attention of three axes": lambda x: functional.scaled_dot_product_attention(
        x.flatten(2), x.flatten(2) + 1, x[:, :, :3].flatten(2)
    ),
    "attention of five axes": lambda x: functional.scaled_dot_product_attention(
        *[x.view(-1, 2, 2, 6, 8)] * 2,
        x.view(-1, 2, 2, 6, 8).exp(),
        attn_mask=torch.linspace(-1, 1, 12).double().view(2, 1, 6),
    ),
    "attention of windows": lambda x: functional.scaled_dot_product_attention(
        *[x.reshape(-1, 2, 6, 8)] * 3, attn_mask=torch.linspace(-1, 1, 72).double().view(2, 6, 6)
    ).view(-1, 4, 6, 8),
    "shared keys": lambda x: functional.scaled_dot_product_attention(
        x, x[:, ::2], x[:, 1::2], enable_gqa=True, scale=0.4
    ),
    "a mask of heads": lambda x: functional.scaled_dot_product_attention(
        x, x, x, attn_mask=torch.arange(4 * 6 * 6).view(4, 6, 6) % 5 > 1
    ),
    "a computed mask": lambda x: functional.scaled_dot_product_attention(
        x, x.exp(), x, attn_mask=x[..., :6].tanh()
    ),
    "infinities that are hidden": lambda x: torch.where(
        torch.tensor(np.tri(8, dtype=bool)[:6]), x, x * np.inf
    ).clamp(-3, 3),
    "masked with infinity": lambda x: (x * np.inf).masked_fill(torch.ones(6, 8, dtype=bool), -2.0) + x,
    "masked_fill": lambda x: x.masked_fill(torch.tensor(np.tri(8, dtype=bool)[:6]), -2.0),
    "where": lambda x: torch.where(torch.tensor(np.tri(8, dtype=bool)[:6]), x, x.exp() - 1),
    "unfold": lambda x: functional.unfold(x, (3, 2), dilation=(1, 2), padding=1, stride=(2, 1)),
    "windows of an axis": lambda x: x.unfold(2, 3, 2).unfold(3, 2, 2),
    "pixel_shuffle": lambda x: functional.pixel_unshuffle(functional.pixel_shuffle(x, 2), 2) + x,
    "pixel_unshuffle": lambda x: functional.pixel_unshuffle(x, 2),
    "channel_shuffle": lambda x: functional.channel_shuffle(x, 2) - x,
    "to sizes": lambda x: functional.interpolate(x, (5, 11), mode="bilinear") * 2,
    "by a factor": lambda x: functional.interpolate(x, scale_factor=1.3, mode="bilinear"),
    "corners": lambda x: functional.interpolate(x, (9, 5), mode="bilinear", align_corners=True),
    "bicubic": lambda x: functional.interpolate(x, (9, 5), mode="bicubic"),
    "nearest": lambda x: functional.interpolate(x, (4, 13)),
    "a product added": lambda x: torch.addcmul(x, x.exp(), x.mean(1, True), value=0.5),
    "none of an axis": lambda x: torch.cat([x[:, :, :0], x.type_as(x)], 2),
    "one head of keys": lambda x: functional.scaled_dot_product_attention(x, x[:, :1], x[:, 1:2]),
    "pool of windows": lambda x: functional.max_pool2d(x.reshape(-1, 2, 6, 8), 2).view(-1, 4, 3, 4),
    "rms_norm": lambda x: functional.rms_norm(x, (8,)),
    "max_pool of pixels": lambda x: functional.max_pool2d(x.permute(0, 2, 3, 1), 2),
    "relu of reshaped": lambda x: x.view(-1, 2, 2, 6, 8).relu().sum(1),
    "zeros like it": lambda x: torch.cat([x, torch.zeros_like(x), x.new_full((x.shape[0], 1, 6, 8), 2.0)], 1),
}


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.filterwarnings("ignore:invalid value")  # of infinities
def test_functions_are_torchs(name):
    function = FUNCTIONS[name]
    compare(Net(lambda m, x: function(m.first(x)), first=nn.Conv2d(4, 4, 1)))


LAYERS = {
    "linear of the last axis": (lambda m, x: m.layer(x), {"layer": nn.Linear(8, 5)}),
    "linear of rows": (lambda m, x: m.layer(x.flatten(2)), {"layer": nn.Linear(48, 5)}),
    "layer norms": (
        lambda m, x: m.two(m.one(x)),
        {"one": nn.LayerNorm(8), "two": nn.LayerNorm((6, 8), elementwise_affine=False)},
    ),
    "rms norm": (lambda m, x: m.layer(x), {"layer": nn.RMSNorm(8)}),
    "group norm of rows": (lambda m, x: m.layer(x.flatten(2)), {"layer": nn.GroupNorm(2, 4)}),
    "batch norm of rows": (lambda m, x: m.layer(x.flatten(2)), {"layer": nn.BatchNorm1d(4)}),
    "batch norm of tokens": (
        lambda m, x: m.layer(x.flatten(2).transpose(1, 2).flatten(0, 1)).view(-1, 48, 4),
        {"layer": nn.BatchNorm1d(4)},
    ),
    "convolution of windows": (
        lambda m, x: m.layer(x.reshape(-1, 2, 6, 8)).view(-1, 6, 3, 4),
        {"layer": nn.Conv2d(2, 3, 3, 2, 1)},
    ),
    "convolution of rows": (
        lambda m, x: m.layer(x.flatten(2)),
        {"layer": nn.Conv1d(4, 6, 5, 2, 3, dilation=2, groups=2)},
    ),
    "einsum with places": (
        lambda m, x: torch.einsum("nchw,hkw->nchk", x, m.places),
        {"places": parameter(6, 5, 8)},
    ),
    "prelu": (lambda m, x: m.one(x) + m.four(x), {"one": nn.PReLU(), "four": nn.PReLU(4)}),
    "subtracted parameters": (
        lambda m, x: torch.where(torch.tensor(np.tri(8, dtype=bool)[:6]), x - m.scale, m.scale - x),
        {"scale": parameter(8)},
    ),
    "a learnt query": (
        lambda m, x: functional.scaled_dot_product_attention(m.query.expand(x.shape[0], -1, -1, -1), x, x),
        {"query": parameter(1, 4, 1, 8)},
    ),
    "a learnt bias": (
        lambda m, x: functional.scaled_dot_product_attention(x, x, x, attn_mask=m.bias),
        {"bias": parameter(4, 6, 6)},
    ),
    "parameters": (
        lambda m, x: x * m.scale + m.shift[:, None, None],
        {"scale": parameter(8), "shift": parameter(4)},
    ),
    "tokens": (
        lambda m, x: torch.cat([m.token.expand(x.shape[0], -1, -1), x.flatten(2)], 1) + m.places,
        {"token": parameter(1, 1, 48), "places": parameter(1, 5, 48)},
    ),
    "multi-head attention": (
        lambda m, x: m.layer(x.flatten(2), x.flatten(2), x.flatten(2), need_weights=False)[0],
        {"layer": nn.MultiheadAttention(48, 3, batch_first=True)},
    ),
    "attention with samples in the middle": (
        lambda m, x: m.layer(*[x.flatten(2).transpose(0, 1)] * 3)[0].transpose(0, 1),
        {"layer": nn.MultiheadAttention(48, 3)},
    ),
    "a transformer's layer": (
        lambda m, x: m.layer(x.flatten(2)),
        {"layer": nn.TransformerEncoderLayer(48, 4, 20, batch_first=True, activation="gelu")},
    ),
    "joined with one channel": (lambda m, x: x * m.layer(x), {"layer": nn.Conv2d(4, 1, 3, padding=1)}),
    "reflecting convolution": (
        lambda m, x: m.layer(x),
        {"layer": nn.Conv2d(4, 3, 3, padding=1, padding_mode="reflect")},
    ),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layers_are_torchs(name):
    run, parts = LAYERS[name]
    _, grads = compare(Net(lambda m, x: run(m, m.first(x)), first=nn.Conv2d(4, 4, 1), **parts))
    assert {"first.weight", "first.bias"} <= grads.keys()


@pytest.mark.parametrize(
    "name", [*(n for n in FUNCTIONS if "attention" in n), "causal", "masked", "shared keys"]
)
def test_attention_is_one_layer(name):
    function = FUNCTIONS[name]
    module = Net(lambda m, x: function(m.first(x)), first=nn.Conv2d(4, 4, 1)).double()
    net = cnnlib.torch.from_module(module, DIM)
    layers = [node.layer for node in net.graph()]
    assert layers.count("attention") == 1
    assert not {"softmax", "matmul"} & {*layers}


# Random chains of operators ---------------------------------------------------------------------------


def some_axis(rng, x):
    """An axis that is not that of the samples, counted from either end."""
    return int(rng.integers(1, x.ndim)) - x.ndim * int(rng.integers(2))


def normal(rng, *shape):
    return torch.tensor(rng.standard_normal(shape))


def elsewhere(rng, x):
    """An operator while the samples are not on the first axis."""
    order = [int(a) for a in rng.permutation(x.ndim)]
    moved = x.permute(order)
    axis = [a for a in range(x.ndim) if order[a] != 0][int(rng.integers(x.ndim - 1))]
    made = [
        lambda: moved.softmax(axis),
        lambda: moved - moved.mean(axis, keepdim=True),
        lambda: torch.cat([moved, moved.tanh()], axis),
        lambda: moved.flip(axis) * moved,
    ][int(rng.integers(4))]()
    return made.permute([order.index(a) for a in range(x.ndim)])


EACH = (
    torch.tanh,
    torch.sigmoid,
    torch.relu,
    functional.silu,
    functional.gelu,
    functional.mish,
    functional.softplus,
    functional.selu,
    functional.celu,
    functional.elu,
    functional.hardswish,
    functional.hardsigmoid,
    functional.leaky_relu,
    functional.logsigmoid,
    functional.relu6,
    torch.square,
    torch.neg,
    lambda x: functional.gelu(x, approximate="tanh"),
    lambda x: functional.prelu(x, torch.tensor([0.3]).double()),
    lambda x: x.clamp(min=-0.3) + x.clamp_max(0.2),
    lambda x: (x.tanh() + 2).log() + x.tanh().exp(),
    lambda x: (x.abs() + 1).sqrt() + 1 / (x.abs() + 1),
)
STEPS = {
    "softmax": lambda rng, x: x.softmax(some_axis(rng, x)),
    "log_softmax": lambda rng, x: x.log_softmax(some_axis(rng, x)),
    "sum": lambda rng, x: x.sum(some_axis(rng, x), keepdim=True) / x.exp(),
    "mean": lambda rng, x: x - x.mean(some_axis(rng, x), keepdim=True),
    "amax": lambda rng, x: x.amax(some_axis(rng, x)) if x.ndim > 2 else x.amax(1, keepdim=True),
    "amin": lambda rng, x: torch.minimum(x, x.amin(some_axis(rng, x), keepdim=True) + 1),
    "std": lambda rng, x: torch.cat([x, x + 1], 1).std(1, keepdim=True) * x,
    "cat": lambda rng, x: torch.cat([x, x.tanh(), x], some_axis(rng, x)),
    "stack": lambda rng, x: torch.stack([x, x.abs()], some_axis(rng, x)).sum(1) if x.ndim < 5 else x,
    "flip": lambda rng, x: x.flip(some_axis(rng, x)) + x,
    "roll": lambda rng, x: x.roll(int(rng.integers(-7, 8)), some_axis(rng, x)),
    "chunk": lambda rng, x: torch.cat(x.chunk(2, axis := some_axis(rng, x))[::-1], axis),
    "slice": lambda rng, x: torch.cat([x.narrow(axis := some_axis(rng, x), 0, 1), x], axis)[:, -2:],
    "transpose": lambda rng, x: x.transpose(some_axis(rng, x), some_axis(rng, x)) * 2,
    "movedim": lambda rng, x: x.movedim(1, -1).relu(),
    "unsqueeze": lambda rng, x: x.unsqueeze(-1).expand(*x.shape, 2).flatten(-2),
    "layer_norm": lambda rng, x: functional.layer_norm(x, x.shape[-int(rng.integers(1, x.ndim)) :]),
    "products": lambda rng, x: x @ x.mT / 8 if x.ndim > 2 else x[:, None] * x[..., None],
    "index": lambda rng, x: x.index_select(
        axis := some_axis(rng, x), torch.tensor(rng.integers(0, x.shape[axis], size=3))
    ),
    "pad": lambda rng, x: functional.pad(x, tuple(int(n) for n in rng.integers(0, 3, size=2)), value=-1.5),
    "repeat": lambda rng, x: x.repeat(1, 2, *(1,) * (x.ndim - 2)),
    "where": lambda rng, x: torch.where(torch.tensor(rng.random(x.shape[-1]) < 0.5), x, 0.5),
    "clamp": lambda rng, x: x.clamp(-0.7, 0.9),
    "elsewhere": lambda rng, x: elsewhere(rng, x),
    "einsum": lambda rng, x: torch.einsum("n...i,ij->n...j", x, normal(rng, x.shape[-1], 3)),
    "einsum of values": lambda rng, x: torch.einsum("n...i,n...j->n...ij", x, x.tanh()) if x.ndim < 4 else x,
    "attention": lambda rng, x: (
        functional.scaled_dot_product_attention(
            x, x.tanh(), x.flip(-1), is_causal=bool(rng.integers(2)), scale=0.3
        )
        if x.ndim > 2
        else x.sigmoid()
    ),
    "attention with a mask": lambda rng, x: (
        functional.scaled_dot_product_attention(
            x, x, x.tanh(), attn_mask=normal(rng, x.shape[-2], x.shape[-2])
        )
        if x.ndim > 2
        else x.sigmoid()
    ),
    "rms_norm": lambda rng, x: functional.rms_norm(x, x.shape[-1:], normal(rng, x.shape[-1]), 1e-3),
    "group_norm": lambda rng, x: functional.group_norm(torch.cat([x, x.tanh()], 1), 2),
    "glu": lambda rng, x: functional.glu(torch.cat([x, x], axis := some_axis(rng, x)), axis),
    "each": lambda rng, x: EACH[rng.integers(len(EACH))](x),
    "roots": lambda rng, x: (x.abs() + 0.5).rsqrt() + (x * x + 0.1) ** float(rng.uniform(-1, 2)),
    "var": lambda rng, x: (
        x * torch.var(torch.stack([x, x.tanh()]), 0, correction=0)
        if rng.integers(2)
        else x - (torch.cat([x, -x], axis := some_axis(rng, x))).var(axis, keepdim=True)
    ),
    "norm": lambda rng, x: x / (x.norm(dim=some_axis(rng, x), keepdim=True) + 1),
    "normalize": lambda rng, x: functional.normalize(x, dim=some_axis(rng, x)),
    "unbind": lambda rng, x: sum(x.unbind(1)) if x.ndim > 2 else x + 1,
    "masked_fill": lambda rng, x: x.masked_fill(torch.tensor(rng.random(x.shape[1:]) < 0.5), 0.25),
    "addcmul": lambda rng, x: torch.addcmul(x, x.tanh(), x.sigmoid(), value=0.7),
    "linear": lambda rng, x: functional.linear(x, normal(rng, 3, x.shape[-1]), normal(rng, 3)),
    "conv1d": lambda rng, x: (
        functional.conv1d(x.flatten(2), normal(rng, 3, x.shape[1], 2), padding=1) if x.ndim > 2 else x
    ),
    "unfold": lambda rng, x: x.unfold(1, x.shape[1] // 2 + 1, 1) if x.ndim < 5 else x,
    "repeat_interleave": lambda rng, x: x.repeat_interleave(2, some_axis(rng, x)),
    "arithmetic": lambda rng, x: (
        (3 - x)
        * normal(rng, *(n if rng.integers(2) else 1 for n in x.shape[1:]))
        / (1.5 + x.tanh().amax(1, keepdim=True))
    ),
    "maximum": lambda rng, x: torch.maximum(x, normal(rng, x.shape[-1])) - torch.minimum(x.tanh(), x / 2),
    "folded": lambda rng, x: x.flatten(0, 1).softmax(-1).reshape(x.shape) if x.ndim > 2 else x.exp(),
}


def check_chain(seed):
    """Three operators in a row, of samples of one to four axes."""
    names, rng = list(STEPS), np.random.default_rng(seed)
    dim = tuple(int(n) for n in rng.integers(2, 5, size=rng.integers(1, 5)))
    chosen = [names[seed % len(names)], *(names[i] for i in rng.integers(len(names), size=2))]

    def run(m, x):
        drawn = np.random.default_rng(seed)  # the same at each call
        x = x * m.scale
        for name in chosen:
            x = STEPS[name](drawn, x)
        return x

    compare(Net(run, scale=parameter(*dim)), dim)


@pytest.mark.parametrize("seed", range(2 * len(STEPS)))
def test_random_chains_are_torchs(seed):
    """Each operator comes first twice; random_graphs.py goes on."""
    check_chain(seed)


OVER_SAMPLES = {
    r"sum_1: axis 0 is that of the samples, which stay apart": lambda x: x.sum(0, keepdim=True) * x,
    r"softmax: axis 0 is that of the samples": lambda x: x.softmax(0),
    r"flip: axis 0 is that of the samples": lambda x: x.flip(0),
    r"roll: axis 0 is that of the samples": lambda x: x.roll(1, 0),
    r"roll: rolls along named axes alone": lambda x: x.roll(1),
    r"slice_1: axis 0 is that of the samples": lambda x: torch.cat([x[1:], x[:1]]),
    r"layer_norm: normalises over the samples": lambda x: functional.layer_norm(x.flatten(1).t(), (509,)).t(),
    r"a constant of shape \(509, 1, 1, 1\) beside .* differs between samples": lambda x: (
        x * torch.arange(x.shape[0]).double()[:, None, None, None]
    ),
    r"matmul: the product of .* has no counterpart": lambda x: x.flatten(1).t() @ x.flatten(1),
    r"softplus: threshold is 1, here at least 20": lambda x: functional.softplus(x, threshold=1),
    r"values of shapes .* are not joined": lambda x: x.flatten(1)[:, :509] * x.flatten(1).t()[:509],
}


@pytest.mark.parametrize("message", OVER_SAMPLES)
def test_what_mixes_samples_is_refused_by_name(message):
    with pytest.raises(ValueError, match=rf"from_module: .*{message}"):
        cnnlib.torch.from_module(Net(lambda m, x: OVER_SAMPLES[message](x)).double(), (4, 12, 12))


def test_a_convolution_of_what_was_reshaped_is_one_of_images():
    layer = nn.Conv2d(8, 8, 3, padding=1, groups=8)
    module = Net(lambda m, x: m.layer(x.flatten(1).view(-1, 2, 96).exp().reshape(-1, 8, 4, 6)), layer=layer)
    net, _ = compare(module)
    assert [node.layer for node in net.graph()].count("conv") == 1


def test_dropout_of_channels_drops_whole_channels():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(4, 16, 1), nn.Dropout2d(0.5)).double().eval()
    net = cnnlib.torch.from_module(module, DIM)
    x = torch.randn(8, *DIM, dtype=torch.float64)
    want = module(x).detach().numpy()
    np.testing.assert_allclose(net(x.numpy()), want, rtol=CLOSE, atol=CLOSE)
    np.random.seed(0)
    dropped, _ = net._program.forward(net._run(train=True), x.numpy())
    kept = dropped.any((2, 3), keepdims=True)
    assert 0.3 < kept.mean() < 0.7
    np.testing.assert_allclose(dropped, kept * 2 * want, rtol=CLOSE, atol=CLOSE)


def test_a_mean_over_axes_takes_images_of_other_sizes():
    module = Net(lambda m, x: (x * x.mean(2, keepdim=True)).mean((1, 3)))
    net = cnnlib.torch.from_module(module, DIM)
    x = torch.randn(2, 4, 9, 7)
    np.testing.assert_allclose(net(x.numpy()), module(x).numpy(), rtol=1e-5, atol=1e-6)


def test_a_form_that_is_refused_leaves_nothing_behind():
    """Of a linear layer that images do not take, the weights keep their name."""
    module = Net(lambda m, x: m.layer(x).transpose(1, 3), layer=nn.Linear(8, 8))
    net, _ = compare(module)
    assert {*net.params} == {"layer.weight", "layer.bias"}


# Stand-ins for families of networks -------------------------------------------------------------------


def conv(C, F, kernel=1, stride=1, groups=1):
    layers = (
        nn.Conv2d(C, F, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(F),
        nn.SiLU(),
    )
    return nn.Sequential(*layers)


class C2f(nn.Module):
    """A block of YOLOv8: half of the channels go through bottlenecks, and all of them are kept."""

    def __init__(self, C, F):
        super().__init__()
        self.first, self.last = conv(C, 2 * F), conv(4 * F, F)
        self.inner = nn.ModuleList(nn.Sequential(conv(F, F, 3), conv(F, F, 3)) for _ in range(2))

    def forward(self, x):
        parts = list(self.first(x).chunk(2, 1))
        parts.extend(inner(parts[-1]) for inner in self.inner)
        return self.last(torch.cat(parts, 1))


class Detector(nn.Module):
    """Two scales; boxes as the mean of a distribution over bins, in pixels, beside scores of classes."""

    BINS, CLASSES = 4, 3

    def __init__(self):
        super().__init__()
        self.one, self.two = C2f(4, 6), nn.Sequential(conv(6, 6, 3, 2), C2f(6, 6))
        self.heads = nn.ModuleList(nn.Conv2d(6, 4 * self.BINS + self.CLASSES, 1) for _ in range(2))

    def forward(self, x):
        maps = [self.one(x)]
        maps.append(self.two(maps[0]))
        rows, places, strides = [], [], []
        for step, (head, value) in zip((1, 2), zip(self.heads, maps)):
            h, w = value.shape[2:]
            rows.append(head(value).view(x.shape[0], 4 * self.BINS + self.CLASSES, -1))
            y, x_ = torch.meshgrid(*(torch.arange(n, device=x.device) + 0.5 for n in (h, w)), indexing="ij")
            places.append(torch.stack((x_, y), -1).view(-1, 2).type_as(value))
            strides.append(torch.full((h * w, 1), float(step), device=x.device).type_as(value))
        boxes, scores = torch.cat(rows, 2).split((4 * self.BINS, self.CLASSES), 1)
        places, strides = torch.cat(places).T, torch.cat(strides).T
        b, _, a = boxes.shape
        bins = torch.arange(self.BINS, dtype=boxes.dtype, device=x.device)
        sides = (boxes.view(b, 4, self.BINS, a).transpose(2, 1).softmax(1) * bins.view(1, -1, 1, 1)).sum(1)
        near, far = sides.chunk(2, 1)
        low, high = places[None] - near, places[None] + far
        return torch.cat(((low + high) / 2 * strides, (high - low) * strides, scores.sigmoid()), 1)


class VisionTransformer(nn.Module):
    """Patches, a token, two blocks of attention with q, k and v from one layer."""

    def __init__(self, D=12, heads=3):
        super().__init__()
        self.patches, self.heads = nn.Conv2d(4, D, 2, 2), heads
        self.token, self.places = parameter(1, 1, D), parameter(1, 13, D)
        self.norms = nn.ModuleList(nn.LayerNorm(D) for _ in range(3))
        self.qkv, self.out = nn.Linear(D, 3 * D), nn.Linear(D, D)
        self.mlp = nn.Sequential(nn.Linear(D, 20), nn.GELU(), nn.Linear(20, D))
        self.scale, self.head = parameter(D), nn.Linear(D, 5)

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat((self.token.expand(x.shape[0], -1, -1), x), 1) + self.places
        B, L, D = x.shape
        qkv = self.qkv(self.norms[0](x)).reshape(B, L, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        y = functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(B, L, D)
        x = x + self.scale * self.out(y)
        return self.head(self.norms[2](x + self.mlp(self.norms[1](x)))[:, 0])


class Windows(nn.Module):
    """Swin: attention in shifted windows, with a bias of relative places and a mask."""

    def __init__(self, D=6, heads=2, window=(3, 4)):
        super().__init__()
        self.window, self.heads = window, heads
        self.norm, self.qkv, self.out = nn.LayerNorm(D), nn.Linear(D, 3 * D), nn.Linear(D, D)
        L = math.prod(window)
        self.bias = parameter(11, heads)
        self.register_buffer("index", torch.randint(11, (L * L,)))
        self.merge = nn.Linear(4 * D, 2 * D, bias=False)
        self.patches = nn.Conv2d(4, D, 1)

    def forward(self, x):
        x = self.patches(x).permute(0, 2, 3, 1)
        B, H, W, D = x.shape
        (h, w), L = self.window, math.prod(self.window)
        y = torch.roll(self.norm(x), (-1, -2), (1, 2))
        y = y.view(B, H // h, h, W // w, w, D).permute(0, 1, 3, 2, 4, 5).reshape(-1, L, D)
        q, k, v = self.qkv(y).reshape(-1, L, 3, self.heads, D // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        scores = (q * 0.5) @ k.transpose(-2, -1)
        scores = scores + self.bias[self.index].view(L, L, -1).permute(2, 0, 1).contiguous().unsqueeze(0)
        mask = x.new_zeros((H, W))
        mask[-1:, :] = 1
        mask[:, -2:] = 2
        mask = mask.view(H // h, h, W // w, w).permute(0, 2, 1, 3).reshape(-1, L)
        mask = mask.unsqueeze(1) - mask.unsqueeze(2)
        mask = mask.masked_fill(mask != 0, -100.0).masked_fill(mask == 0, 0.0)
        nW = mask.shape[0]
        scores = scores.view(-1, nW, self.heads, L, L) + mask.unsqueeze(1).unsqueeze(0)
        y = scores.view(-1, self.heads, L, L).softmax(-1) @ v
        y = self.out(y.transpose(1, 2).reshape(-1, L, D))
        y = y.view(B, H // h, W // w, h, w, D).permute(0, 1, 3, 2, 4, 5).reshape(B, H, W, D)
        x = x + torch.roll(y, (1, 2), (1, 2))
        parts = x[:, 0::2, 0::2], x[:, 1::2, 0::2], x[:, 0::2, 1::2], x[:, 1::2, 1::2]
        return self.merge(torch.cat(parts, -1)).mean((1, 2))


class ShuffleUnit(nn.Module):
    """ShuffleNet: half of the channels are worked on, then both halves are shuffled."""

    def __init__(self, C=4):
        super().__init__()
        self.branch = nn.Sequential(conv(C // 2, C // 2), conv(C // 2, C // 2, 3, groups=C // 2))

    def forward(self, x):
        one, two = x.chunk(2, 1)
        x = torch.cat((one, self.branch(two)), 1)
        N, C, H, W = x.shape
        return x.view(N, 2, C // 2, H, W).transpose(1, 2).contiguous().view(N, C, H, W)


FAMILIES = {
    "C2f": lambda: C2f(4, 3),
    "detector": Detector,
    "vision transformer": VisionTransformer,
    "shifted windows": Windows,
    "shuffled channels": lambda: nn.Sequential(ShuffleUnit(), ShuffleUnit()),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_families_are_torchs(name):
    module = FAMILIES[name]()
    net, grads = compare(module)
    # A parameter that a constant is computed from (bias[index]) is not trained; all others are.
    assert {*dict(module.named_parameters())} - {"bias"} <= grads.keys()
    assert not {*net.frozen} & {*grads}


def test_another_size_is_taken_where_no_size_is_built_in():
    module = C2f(4, 3).double().eval()
    net = cnnlib.torch.from_module(module, DIM)
    x = torch.randn(2, 4, 9, 7, dtype=torch.float64)
    np.testing.assert_allclose(net(x.numpy()), module(x).detach().numpy(), rtol=CLOSE, atol=CLOSE)


def test_a_network_with_a_size_built_in_names_the_call():
    net = cnnlib.torch.from_module(Detector(), DIM)
    with pytest.raises(ValueError, match=r"the size is fixed by .*arange"):
        net(np.zeros((1, 4, 8, 8)))


def test_all_refused_operators_are_named():
    def run(m, x):
        return (x.cumsum(1) + torch.special.i0(x)).sort(1)[0]

    with pytest.raises(
        ValueError, match=r"cumsum: the operator .*; special_i0: the operator .*; sort: the operator"
    ):
        cnnlib.torch.from_module(Net(run), DIM)


def test_a_module_keeps_the_attributes_that_a_call_changes():
    """Detectors of Ultralytics keep the places that they computed, which recording makes of no numbers."""
    module = nn.Sequential(nn.BatchNorm2d(4))
    places, mean = torch.ones(3), module[0].running_mean
    module[0].places = places
    with attributes_kept(module):
        module[0].places = module[0].shape = torch.zeros(2, device="meta")
        module[0].running_mean = torch.zeros(4, device="meta")
    assert module[0].places is places
    assert module[0].running_mean is mean
    assert not hasattr(module[0], "shape")


def of_rows(x):
    return x.flatten(2).mean(2, True)


# True where an image of another size gives what the module gives; where not, the size is refused.
FOLLOWS_THE_SIZE = {
    "variance": (lambda x: x.var((2, 3)), False),
    "deviation": (lambda x: x.flatten(2).std(2), False),
    "variance of all": (lambda x: x.var((2, 3), correction=0), True),
    "chunk": (lambda x: x.chunk(2, 2)[0].sum((2, 3)), False),
    "split": (lambda x: x.split(3, 2)[1].sum((2, 3)), False),
    "glu": (lambda x: functional.glu(x, 2), False),
    "unbind": (lambda x: x.unbind(2)[-1], False),
    "windows along an axis": (lambda x: x.unfold(2, 2, 2).sum(2), False),
    "circular": (lambda x: functional.pad(x, (2, 1, 1, 3), mode="circular"), True),
    "slice to the end": (lambda x: x[:, :, 2:6], True),
    "slice beyond the end": (lambda x: x[:, :, 1:9], True),
    "narrow": (lambda x: x.narrow(2, 0, 6), True),
    "narrow from behind": (lambda x: x.narrow(2, -3, 3), True),
    "select": (lambda x: x.select(2, 5), True),
    "expand": (lambda x: of_rows(x).expand(-1, -1, x.flatten(2).shape[2]).sum(2), False),
    "expand images": (lambda x: x.mean((2, 3), True).expand(x.shape).sum((2, 3)), False),
    "expand_as": (lambda x: of_rows(x).expand_as(x.flatten(2)).sum(2), True),
    "normalize": (lambda x: functional.normalize(x.flatten(2), dim=2), True),
    "attention with a computed mask": (
        lambda x: functional.scaled_dot_product_attention(
            x.flatten(2), x.flatten(2), x.flatten(2), attn_mask=x[..., 0, :4]
        ),
        False,
    ),
}


@pytest.mark.parametrize(("function", "follows"), FOLLOWS_THE_SIZE.values(), ids=FOLLOWS_THE_SIZE)
def test_images_of_another_size_give_what_the_module_gives_or_are_refused(function, follows):
    module = Net(lambda m, x: function(x)).eval()
    net = cnnlib.torch.from_module(module, DIM)
    x = torch.randn(2, 4, 14, 20)
    if follows:
        np.testing.assert_allclose(net(x.numpy()), module(x).numpy(), rtol=1e-5, atol=1e-5)  # float32
    else:
        with pytest.raises(ValueError, match="the size is fixed by node"):
            net(x.numpy())


RANDOM = {
    "rand": lambda x: x + torch.rand(4, 1, 1),
    "normal_": lambda x: x + torch.empty(4, 1, 1).normal_(),
    "dropout": lambda x: x * functional.dropout(torch.ones(4, 1, 1), 0.5, True),
}


@pytest.mark.parametrize("name", RANDOM)
def test_random_constants_are_refused(name):
    with pytest.raises(ValueError, match=f"{name}: its numbers are random in eval mode too"):
        cnnlib.torch.from_module(Net(lambda m, x: RANDOM[name](x)), DIM)


def test_variances_without_a_value_are_refused_by_name():
    with pytest.raises(ValueError, match="var: the variance of 1 numbers with a correction of 1"):
        cnnlib.torch.from_module(Net(lambda m, x: x[:, :1].var(1)), DIM)


def test_einsums_of_axes_that_differ_are_refused_by_name():
    module = Net(lambda m, x: torch.einsum("nchw,cd->ndhw", x[:, :1], torch.ones(3, 4)))
    with pytest.raises(ValueError, match=r"einsum: the equation 'nchw,cd->ndhw' joins axes of other sizes"):
        cnnlib.torch.from_module(module, DIM)


def test_circular_pads_that_cut_are_refused_by_name():
    module = Net(lambda m, x: functional.pad(x, (-1, 1, 0, 0), mode="circular"))
    with pytest.raises(ValueError, match="pad: cuts and goes around"):
        cnnlib.torch.from_module(module, DIM)


def test_images_of_which_a_slice_takes_nothing_are_refused():
    net = cnnlib.torch.from_module(Net(lambda m, x: x[:, :, 2:6]), DIM)
    with pytest.raises(
        ValueError, match=r"slice_1.*: takes nothing of the 2 of axis 2, got x \(N, 4, 2, 8\)"
    ):
        net(np.ones((1, 4, 2, 8), np.float32))


SEEN_BY_NUMBERS = {
    "full": lambda x: x / torch.full((1,), float(x.shape[0])),
    "new_full": lambda x: x / x.new_full((1,), float(x.shape[0])),
}


@pytest.mark.parametrize("name", SEEN_BY_NUMBERS)
def test_constants_filled_with_the_number_of_samples_are_refused(name):
    with pytest.raises(ValueError, match=rf"the number of samples is fixed by {name}: fill_value is 509\.0"):
        cnnlib.torch.from_module(Net(lambda m, x: SEEN_BY_NUMBERS[name](x)), DIM)


def test_constants_filled_with_a_size_of_images_fix_it():
    net = cnnlib.torch.from_module(Net(lambda m, x: x / x.new_full((1,), float(x.shape[2]))), DIM)
    with pytest.raises(ValueError, match=r"the size is fixed by new_full: fill_value is 6\.0"):
        net(np.ones((1, 4, 7, 8), np.float32))


def test_masks_that_decide_a_shape_are_refused_by_name():
    module = Net(lambda m, x: x[:, torch.tensor([True, False, True, True])].relu())
    with pytest.raises(ValueError, match=r"^from_module: index: the shape of its result depends on numbers"):
        cnnlib.torch.from_module(module, DIM)


def test_softplus_that_divides_by_nothing_is_refused():
    with pytest.raises(ValueError, match="softplus: beta is 0"):
        cnnlib.torch.from_module(Net(lambda m, x: functional.softplus(x, 0)), DIM)


def test_a_divisor_that_is_trained_stays_a_parameter():
    net, grads = compare(Net(lambda m, x: x / m.heat, heat=parameter(1)))
    assert "heat" in net.params
    assert grads["heat"].any()


COUNTED = {
    "a length": lambda x: x / torch.ones(x.shape[0]).sum(),
    "all numbers": lambda x: x / torch.ones_like(x).sum(),
}


@pytest.mark.parametrize("name", COUNTED)
def test_constants_that_count_the_samples_are_refused(name):
    with pytest.raises(ValueError, match=r"sum.*: its numbers depend on how many samples there are"):
        cnnlib.torch.from_module(Net(lambda m, x: COUNTED[name](x)), DIM)


def test_constants_in_the_shape_of_images_fix_it():
    module = Net(lambda m, x: x / torch.ones_like(x).sum((2, 3), True) + torch.zeros(x.shape[0], 1, 1, 1)[0])
    net = cnnlib.torch.from_module(module, DIM)
    x = torch.randn(3, *DIM)
    np.testing.assert_allclose(net(x.numpy()), module(x).numpy(), rtol=1e-5, atol=1e-5)  # float32
    with pytest.raises(ValueError, match="the size is fixed by ones_like: the result is"):
        net(np.ones((1, 4, 7, 8), np.float32))
