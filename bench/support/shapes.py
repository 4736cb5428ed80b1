"""The convolutions that are timed: the layers of well-known networks, odd sizes and tiny calls."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from support import timing


@dataclass(frozen=True)
class ConvCase:
    """One convolution.

    Attributes
    ----------
    N : int or None
        Images; None in the table below, where the batch sizes asked for take its place.
    C, H, W, F, KH, KW : int
    stride, dilation, groups : int
    pad : (int, int)
        Rows above and below, columns left and right.
    """

    group: str
    C: int
    F: int
    KH: int
    KW: int
    H: int
    W: int
    stride: int = 1
    pad: tuple[int, int] = (0, 0)
    dilation: int = 1
    groups: int = 1
    N: int | None = None

    @property
    def name(self):
        size = f"{self.H}" if self.H == self.W else f"{self.H}x{self.W}"
        text = f"{self.C}->{self.F} {self.KH}x{self.KW} @{size}"
        if self.stride > 1:
            text += f" s{self.stride}"
        if self.pad != _same(self.KH, self.KW, self.dilation):
            text += f" p{self.pad[0]}"
        if self.dilation > 1:
            text += f" d{self.dilation}"
        if self.groups > 1:
            text += " dw" if self.groups == self.C else f" g{self.groups}"
        return text

    @property
    def shapes(self):
        """Shapes of x, w, b and dout."""
        OH, OW = (
            1 + (size + 2 * pad - self.dilation * (kernel - 1) - 1) // self.stride
            for size, pad, kernel in ((self.H, self.pad[0], self.KH), (self.W, self.pad[1], self.KW))
        )
        w = (self.F, self.C // self.groups, self.KH, self.KW)
        return (self.N, self.C, self.H, self.W), w, (self.F,), (self.N, self.F, OH, OW)

    @property
    def conv_param(self):
        return {"stride": self.stride, "pad": self.pad, "dilation": self.dilation, "groups": self.groups}

    @property
    def needs(self):
        """The gradients of a training step: nobody asks for that of the images."""
        return ("dw", "db") if self.C <= 4 and self.groups == 1 else ("dx", "dw", "db")

    def flops(self, direction):
        """Operations of the direct method, two for a multiply-add; db is not counted."""
        _, w, _, dout = self.shapes
        once = 2 * dout[0] * dout[1] * dout[2] * dout[3] * w[1] * w[2] * w[3]
        return once if direction == "forward" else once * (len(self.needs) - 1)

    def traffic(self, direction):
        """The fewest numbers read and written: each operand and each result once."""
        x, w, _, dout = (_size(shape) for shape in self.shapes)
        if direction == "forward":
            return x + w + dout
        return x + w + dout + (w + x if "dx" in self.needs else 0)

    def footprint(self):
        """Numbers in memory at worst: all arrays, and two sides' results held for their comparison."""
        x, w, _, dout = (_size(shape) for shape in self.shapes)
        return 3 * x + 4 * w + 4 * dout


def _size(shape):
    size = 1
    for n in shape:
        size *= n
    return size


