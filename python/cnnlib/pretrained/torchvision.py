"""Networks of torchvision, built from nothing but their parameters' names and shapes."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping

import numpy as np

from cnnlib import safetensors
from cnnlib._params import positive_int
from cnnlib._typing import Array, Params
from cnnlib.data.normalization import NORMALIZATIONS
from cnnlib.graph.graph import Graph
from cnnlib.models import GraphNet

_HALVING = (2, 4, 7, 14)  # the blocks of MobileNetV2 with stride 2 (Sandler et al. 2018, arXiv:1801.04381)


def load_torchvision(
    path: str | os.PathLike[str], network: str | None = None, size: int | tuple[int, int] = 224
) -> GraphNet:
    """Read a network of torchvision from a safetensors file of its parameters by torchvision's names.

    These are the ResNets (He et al. 2015, arXiv:1512.03385, stride 2 in the 3x3 convolutions), wide ones and
    ResNeXts among them, MobileNetV2 (arXiv:1801.04381) and VGG (arXiv:1409.1556) with and without batch norm.
    Nodes are called like torchvision's modules: ``cut("layer3.1")``.

    Parameters
    ----------
    path : path
        A file of ``safetensors.torch.save_file(module.state_dict(), path)``.
    network : str or None
        What torchvision calls it. The layers follow from names and shapes, which networks with other strides
        may share; so it has to be said, here or by the file's name: ``resnet50-0676ba61.safetensors``.
    size : int or (int, int)
        Height and width of the images that it is for; others are taken too.

    Returns
    -------
    GraphNet
        Its `preprocess` is that of torchvision's networks.

    Raises
    ------
    ValueError
        If the file is damaged, of another network, or of none of these, or has arrays too few or too many.
    OSError
        If it cannot be read.

    Examples
    --------
    A VGG of one layer, on images of 8x8:

    >>> shapes = {"features.0": (4, 3, 3, 3), "classifier.0": (5, 196)}
    >>> arrays = {f"{name}.weight": np.ones(shape, np.float32) for name, shape in shapes.items()}
    >>> biases = {f"{name}.bias": np.zeros(shape[0], np.float32) for name, shape in shapes.items()}
    >>> safetensors.save({**arrays, **biases}, "vgg2.safetensors")
    >>> net = load_torchvision("vgg2.safetensors", size=8)
    >>> net
    GraphNet(3x8x8 -> 5, 5 nodes, float32, 1,097 parameters)
    >>> net.loss(net.preprocess(np.zeros((1, 3, 8, 8), np.uint8))).shape
    (1, 5)
    """
    name = os.fspath(path)
    sides = [positive_int("load_torchvision", "size", side) for side in np.broadcast_to(size, 2).tolist()]
    reader = _Reader(safetensors.load(path))
    build = next((build for sign, build in _BUILDERS.items() if sign in reader.left), None)
    try:
        if build is None:
            raise ValueError(f"it has {', '.join(sorted(reader.left)[:3])} and so on")
        found = build(reader)
        if reader.left:
            raise ValueError(f"{', '.join(sorted(reader.left)[:3])} belong to no layer of {found}")
        net = GraphNet(reader.graph, reader.params, (3, *sides))
    except ValueError as error:
        raise ValueError(
            f"{name} has not the arrays of a network that is built here (torchvision's ResNets, MobileNetV2, "
            f"VGG): {error}. Export it where PyTorch is: torch.onnx.export(module.eval(), "
            "torch.zeros(1, 3, 224, 224), 'net.onnx', dynamo=False)"
        ) from error
    if network is None and not re.match(rf"{found}(?![a-z0-9_])", os.path.basename(name)):
        raise ValueError(f"{name} has the arrays of {found}; if it is that network, name it (--network)")
    if network not in (None, found):
        raise ValueError(f"{name} has the arrays of {found}, not of {network}")
    net.preprocess = NORMALIZATIONS["torchvision"]
    return net


class _Reader:
    """Takes arrays out of a file's, and appends the nodes that they are of to a graph."""

    def __init__(self, arrays: Mapping[str, Array]) -> None:
        self.left = {name: a for name, a in arrays.items() if not name.endswith("num_batches_tracked")}
        self.graph = Graph()
        self.params: Params = {}
        self._channels: dict[str, int] = {}

    def take(self, name: str, ndim: int) -> Array:
        if name not in self.left:
            raise ValueError(f"there is no {name}")
        array = self.left.pop(name)
        if array.ndim != ndim or array.dtype.kind != "f":
            raise ValueError(f"{name} must be floats of {ndim} axes, got {array.dtype} {array.shape}")
        return array

    def conv(self, name: str, stride: int = 1) -> Array:
        w = self.params[f"{name}.weight"] = self.take(f"{name}.weight", 4)
        F, C_group, KH, KW = w.shape
        C = self._channels.get(self.graph.output, C_group)
        if C_group == 0 or C % C_group:
            raise ValueError(f"{name}.weight has shape {w.shape}, behind {C} channels")
        bias = self._bias(name)
        pad, groups = (KH // 2, KW // 2), C // C_group
        self.graph.conv(f"{name}.weight", bias, stride=stride, pad=pad, groups=groups, name=name)
        self._channels[name] = F
        return w

    def norm(self, name: str) -> None:
        weights, bias = f"{name}.weight", f"{name}.bias"
        self.params[weights], self.params[bias] = self.take(weights, 1), self.take(bias, 1)
        statistics = {key: self.take(f"{name}.{key}", 1) for key in ("running_mean", "running_var")}
        self._pass_on("spatial_batchnorm", name, weights, bias, **statistics)

    def activation(self, name: str, layer: str = "relu") -> None:
        self._pass_on(layer, name)

    def max_pool(self, name: str, size: int, stride: int, pad: int = 0) -> None:
        self._pass_on("max_pool", name, size=size, stride=stride, pad=pad)

    def affine(self, name: str) -> None:
        self.params[f"{name}.weight"] = self.take(f"{name}.weight", 2).T
        self.graph.affine(f"{name}.weight", self._bias(name), name=name)

    def add(self, name: str, other: str) -> None:
        channels = self._channels[other]
        self._channels[self.graph.add(self.graph.output, other, name=name)] = channels

    def _pass_on(self, layer, name, *params, **options):
        """A node that keeps the number of channels."""
        channels = self._channels[self.graph.output]
        self._channels[getattr(self.graph, layer)(*params, name=name, **options)] = channels

    def _bias(self, name):
        bias = f"{name}.bias"
        if bias not in self.left:
            return None
        self.params[bias] = self.take(bias, 1)
        return bias


def _resnet(reader: _Reader) -> str:
    """Its layers, and what torchvision calls it."""
    bottleneck = "layer1.0.conv3.weight" in reader.left
    reader.conv("conv1", stride=2)
    reader.norm("bn1")
    reader.activation("relu")
    reader.max_pool("maxpool", 3, 2, pad=1)
    layers, width, groups = 3 if bottleneck else 2, 0, 1
    depth = 2
    for stage in range(1, 5):
        block = 0
        while f"layer{stage}.{block}.conv1.weight" in reader.left:
            w = _residual_block(reader, f"layer{stage}.{block}", layers, 2 if stage > 1 and block == 0 else 1)
            if not width:
                width, groups = w.shape[0], w.shape[0] // w.shape[1]
            depth, block = depth + layers, block + 1
    reader.graph.global_avg_pool(name="avgpool")
    reader.affine("fc")
    if groups > 1:
        return f"resnext{depth}_{groups}x{width // groups}d"
    return f"resnet{depth}" if width == 64 else f"wide_resnet{depth}_{width // 64}"


def _residual_block(reader, name, layers, stride):
    """Two or three layers beside a shortcut; the filters of the one before the last, which has the stride."""
    start, strided = reader.graph.output, None
    for layer in range(1, layers + 1):
        w = reader.conv(f"{name}.conv{layer}", stride if layer == layers - 1 else 1)
        strided = w if layer == layers - 1 else strided
        reader.norm(f"{name}.bn{layer}")
        if layer < layers:
            reader.activation(f"{name}.relu{layer}")
    body = reader.graph.output
    reader.graph.output = start
    if f"{name}.downsample.0.weight" in reader.left:
        reader.conv(f"{name}.downsample.0", stride)
        reader.norm(f"{name}.downsample.1")
    shortcut, reader.graph.output = reader.graph.output, body
    reader.add(f"{name}.sum", shortcut)
    reader.activation(name)
    return strided


def _mobilenet_v2(reader: _Reader) -> str:
    def layer(name, stride=1):
        reader.conv(f"{name}.0", stride)
        reader.norm(f"{name}.1")
        reader.activation(name, "relu6")

    layer("features.0", 2)
    block = 1
    while f"features.{block}.conv.0.0.weight" in reader.left:
        name, start = f"features.{block}", reader.graph.output
        stride, part = 2 if block in _HALVING else 1, 0
        while (weights := f"{name}.conv.{part}.0.weight") in reader.left:
            depthwise = reader.left[weights].shape[1:2] == (1,)
            layer(f"{name}.conv.{part}", stride if depthwise else 1)
            part += 1
        w = reader.conv(f"{name}.conv.{part}")
        reader.norm(f"{name}.conv.{part + 1}")
        if stride == 1 and reader._channels[start] == w.shape[0]:
            reader.add(name, start)
        block += 1
    layer(f"features.{block}")
    reader.graph.global_avg_pool(name="avgpool")
    reader.graph.dropout(p=0.2, name="classifier.0")
    reader.affine("classifier.1")
    return "mobilenet_v2"


def _vgg(reader: _Reader) -> str:
    """Convolutions whose numbers say where pools are: a layer and its activation take two, norms one more."""
    normed = "features.1.weight" in reader.left
    convs = _numbers(reader, "features")[:: 1 + normed]
    for place, following in zip(convs, [*convs[1:], None], strict=True):
        if reader.conv(f"features.{place}").shape[2:] != (3, 3):
            raise ValueError(f"features.{place}.weight is not 3x3")
        if normed:
            reader.norm(f"features.{place + 1}")
        behind = place + 1 + normed
        reader.activation(f"features.{behind}")
        if following in (None, behind + 2):
            reader.max_pool(f"features.{behind + 1}", 2, 2)
        elif following != behind + 1:
            raise ValueError(f"features.{place}.weight comes before features.{following}.weight")
    reader.graph.adaptive_avg_pool(size=(7, 7), name="avgpool")
    affine = _numbers(reader, "classifier")
    for number in affine:
        reader.affine(f"classifier.{number}")
        if number != affine[-1]:
            reader.graph.relu(name=f"classifier.{number + 1}")
            reader.graph.dropout(p=0.5, name=f"classifier.{number + 2}")
    return f"vgg{len(convs) + len(affine)}{'_bn' if normed else ''}"


def _numbers(reader, part):
    """The numbers of the layers with weights in a torchvision sequence."""
    found = (re.fullmatch(rf"{part}\.(\d+)\.weight", name) for name in reader.left)
    return sorted(int(match[1]) for match in found if match)


_BUILDERS: dict[str, Callable[[_Reader], str]] = {  # by a name that others do not have
    "layer1.0.conv1.weight": _resnet,
    "features.1.conv.0.0.weight": _mobilenet_v2,
    "features.0.weight": _vgg,
}
