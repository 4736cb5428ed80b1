"""Networks of cnnlib.torch.from_module give the outputs and gradients of PyTorch, or are refused in words."""

import copy
import pathlib

import cnnlib.safetensors
import numpy as np
import pytest
from cnnlib.models.graph_net import GraphNet

torch = pytest.importorskip("torch", reason="torch is not installed")

import cnnlib.torch  # noqa: E402
from torch import nn  # noqa: E402
from torch.nn import functional  # noqa: E402

pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("ignore:Using padding='same':UserWarning")]

DIM = (4, 9, 8)


class Net(nn.Module):
    """Layers under names, and a function of them and x as `forward`."""

    def __init__(self, forward, **layers):
        super().__init__()
        for name, layer in layers.items():
            self.add_module(name, layer)
        self.run = forward

    def forward(self, x):
        return self.run(self, x)


def conv(C, F, kernel=3, **options):
    return nn.Conv2d(C, F, kernel, **{"padding": kernel // 2} | options)


HEAD = (nn.AdaptiveAvgPool2d(1), nn.Flatten())


def residual(m, x):
    y = m.bn1(m.conv1(x)).relu_()
    y = m.bn2(m.conv2(y))
    y += m.shortcut(x)
    return m.head(functional.relu(y, inplace=True))


def preactivated(m, x):
    """The shortcut reads what relu changed in place."""
    y = m.conv1(m.relu(m.bn(x)))
    return m.head(m.conv2(m.relu(y)) + x)


def squeeze_and_excitation(m, x):
    y = m.conv(x)
    gate = functional.adaptive_avg_pool2d(y, 1).view(y.size(0), -1)
    gate = m.expand(functional.relu(m.squeeze(gate)))
    gate = gate.view(y.size(0), y.size(1), 1, 1)
    return m.head(y * gate.expand_as(y))


def inception(m, x):
    branches = [m.one(x), m.three(x), m.pool(x)]
    return m.head(torch.cat(branches, dim=1))


def dense(m, x):
    features = [x]
    for layer in (m.first, m.second):
        features.append(layer(torch.cat(features, 1)))
    return torch.cat(features, -3).mean((2, 3))


def arithmetic(m, x):
    y = m.conv(x)
    z = torch.sub(y, x, alpha=0.5) / 2 - (x * 0.25 - y) + 0
    return m.head(-(z + z)) * m.factor


def shared(m, x):
    return m.head(m.conv(functional.relu(m.conv(x))))


def tied(m, x):
    return m.out(m.hidden(x.flatten(1)))


def unused(m, x):
    m.one(x)
    return m.head(m.three(x)), None


def convnext(m, x):
    """Layer norm and products over the channels, which are last for them."""
    y = m.stem_norm(m.stem(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    z = m.depthwise(y).permute(0, 2, 3, 1)
    z = m.narrow(functional.relu(m.wide(m.norm(z))))
    z = (m.gamma(z) * 0.5 + z).permute(0, 3, 1, -2)
    return m.head(m.layer_scale(z) + y)


def one_pixel(m, x):
    """The channels of what a global pool makes come last, with its one pixel kept or flattened."""
    y = m.norm(functional.adaptive_avg_pool2d(m.conv(x), 1).permute(0, 2, 3, 1))
    return m.first(y.permute(0, 3, 1, 2).flatten(1)) + m.last(y).flatten(1)


def gated(m, x):
    """Squeeze and excitation by convolutions of images of one pixel."""
    y = m.conv(x)
    gate = torch.sigmoid(m.expand(functional.relu(m.squeeze(functional.adaptive_avg_pool2d(y, 1)))))
    return m.head(gate * y + y.mean((2, 3), keepdim=True))


class Factors(nn.Module):
    """A factor for each channel."""

    def __init__(self, *shape):
        super().__init__()
        self.factors = nn.Parameter(torch.linspace(0.5, 1.5, int(np.prod(shape))).reshape(shape))

    def forward(self, x):
        return self.factors * x


NETS = {
    "residual": lambda: Net(
        residual,
        conv1=conv(4, 6, stride=2, bias=False),
        bn1=nn.BatchNorm2d(6, eps=1e-3, momentum=0.3),
        conv2=conv(6, 6, bias=False),
        bn2=nn.BatchNorm2d(6),
        shortcut=conv(4, 6, 1, stride=2),
        head=nn.Sequential(*HEAD, nn.Linear(6, 3)),
    ),
    "pre-activated": lambda: Net(
        preactivated,
        bn=nn.BatchNorm2d(4),
        relu=nn.ReLU(inplace=True),
        conv1=conv(4, 4),
        conv2=conv(4, 4),
        head=nn.Sequential(*HEAD),
    ),
    "squeeze and excitation": lambda: Net(
        squeeze_and_excitation,
        conv=conv(4, 6),
        squeeze=nn.Linear(6, 2),
        expand=nn.Linear(2, 6, bias=False),
        head=nn.Sequential(*HEAD),
    ),
    "gated": lambda: Net(
        gated, conv=conv(4, 6), squeeze=conv(6, 2, 1), expand=conv(2, 6, 1), head=nn.Sequential(*HEAD)
    ),
    "inception": lambda: Net(
        inception,
        one=conv(4, 2, 1),
        three=nn.Sequential(conv(4, 3, 1), nn.ReLU(), conv(3, 3)),
        pool=nn.Sequential(nn.MaxPool2d(3, 1, 1), conv(4, 2, 1)),
        head=nn.Sequential(nn.Flatten(), nn.Dropout(0.0), nn.Linear(7 * 72, 3)),
    ),
    "dense": lambda: Net(dense, first=conv(4, 3), second=conv(7, 2)),
    "depthwise, dilated, grouped": lambda: nn.Sequential(
        conv(4, 8, groups=4),
        conv(8, 8, 1),
        conv(8, 6, dilation=2, groups=2),
        nn.Conv2d(6, 3, (2, 1), (2, 3)),
        *HEAD,
    ),
    "same and padded": lambda: nn.Sequential(
        conv(4, 4, 4, padding="same"),
        nn.ZeroPad2d((0, 1, 2, 0)),
        nn.ConstantPad2d(1, 0.0),
        conv(4, 3, stride=2),
        *HEAD,
    ),
    "padding that no convolution takes in": lambda: nn.Sequential(
        *(conv(4, 4), nn.ZeroPad2d(1), nn.MaxPool2d(2), nn.ZeroPad2d((2, 0, 0, 1)), nn.Sigmoid()),
        *(nn.ZeroPad2d(1), nn.Flatten()),
    ),
    "transposed": lambda: nn.Sequential(
        nn.ConvTranspose2d(4, 6, 3, (2, 3), (1, 0), output_padding=1, groups=2, dilation=(1, 2)), *HEAD
    ),
    "pools": lambda: nn.Sequential(
        conv(4, 4, 1),
        nn.MaxPool2d((3, 2), 2, 1, dilation=(1, 2), ceil_mode=True),
        nn.AvgPool2d(2, 1, 1, count_include_pad=False),
        nn.AvgPool2d(3, 2, 1, ceil_mode=True),
        nn.AdaptiveAvgPool2d((4, 4)),  # as large as its input
        nn.AdaptiveAvgPool2d((2, 4)),
        nn.AdaptiveMaxPool2d((1, 2)),
        nn.Flatten(),
    ),
    "activations": lambda: nn.Sequential(
        *(conv(4, 4), nn.ReLU6(inplace=True), conv(4, 4), nn.Hardswish(), nn.SiLU(inplace=True), nn.ELU(0.7)),
        *(
            conv(4, 4),
            nn.GELU(),
            nn.GELU("tanh"),
            nn.Tanh(),
            nn.Hardsigmoid(),
            nn.Hardtanh(0, 6),
            nn.Softmax(1),
        ),
        *(*HEAD, nn.Sigmoid(), nn.Linear(4, 3), nn.Softmax(-1)),
    ),
    "resized": lambda: nn.Sequential(
        *(conv(4, 3), nn.Upsample(scale_factor=2), nn.InstanceNorm2d(3, affine=True)),
        *(nn.AdaptiveAvgPool2d((5, 7)), nn.Upsample(scale_factor=(1, 3), mode="bilinear")),
        *(nn.InstanceNorm2d(3), nn.Upsample((10, 42), mode="bilinear", align_corners=True)),
        *(nn.AdaptiveMaxPool2d((3, 4)), nn.Flatten()),
    ),
    "clamped": lambda: Net(
        lambda m, x: m.head(functional.relu6(m.conv(x)).clamp(0, 6).clamp(min=0).clamp(0, 0.7)),
        conv=conv(4, 3),
        head=nn.Sequential(*HEAD),
    ),
    "norms": lambda: nn.Sequential(
        nn.GroupNorm(2, 4, eps=1e-3),
        nn.BatchNorm2d(4, affine=False),
        nn.LeakyReLU(0.2, inplace=True),
        nn.GroupNorm(4, 4, affine=False),
        *HEAD,
        nn.Linear(4, 5),
        nn.BatchNorm1d(5),
        nn.LayerNorm(5),
        nn.LayerNorm(5, elementwise_affine=False),
    ),
    "arithmetic": lambda: Net(arithmetic, conv=conv(4, 4), head=nn.Sequential(*HEAD)),
    "a layer called twice": lambda: Net(shared, conv=conv(4, 4), head=nn.Sequential(*HEAD)),
    "weight norm": lambda: nn.Sequential(nn.utils.parametrizations.weight_norm(conv(4, 3)), *HEAD),
    "convnext": lambda: Net(
        convnext,
        stem=nn.Conv2d(4, 6, 2, 2),
        stem_norm=nn.LayerNorm(6),
        depthwise=conv(6, 6, groups=6),
        norm=nn.LayerNorm(6, eps=1e-3),
        wide=nn.Linear(6, 12),
        narrow=nn.Linear(12, 6),
        gamma=Factors(6),
        layer_scale=Factors(6, 1, 1),
        head=nn.Sequential(*HEAD, nn.LayerNorm(6), nn.Linear(6, 3)),
    ),
    "channels last of one pixel": lambda: Net(
        one_pixel, conv=conv(4, 6), norm=nn.LayerNorm(6), first=nn.Linear(6, 3), last=nn.Linear(6, 3)
    ),
    "converted": lambda: cnnlib.torch.convert(
        nn.Sequential(conv(4, 3), nn.BatchNorm2d(3), nn.MaxPool2d(2), *HEAD)
    ),
}


def make(name, dtype=torch.float64):
    torch.manual_seed(len(name))
    module = NETS[name]()
    if name == "arithmetic":
        module.register_buffer("factor", torch.tensor(3.0))
    for layer in module.modules():
        if getattr(layer, "running_mean", None) is not None:
            layer.running_mean.uniform_(-1, 1)
            layer.running_var.uniform_(0.5, 2)
        if (
            isinstance(layer, (nn.BatchNorm1d, nn.BatchNorm2d, nn.GroupNorm, nn.LayerNorm))
            and layer.weight is not None
        ):
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.uniform_(layer.bias, -0.5, 0.5)
    return module.to(dtype)


@pytest.mark.parametrize("name", NETS)
def test_outputs_and_gradients_are_torchs(name, rng):
    module, X, y = make(name), rng.standard_normal((3, *DIM)), np.array([0, 1, 0])
    net = cnnlib.torch.from_module(module, DIM)
    assert isinstance(net, GraphNet)
    with torch.no_grad():
        want = module.eval()(torch.tensor(X)).numpy()
    np.testing.assert_allclose(net.loss(X), want, rtol=1e-10, atol=1e-12)
    if name == "weight norm":
        return
    loss, grads = net.loss(X, y)
    want = functional.cross_entropy(module.train()(torch.tensor(X)), torch.tensor(y))
    want.backward()
    assert loss == pytest.approx(want.item(), rel=1e-10)
    named = dict(module.named_parameters())
    assert grads.keys() == named.keys()
    for path, parameter in named.items():
        expected = parameter.grad.numpy()
        if isinstance(module.get_submodule(path.rpartition(".")[0]), nn.Linear) and grads[path].ndim == 2:
            expected = expected.T
        expected = expected.reshape(grads[path].shape)
        np.testing.assert_allclose(grads[path], expected, rtol=1e-8, atol=1e-11, err_msg=path)


def test_dtype_names_and_frozen_parameters(rng):
    module = make("norms", torch.float32)
    module[0].weight.requires_grad_(False)
    net = cnnlib.torch.from_module(module, DIM)
    assert net.dtype == np.float32
    assert set(net.frozen) == {"0.weight", "1.weight", "1.bias", "3.weight", "3.bias", "9.weight", "9.bias"}
    assert set(net.params) >= {name for name, _ in module.named_parameters()}
    np.testing.assert_array_equal(net.params["6.weight"], module[6].weight.detach().numpy().T)
    assert [p["momentum"] for p in net.bn_params] == [0.9, 0.9]


def test_the_module_stays_as_it_was(rng):
    module = make("converted")
    module[1].eval()
    before = copy.deepcopy(module.state_dict())
    net = cnnlib.torch.from_module(module, DIM)
    assert [layer.training for layer in module] == [True, False, True, True, True]
    assert type(module[0]) is cnnlib.torch.Conv2d
    for value in net.params.values():
        value += 1
    net.bn_params[0]["running_mean"] += 1
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


@pytest.mark.parametrize("name", ["residual", "norms", "squeeze and excitation", "convnext"])
def test_weights_go_back_and_through_a_file(name, tmp_path, rng):
    """A network trains here, and PyTorch reads from a safetensors file what it came to."""
    safetensors = pytest.importorskip("safetensors.torch", reason="safetensors is not installed")
    module, X = make(name), rng.standard_normal((5, *DIM))
    net = cnnlib.torch.from_module(module, DIM)
    for _ in range(2):
        _, grads = net.loss(X, np.zeros(5, int))
        for key, grad in grads.items():
            net.params[key] -= 0.1 * grad
    cnnlib.torch.copy_weights(net, module)
    state = {key: value.numpy() for key, value in module.state_dict().items()}
    cnnlib.safetensors.save(state, tmp_path / "net.safetensors")
    other = make(name)
    other.load_state_dict(safetensors.load_file(tmp_path / "net.safetensors"))
    np.testing.assert_allclose(
        net.loss(X), other.eval()(torch.tensor(X)).detach().numpy(), rtol=1e-10, atol=1e-12
    )


def test_weights_of_a_norm_that_is_the_module_itself_go_back():
    module = nn.BatchNorm2d(4)
    net = cnnlib.torch.from_module(module, DIM)
    net.params["weight"][:] = 2
    net.bn_params[0]["running_mean"][:] = 3
    cnnlib.torch.copy_weights(net, module)
    assert (module.weight.tolist(), module.running_mean.tolist()) == ([2.0] * 4, [3.0] * 4)


def test_weights_that_the_module_lacks_are_named():
    net, module = cnnlib.torch.from_module(make("weight norm"), DIM), nn.Sequential(conv(4, 3), *HEAD)
    with pytest.raises(ValueError, match="copy_weights: the module has no '_weight_norm"):
        cnnlib.torch.copy_weights(net, module)
    net = cnnlib.torch.from_module(nn.Sequential(conv(4, 3), conv(3, 2), *HEAD), DIM)
    before = module[0].weight.clone()
    module.insert(1, conv(3, 5))
    with pytest.raises(
        ValueError, match=r"'1.weight' has shape \(5, 3, 3, 3\) in the module, \(2, 3, 3, 3\)"
    ):
        cnnlib.torch.copy_weights(net, module)
    assert torch.equal(module[0].weight, before)


def test_dropout_drops_in_training_alone(rng):
    module = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(8, 2)).double()
    net = cnnlib.torch.from_module(module, 8)
    X = rng.standard_normal((50, 8))
    (node,) = [node for node in net.graph() if node.layer == "dropout"]
    assert node.args[0]["p"] == 0.5
    want = module.eval()(torch.tensor(X))
    np.testing.assert_allclose(net.loss(X), want.detach().numpy())
    losses = {net.loss(X, np.zeros(50, int))[0] for _ in range(3)}
    assert len(losses) == 3


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_sixteen_bit_modules_are_computed_in_float32(dtype, rng):
    """With the values that their weights have; the module stays as it is."""
    module = make("residual", dtype)
    net = cnnlib.torch.from_module(module, DIM)
    assert {parameter.dtype for parameter in module.parameters()} == {dtype}
    assert net.dtype == np.float32
    X = rng.standard_normal((3, *DIM)).astype(np.float32)
    want = module.float().eval()(torch.tensor(X)).detach().numpy()
    np.testing.assert_allclose(net.loss(X), want, rtol=1e-4, atol=1e-5)


def test_one_set_of_statistics_under_two_settings(rng):
    """Two norms of one running mean, but with an eps of their own."""
    norm = make("norms")[1]

    def run(m, x):
        for eps in (0.5, 0.1):
            x = functional.batch_norm(x, norm.running_mean, norm.running_var, eps=eps)
        return x

    module, X = Net(run, norm=norm).double(), rng.standard_normal((2, *DIM))
    np.testing.assert_allclose(
        cnnlib.torch.from_module(module.eval(), DIM).loss(np.float32(X)),
        module(torch.tensor(X)),
        rtol=1e-4,
        atol=1e-5,
    )


class Clashing(nn.Module):
    """Its weights have the names that what is worked out, and what norms lack, would get."""

    def __init__(self):
        super().__init__()
        self.mul = nn.Parameter(torch.randn(4, 4, 3, 3))
        self.weight = nn.Parameter(torch.rand(4) + 0.5)
        self.bias = nn.Parameter(torch.rand(4))

    def forward(self, x):
        y = functional.conv2d(x, self.mul * 2, padding=1) + functional.conv2d(x, self.mul, padding=1)
        y = functional.layer_norm(y.permute(0, 2, 3, 1), (4,))
        return functional.layer_norm(y, (4,), self.weight, self.bias).permute(0, 3, 1, 2)


def test_no_two_parameters_have_one_name(rng):
    torch.manual_seed(3)
    module, X = nn.Sequential(Clashing()).double(), rng.standard_normal((2, *DIM))
    net = cnnlib.torch.from_module(module, DIM)
    with torch.no_grad():
        np.testing.assert_allclose(net.loss(X), module(torch.tensor(X)), rtol=1e-10, atol=1e-12)
    assert {"0.mul", "0.weight", "0.bias"} < set(net.params)
    assert net.frozen == ("0.weight_", "0.bias_")


def test_channels_last_are_concatenated_along_their_last_axis(rng):
    module = Net(lambda m, x: torch.cat([x.permute(0, 2, 3, 1)] * 2, 3).permute(0, 3, 1, 2))
    X = rng.standard_normal((3, *DIM)).astype(np.float32)
    np.testing.assert_array_equal(cnnlib.torch.from_module(module, DIM).loss(X), np.concatenate([X, X], 1))


def test_a_softmax_of_channels_that_come_last(rng):
    module = Net(lambda m, x: x.permute(0, 2, 3, 1).softmax(-1).permute(0, 3, 1, 2))
    X = rng.standard_normal((3, *DIM))
    want = module(torch.tensor(X)).numpy()
    np.testing.assert_allclose(cnnlib.torch.from_module(module, DIM).loss(X), want, rtol=1e-5, atol=1e-6)


def test_what_leads_nowhere_is_left_out():
    module = Net(
        lambda m, x: (m.one(x), m.head(m.three(x)))[1],
        one=conv(4, 2),
        three=conv(4, 2),
        head=nn.Sequential(*HEAD),
    )
    net = cnnlib.torch.from_module(module, DIM)
    assert set(net.params) == {"three.weight", "three.bias"}


def with_buffer(module, factor):
    module.register_buffer("factor", factor)
    return module


REFUSED_LAYERS = {
    r"BatchNorm2d '0': momentum=None": lambda: nn.BatchNorm2d(4, momentum=None),
    r"BatchNorm2d '0': .*track_running_stats=False": lambda: nn.BatchNorm2d(4, track_running_stats=False),
    r"InstanceNorm2d '0': .*track_running_stats=True": lambda: nn.InstanceNorm2d(4, track_running_stats=True),
    r"AvgPool2d '0': divisor_override=3": lambda: nn.AvgPool2d(2, divisor_override=3),
    r"torch.export cannot record the module on samples \(4, 9, 8\): .*broadcast": lambda: Factors(2, 4, 1, 1),
    r"torch.export cannot record the module on samples \(4, 9, 8\)": lambda: conv(5, 2),
}
REFUSED_FUNCTIONS = {
    r"clamp: values are clamped to numbers alone": lambda x: x.clamp(min=x.mean((2, 3), True)),
    r"div: rounding_mode is 'floor', here only None": lambda x: torch.div(x, 2, rounding_mode="floor"),
    r"mean: goes over all samples, which stay apart": lambda x: x.mean(),
    r"mean: computes in torch.float64, the network in torch.float32": lambda x: x.mean(
        (2, 3), dtype=torch.float64
    ),
    r"to: computes in torch.int32": lambda x: (x * 2).to(torch.int32),
    r"dropout: it drops values in eval mode too": lambda x: functional.dropout(x, 0.5),
    r"the number of samples is fixed by div: other is 509 for 509 samples, 521 for 521": lambda x: (
        x / x.shape[0]
    ),
    r"cannot record the module on samples \(4, 9, 8\): .*invalid": lambda x: x.view(2, 4, 9, 8),
    r"view: shape is .*, which does not keep the samples of .* apart": lambda x: x.view(4, -1, 9, 8),
    r"index: is indexed by constants along one axis.*; cumsum: the operator aten.cumsum": lambda x: (
        x[:, [0], [1]].sum(1) + x.cumsum(1)[:, 0].sum(1)
    ),
    r"add_: it changes in place what is read under another name": lambda x: (
        functional.dropout(x, training=False).add_(x) + x
    ),
    r"the module must return tensors computed from its input.*, got \(relu, relu\)": lambda x: (
        x,
        2 * (x.relu(),),
    ),
    r"relu_: it changes in place what is read under another name": lambda x: (x.flatten(1), x.relu_())[0],
}
REFUSED = {
    r"mul: a value of shape \(509, 4\) that stands for \(1, 509, 4\)": lambda: with_buffer(
        Net(lambda m, x: x.mean((2, 3)) * m.factor), torch.ones(1, 1, 1)
    ),
    r"add_: it changes 'factor' in eval mode": lambda: with_buffer(
        Net(lambda m, x: x * m.factor.add_(1)), torch.ones(1)
    ),
    **{message: lambda layer=layer: nn.Sequential(layer()) for message, layer in REFUSED_LAYERS.items()},
    **{message: lambda run=run: Net(lambda m, x: run(x)) for message, run in REFUSED_FUNCTIONS.items()},
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_has_no_counterpart_is_named(message):
    with pytest.raises(ValueError, match=f"from_module: .*{message}" if ":" in message else message):
        cnnlib.torch.from_module(REFUSED[message](), DIM)


class Heads(nn.Module):
    """Labels and masks from one layer, in the form that `returned` makes of them."""

    def __init__(self, returned):
        super().__init__()
        self.trunk, self.label, self.mask = conv(4, 6), nn.Linear(6, 3), conv(6, 2)
        self.returned = returned

    def forward(self, x):
        trunk = self.trunk(x).relu()
        return self.returned(self.label(trunk.mean((2, 3))), self.mask(trunk))


@pytest.mark.parametrize(
    ("returned", "names"),
    [
        (lambda label, mask: {"label": label, "mask": mask}, ("label", "mask")),
        (lambda label, mask: (label, mask), ("output0", "output1")),
        # Names that values within the network have, too.
        (lambda label, mask: {"mean": label, "input": mask}, ("mean", "input")),
        (lambda label, mask: {"conv2d_1": label, "linear": mask}, ("conv2d_1", "linear")),
    ],
)
def test_several_outputs(returned, names):
    module = Heads(returned)
    net = cnnlib.torch.from_module(module, DIM)
    x = torch.randn(3, DIM[0], 11, 10)
    want, got = module(x), net.loss(x.numpy())
    assert net.outputs == tuple(got) == names
    for name, value in zip(names, want.values() if isinstance(want, dict) else want, strict=True):
        np.testing.assert_allclose(got[name], value.detach().numpy(), rtol=1e-5, atol=1e-5)


def test_wrong_arguments():
    with pytest.raises(
        TypeError, match=r"from_module: module must be a torch\.nn\.Module, got dict; make the module"
    ):
        cnnlib.torch.from_module({}, DIM)
    with pytest.raises(TypeError, match=r"got PosixPath; read the file first: torch\.load\('net.pt'"):
        cnnlib.torch.from_module(pathlib.Path("net.pt"), DIM)
    with pytest.raises(ValueError, match="from_module: input_dim must be at least 1"):
        cnnlib.torch.from_module(nn.ReLU(), (3, 0, 4))