def _same(KH, KW, dilation=1):
    return dilation * (KH // 2), dilation * (KW // 2)


def _conv(group, C, F, kernel, size, pad=None, **more):
    KH, KW = kernel if isinstance(kernel, tuple) else (kernel, kernel)
    H, W = size if isinstance(size, tuple) else (size, size)
    if pad is None:
        pad = _same(KH, KW, more.get("dilation", 1))
    elif isinstance(pad, int):
        pad = (pad, pad)
    return ConvCase(group, C, F, KH, KW, H, W, pad=pad, **more)


def _depthwise(group, C, size, stride=1):
    return _conv(group, C, C, 3, size, stride=stride, groups=C)


def _resnet50():
    """The bottleneck blocks' layers that ResNet-18 lacks; strides stand at the 3x3, as in most versions."""
    cases, before, size = [], 64, 56
    for width in (64, 128, 256, 512):
        stride = 1 if width == 64 else 2
        cases.append(_conv("resnet50", before, width, 1, size))
        if stride == 2:
            cases.append(_conv("resnet50", width, width, 3, size, stride=2))
        cases.append(_conv("resnet50", before, 4 * width, 1, size, stride=stride))
        size //= stride
        if before != width:  # at 64 channels the projection above is the same layer
            cases.append(_conv("resnet50", width, 4 * width, 1, size))
        before = 4 * width
        cases.append(_conv("resnet50", before, width, 1, size))
    return cases


def _mobilenetv2():
    """Sandler et al. 2018, arXiv:1801.04381, table 2: every distinct layer at 224 pixels."""
    cases, C, size = [_conv("mobilenetv2", 3, 32, 3, 224, stride=2)], 32, 112
    table = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2))
    for expand, F, repeats, first_stride in (*table, (6, 320, 1, 1)):
        for block in range(repeats):
            stride = first_stride if block == 0 else 1
            wide = C * expand
            if expand > 1:
                cases.append(_conv("mobilenetv2", C, wide, 1, size))
            cases.append(_depthwise("mobilenetv2", wide, size, stride))
            size //= stride
            cases.append(_conv("mobilenetv2", wide, F, 1, size))
            C = F
    return [*cases, _conv("mobilenetv2", 320, 1280, 1, 7)]


def _pix2pix():
    """Isola et al. 2017, arXiv:1611.07004, at 256 pixels: the PatchGAN, then the generator's other layers."""
    cases = [_conv("pix2pix", C, F, 4, size, 1, stride=2) for C, F, size in ((6, 64, 256), (64, 128, 128))]
    cases += [_conv("pix2pix", 128, 256, 4, 64, 1, stride=2), _conv("pix2pix", 256, 512, 4, 32, 1)]
    cases += [_conv("pix2pix", 512, 1, 4, 31, 1), _conv("pix2pix", 256, 512, 4, 32, 1, stride=2)]
    return cases + [_conv("pix2pix", 512, 512, 4, size, 1, stride=2) for size in (16, 8, 4)]


def _signals():
    """Long filters: ResNet for time series (Wang et al. 2016, arXiv:1611.06455), InceptionTime (Ismail Fawaz
    et al. 2019, arXiv:1909.04939), and electrocardiograms (Rajpurkar et al. 2017, arXiv:1707.01836)."""
    cases = [_conv("signals", C, C, (1, taps), (1, 512)) for C in (64, 128) for taps in (8, 5, 3)]
    cases += [_conv("signals", 32, 32, (1, taps), (1, 512)) for taps in (10, 20, 40)]
    sizes = ((64, 1024), (128, 256), (256, 64))
    return cases + [_conv("signals", C, C, (1, 16), (1, size)) for C, size in sizes]


def _patches():
    """Windows side by side: patches of ViT (Dosovitskiy et al. 2021, arXiv:2010.11929) for photos and CIFAR,
    ConvNeXt's stem and downsampling (Liu et al. 2022, arXiv:2201.03545), PVT's spatial reductions (Wang et
    al. 2021, arXiv:2102.12122), and U-Net's upsampling, which is dx of 2x2 (Ronneberger et al. 2015,
    arXiv:1505.04597)."""
    layers = [(3, 384, 16, 224), (3, 768, 16, 224), (3, 192, 4, 32), (3, 96, 4, 224)]
    layers += [(96, 192, 2, 56), (192, 384, 2, 28), (384, 768, 2, 14)]
    layers += [(64, 64, 8, 56), (128, 128, 4, 28), (320, 320, 2, 14), (64, 128, 2, 112), (128, 256, 2, 56)]
    return [_conv("patches", C, F, size, image, 0, stride=size) for C, F, size, image in layers]


