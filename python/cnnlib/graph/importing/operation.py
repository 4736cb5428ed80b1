"""One operator of a network that is being read, and the layers that it becomes."""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NoReturn

import numpy as np

from cnnlib._typing import Array
from cnnlib.graph.graph import Node
from cnnlib.graph.importing.builder import Builder, Feature, Sides
from cnnlib.graph.ops.sizes import batch_of


class Operation(ABC):
    """An operator: what a reader translates by the methods below, whatever the source's layout is.

    `label` is that of its nodes, `output` the name of the value it makes. An argument is ``op["stride"]``: of
    `arguments` what the source says, of `defaults` what holds where it says nothing. :meth:`check_arguments`
    refuses those that nobody has read.
    """

    net: Builder
    label: str
    output: str
    word: ClassVar[str] = ""  # before the names of arguments, in messages

    def __init__(self, given: Mapping[str, Any], defaults: Mapping[str, Any]) -> None:
        self.arguments, self.defaults = given, defaults
        self._unread = set(given)

    @abstractmethod
    def fail(self, text: str) -> NoReturn:
        """Raise the ValueError that names the operator."""

    def __getitem__(self, name: str) -> Any:
        self._unread.discard(name)
        return self.arguments.get(name, self.defaults.get(name))

    def ignore(self, *names: str) -> None:
        """Count these arguments, or all, as read: they say nothing that is not known otherwise."""
        self._unread -= set(names or self._unread)

    def expect(self, name: str, value: Any) -> None:
        """Refuse an argument that is given with another value."""
        self._unread.discard(name)
        if self.arguments.get(name, value) != value:
            self.fail(f"{self.word}{name} is {self.arguments[name]!r}, here only {value!r}")

    def choice(self, name: str, *allowed: Any) -> Any:
        """An argument that is one of those allowed; the first where nothing says what it is."""
        value = allowed[0] if self[name] is None else self[name]
        if value not in allowed:
            self.fail(f"{self.word}{name} is {value!r}, here only {', '.join(map(repr, allowed))}")
        return value

    def check_arguments(self) -> None:
        """Refuse arguments that were not read and differ from their default."""
        for name in sorted(self._unread):
            if self.arguments[name] != self.defaults.get(name):
                self.expect(name, self.defaults.get(name))

    def emit(
        self,
        layer: str,
        *inputs: Feature,
        params: tuple[str | None, ...] = (),
        args: tuple[Any, ...] = (),
        statistics: str = "",
    ) -> Feature:
        """Put a node into the graph; return its value."""
        name, read = self.net.free_output(self.output), tuple(x.name for x in inputs)
        try:
            return self.net.append(Node(layer, read, name, params, args, self.label, statistics))
        except (TypeError, ValueError) as error:
            self.net.runs = False
            self.fail(str(error))

    def parameter(self, role: str, array: Array, name: str = "") -> str:
        """A parameter of the network; called `name`, that of the source, or by the operator and `role`."""
        return self.net.parameter(name or f"{self.label}.{role}", np.require(array, self.net.dtype, "C"))

    def plain(self, x: Feature) -> Feature:
        """A value whose shape in the graph is that in the source."""
        x = self.unpadded(x)
        if x.channels_last:
            self.fail("takes or gives images with the channels last, which has no counterpart here")
        if x.shape == x.view:
            return x
        if len(x.view) == 1 and math.prod(x.shape) == x.view[0]:
            return self.emit("flatten", x)
        found = self.net.maker(x)
        if found is not None and found[1].layer == "global_avg_pool" and x.view == (*x.shape, 1, 1):
            (name,) = found[1].inputs  # pooled once more, to images
            return self.emit("adaptive_avg_pool", self.net.value_of(name), args=(1,))
        self.fail(f"{batch_of(x.shape)} cannot become {batch_of(x.view)} here")

    def unpadded(self, x: Feature) -> Feature:
        """A value with the pixels around it in the graph.

        Where no layer takes these in, by a convolution of each channel with a single 1, which is frozen.
        """
        if x.pad is None:
            return x
        if x.pad_value != 0 or x.channels_last:
            self.fail(f"padding with {x.pad_value} before it has no counterpart here")
        C = x.shape[0]
        name = self.net.parameter(f"{self.label or self.output}.pad", np.ones((C, 1, 1, 1), self.net.dtype))
        self.net.frozen.add(name)
        return self.emit("conv", x.bare(), params=(name, None), args=({"pad": x.pad, "groups": C},))

    def padded(self, x: Feature, sides: Sides, value: float = 0.0) -> Feature:
        """Constant pixels around images, left to the layer behind them."""
        if x.pad is not None and x.pad_value == value:
            sides = tuple((a + c, b + d) for (a, b), (c, d) in zip(x.pad, sides, strict=True))
            x = x.bare()
        return self.as_images(x).padded(sides, value) if any(map(any, sides)) else x

    def as_images(self, x: Feature) -> Feature:
        """A value that is images (N, C, H, W)."""
        x = self.unpadded(x)
        if len(x.view) != 3:
            self.fail(f"its input has the shape {batch_of(x.view)}; expected images (N, C, H, W)")
        return self.plain(x)

    def in_order(self, x: Feature) -> Feature:
        """A value whose numbers lie as the source has them."""
        if x.channels_last and 1 in (x.shape[0], math.prod(x.shape[1:])):  # the same order
            return x.seen_as(x.view)
        if x.channels_last:
            self.fail("reshapes images with the channels last, which has no counterpart here")
        return x

    def transposed(self, x: Feature, axes: Sequence[int]) -> Feature:
        """The channels of images to the end or back, or axes of size 1."""
        perm = list(axes)
        if sorted(perm) != list(range(len(x.view) + 1)) or perm[0] != 0:
            self.fail(f"the order {tuple(perm)} of axes, of {batch_of(x.view)}, has no counterpart")
        view = tuple(x.view[axis - 1] for axis in perm[1:])
        long = [axis for axis in perm[1:] if x.view[axis - 1] > 1]
        if len(x.view) == 3 and x.shape == x.view and not x.channels_last and perm == [0, 2, 3, 1]:
            return dataclasses.replace(x, view=view, channels_last=True)
        if perm == sorted(perm) or (long == sorted(long) and not x.channels_last):
            return dataclasses.replace(x, view=view)
        if x.channels_last and perm == [0, 3, 1, 2]:
            return x.seen_as(view)
        self.fail(f"the order {tuple(perm)} of axes, of {batch_of(x.view)}: here only the channels move")

    def same(
        self,
        layer: str,
        x: Feature,
        *args: Any,
        params: tuple[str | None, ...] = (),
        statistics: str = "",
    ) -> Feature:
        """A layer whose output has the shape of its input, wherever the channels are."""
        return self.emit(layer, x, params=params, args=args, statistics=statistics).seen_like(x)

    def scaled(self, x: Feature, factor: float) -> Feature:
        """x * factor; x itself where the network's numbers do not tell the factor from 1."""
        known = np.finfo(self.net.dtype)
        if not abs(factor) <= float(known.max):
            self.fail(f"multiplies by {factor}, which is no number of {self.net.dtype}")
        return x if abs(factor - 1) < known.eps else self.same("scale", x, factor)

    def clipped(self, x: Feature, low: float, high: float) -> Feature:
        """min(max(x, low), high): from 0 to a bound ReLU6 of what is scaled to it."""
        if (low, high) == (-math.inf, math.inf):
            return x
        if low != 0 or high <= 0:
            self.fail(f"clips to [{low}, {high}]; here the lower bound is 0 and the upper one above it")
        if high > np.finfo(np.float32).max / 2:  # some exporters write the largest number for none
            return self.same("relu", x)
        return self.scaled(self.same("relu6", self.scaled(x, 6 / high)), high / 6)

    def averaged(self, x: Feature, *, keep: bool, images: bool = False) -> Feature:
        """The mean of each plane of images; with `keep` still (N, C, 1, 1), in the graph if `images`."""
        if images:
            return self.emit("adaptive_avg_pool", x, args=(1,))
        C = x.shape[0]
        return self.emit("global_avg_pool", x).seen_as((C, 1, 1) if keep else (C,))

    def product(
        self, x: Feature, w: Array, b: Array | None = None, names: Sequence[str] = ("", "")
    ) -> Feature:
        """x @ w + b over the channels, w (D, M): an affine layer, or a 1x1 convolution if they are last."""
        filters = w.T[:, :, None, None] if x.channels_last else w
        w_name = self.parameter("w", filters, names[0])
        params = (w_name, None if b is None else self.parameter("b", b, names[1]))
        view = (*x.view[:-1], w.shape[1])
        if not x.channels_last:
            return self.emit("affine", x, params=params).seen_as(view)
        out = self.emit("conv", x, params=params, args=({"stride": 1, "pad": 0},))
        return dataclasses.replace(out, view=view, channels_last=True)

    def axis(self, axis: int, rank: int) -> int:
        """An axis counted from the front."""
        if not -rank <= axis < rank:
            self.fail(f"axis is {axis}, where there are {rank}")
        return axis % rank

    def check_axis(self, x: Feature, axis: int) -> None:
        """Refuse another axis of a value than that of its channels."""
        if self.axis(axis, len(x.view) + 1) != x.channel_axis + 1:
            self.fail(f"axis is {axis}; here it is that of the channels")

    def softmax(self, x: Feature) -> Feature:
        """Over the channels."""
        if x.channels_last:
            return self.same("softmax", x)
        flat = x.seen_as(x.view[:1]) if x.one_pixel and x.shape != x.view else x
        return self.emit("softmax", self.plain(flat)).seen_as(x.view)

    def concatenated(self, features: Sequence[Feature], axis: int) -> Feature:
        """Along the axis of the channels, which all of them have at one place."""
        first = features[0]
        if any(len(x.view) != len(first.view) or x.channels_last != first.channels_last for x in features):
            self.fail("its inputs have different numbers of axes, or their channels in different places")
        self.check_axis(first, axis)
        if not first.channels_last and any(x.shape != x.view for x in features):
            flat = all(x.one_pixel for x in features)
            features = [self.plain(x.seen_as(x.view[:1]) if flat else x) for x in features]
        if len(features) == 1:
            return features[0].seen_like(first)
        view = list(first.view)
        view[first.channel_axis] = sum(x.shape[0] for x in features)
        out = self.emit("concat", *features)
        return dataclasses.replace(out, view=tuple(view), channels_last=first.channels_last)

    def joined(self, layer: str, x: Feature, y: Feature) -> Feature:
        """A sum or product of values of one shape, or of one with a value for each channel of the other."""
        if (math.prod(x.shape), self.net.follows(x)) < (math.prod(y.shape), self.net.follows(y)):
            x, y = y, x
        C, channels = x.shape[0], x.view[x.channel_axis]
        alike = x.view == y.view and x.channels_last == y.channels_last
        gates = ((C,), (C, 1, 1))  # a value for each channel
        if alike and x.shape in gates and y.shape in gates and len(x.shape) < len(y.shape):
            x, y = y, x
        spread = list(y.view) == [channels if i == x.channel_axis else 1 for i in range(len(x.view))]
        if (alike and x.shape == y.shape) or (
            (alike or (spread and channels == C))
            and y.shape in gates
            and (len(x.shape) == 3 or x.shape == y.shape)
        ):
            return self.emit(layer, x, y).seen_like(x)
        if not alike:
            natural = all(v.channels_last or v.shape == v.view for v in (x, y))
            if natural and x.channels_last == y.channels_last:
                self.net.runs = False  # the layer refuses such sizes at a call, too
            self.fail(
                f"values of shapes {batch_of(x.view)} and {batch_of(y.view)} are not joined; here they are "
                "equal, or one has a value for each channel of the other"
            )
        view = x.view[:1] if x.one_pixel else x.view
        return self.emit(layer, *(self.plain(value.seen_as(view)) for value in (x, y))).seen_as(x.view)

    def shifted(self, x: Feature, shift: Array, name: str, alone: bool) -> Feature:
        """x + shift, (C,) or (1,): in the bias of the layer that makes x, if nothing else reads x."""
        if not shift.any():
            return x
        found = self._free_maker(x, len(shift)) if alone else None
        if found is None:
            return self.one_by_one(x, np.ones_like(shift), shift)
        place, node, w, b = found
        total = np.broadcast_to(shift if b is None else self.net.params[b] + shift, (self._outputs(node),))
        made = self.parameter("b", total, name if b is None else b)
        self.net.nodes[place] = dataclasses.replace(node, params=(w, made))
        return x

    def stretched(self, x: Feature, factor: Array, alone: bool) -> Feature:
        """x * factor, (C,) or (1,): in the weights of the layer that makes x, if nothing else reads x."""
        if len(factor) == 1:
            return self.scaled(x, float(factor[0]))
        found = self._free_maker(x, len(factor)) if alone else None
        if found is None or (found[1].layer == "conv_transpose" and found[1].args[0]["groups"] > 1):
            return self.one_by_one(x, factor)
        place, node, w, b = found
        sizes = [1] * self.net.params[w].ndim
        sizes[node.op.weighted_axis or 0] = -1
        names = (
            self.parameter("w", self.net.params[w] * factor.reshape(sizes), w),
            None if b is None else self.parameter("b", self.net.params[b] * factor, b),
        )
        self.net.nodes[place] = dataclasses.replace(node, params=names)
        return x

    def one_by_one(self, x: Feature, factor: Array, shift: Array | None = None, name: str = "") -> Feature:
        """x * factor + shift as a 1x1 convolution of each channel by itself."""
        if len(x.shape) != 3:
            self.fail(
                "a constant for each value of (N, D) has a counterpart only behind a layer with weights"
            )
        C = x.shape[0]
        w = self.parameter("w", np.broadcast_to(factor, (C,)).reshape(C, 1, 1, 1), name)
        b = None if shift is None else self.parameter("b", np.broadcast_to(shift, (C,)))
        return self.same("conv", x, {"stride": 1, "pad": 0, "groups": C}, params=(w, b))

    def _free_maker(self, x: Feature, count: int) -> tuple[int, Node, str, str | None] | None:
        """Place, node and parameters of the layer that makes x, if it has `count` outputs."""
        found = self.net.maker(x)
        if found is None or not (found[1].op.norm or found[1].op.weighted_axis is not None):
            return None
        place, node = found
        w, b = node.params
        return (place, node, str(w), b) if count in (1, self._outputs(node)) else None

    def _outputs(self, node: Node) -> int:
        w = self.net.params[str(node.params[0])]
        if node.layer == "conv_transpose":
            return int(w.shape[1] * node.args[0]["groups"])
        return w.shape[node.op.weighted_axis or 0]
