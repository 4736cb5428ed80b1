"""Specs by name, and how one is read: what kinds of stages there are, and which options each has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cnnlib._params import check_keys, hint
from cnnlib._params.synonyms import advised
from cnnlib.graph.ops import OPS, Stage


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
    # The course's first convolutional net; the last of its two affine layers is ConvNet's own.
    "three-layer": [{"conv": 32, "size": 7}, "relu", {"max_pool": 2}, {"affine": 100}, "relu"],
    "vgg-small": _vgg_small(),
    "vgg-whitened": _vgg_whitened(),
    "resnet8": _resnet(1),
    "resnet20": _resnet(3),
    "mobile-small": _mobile_small(),
    "unet": _unet(),
    "autoencoder": _autoencoder(),
}


RESIDUAL = "residual"
# Stages by their kinds: those that ops have, and the sum of a body and its input.
KINDS: dict[str, Stage] = {
    **{stage.kind: stage for op in OPS.values() for stage in op.stages},
    RESIDUAL: Stage(RESIDUAL, ("shortcut",)),
}
# Kinds where branches meet: of ops with several inputs.
BRANCHING = (RESIDUAL, *(stage.kind for op in OPS.values() if op.inputs != 1 for stage in op.stages))
HEADS = ("classes", "values", "pixels")  # what a network ends in
# The classes in the file of a network that gives images of three colours, and no labels.
COLOURS = ("red channel", "green channel", "blue channel")
# What other libraries have as stages, and as options of stages.
_OTHER_KINDS = {
    "flatten": "an affine layer takes images as they are: leave it out",
    "input": "input_dim says what comes in: leave it out",
    "activation": "an activation is a stage by its own name: 'relu'",
    "filters": "a convolution is {'conv': 16}",
    "units": "a dense layer is {'affine': 16}",
    "output": "the last layer is the network's own, of num_classes outputs: leave it out",
}
_THE_VALUE = "it is the stage's value: {{{kind!r}: {number}}}"
_OTHER_OPTIONS = {
    "activation": "an activation is a stage of its own behind this one: 'relu'",
    **dict.fromkeys(("filters", "units", "out_channels"), _THE_VALUE),
    **dict.fromkeys(("in_channels", "input_shape"), "it follows from the stages before: leave it out"),
}
_OF_WINDOWS = dict.fromkeys(("size", "kernel_size", "pool_size"), _THE_VALUE)  # where the value is by axis
_EVERYWHERE = ("name", "from")  # what a stage's value is called, and which one it reads


def resolve(spec):
    """The spec itself, or the ready one of that name."""
    if not isinstance(spec, str):
        return spec
    if spec not in NAMED_SPECS:
        raise ValueError(f"ConvNet: unknown spec {spec!r}; {hint(spec, NAMED_SPECS)}")
    return NAMED_SPECS[spec]


def split_head(spec):
    """The stages before the head, the head's kind, and its size where it stands there."""
    entries = list(spec) if isinstance(spec, (list, tuple)) else spec
    last = entries[-1] if isinstance(entries, list) and entries else None
    kind = next(iter(last)) if isinstance(last, Mapping) and len(last) == 1 else last
    if kind not in HEADS:
        return entries, "classes", None
    return entries[:-1], kind, last[kind] if isinstance(last, Mapping) else None


def parse(place, entry):
    """A line of the spec as (kind, value, options)."""
    if isinstance(entry, str):
        kind, value, options = entry, None, {}
        if kind in KINDS and KINDS[kind].value == "needed":
            raise ValueError(f"ConvNet: {place}: {kind} needs a value: {{{kind!r}: ...}}")
    elif isinstance(entry, dict) and entry:
        kinds = [key for key in entry if key in KINDS]
        kind = kinds[0] if len(kinds) == 1 else next(iter(entry))
        value, options = entry[kind], {key: item for key, item in entry.items() if key != kind}
    else:
        raise TypeError(f"ConvNet: {place} must be a name or a dict such as {{'conv': 16}}, got {entry!r}")
    if kind in HEADS:
        raise ValueError(f"ConvNet: {place}: {kind} is a head, which comes last and takes its size alone")
    if kind not in KINDS:
        head = advised(str(kind), {name: name for name in HEADS})
        if head is not None:
            raise ValueError(f"ConvNet: {place}: unknown kind {kind!r}; did you mean the head {head!r}?")
        advice = advised(str(kind), _OTHER_KINDS) or hint(kind, KINDS)
        raise ValueError(f"ConvNet: {place}: unknown kind {kind!r}; {advice}")
    stage = KINDS[kind]
    elsewhere = _OTHER_OPTIONS | (_OF_WINDOWS if stage.by_axis else {})
    for key in options:
        if key not in stage.options and (text := advised(str(key), elsewhere)) is not None:
            advice = text.format(kind=kind, number=2 if stage.by_axis else 16)
            raise ValueError(f"ConvNet: {place}: unknown key {key!r} in {kind}; {advice}")
    check_keys(f"ConvNet: {place}", kind, options, (*KINDS[kind].options, *_EVERYWHERE))
    if isinstance(value, Mapping):
        beside = "".join(f", {option!r}: ..." for option in KINDS[kind].options[:1])
        raise TypeError(
            f"ConvNet: {place}: {kind} takes its value itself, and options beside it: "
            f"{{{kind!r}: ...{beside}}}; got {value!r}"
        )
    if KINDS[kind].value == "none" and value is not None:
        raise ValueError(f"ConvNet: {place}: {kind} takes no value, got {value!r}: {{{kind!r}: None, ...}}")
    return kind, value, options