def _table():
    course = [
        _conv("course", 3, 25, 3, 31, stride=2, N=100),  # the notebook's speed comparison
        _conv("course", 3, 32, 7, 32, N=50),  # ThreeLayerConvNet
        _conv("course", 3, 32, 7, 32, N=100),
        _conv("course", 3, 32, 5, 32, N=64),
        _conv("course", 32, 16, 3, 32, N=64),
        _conv("course", 3, 2, 3, 200, N=2),  # grey scale and edges of two photographs
    ]
    cifar = [_conv("cifar", C, F, 3, size) for C, F, size in ((3, 64, 32), (64, 64, 32))]
    cifar += [_conv("cifar", C, F, 3, size) for C, F, size in ((128, 128, 16), (256, 256, 8))]
    cifar += [_conv("cifar", C, F, 3, size) for C, F, size in ((3, 16, 32), (16, 16, 32), (32, 32, 16))]
    cifar += [_conv("cifar", C, F, 3, size) for C, F, size in ((64, 64, 8), (32, 32, 32), (32, 64, 16))]
    cifar += [_conv("cifar", C, F, 3, size) for C, F, size in ((64, 64, 16), (64, 128, 8), (128, 128, 8))]
    cifar += [_conv("cifar", C, F, 3, size, stride=2) for C, F, size in ((16, 32, 32), (32, 64, 16))]

    resnet18 = [_conv("resnet18", 3, 64, 7, 224, stride=2)]
    for C, size in ((64, 56), (128, 28), (256, 14), (512, 7)):
        resnet18.append(_conv("resnet18", C, C, 3, size))
    for C, size in ((64, 56), (128, 28), (256, 14)):
        resnet18.append(_conv("resnet18", C, 2 * C, 3, size, stride=2))
        resnet18.append(_conv("resnet18", C, 2 * C, 1, size, stride=2))

    vgg16 = [_conv("vgg16", C, F, 3, size) for C, F, size in ((3, 64, 224), (64, 64, 224), (64, 128, 112))]
    vgg16 += [_conv("vgg16", C, F, 3, size) for C, F, size in ((128, 128, 112), (128, 256, 56))]
    vgg16 += [_conv("vgg16", C, F, 3, size) for C, F, size in ((256, 256, 56), (256, 512, 28))]
    vgg16 += [_conv("vgg16", 512, 512, 3, size) for size in (28, 14)]

    alexnet = [
        _conv("alexnet", 3, 96, 11, 227, 0, stride=4),  # the paper's, in two columns
        _conv("alexnet", 96, 256, 5, 27, groups=2),
        _conv("alexnet", 256, 384, 3, 13),
        _conv("alexnet", 384, 384, 3, 13, groups=2),
        _conv("alexnet", 384, 256, 3, 13, groups=2),
        _conv("alexnet", 3, 64, 11, 224, 2, stride=4),  # the later one in a single column
        _conv("alexnet", 64, 192, 5, 27),
        _conv("alexnet", 192, 384, 3, 13),
        _conv("alexnet", 384, 256, 3, 13),
        _conv("alexnet", 256, 256, 3, 13),
    ]
    inception = [_conv("inception", C, C, kernel, 17) for C in (128, 160, 192) for kernel in ((1, 7), (7, 1))]
    inception += [_conv("inception", 384, 384, kernel, 8) for kernel in ((1, 3), (3, 1))]
    inception += [_conv("inception", 768, 192, 1, 17), _conv("inception", 48, 64, 5, 35)]
    inception += [_conv("inception", 3, 32, 3, 299, 0, stride=2), _conv("inception", 32, 32, 3, 149, 0)]

    lenet = [_conv("lenet", 1, 6, 5, 28), _conv("lenet", 6, 16, 5, 14, 0), _conv("lenet", 16, 120, 5, 5, 0)]
    odd = [
        _conv("odd", 17, 19, 3, 33),
        _conv("odd", 63, 63, 3, 14),
        _conv("odd", 5, 7, 3, 31),
        _conv("odd", 33, 65, 3, 28),
        _conv("odd", 1, 1, 3, 64),
        _conv("odd", 2, 3, 2, 32, 0),
        _conv("odd", 13, 100, 5, 15),
        _conv("odd", 100, 13, 1, 29),
        _conv("odd", 31, 31, 3, (27, 41), stride=2),
        _conv("odd", 65, 66, 3, 20, dilation=2),
        _conv("odd", 512, 1, 1, 56),  # the last layers of networks for masks
        _conv("odd", 64, 2, 1, 128),
    ]
    dilated = [_conv("dilated", C, C, 3, 28, dilation=d) for C, d in ((64, 2), (256, 2), (256, 4))]
    tiny = [
        _conv("tiny", 3, 8, 3, 8, N=1),
        _conv("tiny", 3, 3, 4, 4, 1, stride=2, N=2),  # the notebook's first check
        _conv("tiny", 1, 1, 3, 4, N=1),
        _conv("tiny", 16, 16, 3, 8, N=1),
        _conv("tiny", 64, 64, 1, 1, N=1),
        _conv("tiny", 32, 32, 3, 4, N=1, groups=32),
        _conv("tiny", 3, 3, 3, 16, N=2),
    ]
    nets = [resnet18, _resnet50(), vgg16, alexnet, inception, _mobilenetv2(), lenet]
    nets += [_pix2pix(), _signals(), _patches()]
    return [*course, *cifar, *(case for net in nets for case in net), *odd, *dilated, *tiny]


