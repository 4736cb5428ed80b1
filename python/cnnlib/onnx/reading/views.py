"""Operators that reshape, move and join values."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from cnnlib.graph.importing import Feature
from cnnlib.graph.ops.sizes import batch_of
from cnnlib.onnx.reading.files import FLOATS, Value
from cnnlib.onnx.reading.operator import Operator


def cast(op: Operator) -> Feature:
    """To floats: all is computed in the network's dtype."""
    to = op["to"]
    op.ignore("saturate", "round_mode")  # of floats of 8 bits
    if to not in FLOATS or (to == 11 and op.net.dtype != np.float64):
        op.fail(f"attribute to is {to}; a network of {op.net.dtype} computes in nothing else")
    return op.feature()


def flatten(op: Operator) -> Feature:
    axis, x = op["axis"], op.in_order(op.feature())
    if op.axis(axis, len(x.view) + 1) != 1:
        op.fail(f"attribute axis is {axis}; here the samples stay apart")
    return x.seen_as((math.prod(x.view),))


def reshape(op: Operator) -> Feature:
    x = op.in_order(op.feature())
    target = op.integers(1, "shape")
    if not target:
        op.fail("shape is missing")
    kept = op["allowzero"]
    own = (op.net.samples, *x.view)
    N, *view = [own[i] if n == 0 and not kept and i < len(own) else n for i, n in enumerate(target)]
    if -1 in view and N not in (-1, op.net.samples, op.net.batch):
        op.fail(f"shape is {target}; the number of images is to stay open")
    D = math.prod(x.view)
    if view.count(-1) == 1:
        rest = -math.prod(view)
        view = [D // rest if size == -1 and rest > 0 else size for size in view]
    if math.prod(view) != D or min(view, default=0) < 1:
        asked = f"shape is {target} for {op.net.samples} images"
        op.fail(f"{asked}, which does not keep the samples of {batch_of(x.view)} apart")
    return x.seen_as(tuple(view))


def squeeze(op: Operator) -> Feature:
    x = op.in_order(op.feature())
    axes = op.axes()
    if axes is None:
        axes = [i for i, size in enumerate(x.view, start=1) if size == 1]
        # That of a single image goes, too. Here it stays: features alone have no other axes to be mixed up.
        if op.net.batch == 1 and len(x.view) - len(axes) > 1:
            op.fail(
                f"has no axes: it takes away that of the one image of {batch_of(x.view)}; name the others"
            )
    places = {op.axis(axis, len(x.view) + 1) for axis in axes}
    if 0 in places or any(x.view[place - 1] != 1 for place in places):
        op.fail(f"axes are {axes}, of {batch_of(x.view)}")
    return x.seen_as(tuple(size for i, size in enumerate(x.view, start=1) if i not in places))


def unsqueeze(op: Operator) -> Feature:
    x, axes = op.in_order(op.feature()), op.integers(1, "axes") or []
    rank = len(x.view) + 1 + len(axes)
    places = {op.axis(axis, rank) for axis in axes}
    if 0 in places or len(places) != len(axes):
        op.fail(f"axes are {axes}, of {batch_of(x.view)}")
    rest = iter(x.view)
    return x.seen_as(tuple(1 if i in places else next(rest) for i in range(1, rank)))


def transpose(op: Operator) -> Feature:
    x = op.feature()
    moved = op.transposed(x, op["perm"] or range(len(x.view) + 1)[::-1])
    both = math.prod(moved.view[:-1]) == 1 and not op.net.follows(x)  # of one pixel they are first, too
    return moved.seen_as(moved.view) if moved.channels_last and both else moved


def concat(op: Operator) -> Feature:
    features = [op.feature(i) for i in range(len(op.inputs))]
    axis = 1 if op["axis"] is None else op["axis"]  # before version 4, where its schema says no default
    return op.concatenated(features, axis)


def reduce_mean(op: Operator) -> Feature:
    """Over height and width: a global average pool."""
    x = op.feature()
    axes, keep = op.integers(1, "axes"), bool(op["keepdims"])
    if op["noop_with_empty_axes"] and not axes:
        return x
    rank = len(x.view) + 1
    places = {op.axis(axis, rank) for axis in axes or range(rank)}
    pixels = {1, 2, 3} - {x.channel_axis + 1}
    if len(x.view) != 3 or len(x.shape) != 3 or places != pixels:
        op.fail(f"axes are {axes}, of {batch_of(x.view)}; here they are height and width of images")
    if not x.channels_last:
        return op.averaged(op.plain(x), keep=keep, images=keep and op.net.pools_keep_images)
    pooled = op.averaged(x, keep=False)
    return pooled.seen_as((1, 1, x.shape[0])) if keep else pooled


def shape(op: Operator) -> Value:
    """Shape of what depends on the images: the number of images stays open."""
    feature = op.value(0)
    assert isinstance(feature, Feature)  # else it has been folded
    return np.array(feature.source_shape(op.net.samples)[op["start"] : op["end"]], np.int64)


OPERATORS: dict[str, Callable[[Operator], Value]] = {
    "Identity": Operator.feature,
    "Cast": cast,
    "Flatten": flatten,
    "Reshape": reshape,
    "Squeeze": squeeze,
    "Unsqueeze": unsqueeze,
    "Transpose": transpose,
    "Concat": concat,
    "ReduceMean": reduce_mean,
    "Shape": shape,
}
