"""Specs of well-known small networks, for :class:`cnnlib.models.ConvNet`."""

from __future__ import annotations

from typing import Any


def _three_layer() -> list[Any]:
    """The course's first convolutional net: 7x7 conv, pool, two affine layers (the last is ConvNet's own)."""
    return [{"conv": 32, "size": 7}, "relu", {"max_pool": 2}, {"affine": 100}, "relu"]


def _vgg_small() -> list[Any]:
    """Pairs of 3x3 convolutions, halved by pools (after Simonyan and Zisserman 2014, arXiv:1409.1556)."""
    spec = []
    for F in (32, 64, 128):
        for _ in range(2):
            spec += [{"conv": F, "size": 3}, "batchnorm", "relu"]
        spec.append({"max_pool": 2})
    return [*spec, {"affine": 128}, "batchnorm", "relu", {"dropout": 0.3}]


def _resnet(n: int) -> list[Any]:
    """6n + 2 layers with 16, 32 and 64 filters (He et al. 2015, arXiv:1512.03385, section 4.2)."""
    spec = [{"conv": 16, "size": 3}, "batchnorm", "relu"]
    for F in (16, 32, 64):
        for block in range(n):
            stride = 2 if F > 16 and block == 0 else 1
            body = [{"conv": F, "size": 3, "stride": stride}, "batchnorm", "relu"]
            body += [{"conv": F, "size": 3}, "batchnorm"]
            spec += [{"residual": body}, "relu"]
    return [*spec, "global_avg_pool"]


def _mobile_small() -> list[Any]:
    """Depthwise separable convolutions (Howard et al. 2017, arXiv:1704.04861)."""
    spec = [{"conv": 32, "size": 3}, "batchnorm", "relu"]
    for F, stride in ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1)):
        spec += [{"depthwise": 3, "stride": stride}, "batchnorm", "relu"]
        spec += [{"conv": F, "size": 1}, "batchnorm", "relu"]
    return [*spec, "global_avg_pool"]


def _vgg_whitened() -> list[Any]:
    """A whitening layer, then three pairs of 3x3 convolutions that start as the identity.

    After the network of Jordan 2024, arXiv:2404.00498.
    """
    norm = {"batchnorm": None, "momentum": 0.6, "scale": False}
    spec = [{"conv": 24, "size": 2, "pad": 0, "init": "whiten", "frozen": "filters"}, "relu"]
    for F in (64, 256, 256):
        conv = {"conv": F, "size": 3, "init": "dirac", "bias": False}
        spec += [dict(conv), {"max_pool": 2}, dict(norm), "relu", dict(conv), dict(norm), "relu"]
    return [*spec, "global_max_pool", {"scale": 1 / 9}]


def _unet() -> list[Any]:
    """Three levels of 3x3 convolutions, the finer ones joined on the way up (Ronneberger et al. 2015,
    arXiv:1505.04597), with 'same' padding and batch norm.
    """

    def pair(F: int) -> list[Any]:
        return 2 * [{"conv": F}, "batchnorm", "relu"]

    spec: list[Any] = []
    for F in (32, 64):
        spec += [*pair(F)[:-1], {"relu": None, "name": f"of {F}"}, {"max_pool": 2}]
    spec += pair(128)
    for F in (64, 32):
        spec += [{"conv_transpose": F, "size": 2, "stride": 2}, {"concat": [[], f"of {F}"]}, *pair(F)]
    return [*spec, "pixels"]


def _autoencoder() -> list[Any]:
    """Down to a quarter of height and width and 16 channels, and up again (after Masci et al. 2011)."""
    spec: list[Any] = []
    for F in (32, 64):
        spec += [{"conv": F, "stride": 2}, "batchnorm", "relu"]
    spec += [{"conv": 16, "name": "code"}]
    for F in (64, 32):
        spec += [{"conv_transpose": F, "size": 4, "stride": 2, "pad": 1}, "batchnorm", "relu"]
    return [*spec, "pixels"]


NAMED_SPECS: dict[str, list[Any]] = {
    "three-layer": _three_layer(),
    "vgg-small": _vgg_small(),
    "vgg-whitened": _vgg_whitened(),
    "resnet8": _resnet(1),
    "resnet20": _resnet(3),
    "mobile-small": _mobile_small(),
    "unet": _unet(),
    "autoencoder": _autoencoder(),
}
