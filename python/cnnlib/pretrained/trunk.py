"""The part of somebody's network that is kept: read from a file, cut, with what its images go through."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from cnnlib.data.normalization import Normalization, of_bytes
from cnnlib.graph.graph import Graph
from cnnlib.graph.shapes import shapes
from cnnlib.inference.predictor import Predictor
from cnnlib.inference.preparation import load
from cnnlib.models import ConvNet, GraphNet
from cnnlib.models.spec.reading import NAMED_SPECS
from cnnlib.models.state import check_state_fits
from cnnlib.pretrained.torchvision import load_torchvision
from cnnlib.saved_model.kinds import found_in, kind_of
from cnnlib.saved_model.model_file import read_model


def open_trunk(
    path: str | os.PathLike[str],
    cut: str | None = None,
    normalization: Normalization | None = None,
    size: tuple[int, int] | None = None,
    network: str | None = None,
) -> GraphNet:
    """Read a network from a file, and cut it so that it ends with features (N, D).

    Parameters
    ----------
    path : path
        ONNX, a file of a model's ``save`` or of ``Predictor.save``, or parameters in safetensors.
    cut : str or None
        The node to cut behind; None for what the last affine layer reads. Of images the mean of each channel
        is taken.
    normalization : Normalization or None
        What its images go through, for a file that does not say it.
    size : (int, int) or None
        Height and width of the images; None for the file's.
    network : str or None
        Of which network parameters in safetensors are: one of ``cnnlib.models.NAMED_SPECS``, or of those
        that :func:`cnnlib.pretrained.load_torchvision` builds.

    Raises
    ------
    ValueError
        For a file that is none of these, has nothing to cut before, takes other than images of 1 or 3
        channels or of another size, or where what is missing is not given: the message says what to give.

    Examples
    --------
    >>> import cnnlib
    >>> net = ConvNet("resnet8", (3, 32, 32), 10, seed=0)
    >>> from cnnlib.data.normalization import NORMALIZATIONS
    >>> net.save("net.npz", preprocess=NORMALIZATIONS["half"])
    >>> open_trunk("net.npz")
    GraphNet(3x32x32 -> 64, 29 nodes, float32, 77,392 parameters)
    """
    name = os.fspath(path)
    net = _network(name, size, network)
    if normalization is not None and kind_of(name) == "safetensors":
        net.preprocess = None  # it was that of torchvision's weights; those of others may have another
    if net.preprocess is not None and normalization is not None:
        raise ValueError(f"{name} says itself how its images are normalised: give no normalisation")
    known = net.preprocess or normalization
    if known is None:
        raise ValueError(
            f"{name} does not say how its images are normalised. Its author does: give --normalization "
            "torchvision (networks of torchvision, and most of timm), half (pixels from -1 to 1), unit (from "
            "0 to 1), or numbers with --mean and --std, of pixels 0 to 255"
        )
    known = of_bytes(known)  # as the pixels of files are
    known = Normalization(known.mean, known.std)  # photographs, whatever the network has learned from
    try:
        graph = net.graph().cut(cut)
    except ValueError as error:
        raise ValueError(f"{name}: {error}; on the command line --cut NODE") from None
    if len(net.input_dim) != 3 or net.input_dim[0] not in (1, 3):
        raise ValueError(f"{name} takes samples of shape {net.input_dim}, not images of 1 or 3 channels")
    if len(known.mean) not in (1, net.input_dim[0]):
        raise ValueError(
            f"{name} takes images of {net.input_dim[0]} channels, got means of {len(known.mean)}"
        )
    dim = _dim(name, net, graph, size)
    try:
        trunk = net._with_graph(graph, {}, dim)
    except ValueError as error:
        raise ValueError(f"{name}, at images of {dim[1]}x{dim[2]}: {error}") from error
    shape = shapes(graph, trunk.params, trunk.input_dim, name)[graph.output]
    if len(shape) == 3:
        graph.global_avg_pool(name=f"{graph.output} (means)")
        trunk = trunk._with_graph(graph, {})
    trunk.preprocess = known
    return trunk


def block_starts(graph: Graph) -> list[str]:
    """The values with which the graph's blocks begin: whatever comes behind one reads nothing from before it.

    A block has a layer with weights, and is as short as it can be: a convolution with its norm and
    activation, or all of a residual block.
    """
    last = {name: place for place, node in enumerate(graph.nodes) for name in node.inputs}
    starts, begin, open_until, weighted = [], graph.input, last.get(graph.input, 0), False
    for place, node in enumerate(graph.nodes):
        weighted = weighted or node.op.weighted_axis is not None
        if open_until <= place:  # nothing but this node's value goes on from here
            if weighted:
                starts.append(begin)
                weighted = False
            begin = node.output
        open_until = max(open_until, last.get(node.output, place))
    return starts


def _dim(name, net, graph, size):
    """The shape of the trunk's images: the file's, or of `size` where its layers allow it."""
    if size is None or size == net.input_dim[1:]:
        return net.input_dim
    if graph.why_fixed():
        H, W = net.input_dim[1:]
        raise ValueError(
            f"{name} takes images of {H}x{W} alone, as {graph.why_fixed()}; got {size[0]}x{size[1]}"
        )
    return net.input_dim[0], *size


def _network(name: str, size: tuple[int, int] | None, network: str | None) -> GraphNet:
    kind = kind_of(name)
    if kind == "safetensors":
        return network_of_arrays(name, size, network)
    if network is not None:
        raise ValueError(f"{name} says itself of which network it is: give no name of one (--network)")
    if kind not in ("onnx", "predictor", "npz"):
        if kind == "missing":
            raise FileNotFoundError(f"there is no file {name}")
        found = f": it {found_in(name, kind)}" if kind != "run" else ""
        raise ValueError(
            f"{name} is no file of a network (ONNX, a saved model, a Predictor, or safetensors){found}"
        )
    read: Any = (
        _from_onnx(name, size) if kind == "onnx" else {"predictor": load, "npz": read_model}[kind](name)
    )
    if isinstance(read, GraphNet):
        return read
    if isinstance(read, Predictor):
        net = GraphNet(*read.graph_and_params(), read.input_dim, dtype=read.dtype)
    else:
        net = GraphNet(read.graph(), read.params, read.arguments["input_dim"], dtype=read.dtype)
    net.preprocess = read.preprocess
    return net


def _from_onnx(name, size):
    from cnnlib import onnx

    try:
        return onnx.load(name)
    except ValueError as error:
        if size is None and "input_dim" in str(error):
            raise ValueError(f"{name} leaves the size of its images open: give --image-size N") from error
        if size is None:
            raise
        return onnx.load(name, input_dim=(3, *size))


def network_of_arrays(name: str, size: tuple[int, int] | None, network: str | None) -> GraphNet:
    """Read the parameters of a named network from a safetensors file.

    They are called as torchvision calls them, or as ``export`` does, with the statistics ``running_mean1
    running_var1 ...``. `size` is the images' height and width. ValueError if the network is not named.
    """
    from cnnlib import safetensors

    arrays: dict[str, Any] = safetensors.load(name)
    biases = [key for key in arrays if key[:1] == "b" and key[1:].isdigit()]
    if not biases or network not in (None, *NAMED_SPECS):
        return load_torchvision(name, network, size or 224)
    if network is None:
        raise ValueError(
            f"{name} has arrays but no network: name it (--network), and its images' size (--image-size)"
        )
    if size is None:
        raise ValueError(f"{name} does not say the size of its images, and {network} takes any: --image-size")
    last = max(biases, key=lambda key: int(key[1:]))
    net = ConvNet(network, (3, *size), len(arrays[last]))
    params = {key: np.asarray(array) for key, array in arrays.items()}
    statistics: dict[str, dict[str, Any]] = {}
    for k in range(len(net.bn_params)):
        of_norm = statistics[str(k)] = {}
        for what in ("running_mean", "running_var"):
            if f"{what}{k + 1}" not in params:
                reason = f"lacks {what}{k + 1}, of a batch norm of {network}; it has {', '.join(arrays)}"
                raise ValueError(f"{name} {reason}")
            of_norm[what] = params.pop(f"{what}{k + 1}")
    check_state_fits(name, net, {"params": params, "bn_params": statistics})
    net.params.update(params)
    for bn_param, of_norm in zip(net.bn_params, statistics.values(), strict=True):
        bn_param.update(of_norm)  # type: ignore[typeddict-item]
    return net
