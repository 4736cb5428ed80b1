"""The shape of every value of a graph, by arithmetic alone; what samples have to be."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cnnlib._params import positive_int
from cnnlib._typing import Array
from cnnlib.graph.graph import Graph, Node
from cnnlib.graph.ops.sizes import Shape, batch_of

_MOST = 2**55  # numbers: more than that is no size, and sums of their bytes might overflow


def checked_dim(where: str, input_dim: Any) -> Shape:
    """The shape of a sample, a size or several, as a tuple of sizes of at least 1."""
    sizes = np.atleast_1d(np.asarray(input_dim, dtype=object))
    return tuple(positive_int(where, "input_dim", size) for size in sizes)


def shapes(
    graph: Graph,
    arrays: Mapping[str, Array],
    input_dim: Shape,
    where: str = "shapes",
) -> dict[str, Shape]:
    """
    Work out the shape of one sample of each value of a graph.

    Parameters
    ----------
    graph : Graph
        As its `check` passes it.
    arrays : mapping
        The arrays that its nodes name.
    input_dim : tuple of int
        The shape of a sample: (C, H, W) of images, (D,) of rows.
    where : str
        What messages begin with.

    Returns
    -------
    dict of str to tuple of int

    Raises
    ------
    ValueError, TypeError, KeyError
        For arrays, options or sizes that do not fit a layer; the message names its node.

    Examples
    --------
    >>> import numpy as np
    >>> graph = Graph()
    >>> graph.conv("W1", stride=2, pad="same"), graph.global_avg_pool()
    ('conv1', 'global_avg_pool2')
    >>> shapes(graph, {"W1": np.ones((8, 3, 3, 3))}, (3, 9, 12))
    {'input': (3, 9, 12), 'conv1': (8, 5, 6), 'global_avg_pool2': (8,)}
    """
    found = {graph.input: tuple(input_dim)}
    for node in graph:
        try:
            for name in node.params:
                if name is not None and name not in arrays:
                    raise KeyError(f"params has no {name!r}")
            params = [None if name is None else arrays[name] for name in node.params]
            found[node.output] = shape_behind(node, [found[name] for name in node.inputs], params)
            if math.prod(found[node.output]) > _MOST:
                raise ValueError(f"makes {batch_of(found[node.output])}, which no memory holds")
        except (KeyError, TypeError, ValueError) as error:
            raise type(error)(f"{where}: {node.title}: {error.args[0]}") from error
    return found


def shape_behind(node: Node, inputs: Sequence[Shape], params: Sequence[Array | None]) -> Shape:
    """The shape of one sample of what a layer makes of samples of these shapes, with these parameters.

    ValueError, TypeError or KeyError for arrays and options that the layer refuses.
    """
    return node.op.shape_behind(node, inputs, params)


def check_samples(
    where: str, came: tuple[int, ...], input_dim: tuple[int, ...], why_fixed: str, name: str = "X"
) -> None:
    """Refuse an array of shape `came` unless it holds samples that a network takes.

    Those are samples of shape `input_dim`, or images of another height and width where nothing fixes these;
    the ValueError has the reason in `why_fixed` if height or width alone are wrong.
    """
    shape = came[1:]
    if shape == input_dim:
        return
    alike = len(input_dim) == len(shape) == 3 and shape[0] == input_dim[0]
    if alike and not why_fixed:
        return
    images = len(input_dim) == 3 and not why_fixed
    wanted = ", ".join(map(str, (input_dim[0], "H", "W") if images else input_dim))
    reason = f"; the size is fixed by {why_fixed}" if alike else _advice(came, input_dim, not images, name)
    raise ValueError(f"{where}: {name} must have shape (N, {wanted}), got {came}{reason}")


def refuse_other_images(
    where: str, came: tuple[int, ...], input_dim: tuple[int, ...], name: str = "X"
) -> None:
    """Refuse images of another shape, with the channels last say, for a network that flattens images.

    Rows of as many numbers are none.
    """
    if len(came) == 4 and len(input_dim) == 3:
        check_samples(where, came, input_dim, "a flat layer", name)


def _advice(came, input_dim, fixed, name):
    """How an array of shape `came` could be meant."""
    shape = came[1:]
    if len(input_dim) != 3:
        return ""
    if len(shape) == 1 and shape[0] == math.prod(input_dim):
        return f"; {name}.reshape(-1, {', '.join(map(str, input_dim))}) makes images of these rows"
    if came == input_dim:
        return f"; a batch of this one image is {name}[None]"
    if len(shape) == 3 and shape[2] == input_dim[0] and (not fixed or shape[:2] == input_dim[1:]):
        return f"; its channels come last, {name}.transpose(0, 3, 1, 2) puts them first"
    if input_dim[0] == 1 and len(shape) == 2 and (not fixed or shape == input_dim[1:]):
        return f"; the axis of its channel is missing, {name}[:, None] adds it"
    return ""
