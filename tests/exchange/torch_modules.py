"""Random modules of PyTorch for hypothesis: chains, branches, views and functional calls."""

from __future__ import annotations

import torch
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

ACTIVATIONS = {
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "leaky_relu": lambda **options: nn.LeakyReLU(0.2, **options),
    "elu": lambda **options: nn.ELU(0.7, **options),
    "silu": nn.SiLU,
    "hardswish": nn.Hardswish,
    "hardsigmoid": nn.Hardsigmoid,
    "clamp": lambda **options: nn.Hardtanh(0, 6, **options),
    "clamp to 1": lambda **options: nn.Hardtanh(0, 1, **options),
    "gelu": nn.GELU,
    "gelu tanh": lambda: nn.GELU("tanh"),
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
}
IN_PLACE = ("relu", "relu6", "leaky_relu", "elu", "silu", "hardswish", "hardsigmoid", "clamp")
RARELY = 0.01  # how often a step is one that a reader refuses


class Drawn(nn.Module):
    """Runs its steps, functions of all values so far, the first of which is the input; returns the last."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList()
        self.register_buffer("one", torch.ones(1, dtype=torch.float64))  # the dtype where no layer has one
        self.steps, self.texts = [], []

    def forward(self, x):
        values = [x]
        for step in self.steps:
            values.append(step(values))
        return values[-1]

    def extra_repr(self):
        return "\n".join(self.texts)


class Factors(nn.Module):
    """A factor for each channel."""

    def __init__(self, *shape):
        super().__init__()
        self.factors = nn.Parameter(torch.linspace(0.5, 1.5, max(shape)).reshape(shape))

    def forward(self, x):
        return x * self.factors


class Own(nn.Module):
    """Functions with weights of its own, one of which is worked out, and norms that have none."""

    def __init__(self, C, F):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(F, C, 3, 3))
        self.bias = nn.Parameter(torch.randn(F))
        self.register_buffer("mask", torch.randint(0, 2, (F, C, 3, 3)).double())

    def forward(self, x):
        x = functional.group_norm(x, 1)
        x = functional.conv2d(x, self.weight * self.mask, self.bias, padding=1)
        return functional.instance_norm(x)


class Builder:
    """Draws one step after the other and runs each, so that it knows the shapes."""

    def __init__(self, draw, sample):
        self.draw, self.module = draw, Drawn().eval()
        self.values = [torch.zeros(2, *sample, dtype=torch.float64)]
        self.kinds = ["image"]  # what each value is: image, last (channels), row, gate (N, C, 1, 1)
        self.layers = []  # each with the kinds of values that it takes and makes

    def pick(self, *options):
        return self.draw(st.sampled_from(options))

    def number(self, low, high):
        return self.draw(st.integers(low, high))

    def chance(self, share):
        return self.draw(st.integers(0, 99)) >= 100 - 100 * share  # hypothesis draws small ranges evenly

    def pair(self, low, high):
        """A number for both axes, or two."""
        first = self.number(low, high)
        return self.pick(first, (first, self.number(low, high)))

    def step(self, text, function, kind):
        """Append a step whose result is of this kind; False if PyTorch refuses it."""
        try:
            made = function([value.clone() for value in self.values])
        except (IndexError, RuntimeError, ValueError):
            return False
        if made.numel() == 0 or made.numel() > 200_000:
            return False
        self.module.steps.append(function)
        self.module.texts.append(f"v{len(self.values)} = {text}: {tuple(made.shape)}")
        self.values.append(made)
        self.kinds.append(kind)
        return True

    def layer(self, layer, i, kind):
        """A step that is a layer of the module on value i."""
        layer = randomised(layer).double().eval()
        if self.step(f"{layer}(v{i})", lambda v: layer(v[i]), kind):
            self.module.layers.append(layer)
            self.layers.append((layer, self.kinds[i], kind))

    def chosen(self, kinds):
        """A value of one of these kinds, mostly the last; None if there is none."""
        fitting = [i for i, kind in enumerate(self.kinds) if kind in kinds]
        if not fitting:
            return None
        return fitting[-1] if self.chance(0.7) else self.pick(*fitting)

    def axis(self, i):
        """That of the channels of value i."""
        return 3 if self.kinds[i] == "last" else 1

    def other(self, i):
        """Another value of the same kind and shape as value i; i itself if there is none."""
        same = [
            j
            for j, value in enumerate(self.values)
            if self.kinds[j] == self.kinds[i] and value.shape == self.values[i].shape and j != i
        ]
        return self.pick(*same) if same else i


def randomised(layer):
    """With statistics, scales and shifts as after training."""
    for part in layer.modules():
        if getattr(part, "running_mean", None) is not None:
            part.running_mean.uniform_(-0.5, 0.5)
            part.running_var.uniform_(0.5, 2)
        if isinstance(part, (nn.BatchNorm1d, nn.BatchNorm2d, nn.GroupNorm, nn.InstanceNorm2d, nn.LayerNorm)):
            if part.weight is not None:
                nn.init.uniform_(part.weight, 0.5, 1.5)
                nn.init.uniform_(part.bias, -0.5, 0.5)
    return layer


def again(b, i):
    """A layer that has been called before, with its weights and statistics."""
    fitting = [(layer, made) for layer, taken, made in b.layers if taken == b.kinds[i]]
    if fitting:
        layer, made = b.pick(*fitting)
        b.step(f"again {layer}(v{i})", lambda v: layer(v[i]), made)


# Steps on images ---------------------------------------------------------------------------------------


def conv(b, i):
    C = b.values[i].shape[1]
    groups = b.pick(1, 1, *[g for g in range(1, C + 1) if C % g == 0])
    F, kernel, dilation = groups * b.number(1, 3), b.pair(1, 3), b.pair(1, 2)
    stride = b.pick(1, 1, b.pair(1, 3))
    padding = b.pick("same", "valid", b.pair(0, 2), b.pair(0, 2)) if stride == 1 else b.pair(0, 2)
    mode = "reflect" if b.chance(RARELY) else "zeros"
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    layer = nn.Conv2d(C, F, kernel, bias=b.chance(0.7), padding_mode=mode, **options)
    if b.chance(0.05):
        layer = nn.utils.parametrizations.weight_norm(layer)
    b.layer(layer, i, "image")


def padded_conv(b, i):
    sides = tuple(b.number(-1 if b.chance(RARELY) else 0, 2) for _ in range(b.pick(2, 4, 4)))
    if b.chance(0.5) and len(sides) == 4:
        b.layer(nn.ZeroPad2d(sides), i, "padded")
    else:
        b.step(f"pad(v{i}, {sides})", lambda v: functional.pad(v[i], sides), "padded")
    if b.kinds[-1] == "padded" and not b.chance(RARELY):
        conv(b, len(b.values) - 1)


def conv_transpose(b, i):
    C = b.values[i].shape[1]
    groups = b.pick(1, *[g for g in range(1, C + 1) if C % g == 0])
    stride, dilation = b.pair(1, 3), b.pair(1, 2)
    options = {"padding": b.pair(0, 1), "output_padding": b.pick(0, b.pair(0, 1)), "groups": groups}
    layer = nn.ConvTranspose2d(C, groups * b.number(1, 2), b.pair(1, 3), stride, dilation=dilation, **options)
    b.layer(layer, i, "image")


def norm(b, i):
    C = b.values[i].shape[1]
    eps = b.pick(1e-5, 1e-3, 0.1)
    groups = b.pick(*[g for g in range(1, C + 1) if C % g == 0])
    if b.chance(RARELY):
        return b.layer(nn.BatchNorm2d(C, track_running_stats=False), i, "image")
    layer = b.pick(
        *[nn.BatchNorm2d(C, eps, b.pick(0.1, 0.3), affine=b.chance(0.8))] * 3,
        nn.GroupNorm(groups, C, eps, affine=b.chance(0.8)),
        nn.InstanceNorm2d(C, eps, affine=b.chance(0.5)),
    )
    return b.layer(layer, i, "image")


def max_pool(b, i):
    kernel = b.pair(2, 3)
    options = {"padding": b.pick(0, 1), "dilation": b.pick(1, b.pair(1, 2)), "ceil_mode": b.chance(0.5)}
    b.layer(nn.MaxPool2d(kernel, b.pick(None, b.pair(1, 3)), **options), i, "image")


def avg_pool(b, i):
    options = {"ceil_mode": b.chance(0.5), "count_include_pad": b.chance(0.5)}
    if b.chance(RARELY):
        options["divisor_override"] = 3
    b.layer(nn.AvgPool2d(b.pair(2, 3), b.pick(None, b.pair(1, 3)), b.pick(0, 1), **options), i, "image")


def adaptive_pool(b, i):
    size = (b.pick(None, b.number(1, 4)), b.number(1, 4)) if b.chance(0.1) else b.pick(1, 1, b.pair(1, 5))
    b.layer(b.pick(nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)(size), i, "image")


def upsample(b, i):
    options = {"mode": b.pick("nearest", "bilinear", "nearest")}
    if options["mode"] == "bilinear":
        options["align_corners"] = b.chance(0.3)
    H, W = b.values[i].shape[2:]
    options |= b.pick(
        {"scale_factor": b.pair(1, 3)},
        {"scale_factor": b.pair(1, 3)},
        {"scale_factor": float(b.number(1, 2))},
        {"size": (H * b.number(1, 2), W * b.number(1, 2))},
    )
    if b.chance(RARELY):
        options = {"scale_factor": 1.5}
    b.layer(nn.Upsample(**options), i, "image")


def resized_like(b, i):
    """To the size of another value, as in networks that go down and up again."""
    j = b.chosen(["image"])
    b.step(
        f"interpolate(v{i}, size=v{j}.shape[2:])",
        lambda v: functional.interpolate(v[i], size=v[j].shape[2:]),
        "image",
    )


def pooled_by_shape(b, i):
    b.step(
        f"avg_pool2d(v{i}, v{i}.shape[2:])", lambda v: functional.avg_pool2d(v[i], v[i].shape[2:]), "image"
    )


def padded_by_shape(b, i):
    """Up to an even size."""
    b.step(
        f"pad(v{i}, to an even size)",
        lambda v: functional.pad(v[i], (0, v[i].shape[3] % 2, 0, v[i].shape[2] % 2)),
        "padded",
    )
    conv(b, len(b.values) - 1)


def if_large(b, i):
    b.step(
        f"v{i} * 2 if v{i}.shape[2] > 9 else v{i} * 3",
        lambda v: v[i] * 2 if v[i].shape[2] > 9 else v[i] * 3,
        "image",
    )


def softmax_of_channels(b, i):
    b.layer(nn.Softmax(b.pick(1, -3)), i, "image")


def squeeze_and_excitation(b, i):
    C = b.values[i].shape[1]
    hidden, gate = b.number(1, 3), b.pick(nn.Sigmoid, nn.Hardsigmoid)
    pool = b.pick(
        lambda x: functional.adaptive_avg_pool2d(x, 1),
        lambda x: x.mean((2, 3), keepdim=True),
        lambda x: functional.adaptive_max_pool2d(x, (1, 1)),
    )
    if b.chance(0.5):
        kind, layers = "conv", [nn.Conv2d(C, hidden, 1), nn.ReLU(), nn.Conv2d(hidden, C, 1), gate()]
    else:
        kind, layers = "linear", [nn.Linear(C, hidden), nn.ReLU(inplace=True), nn.Linear(hidden, C), gate()]
    net = nn.Sequential(*layers).double().eval()
    spread, swapped = b.pick("", "expand_as", "expand"), b.chance(0.3)
    view = b.pick(
        lambda x, rows: rows.view(x.size(0), x.size(1), 1, 1),
        lambda x, rows: rows.view(-1, C, 1, 1),
        lambda x, rows: rows.reshape(*rows.shape, 1, 1),
    )

    def run(v):
        x = v[i]
        gates = net(pool(x)) if kind == "conv" else view(x, net(pool(x).flatten(1)))
        if spread == "expand_as":
            gates = gates.expand_as(x)
        elif spread:
            gates = gates.expand(-1, -1, *x.shape[2:])
        return gates * x if swapped else x * gates

    if b.step(f"squeeze and excitation ({kind}, {spread}) of v{i}", run, "image"):
        b.module.layers.append(net)


def to_last(b, i):
    order = b.pick((0, 2, 3, 1), (0, -2, -1, 1))
    contiguous = b.chance(0.3)
    b.step(
        f"v{i}.permute({order})",
        lambda v: v[i].permute(order).contiguous() if contiguous else v[i].permute(order),
        "last",
    )


def flattened(b, i):
    way = b.pick(
        lambda x: x.flatten(1),
        lambda x: torch.flatten(x, 1),
        lambda x: x.view(x.size(0), -1),
        lambda x: x.reshape(len(x), -1),
        lambda x: x.reshape(-1, x.shape[1] * x.shape[2] * x.shape[3]),
    )
    b.step(f"v{i} flattened", lambda v: way(v[i]), "row")


def mean_of_pixels(b, i):
    way = b.pick(
        lambda x: x.mean((2, 3)),
        lambda x: x.mean([-1, -2]),
        lambda x: functional.adaptive_avg_pool2d(x, 1).flatten(1),
        lambda x: functional.adaptive_avg_pool2d(x, (1, 1)).squeeze(-1).squeeze(-1),
        lambda x: functional.adaptive_max_pool2d(x, 1).view(x.shape[0], -1),
    )
    b.step(f"mean or maximum of the pixels of v{i}", lambda v: way(v[i]), "row")


# Steps on values of several kinds ----------------------------------------------------------------------


def activation(b, i):
    name = b.pick(*ACTIVATIONS)
    in_place = name in IN_PLACE and b.chance(0.3)
    layer = ACTIVATIONS[name](inplace=True) if in_place else ACTIVATIONS[name]()
    b.layer(layer, i, b.kinds[i])


def functional_activation(b, i):
    name, way = b.pick(
        ("relu_", lambda x: x.relu_()),
        ("relu", functional.relu),
        ("clamp", lambda x: x.clamp(min=0)),
        ("clamp_", lambda x: x.clamp_(0, 6)),
        ("sigmoid", torch.sigmoid),
        ("tanh_", lambda x: x.tanh_()),
        ("dropout", lambda x: functional.dropout(x, 0.3, training=False)),
    )
    b.step(f"{name}(v{i})", lambda v: way(v[i]), b.kinds[i])


def arithmetic(b, i):
    number = b.pick(2.0, -0.5, 0.25, 3)
    text, way = b.pick(
        ("{} * number", lambda x: x * number),
        ("number * {}", lambda x: number * x),
        ("{} / number", lambda x: x / number),
        ("-{}", lambda x: -x),
        ("{} + 0", lambda x: x + 0),
        ("{}.mul_(number)", lambda x: x.mul_(number)),
        ("{}.clone()", lambda x: x.clone()),
        ("{}.contiguous()", lambda x: x.contiguous()),
        ("identity of {}", nn.Identity()),
    )
    b.step(text.format(f"v{i}").replace("number", str(number)), lambda v: way(v[i]), b.kinds[i])


def joined(b, i):
    j, factor = b.other(i), b.pick(1, 1, 0.5, -2)
    text, way = b.pick(
        ("{} + {}", lambda x, y: x + y),
        ("{} - {}", lambda x, y: x - y),
        ("{} * {}", lambda x, y: x * y),
        ("add({}, {}, alpha=factor)", lambda x, y: torch.add(x, y, alpha=factor)),
        ("sub({}, {}, alpha=factor)", lambda x, y: torch.sub(x, y, alpha=factor)),
        ("{}.add_({})", lambda x, y: x.add_(y)),
    )
    b.step(
        text.format(f"v{i}", f"v{j}").replace("factor", str(factor)), lambda v: way(v[i], v[j]), b.kinds[i]
    )


def concatenated(b, i):
    fitting = [
        j
        for j, value in enumerate(b.values)
        if b.kinds[j] == b.kinds[i]
        and value.ndim == b.values[i].ndim
        and (
            b.kinds[i] == "row"
            or value.movedim(b.axis(i), 0)[0].shape == b.values[i].movedim(b.axis(i), 0)[0].shape
        )
    ]
    chosen = [b.pick(*fitting) for _ in range(b.number(1, 3))]
    axis = b.pick(b.axis(i), b.axis(i), b.axis(i) - b.values[i].ndim)
    if b.chance(RARELY):
        axis = b.pick(*range(1, b.values[i].ndim))
    b.step(
        f"cat({', '.join(f'v{j}' for j in chosen)}, dim={axis})",
        lambda v: torch.cat([v[j] for j in chosen], axis),
        b.kinds[i],
    )


def dropout(b, i):
    b.layer(nn.Dropout(0.3), i, b.kinds[i])


def factors(b, i):
    C = b.values[i].shape[b.axis(i)]
    b.layer(Factors(*((C,) if b.kinds[i] == "last" else (C, 1, 1))), i, b.kinds[i])


def own_weights(b, i):
    b.layer(Own(b.values[i].shape[1], b.number(1, 4)), i, "image")


# Steps on channels that are last, and on rows ----------------------------------------------------------


def to_first(b, i):
    b.step(f"v{i}.permute(0, 3, 1, 2)", lambda v: v[i].permute(0, 3, 1, 2), "image")


def linear(b, i):
    b.layer(nn.Linear(b.values[i].shape[-1], b.number(1, 4), bias=b.chance(0.7)), i, b.kinds[i])


def layer_norm(b, i):
    C = b.values[i].shape[-1]
    b.layer(nn.LayerNorm(C, b.pick(1e-5, 0.1), elementwise_affine=b.chance(0.7)), i, b.kinds[i])


def batch_norm_of_rows(b, i):
    b.layer(nn.BatchNorm1d(b.values[i].shape[1], b.pick(1e-5, 0.1), affine=b.chance(0.7)), i, "row")


def softmax_of_rows(b, i):
    b.layer(nn.Softmax(b.pick(1, -1)), i, "row")


def gate_by_row(b, i):
    """A row as a factor or a term for each channel of images."""
    C = b.values[i].shape[1]
    images = [j for j, value in enumerate(b.values) if b.kinds[j] == "image" and value.shape[1] == C]
    if images:
        j, add = b.pick(*images), b.chance(0.3)
        way = b.pick(
            lambda row: row.view(-1, C, 1, 1),
            lambda row: row.reshape(len(row), C, 1, 1),
            lambda row: row[:, :, None, None],
            lambda row: row.unsqueeze(-1).unsqueeze(2),
        )
        b.step(
            f"v{j} {'+' if add else '*'} v{i} by channel",
            lambda v: v[j] + way(v[i]) if add else v[j] * way(v[i]),
            "image",
        )


def unusual(b, i):
    """What no reader takes, or only where what comes next allows it."""
    kind = b.kinds[i]
    text, way, made = b.pick(
        ("{}[:, :1]", lambda x: x[:, :1], kind),
        ("{}.transpose(1, 2)", lambda x: x.transpose(1, 2), "other"),
        ("{} + 1", lambda x: x + 1, kind),
        ("{}.abs()", lambda x: x.abs(), kind),
        ("{}.mean(1)", lambda x: x.mean(1), "other"),
        ("{}.squeeze()", lambda x: x.squeeze(), "other"),
        ("{}.unsqueeze(1)", lambda x: x.unsqueeze(1), "other"),
        ("{} / batch", lambda x: x / x.shape[0], kind),
        ("{} / height", lambda x: x / x.shape[-1], kind),
        ("div({}, 2, floor)", lambda x: torch.div(x, 2, rounding_mode="floor"), kind),
        ("{}.float().double()", lambda x: x.float().double(), kind),
        ("{}.permute(0, 3, 2, 1)", lambda x: x.permute(0, 3, 2, 1), "other"),
        ("dropout2d({})", lambda x: functional.dropout2d(x, training=False), kind),
        ("{}.max(1)", lambda x: x.max(1)[0], "other"),
        ("{}.view(-1, 2)", lambda x: x.view(-1, 2), "other"),
        ("mean of {}, keepdim", lambda x: x.mean((2, 3), keepdim=True), kind),
        ("{}.view(2, -1)", lambda x: x.view(2, -1), "other"),
        ("{} spread", lambda x: x.mean((2, 3), keepdim=True).expand_as(x), kind),
        ("{}[:, :, :8]", lambda x: x[:, :, :8], kind),
        ("max pool of {}", lambda x: functional.max_pool2d(x, 2), kind),
    )
    b.step(text.format(f"v{i}"), lambda v: way(v[i]), made)


COMMON = [activation, functional_activation, arithmetic, joined, joined, concatenated, dropout, again]
STEPS = {
    "image": [
        *(conv, conv, conv, conv, padded_conv, conv_transpose, norm, norm, max_pool, avg_pool, adaptive_pool),
        *(upsample, softmax_of_channels, squeeze_and_excitation, to_last, to_last, flattened, mean_of_pixels),
        *(factors, own_weights, *COMMON),
    ],
    "by shape": [resized_like, pooled_by_shape, padded_by_shape, if_large],
    "last": [to_first, to_first, to_first, linear, linear, layer_norm, factors, *COMMON],
    "row": [
        linear,
        linear,
        layer_norm,
        batch_norm_of_rows,
        softmax_of_rows,
        gate_by_row,
        gate_by_row,
        *COMMON,
    ],
}


@st.composite
def modules(draw):
    """A module in float64 and eval mode, and the shape (C, H, W) of the images that it is made for."""
    sample = draw(st.integers(1, 4)), draw(st.integers(4, 12)), draw(st.integers(4, 12))
    torch.manual_seed(draw(st.integers(0, 2**16)))
    b = Builder(draw, sample)
    for _ in range(draw(st.integers(1, 9))):
        if b.chance(RARELY):
            unusual(b, b.chosen(["image", "last", "row"]))
            continue
        i = b.chosen(["image", "last", "row"])
        kind = b.kinds[i]
        steps = STEPS["by shape"] if kind == "image" and b.chance(RARELY) else STEPS[kind]
        b.pick(*steps)(b, i)
    if b.kinds[-1] == "last" and not b.chance(0.05):
        to_first(b, len(b.values) - 1)
    if not b.module.steps:
        conv(b, 0)
    return b.module, sample
