"""Operators that reshape, move and join values."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from cnnlib.graph.importing import Feature
from cnnlib.graph.shapes import batch_of
from cnnlib.onnx.reading.operator import Operator
from cnnlib.onnx.reading.symbols import BATCH, Symbol, Value, settled

_FLOATS = (1, 10, 11, 16)  # float32, float16, float64 and bfloat16 of TensorProto.DataType


def identity(op: Operator) -> Feature:
    return op.feature()


def cast(op: Operator) -> Feature:
    """Between floats: all is computed in the network's dtype."""
    to = op.attributes.integer("to", 0)
    op.attributes.ignore("saturate", "round_mode")  # of floats of 8 bits
    if to not in _FLOATS or (to == 11 and op.net.dtype != np.float64):
        op.fail(f"attribute to is {to}; a network of {op.net.dtype} computes in nothing else")
    return op.feature()


def flatten(op: Operator) -> Feature:
    axis, x = op.attributes.integer("axis", 1), _ordered(op)
    if axis % (len(x.view) + 1) != 1:
        op.fail(f"attribute axis is {axis}; here the samples stay apart")
    return x.seen_as((math.prod(x.view),))


def reshape(op: Operator) -> Feature:
    x = _ordered(op)
    target = op.attributes.integers("shape") if not op.has(1) else op.symbols(1, "shape").ravel().tolist()
    if not target:
        op.fail("shape is missing")
    allow_zero = op.attributes.integer("allowzero", 0)
    copied = [size == 0 and not allow_zero and i <= len(x.view) for i, size in enumerate(target)]
    sizes = [(BATCH, *x.view)[i] if copy else target[i] for i, copy in enumerate(copied)]
    if sizes[0] != BATCH and -1 in sizes[1:] and sizes[0] != op.net.batch:
        op.fail(f"shape is {target}; the number of images is to stay open")
    known = [size.value if isinstance(size, Symbol) else size for size in sizes[1:]]
    view = [int(size) for size in known if size is not None]
    if len(view) != len(known) or (isinstance(sizes[0], Symbol) and sizes[0] != BATCH):
        op.fail(f"shape is {target}; here the number of images stands at its place, as it is")
    D = math.prod(x.view)
    if view.count(-1) == 1:
        rest = -math.prod(view)
        view = [D // rest if size == -1 and rest > 0 else size for size in view]
    if math.prod(view) != D or min(view, default=0) < 1:
        op.fail(f"shape is {target}, which does not keep the samples of {batch_of(x.view)} apart")
    if op.net.follows(x) and not _follows(op, x, tuple(view), [*zip(target, copied, strict=True)][1:]):
        op.fix(f"shape {target}")
    return x.seen_as(tuple(view))


def _follows(op, x, view, target):
    """Whether a Reshape of images gives such a view at any size: rows, groups of channels, or images again.

    `target` has each size that is asked for, and whether it is that of the input.
    """
    if len(target) == 1:
        return target[0][0] == -1 or isinstance(target[0][0], Symbol)
    if len(target) == 2:
        return x.view == x.shape and x.shape[0] % view[0] == 0 and target[1][0] == -1
    if view != x.shape:
        return False
    own = [copied or size == op.net.size_of(x, axis) for axis, (size, copied) in enumerate(target)]
    return sum(own) + (-1 in [size for size, _ in target]) >= len(own) and (
        x.view == x.shape or not any(copied for _, copied in target)
    )


def squeeze(op: Operator) -> Feature:
    x = _ordered(op)
    axes = op.integers(1, "axes")
    if axes is None:
        axes = [i for i, size in enumerate(x.view, start=1) if size == 1]
    places = {axis % (len(x.view) + 1) for axis in axes}
    if 0 in places or any(x.view[place - 1] != 1 for place in places):
        op.fail(f"axes are {axes}, of {batch_of(x.view)}")
    return x.seen_as(tuple(size for i, size in enumerate(x.view, start=1) if i not in places))


def unsqueeze(op: Operator) -> Feature:
    x, axes = _ordered(op), op.integers(1, "axes") or []
    rank = len(x.view) + 1 + len(axes)
    places = {axis % rank for axis in axes}
    if 0 in places or len(places) != len(axes):
        op.fail(f"axes are {axes}, of {batch_of(x.view)}")
    rest = iter(x.view)
    return x.seen_as(tuple(1 if i in places else next(rest) for i in range(1, rank)))


def transpose(op: Operator) -> Feature:
    """The channels of images to the end or back, or axes of size 1."""
    x = op.feature()
    rank = len(x.view) + 1
    perm = op.attributes.integers("perm") or list(range(rank))[::-1]
    if sorted(perm) != list(range(rank)) or perm[0] != 0:
        op.fail(f"attribute perm is {perm}, of {batch_of(x.view)}")
    view = tuple(x.view[axis - 1] for axis in perm[1:])
    long = [axis for axis in perm[1:] if x.view[axis - 1] > 1]
    if len(x.view) == 3 and x.shape == x.view and not x.channels_last and perm == [0, 2, 3, 1]:
        return x.moved(view, True)
    if perm == sorted(perm) or (long == sorted(long) and not x.channels_last):
        return x.moved(view, x.channels_last)
    if x.channels_last and perm == [0, 3, 1, 2]:
        return x.moved(view, False)
    op.fail(
        f"attribute perm is {perm}, of {batch_of(x.view)}; here only the channels move, to the end and back"
    )


def concat(op: Operator) -> Feature:
    features = [op.feature(i) for i in range(len(op.inputs))]
    axis = op.attributes.integer("axis", 1)
    first = features[0]
    if any(len(x.view) != len(first.view) or x.channels_last != first.channels_last for x in features):
        op.fail("its inputs have different numbers of axes, or their channels in different places")
    if axis % (len(first.view) + 1) != first.channel_axis + 1:
        op.fail(f"attribute axis is {axis}; here it is that of the channels")
    return op.concatenated(features)


def reduce_mean(op: Operator) -> Feature:
    """Over height and width: a global average pool."""
    x = op.feature()
    axes, keep = op.integers(1, "axes"), bool(op.attributes.integer("keepdims", 1))
    if op.attributes.integer("noop_with_empty_axes", 0) and not axes:
        return x
    rank = len(x.view) + 1
    places = {axis % rank for axis in axes or range(rank)}
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
    start, end = op.attributes.integer("start", 0), op.attributes.integer("end", len(feature.view) + 1)
    sizes: list[Any] = list(feature.view)
    if feature.view == feature.shape:
        sizes = [op.net.size_of(feature, axis) for axis in range(len(sizes))]
    elif op.net.follows(feature):
        images = feature.channels_last or feature.pad is not None
        for axis, size in enumerate(feature.view):
            if not images or axis != feature.channel_axis:
                sizes[axis] = Symbol(size)
    return settled(np.array([BATCH, *sizes], dtype=object)[start:end])


def _ordered(op):
    """The input, if its values lie in the file's order."""
    x = op.feature()
    if x.channels_last and x.shape[0] == 1:  # the same order
        return x.seen_as(x.view)
    if x.channels_last:
        op.fail("reshapes images with the channels last, which has no counterpart here")
    return x


OPERATORS: dict[str, Callable[[Operator], Value]] = {
    "Identity": identity,
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