CASES = list(dict.fromkeys(_table()))  # each layer once, in the order of the table
_RANDOM_KINDS = ["any", "any", "any", "1x1", "depthwise", "signal", "grouped"]
GROUPS = list(dict.fromkeys(case.group for case in CASES))
NETWORKS = [group for group in GROUPS if group not in ("course", "odd", "dilated", "tiny")]


def select(batches, groups=None, only=None, quick=False, random=None):
    """The cases of these batch sizes, or random ones.

    Parameters
    ----------
    batches : list of int
        For the cases that do not fix their own.
    groups : list of str, optional
        Names in GROUPS.
    only : re.Pattern, optional
        Searched in the text "group name N=batch".
    quick : bool
        Only the first two of each group.
    random : (int, int), optional
        How many random cases instead, and their seed.
    """
    if random:
        return [c for c in random_cases(*random) if not only or only.search(f"{c.name} N={c.N}")]
    chosen, seen = [], dict.fromkeys(GROUPS, 0)
    for case in CASES:
        seen[case.group] += 1
        if (groups and case.group not in groups) or (quick and seen[case.group] > 2):
            continue
        sized = [case] if case.N else [replace(case, N=N) for N in batches]
        chosen += [c for c in sized if not only or only.search(f"{c.group} {c.name} N={c.N}")]
    return chosen


def random_cases(count, seed):
    """Layers that nobody chose, of 1 to 64 images: square and flat kernels, strides, groups, signals.

    A forward pass takes 0.2 to 4000 million operations.
    """
    draw = np.random.default_rng(seed)
    pick = lambda values: values[draw.integers(len(values))]  # noqa: E731
    channels = [1, 3, 4, 8, 12, 16, 24, 32, 48, 64, 80, 96, 128, 160, 192, 256, 320, 384, 512, 768, 1024]
    sides = [4, 5, 7, 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 56, 64, 80, 112, 128, 160, 224]
    kernels = [3, 3, 5, 2, 4, 7, (1, 3), (3, 1), (1, 7)]
    cases = []
    while len(cases) < count:
        kind, C, F, size = pick(_RANDOM_KINDS), pick(channels), pick(channels), pick(sides)
        more = {"stride": pick([1, 1, 2]), "N": pick([1, 1, 2, 4, 8, 16, 32, 64])}
        kernel = pick(kernels)
        if kind == "1x1":
            kernel = 1
        elif kind == "depthwise":
            kernel, F, more["groups"] = pick([3, 3, 5, 7]), C, C
        elif kind == "grouped":
            more["groups"] = groups = pick([2, 4, 8, 16, 32])
            C, F = groups * max(1, C // groups), groups * max(1, F // groups)
        elif kind == "signal":
            size, kernel, more["dilation"] = (1, 20 * size), (1, pick([3, 5, 9, 15])), pick([1, 1, 2, 4])
        case = _conv("random", C, F, kernel, size, **more)
        _, _, _, dout = case.shapes
        if min(dout) > 0 and 0.2e6 <= case.flops("forward") <= 4e9 and case.footprint() < 1e8:
            cases.append(case)
    return cases


def with_arrays(cases, dtypes):
    """Yield each case with each dtype, and x, w, b and dout for it."""
    normals = timing.Normals()
    for case in cases:
        for dtype in dtypes:
            yield case, dtype, normals(dtype, *case.shapes)
