"""The networks that inference is compared on, with random weights and batch-norm statistics."""

from __future__ import annotations

import numpy as np
from cnnlib.models import ConvNet
from cnnlib.models.spec.reading import NAMED_SPECS

# Channels in a bottleneck, blocks, stride of the first (He et al. 2015, arXiv:1512.03385, table 1).
_RESNET50 = ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2))
# Expansion, channels, blocks, stride of the first (Sandler et al. 2018, arXiv:1801.04381, table 2).
_MOBILENET_V2 = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
_STEM = [
    {"conv": 64, "size": 7, "stride": 2, "pad": 3},
    "batchnorm",
    "relu",
    {"max_pool": 3, "stride": 2, "pad": 1},
]


def _resnet18():
    spec = list(_STEM)
    for channels, stride in ((64, 1), (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), (512, 1)):
        body = [
            {"conv": channels, "stride": stride, "pad": 1},
            "batchnorm",
            "relu",
            {"conv": channels},
            "batchnorm",
        ]
        spec += [{"residual": body}, "relu"]
    return [*spec, "global_avg_pool", {"affine": 1000}]


def _resnet50():
    spec = list(_STEM)
    for channels, blocks, first in _RESNET50:
        for block in range(blocks):
            stride = first if block == 0 else 1
            body = [{"conv": channels, "size": 1}, "batchnorm", "relu"]
            body += [{"conv": channels, "stride": stride, "pad": 1}, "batchnorm", "relu"]
            body += [{"conv": 4 * channels, "size": 1}, "batchnorm"]
            spec += [{"residual": body}, "relu"]
    return [*spec, "global_avg_pool", {"affine": 1000}]


def _vgg16():
    """Simonyan and Zisserman 2014, arXiv:1409.1556, configuration D."""
    spec = []
    for channels, layers in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        spec += [{"conv": channels}, "relu"] * layers + [{"max_pool": 2}]
    return [*spec, {"affine": 4096}, "relu", {"affine": 4096}, "relu", {"affine": 1000}]


def _mobilenet_v2():
    spec = [{"conv": 32, "stride": 2, "pad": 1}, "batchnorm", "relu6"]
    before = 32
    for expansion, channels, blocks, first in _MOBILENET_V2:
        for block in range(blocks):
            stride = first if block == 0 else 1
            body = [] if expansion == 1 else [{"conv": expansion * before, "size": 1}, "batchnorm", "relu6"]
            body += [{"depthwise": 3, "stride": stride, "pad": 1}, "batchnorm", "relu6"]
            body += [{"conv": channels, "size": 1}, "batchnorm"]
            spec += [{"residual": body}] if stride == 1 and before == channels else body
            before = channels
    return [*spec, {"conv": 1280, "size": 1}, "batchnorm", "relu6", "global_avg_pool", {"affine": 1000}]


# Name -> spec, image size, classes, batches.
NETWORKS = {
    "vgg-small": ("vgg-small", 32, 10, (1, 8, 100)),
    "resnet20": ("resnet20", 32, 10, (1, 8, 100)),
    "mobile-small": ("mobile-small", 32, 10, (1, 8, 100)),
    "unet": ("unet", 128, 21, (1, 8)),
    "resnet18": (_resnet18, 224, 1000, (1, 8)),
    "resnet50": (_resnet50, 224, 1000, (1, 8)),
    "vgg16": (_vgg16, 224, 1000, (1, 8)),
    "mobilenet-v2": (_mobilenet_v2, 224, 1000, (1, 8)),
}


def even_padding(spec):
    """The spec with equal padding on all sides, which every engine has, where 'same' has more at the end."""
    padded = []
    for stage in spec:
        stage = dict(stage) if isinstance(stage, dict) else stage
        if "residual" in stage:
            stage = {**stage, "residual": even_padding(stage["residual"])}
        elif (
            isinstance(stage, dict)
            and stage.get("stride", 1) != 1
            and ("conv" in stage or "depthwise" in stage)
        ):
            size = stage.get("size", 3) if "conv" in stage else stage["depthwise"]
            stage.setdefault("pad", (size - 1) // 2)
        padded.append(stage)
    return padded


def build(name: str) -> ConvNet:
    """The network, with batch-norm statistics of a few batches of noise."""
    spec, size, classes, _ = NETWORKS[name]
    spec = even_padding(NAMED_SPECS[spec] if isinstance(spec, str) else spec())
    net = ConvNet(spec, (3, size, size), classes, seed=0)
    rng = np.random.default_rng(0)
    for bn_param in net.bn_params:
        bn_param["momentum"] = 0.5
    images = rng.standard_normal((4, 3, size, size)).astype(np.float32)
    for _ in range(4 if net.bn_params else 0):
        net.loss(images, np.zeros((4, size, size) if net.head == "pixels" else 4, int))
    return net
