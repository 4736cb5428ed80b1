"""Parts of values that go elsewhere as they are: what transposing, slicing, padding and joining come to.

Shapes are those of one sample. :meth:`cnnlib.graph.targets.Target.copy` tells the core of pieces.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from cnnlib.graph.ops.sizes import Shape


@dataclass(frozen=True)
class Piece:
    """A part of the `source`-th input of a node and where it goes in the output.

    `size` is its shape. It begins `start` numbers behind the first one of the input, and the next number
    along an axis lies `steps` further; likewise `to_start` and `to_steps` of the output.
    """

    source: int
    size: list[int]
    start: int
    steps: list[int]
    to_start: int
    to_steps: list[int]


def steps_of(shape: Sequence[int]) -> list[int]:
    """How far apart neighbours along each axis of a value lie."""
    return [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]


def transposed(shape: Shape, order: Sequence[int]) -> list[Piece]:
    """Axis `order[i]` of a value as axis i of the output.

    >>> transposed((2, 3), (1, 0))
    [Piece(source=0, size=[3, 2], start=0, steps=[1, 3], to_start=0, to_steps=[2, 1])]
    """
    steps, size = steps_of(shape), [shape[axis] for axis in order]
    return [Piece(0, size, 0, [steps[axis] for axis in order], 0, steps_of(size))]


def sliced(shape: Shape, slices: Sequence[slice]) -> list[Piece]:
    """``value[slices]`` of a value with a slice for each axis; none may be empty."""
    ranges = [range(*each.indices(size)) for each, size in zip(slices, shape, strict=True)]
    steps, size = steps_of(shape), [len(each) for each in ranges]
    start = sum(each.start * step for each, step in zip(ranges, steps, strict=True))
    along = [each.step * step for each, step in zip(ranges, steps, strict=True)]
    return [Piece(0, size, start, along, 0, steps_of(size))]


def padded(shape: Shape, widths: Sequence[tuple[int, int]]) -> list[Piece]:
    """A value inside of an output that is larger by (before, after) of each axis."""
    steps = steps_of([size + sum(sides) for size, sides in zip(shape, widths, strict=True)])
    start = sum(before * step for (before, _), step in zip(widths, steps, strict=True))
    return [Piece(0, [*shape], 0, steps_of(shape), start, steps)]


def picked(shape: Shape, places: Sequence[Sequence[int] | None]) -> list[Piece]:
    """The numbers at places along each axis, in their order; None for all of an axis.

    >>> picked((4,), [[3, 2, 1, 1]])  # three of them in steps of -1, and one
    [Piece(source=0, size=[3], start=3, steps=[-1], to_start=0, to_steps=[1]), \
Piece(source=0, size=[1], start=1, steps=[0], to_start=3, to_steps=[1])]
    """
    runs = [
        [(0, 1, size, 0)] if each is None else _runs(each) for each, size in zip(places, shape, strict=True)
    ]
    out = [size if each is None else len(each) for each, size in zip(places, shape, strict=True)]
    steps, to_steps, found = steps_of(shape), steps_of(out), []
    for chosen in itertools.product(*runs):
        starts, by, sizes, to = zip(*chosen, strict=True) if chosen else ((), (), (), ())
        start = sum(n * step for n, step in zip(starts, steps, strict=True))
        to_start = sum(n * step for n, step in zip(to, to_steps, strict=True))
        along = [n * step for n, step in zip(by, steps, strict=True)]
        found.append(Piece(0, [*sizes], start, along, to_start, to_steps))
    return found


def _runs(places: Sequence[int]) -> list[tuple[int, int, int, int]]:
    """Places as runs in equal steps: the first one, the step, how many, and how many are before them."""
    found, begin = [], 0
    while begin < len(places):
        step = places[begin + 1] - places[begin] if begin + 1 < len(places) else 0
        end = begin + 1
        while end < len(places) and places[end] - places[end - 1] == step:
            end += 1
        found.append((places[begin], step, end - begin, begin))
        begin = end
    return found


def expanded(shape: Shape, out: Shape) -> list[Piece]:
    """A value with axes of 1 repeated to the sizes of `out`."""
    steps = [step if n == m else 0 for step, n, m in zip(steps_of(shape), shape, out, strict=True)]
    return [Piece(0, [*out], 0, steps, 0, steps_of(out))]


def joined(shapes: Sequence[Shape], axis: int) -> list[Piece]:
    """Values one behind the other along an axis, in which alone their shapes may differ."""
    total = sum(shape[axis] for shape in shapes)
    steps = steps_of([*shapes[0][:axis], total, *shapes[0][axis + 1 :]])
    found, before = [], 0
    for number, shape in enumerate(shapes):
        found.append(Piece(number, [*shape], 0, steps_of(shape), before * steps[axis], steps))
        before += shape[axis]
    return found
