"""Tensors of any rank in a network that is being read: axes and samples where the source has them.

The graph's values have the samples on axis 0, and nothing else there. A source may move them (L, N, E), or
fold windows and heads into their axis (N * windows, L, E). A :class:`Feature` says where they are; the
methods here count axes as the source does, and put into the graph what computes the same for each sample.
"""

from __future__ import annotations

import dataclasses
import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from string import ascii_letters
from typing import Any, ClassVar, TypeAlias

import numpy as np

from cnnlib._typing import Array
from cnnlib.graph.importing.builder import LARGEST_SAMPLE, Feature
from cnnlib.graph.importing.operation import Operation
from cnnlib.graph.importing.resizing import places_of_pixels, resizing_matrix
from cnnlib.graph.ops.sizes import batch_of

_LARGEST_SIDE = 2**14  # pixels of images that are resized: matrices of 2 GiB in float64
_BEYOND = LARGEST_SAMPLE  # a start or stop as far off stands for the end of an axis of any size


@dataclass(frozen=True, eq=False)
class Known:
    """A constant of the source, with its name where it is a parameter; '' for others."""

    array: Array
    name: str = ""

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape


Operand: TypeAlias = Feature | Known


class TensorOperation(Operation):
    """An operator, with methods for values of any rank.

    Axes are the source's, counted from the front. `samples` is the number of them in the source's shapes; no
    other size is a multiple of it.

    `compares_sizes` tells that the reader reads other sizes of images too, and compares the nodes. Where it
    does not, :meth:`fixed_size` notes each size of an image that a node's arguments follow.
    """

    compares_sizes: ClassVar[bool] = False

    @abstractmethod
    def number_of_samples(self) -> int:
        """How many samples the source's shapes are of."""

    # Values ---------------------------------------------------------------------------------------------

    def tensor(self, x: Feature) -> Feature:
        """A value whose shape in the graph is its natural one."""
        if x.pad is None and not x.channels_last and x.shape == x.natural:
            return x
        key = dataclasses.replace(x, alone=True)
        made = self.net.materialised.get(key)
        if made is None:
            made = self.net.materialised[key] = self._materialised(x)
        return made

    def _materialised(self, x: Feature) -> Feature:
        made = x
        if x.pad is not None:
            widths = (*((0, 0),) * (len(x.shape) - len(x.pad)), *x.pad)
            padded = self.emit("pad", made.bare(), args=(widths, "constant", x.pad_value))
            made = dataclasses.replace(padded, channels_last=x.channels_last)
        if made.channels_last:
            made = self.emit("transpose", made, args=((0, *range(2, len(made.shape) + 1), 1),))
        if made.shape != x.natural:
            if math.prod(made.shape) == math.prod(x.natural):
                made = self._reshaped(made, x.natural)
            else:  # a number for each channel, spread over images
                ones = (*made.shape[:1], *(1,) * (len(x.natural) - 1))
                made = self._reshaped(made, ones) if made.shape != ones else made
                self.fix_size(f"which spreads its input to {batch_of(x.natural)}")
                made = self.emit("expand", made, args=(x.natural,))
        return made.seen_like(dataclasses.replace(x, channels_last=False))

    def _seen(
        self, made: Feature, like: Feature, view: Sequence[int], batch_axis: int | None = None
    ) -> Feature:
        """Note where a node's value has its samples: where another value has them, or at another axis."""
        axis = like.batch_axis if batch_axis is None else batch_axis
        return dataclasses.replace(
            made, view=tuple(view), batch_axis=axis, before=like.before, behind=like.behind
        )

    def rank(self, x: Operand) -> int:
        """The number of the source's axes."""
        return len(x.view) + 1 if isinstance(x, Feature) else x.array.ndim

    def view_axis(self, x: Feature, axis: int) -> int:
        """The place in `view` of an axis of the source."""
        if axis == x.batch_axis:
            self.fail(f"axis {axis} is that of the samples, which stay apart")
        return axis if axis < x.batch_axis else axis - 1

    def graph_axis(self, x: Feature, axis: int) -> int:
        """The graph's axis of an axis of the source."""
        inner = (x.before > 1) + (x.behind > 1)
        return 1 + self.view_axis(x, axis) + (inner if axis > x.batch_axis else 0)

    def size(self, x: Feature, axis: int) -> int:
        return x.view[self.view_axis(x, axis)]

    def fixed_size(self, x: Feature, axis: int) -> int:
        """The size of an axis, for arguments of nodes; if it follows that of images, theirs becomes fixed."""
        x, size = self.tensor(x), self.size(x, axis)
        if self.net.open_axis(x.name, self.graph_axis(x, axis) - 1):
            self.fix_size(f"which is made for {size} along axis {axis}")
        return size

    def fix_size(self, why: str) -> None:
        """Note why images must have the size that is read, unless the reader finds out by comparing."""
        if not self.compares_sizes:
            self.net.fix(f"node {self.output!r}, {why}")

    # Another shape --------------------------------------------------------------------------------------

    def _reshaped(self, x: Feature, shape: Sequence[int]) -> Feature:
        """Reshape to another natural shape, which follows the size of images where it can."""
        sizes = self.net.open_sizes(x.name, tuple(shape))
        if sizes is None:
            made = batch_of(tuple(shape))
            self.net.fix(f"node {self.output!r} ({self.label or 'reshape'}), which makes shapes {made}")
            sizes = tuple(shape)
        return self.emit("reshape", x, args=(sizes,))

    def shaped(self, x: Feature, target: Sequence[int]) -> Feature:
        """Reshape to the source's shape `target`, which has the number of samples in it."""
        N = self.number_of_samples()
        x = self.tensor(x)
        before, behind = (
            math.prod(x.view[: x.batch_axis]) * x.before,
            math.prod(x.view[x.batch_axis :]) * x.behind,
        )
        for axis, size in enumerate(target):
            left, right = math.prod(target[:axis]), math.prod(target[axis + 1 :])
            if size % N == 0 and left and right and before % left == 0 and behind % right == 0:
                inner = before // left, behind // right
                if inner[0] * inner[1] * N == size:
                    view = (*target[:axis], *target[axis + 1 :])
                    seen = dataclasses.replace(
                        x, view=view, batch_axis=axis, before=inner[0], behind=inner[1]
                    )
                    if seen.natural == x.shape:
                        return seen
                    return self._reshaped(x, seen.natural).seen_like(seen)
        self.fail(
            f"shape is {tuple(target)} for {N} samples, which does not keep the samples of "
            f"{x.source_shape(N)} apart"
        )

    def ordered(self, x: Feature, order: Sequence[int]) -> Feature:
        """The source's axes in another order."""
        x, rank = self.tensor(x), self.rank(x)
        order = [self.axis(axis, rank) for axis in order]
        if sorted(order) != list(range(rank)):
            self.fail(f"the order {tuple(order)} is none of the {rank} axes")
        inner = [1 + x.batch_axis + k for k in range((x.before > 1) + (x.behind > 1))]
        axes: list[int] = [0]
        for axis in order:
            axes.extend(inner if axis == x.batch_axis else [self.graph_axis(x, axis)])
        view = [self.size(x, axis) for axis in order if axis != x.batch_axis]
        made = x if axes == sorted(axes) else self.emit("transpose", x, args=(tuple(axes),))
        return self._seen(made, x, view, order.index(x.batch_axis))

    def moved(self, x: Feature, one: int, other: int) -> Feature:
        """Two axes in each other's places."""
        order = list(range(self.rank(x)))
        one, other = self.axis(one, len(order)), self.axis(other, len(order))
        order[one], order[other] = order[other], order[one]
        return self.ordered(x, order)

    def without_axis(self, x: Feature, axis: int) -> Feature:
        """Without an axis of 1."""
        shape = list(x.source_shape(self.number_of_samples()))
        del shape[axis]
        return self.shaped(x, shape)

    def with_axis(self, x: Feature, axis: int) -> Feature:
        """With an axis of 1 before the given one."""
        shape = list(x.source_shape(self.number_of_samples()))
        shape.insert(axis, 1)
        return self.shaped(x, shape)

    # Parts and copies -----------------------------------------------------------------------------------

    def sliced(self, x: Feature, axis: int, start: int | None, stop: int | None, step: int = 1) -> Feature:
        """Slice an axis, as Python does."""
        axis = self.axis(axis, self.rank(x))
        if axis == x.batch_axis:
            whole = x.before * x.behind * self.number_of_samples()
            if range(whole)[start:stop:step] == range(whole):
                return x
        x = self.tensor(x)
        size = self.size(x, axis)
        chosen = range(size)[start:stop:step]
        place = self.graph_axis(x, axis)
        beyond = _BEYOND if self.net.open_axis(x.name, place - 1) else size
        first, last = self._limits(start, stop, step, beyond)
        if chosen == range(size) and (beyond == size or (first in (None, 0) and last is None)):
            return x
        if not len(chosen):
            self.fail(f"takes nothing of the {size} of axis {axis}")
        made = self.emit("slice", x, args=(first, last, step, place))
        view = list(x.view)
        view[self.view_axis(x, axis)] = len(chosen)
        return self._seen(made, x, view)

    @staticmethod
    def _limits(start: int | None, stop: int | None, step: int, beyond: int) -> tuple[int | None, int | None]:
        """Start and stop; None where they are so far off that they are an end of the axis."""
        first = None if start is None or (step > 0 and start <= -beyond) else start
        last = None if stop is None or (step > 0 and stop >= beyond) else stop
        return first, last

    def selected(self, x: Feature, axis: int, index: int) -> Feature:
        """One of an axis, which goes."""
        axis = self.axis(axis, self.rank(x))
        size = self.size(x, axis)
        if not -size <= index < size:
            self.fail(f"index is {index}, of {size}")
        part = self.sliced(x, axis, index, None if index == -1 else index + 1)
        return self.without_axis(part, axis)

    def split(self, x: Feature, axis: int, sizes: Sequence[int]) -> list[Feature]:
        """Parts of these sizes along an axis."""
        axis, ends = self.axis(axis, self.rank(x)), np.cumsum(sizes).tolist()
        self.fixed_size(x, axis)
        return [self.sliced(x, axis, end - size, end) for size, end in zip(sizes, ends, strict=True)]

    def padded_tensor(
        self, x: Feature, sides: Sequence[tuple[int, int]], mode: str = "constant", value: float = 0.0
    ) -> Feature:
        """Numbers around it, for each axis of the source; less than nothing cuts."""
        x = self.tensor(x)
        if any(sides[x.batch_axis]):
            self.fail(f"pads axis {x.batch_axis}, that of the samples, which stay apart")
        for axis, (before, after) in enumerate(sides):
            if min(before, after) < 0:
                x = self.sliced(x, axis, max(0, -before), None if after >= 0 else after)
        inner = ((0, 0),) * ((x.before > 1) + (x.behind > 1))
        kept = [(max(0, before), max(0, after)) for before, after in sides]
        widths = (*kept[: x.batch_axis], *inner, *kept[x.batch_axis + 1 :])
        if not any(map(any, widths)):
            return x
        made = self.emit("pad", x, args=(widths, mode, value))
        others = kept[: x.batch_axis] + kept[x.batch_axis + 1 :]
        return self._seen(made, x, [n + sum(side) for n, side in zip(x.view, others, strict=True)])

    def spread(self, x: Feature, target: Sequence[int]) -> Feature:
        """Axes of 1 repeated up to the source's shape `target`, which may have more axes in front."""
        x = self.tensor(x)
        for _ in range(len(target) - self.rank(x)):
            x = self.with_axis(x, 0)
        N = self.number_of_samples()
        if target[x.batch_axis] != x.source_shape(N)[x.batch_axis]:
            self.fail(f"spreads axis {x.batch_axis}, that of the samples, to {target[x.batch_axis]}")
        view = (*target[: x.batch_axis], *target[x.batch_axis + 1 :])
        return self._seen(self._widened(x, dataclasses.replace(x, view=view).natural), x, view)

    def spread_as(self, x: Feature, other: Feature) -> Feature:
        """Axes of 1 repeated up to the shape of another value, at any size of images."""
        rank = self.rank(other)
        x, other = self.beside(x, other, rank), self.tensor(other)
        view = self._broadcast(x, other)
        if view != other.view:
            N = self.number_of_samples()
            self.fail(f"a value of shape {x.source_shape(N)} does not spread to {other.source_shape(N)}")
        return self._seen(self._widened_alike(x, other, other.shape)[0], x, view)

    def tiled(self, x: Feature, counts: Sequence[int]) -> Feature:
        """The whole several times in a row along each axis."""
        if any(count < 1 for count in counts):
            self.fail(f"repeats its input {tuple(counts)} times along its axes, here at least once")
        x = self.tensor(x)
        for _ in range(len(counts) - self.rank(x)):
            x = self.with_axis(x, 0)
        for axis, count in enumerate(counts):
            if count != 1:
                x = self.concat([x] * count, axis)
        return x

    def rolled(self, x: Feature, shifts: Sequence[int], axes: Sequence[int]) -> Feature:
        """Numbers moved along axes; what leaves at the end comes back at the front."""
        x = self.tensor(x)
        places = tuple(self.graph_axis(x, self.axis(axis, self.rank(x))) for axis in axes)
        return self.emit("roll", x, args=(tuple(shifts), places)).seen_like(x)

    def flipped(self, x: Feature, axes: Sequence[int]) -> Feature:
        """Axes backwards."""
        x = self.tensor(x)
        places = tuple(self.graph_axis(x, self.axis(axis, self.rank(x))) for axis in axes)
        return self.emit("flip", x, args=(places,)).seen_like(x)

    def gathered(self, x: Feature, indices: Array, axis: int) -> Feature:
        """Numbers at constant indices along an axis, which the axes of the indices take the place of."""
        x = self.tensor(x)
        axis = self.axis(axis, self.rank(x))
        place, at = self.graph_axis(x, axis), self.view_axis(x, axis)
        made = self.emit("gather", x, args=(np.asarray(indices), place))
        view = (*x.view[:at], *np.shape(indices), *x.view[at + 1 :])
        batch_axis = x.batch_axis if axis > x.batch_axis else x.batch_axis - 1 + np.ndim(indices)
        return self._seen(made, x, view, batch_axis)

    def concat(self, values: Sequence[Operand], axis: int) -> Feature:
        """One behind the other along an axis; constants among them come again for each sample."""
        first = self.tensor(next(x for x in values if isinstance(x, Feature)))
        axis = self.axis(axis, self.rank(first))
        at, place = self.view_axis(first, axis), self.graph_axis(first, axis)
        parts = [self.beside(x, first) if isinstance(x, Known) else self.tensor(x) for x in values]
        if len({(part.batch_axis, part.before, part.behind) for part in parts}) > 1:
            self.fail("its inputs have their samples in different places")
        if len(parts) == 1:
            return parts[0]
        view = list(first.view)
        view[at] = sum(part.view[at] for part in parts)
        if place == 1:
            return self._seen(self.emit("concat", *parts), first, view)
        made = self.emit("concat", *(self._led(part, place) for part in parts))
        return self._seen(self._led_back(made, place), first, view)

    def _led(self, x: Feature, place: int) -> Feature:
        """A graph's value with one of its axes behind that of the samples."""
        if place == 1:
            return x
        order = (0, place, *(axis for axis in range(1, len(x.shape) + 1) if axis != place))
        return self.emit("transpose", x, args=(order,))

    def _led_back(self, x: Feature, place: int) -> Feature:
        """The inverse of :meth:`_led`."""
        if place == 1:
            return x
        order = (0, *range(2, place + 1), 1, *range(place + 1, len(x.shape) + 1))
        return self.emit("transpose", x, args=(order,))

    def stacked(self, values: Sequence[Operand], axis: int) -> Feature:
        """One behind the other along a new axis."""
        first = next(x for x in values if isinstance(x, Feature))
        axis = self.axis(axis, self.rank(first) + 1)
        parts: list[Operand] = [
            Known(np.expand_dims(x.array, axis), x.name) if isinstance(x, Known) else self.with_axis(x, axis)
            for x in values
        ]
        return self.concat(parts, axis)

    # Constants ------------------------------------------------------------------------------------------

    def _per_sample(self, known: Known, rank: int, like: Feature) -> Array:
        """A constant as one sample has it, beside a value whose samples are where `like` has them."""
        array, N = known.array, self.number_of_samples()
        array = array.reshape((1,) * (rank - array.ndim) + array.shape)
        batch_axis = like.batch_axis + rank - self.rank(like)
        if array.shape[batch_axis] == N:
            first = array.take([0], batch_axis)
            if np.array_equal(np.broadcast_to(first, array.shape), array, equal_nan=array.dtype.kind == "f"):
                array = first
        if array.shape[batch_axis] != 1:
            beside = like.source_shape(N)
            self.fail(f"a constant of shape {known.shape} beside {beside} differs between samples")
        inner = (1,) * ((like.before > 1) + (like.behind > 1))
        return array.reshape(array.shape[:batch_axis] + inner + array.shape[batch_axis + 1 :])

    def _constant(self, array: Array, name: str, like: Feature) -> Feature:
        """A constant as a value of the graph, once for each sample."""
        key = self.parameter("constant", np.ascontiguousarray(array), name)
        if not name:
            self.net.frozen.add(key)
        return self.emit("constant", like, params=(key,))

    # Arithmetic -----------------------------------------------------------------------------------------

    def each(self, layer: str, x: Feature, *args: Any) -> Feature:
        """A layer that goes element by element."""
        x = self.tensor(x)
        return self.emit(layer, x, args=args).seen_like(x)

    def combined(self, layer: str, x: Operand, y: Operand) -> Feature:
        """An operator of two values, of which one may be constant, with broadcasting."""
        like = x if isinstance(x, Feature) else y
        assert isinstance(like, Feature)
        rank = max(self.rank(x), self.rank(y))
        x, y = (self.beside(value, like, rank) for value in (x, y))
        view = self._broadcast(x, y)
        pair = self._widened_alike(x, y, dataclasses.replace(x, view=view).natural)
        return self._seen(self.emit(layer, *pair), x, view)

    def times(self, value: Operand, factor: float, beside: Operand) -> Operand:
        """A value times a number; a constant that is trained becomes a value, beside another one."""
        if factor == 1:
            return value
        if isinstance(value, Known) and not value.name:
            return Known(value.array * factor)
        if isinstance(value, Known):
            assert isinstance(beside, Feature)  # else both are constant, and the result has been computed
            value = self.beside(value, beside, max(self.rank(value), self.rank(beside)))
        return self.each("scale", value, float(factor))

    def number(self, value: Operand) -> float | None:
        """The number that a constant of one element is, which is not trained; None for others."""
        if isinstance(value, Known) and not value.name and value.array.size == 1:
            return float(value.array.reshape(()))
        return None

    def multiplied(self, x: Operand, y: Operand) -> Feature:
        """x * y, of which one may be constant."""
        for one, other in ((x, y), (y, x)):
            factor = self.number(one)
            if factor is not None and math.isfinite(factor) and isinstance(other, Feature):
                return self.scaled(other, factor)
        return self.combined("multiply", x, y)

    def divided(self, x: Operand, y: Operand) -> Feature:
        """x / y, of which one may be constant."""
        divisor = self.number(y)
        if divisor and isinstance(x, Feature):
            return self.scaled(x, 1 / divisor)
        return self.combined("divide", x, y)

    def bent(self, x: Feature, slope: Operand) -> Feature:
        """relu(x) - slope * relu(-x): PReLU (He et al. 2015, arXiv:1502.01852)."""
        below = self.each("scale", self.each("relu", self.each("scale", x, -1.0)), -1.0)
        return self.combined("add", self.each("relu", x), self.combined("multiply", below, slope))

    def mish(self, x: Feature) -> Feature:
        """x * tanh(softplus(x)) (Misra 2019, arXiv:1908.08681)."""
        return self.combined("multiply", x, self.each("tanh", self.each("softplus", x)))

    def chosen(self, mask: Array, x: Operand, y: Operand) -> Feature:
        """x where a constant mask is True, y elsewhere, with broadcasting."""
        like = x if isinstance(x, Feature) else y
        assert isinstance(like, Feature)
        rank = max(mask.ndim, self.rank(x), self.rank(y))
        x, y = (self.beside(value, like, rank) for value in (x, y))
        both = dataclasses.replace(x, view=self._broadcast(x, y)).natural
        own = self._per_sample(Known(mask.astype(bool)), rank, x)
        if any(n != m and 1 not in (n, m) for n, m in zip(own.shape, both, strict=True)):
            self.fail(f"a mask of shape {mask.shape} does not fit samples of {batch_of(both)}")
        natural = tuple(m if n == 1 else n for n, m in zip(own.shape, both, strict=True))
        inner = (x.before > 1) + (x.behind > 1)
        view = natural[: x.batch_axis] + natural[x.batch_axis + inner :]
        pair = [self._widened(value, natural) for value in self._widened_alike(x, y, both)]
        return self._seen(self.emit("where", *pair, args=(own,)), x, view)

    def _widened(self, x: Feature, natural: tuple[int, ...]) -> Feature:
        """With axes of 1 repeated to another natural shape."""
        if x.shape == natural:
            return x
        sizes = tuple(-1 if n == m else m for n, m in zip(x.shape, natural, strict=True))
        return self.emit("expand", x, args=(sizes,))

    def _widened_alike(self, x: Feature, y: Feature, natural: tuple[int, ...]) -> list[Feature]:
        """Two values with axes of 1 repeated to their common shape, at any size of images."""
        open_axes = [a for a in range(len(natural)) if any(self.net.open_axis(v.name, a) for v in (x, y))]
        if any(x.shape[a] != y.shape[a] for a in open_axes):
            x = x if x.shape == natural else self.emit("expand_as", x, y)
            return [x, y if y.shape == natural else self.emit("expand_as", y, x)]
        return [self._widened(value, natural) for value in (x, y)]

    def beside(self, value: Operand, like: Feature, rank: int | None = None) -> Feature:
        """An operand with `rank` axes, by default those of `like`; a constant, for each sample of that."""
        rank = self.rank(like) if rank is None else rank
        if isinstance(value, Known):
            array = self._per_sample(value, rank, like)
            batch_axis = like.batch_axis + rank - self.rank(like)
            inner = (like.before > 1) + (like.behind > 1)
            view = array.shape[:batch_axis] + array.shape[batch_axis + inner :]
            return self._seen(self._constant(array, value.name, like), like, view, batch_axis)
        x = self.tensor(value)
        for _ in range(rank - self.rank(x)):
            x = self.with_axis(x, 0)
        return x

    def _broadcast(self, x: Feature, y: Feature) -> tuple[int, ...]:
        """The source's axes without that of the samples, of the result of two values of one rank."""
        N = self.number_of_samples()
        same = (x.batch_axis, x.before, x.behind) == (y.batch_axis, y.before, y.behind)
        pairs = list(zip(x.view, y.view, strict=True))
        if not same or any(n != m and 1 not in (n, m) for n, m in pairs):
            self.fail(f"values of shapes {x.source_shape(N)} and {y.source_shape(N)} are not joined")
        return tuple(m if n == 1 else n for n, m in pairs)

    def normalised(self, layer: str, x: Feature, axis: int) -> Feature:
        """A softmax or log-softmax over an axis."""
        x = self.tensor(x)
        place = self.graph_axis(x, self.axis(axis, self.rank(x)))
        led = self._led(x, place)
        if layer == "log_softmax":  # x - max - log(sum(exp(x - max)))
            shifted = self._less(led, self.emit("reduce_max", led, args=((1,), True)))
            total = self.emit("reduce_sum", self.emit("exp", shifted), args=((1,), True))
            made = self._less(shifted, self.emit("log", total))
        else:
            made = self.emit("softmax", led)
        return self._led_back(made, place).seen_like(x)

    def _less(self, x: Feature, y: Feature) -> Feature:
        """x - y, y with an axis of 1."""
        return self.emit("add", x, self._widened(self.emit("scale", y, args=(-1.0,)), x.shape))

    def reduced(self, layer: str, x: Feature, axes: Sequence[int], keep: bool) -> Feature:
        """A sum, mean or maximum over axes."""
        x = self.tensor(x)
        gone = {self.axis(axis, self.rank(x)) for axis in axes}
        places = tuple(sorted(self.graph_axis(x, axis) for axis in gone))
        made = self.emit(layer, x, args=(places, keep))
        others = [axis for axis in range(self.rank(x)) if axis != x.batch_axis]
        view = [1 if axis in gone else self.size(x, axis) for axis in others if keep or axis not in gone]
        before = 0 if keep else sum(axis < x.batch_axis for axis in gone)
        return self._seen(made, x, view, x.batch_axis - before)

    def least(self, x: Feature, axes: Sequence[int], keep: bool) -> Feature:
        """The minimum over axes."""
        return self.scaled(self.reduced("reduce_max", self.scaled(x, -1.0), axes, keep), -1.0)

    def norm(self, x: Feature, axes: Sequence[int], keep: bool) -> Feature:
        """The square root of the sum of squares over axes."""
        squares = self.reduced("reduce_sum", self.combined("multiply", x, x), axes, keep)
        return self.each("power", squares, 0.5)

    def resized(
        self,
        x: Feature,
        size: Sequence[int],
        mode: str,
        coordinates: str = "half_pixel",
        scales: Sequence[float | None] = (None, None),
        rounding: str = "floor",
    ) -> Feature:
        """Images (N, C, H, W) of another size, by a product with a matrix along each axis.

        `coordinates` and `rounding` are ONNX's names for where pixels lie and which one is nearest.
        """
        x = self.tensor(x)
        if any(self.net.open_axis(x.name, place) for place in (1, 2)):
            self.net.fix(
                f"node {self.output!r} ({self.label or 'resize'}), which makes images of {tuple(size)}"
            )
        if max(*size, *x.view[-2:]) > _LARGEST_SIDE:
            self.fail(f"makes images of {tuple(size)} of {batch_of(x.view)}, which no memory holds")
        for axis, m, scale in zip((2, 3), size, scales, strict=True):
            n = self.size(x, axis)
            if n == m and scale in (None, 1):
                continue
            matrix = resizing_matrix(n, places_of_pixels(n, m, coordinates, scale), mode, rounding)
            moved = x if axis == 3 else self.moved(x, 2, 3)
            key = self.parameter("matrix", matrix)
            self.net.frozen.add(key)
            made = self.emit("linear", moved, params=(key, None))
            made = self._seen(made, moved, (*moved.view[:-1], m))
            x = made if axis == 3 else self.moved(made, 2, 3)
        return x

    def matrix_product(self, x: Operand, y: Operand) -> Feature:
        """The product of the last two axes, broadcast over those before."""
        like = x if isinstance(x, Feature) else y
        assert isinstance(like, Feature)
        rank = max(self.rank(x), self.rank(y))
        if min(self.rank(x), self.rank(y)) < 2:
            self.fail(f"products of {self.rank(x)} and {self.rank(y)} axes have no counterpart")
        x, y = (self.beside(value, like, rank) for value in (x, y))
        N = self.number_of_samples()
        if x.batch_axis >= rank - 2 or x.view[-1] != y.view[-2]:
            self.fail(f"the product of {x.source_shape(N)} and {y.source_shape(N)} has no counterpart")
        heads = self._broadcast(
            dataclasses.replace(x, view=(*x.view[:-2], 1, 1)),
            dataclasses.replace(y, view=(*y.view[:-2], 1, 1)),
        )
        one, two = (dataclasses.replace(x, view=(*heads[:-2], *v.view[-2:])).natural for v in (x, y))
        made = self.emit("matmul", self._widened(x, one), self._widened(y, two))
        return self._seen(made, x, (*heads[:-2], x.view[-2], y.view[-1]))

    def linear(
        self, x: Feature, w: Array, b: Array | None = None, names: Sequence[str] = ("", "")
    ) -> Feature:
        """x @ w + b over the last axis, w (D, M)."""
        x = self.tensor(x)
        if x.batch_axis == self.rank(x) - 1:
            self.fail("takes the samples for the last axis, which stay apart")
        params = (self.parameter("w", w, names[0]), None if b is None else self.parameter("b", b, names[1]))
        layer = "affine" if len(x.shape) == 1 else "linear"
        return self._seen(self.emit(layer, x, params=params), x, (*x.view[:-1], w.shape[1]))

    def attended(
        self,
        q: Operand,
        k: Operand,
        v: Operand,
        mask: Operand | None,
        scale: float | None,
        causal: bool,
    ) -> Feature:
        """softmax(scale * q @ k.T + mask) @ v over the last two axes, heads before them.

        Where k and v have fewer heads, as many of q in a row share one. A mask that is constant, of booleans
        too, gives one layer; one that is computed or trained gives products and a softmax.
        """
        given = (q, k, v) if mask is None else (q, k, v, mask)
        rank = max(map(self.rank, given))
        like = next(x for x in given if isinstance(x, Feature))
        q, k, v = values = [self.beside(value, like, rank) for value in (q, k, v)]
        N = self.number_of_samples()
        apart = len({(x.batch_axis, x.before, x.behind) for x in values}) > 1
        if apart or min(map(self.rank, values)) < 3 or q.batch_axis >= rank - 2:
            shapes = ", ".join(str(x.source_shape(N)) for x in values)
            self.fail(f"attention of q, k and v of shapes {shapes} has no counterpart")
        if isinstance(mask, Feature) or (isinstance(mask, Known) and mask.name):
            return self._spelled_out(q, k, v, mask, scale, causal)
        leads = [x.natural[:-2] or (1,) for x in values]
        (*_, heads), (*_, kv_heads), (*_, of_v) = leads
        if kv_heads != of_v or heads % kv_heads:
            heads = kv_heads = max(heads, kv_heads, of_v)
        front = self._common([lead[:-1] for lead in leads])
        wanted = [(*front, count) for count in (heads, kv_heads, kv_heads)]
        rows = [self._of_heads(x, lead) for x, lead in zip(values, wanted, strict=True)]
        param: dict[str, Any] = {"causal": True} if causal else {}
        if scale is not None:
            param["scale"] = float(scale)
        if mask is not None:
            param["bias"] = self._bias(self._per_sample(mask, rank, q), wanted[0])
        made = self.emit("attention", *rows, args=(param,))
        natural = (*wanted[0], *made.shape[1:])[-len(q.natural) :]
        if made.shape != natural:
            made = self._reshaped(made, natural)
        inner = (q.before > 1) + (q.behind > 1)
        return self._seen(made, q, natural[: q.batch_axis] + natural[q.batch_axis + inner :])

    def _common(self, shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
        """The shape that all of these spread to."""
        for sizes in zip(*shapes, strict=True):
            if len({*sizes} - {1}) > 1:
                self.fail(f"axes of {' and '.join(map(str, shapes))} are not joined")
        return tuple(max(sizes) for sizes in zip(*shapes, strict=True))

    def _of_heads(self, x: Feature, lead: tuple[int, ...]) -> Feature:
        """A value (heads, tokens, features) of each sample, its axes before the last two spread to `lead`."""
        tokens = x.natural[-2:]
        if x.shape[:-2]:
            x = self._widened(x, (*lead, *tokens))
        natural = (math.prod(lead), *tokens)
        return x if x.shape == natural else self._reshaped(x, natural)

    def _bias(self, mask: Array, lead: tuple[int, ...]) -> Array:
        """Shape a mask as the layer adds it to scores: (1, heads, L, S), with 1 in place of sizes."""
        own = mask.shape[:-2] or (1,)
        if any(n not in (1, m) for n, m in zip(own, lead, strict=True)):
            self.fail(f"a mask of shape {mask.shape} does not fit heads of shape {lead}")
        if mask.dtype != bool:
            mask = mask.astype(self.net.dtype)
        if math.prod(own) > 1:
            mask = np.broadcast_to(mask, (*lead, *mask.shape[-2:]))
        return mask.reshape(1, -1, *mask.shape[-2:])

    def _spelled_out(
        self, q: Feature, k: Feature, v: Feature, mask: Operand, scale: float | None, causal: bool
    ) -> Feature:
        """Attention whose mask is computed or trained, which the layer does not take."""
        scale = 1 / math.sqrt(self.fixed_size(q, self.rank(q) - 1)) if scale is None else scale
        scores = self.matrix_product(self.each("scale", q, float(scale)), self.moved(k, -1, -2))
        scores = self.combined("add", scores, mask)
        if causal:
            L, S = scores.view[-2:]
            hidden = np.where(np.tri(L, S, dtype=bool), 0.0, -np.inf)
            scores = self.combined("add", scores, Known(hidden))
        return self.matrix_product(self.normalised("softmax", scores, -1), v)

    def contracted(self, equation: str, x: Operand, y: Operand) -> Feature:
        """An einsum of two operands, each letter of which stands once."""
        inputs, _, out = equation.replace(" ", "").partition("->")
        a, _, b = inputs.partition(",")
        if "..." in inputs:
            a, b, out = self._lettered(a, b, out, self.rank(x), self.rank(y))
        if "." in a + b + out or not out or any(len(set(word)) != len(word) for word in (a, b, out)):
            self.fail(f"the equation {equation!r} has no counterpart")
        both = [c for c in a if c in b and c in out]
        summed = [c for c in a if c in b and c not in out]
        left, right = [c for c in a if c not in b], [c for c in b if c not in a]
        if set(left + right) - set(out):
            self.fail(f"the equation {equation!r} sums over what one operand has alone")
        sizes, others = (dict(zip(word, self._sizes(value))) for word, value in ((a, x), (b, y)))
        if any(sizes[c] != others[c] for c in (*both, *summed)):
            self.fail(f"the equation {equation!r} joins axes of other sizes: {sizes} and {others}")
        sizes |= others

        N, alone = self.number_of_samples(), ""
        if isinstance(x, Known) != isinstance(y, Known):  # a constant has no samples: theirs go before
            alone = next((c for c in (*left, *right) if sizes[c] % N == 0), "")
        both = [*alone, *both]
        left, right = ([c for c in letters if c != alone] for letters in (left, right))

        def grouped(value: Operand, word: str, *groups: list[str]) -> Operand:
            own = [c for c in (*both, *groups[0], *groups[1]) if c in word]
            shape = [sizes[c] if c in word else 1 for c in both]
            shape += [math.prod(sizes[c] for c in group) for group in groups]
            return self._grouped(value, [word.index(c) for c in own], shape)

        one, two = grouped(x, a, left, summed), grouped(y, b, summed, right)
        made = self.matrix_product(one, two)
        letters = [*both, *left, *right]
        made = self.shaped(made, [sizes[c] for c in letters])
        return self.ordered(made, [letters.index(c) for c in out])

    def _lettered(self, a: str, b: str, out: str, *ranks: int) -> list[str]:
        """The words of an einsum with letters, which no word has, for the axes of their ellipses."""
        free = [letter for letter in ascii_letters if letter not in a + b + out]
        counts = [rank - len(word.replace("...", "")) for word, rank in zip((a, b), ranks, strict=True)]
        counts = [count if "..." in word else 0 for word, count in zip((a, b), counts, strict=True)]
        if min(counts) < 0 or max(counts) > len(free) or "..." not in out:
            self.fail(f"the equation {a},{b}->{out} does not fit operands of {ranks[0]} and {ranks[1]} axes")
        longest = free[: max(counts)]
        letters = ["".join(longest[len(longest) - count :]) for count in (*counts, len(longest))]
        return [word.replace("...", own) for word, own in zip((a, b, out), letters, strict=True)]

    def _sizes(self, x: Operand) -> tuple[int, ...]:
        return x.source_shape(self.number_of_samples()) if isinstance(x, Feature) else x.shape

    def _grouped(self, x: Operand, order: Sequence[int], shape: Sequence[Any]) -> Operand:
        if isinstance(x, Known):
            return Known(x.array.transpose(order).reshape(shape), "")
        return self.shaped(self.ordered(x, order), shape)
