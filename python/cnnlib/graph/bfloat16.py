"""Which operations of a prepared network are computed on bfloat16, and where values are converted."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from cnnlib._typing import Array
from cnnlib.graph.fusion import rectified
from cnnlib.graph.graph import Node, fresh
from cnnlib.graph.ops.narrow_images import (
    NO_BORDER,
    Border,
    NarrowImage,
    border_of,
    gradient_border_of,
    image_of,
    wider,
)
from cnnlib.graph.ops.sizes import Shape


@dataclass
class NarrowPart:
    """What a network computes on bfloat16: the outputs of its operations, and how its values lie in memory.

    An operation with weights that nothing on bfloat16 reads writes floats: its output is no image.
    """

    operations: set[str] = field(default_factory=set)
    images: dict[str, NarrowImage] = field(default_factory=dict)


def multiplied(nodes: Iterable[Node]) -> set[str]:
    """The names of the weights that values are multiplied by: they are bfloat16 where their layers are."""
    return {str(node.params[0]) for node in nodes if node.op.narrow is not None and node.op.narrow.multiplies}


def narrow_operations(
    nodes: Sequence[Node], shapes: Mapping[str, Shape], arrays: Mapping[str, Array], trained: bool = False
) -> set[str]:
    """The outputs of the operations on bfloat16 of a network that is `trained`, or prepared.

    Those are layers with weights that have such a form, and others that have one and read what is bfloat16.
    """
    made: set[str] = set()
    readers: dict[str, list[Node]] = {}
    for node in nodes:
        for name in node.inputs:
            readers.setdefault(name, []).append(node)
    for node in nodes:
        form, inputs = node.op.narrow, [shapes[name] for name in node.inputs]
        if node.op.view:
            behind = readers.get(node.output, [])
            if not trained and node.inputs[0] in made and _keeps_order(node, shapes, behind):
                made.add(node.output)
            continue
        own = [None if name is None else arrays[name] for name in node.params]
        ranks = {len(shape) for shape in (*inputs, shapes[node.output])}
        fits = None if form is None else form.trains if trained else form.fits
        if form is None or fits is None or not ranks <= {1, 3} or not fits(node, inputs, own):
            continue
        if form.multiplies or any(name in made for name in node.inputs):
            made.add(node.output)
    return made


def _keeps_order(view: Node, shapes: Mapping[str, Shape], readers: Sequence[Node]) -> bool:
    """Whether rows of an image's values serve those who read them, though channels lie last.

    Fully connected layers have their weights in any order; one pixel has its channels in theirs.
    """
    shape = shapes[view.inputs[0]]
    alone = math.prod(shape[1:]) == 1
    dense = all(rectified(node)[0] == "affine" for node in readers)
    return len(shape) in (1, 3) and (alone or (bool(readers) and dense))


def with_conversions(
    nodes: Sequence[Node],
    made: set[str],
    input: str,
    results: Sequence[str],
    shapes: dict[str, Shape],
    arrays: Mapping[str, Array],
    trained: bool = False,
) -> tuple[list[Node], NarrowPart]:
    """The operations with values converted where one side is float32, and how those of bfloat16 lie.

    The `results` of the network, which is `trained` or prepared, stay floats. Adds the shapes of converted
    values to `shapes`.
    """
    reads_narrow = {name for node in nodes if node.output in made for name in node.inputs}
    floats = {node.output for node in nodes if node.output in made and _writes_floats(node, reads_narrow)}
    narrow, taken = made - floats, {input, *(node.output for node in nodes)}
    result: list[Node] = []
    converted: dict[tuple[str, str], str] = {}  # by the name of a value and the conversion
    renamed: dict[str, str] = {}  # results, as bfloat16

    def named(name: str, kind: str) -> str:
        new = fresh(f"{name} ({kind})", taken)
        taken.add(new)
        shapes[new] = shapes[name]
        return new

    def as_kind(name: str, layer: str) -> str:
        key = name, layer
        if key not in converted:
            kind = "bfloat16" if layer == "narrow" else "float32"
            converted[key] = new = named(name, kind)
            result.append(Node(layer, (name,), new, label=f"{name} to {kind}"))
        return converted[key]

    for node in nodes:
        on_narrow = node.output in made
        own = [renamed.get(name, name) if on_narrow else name for name in node.inputs]
        inputs = tuple(
            name if (name in narrow) == on_narrow else as_kind(name, "narrow" if on_narrow else "widen")
            for name in own
        )
        if node.output in narrow and node.output in results:
            renamed[node.output] = new = named(node.output, "bfloat16")
            narrow = narrow - {node.output} | {new}
            # Running statistics are called by what the layer wrote.
            result.append(replace(node, inputs=inputs, output=new, statistics=node.statistics_of))
            result.append(Node("widen", (new,), node.output, label=f"{node.output} to float32"))
        else:
            result.append(replace(node, inputs=inputs))
    operations = {renamed.get(name, name) for name in made}
    values = narrow | {new for (_, layer), new in converted.items() if layer == "narrow"}
    return result, NarrowPart(operations, _images(result, values, shapes, arrays, trained))


def _writes_floats(node: Node, reads_narrow: set[str]) -> bool:
    """Whether an operation with weights makes one pixel of floats, since nobody wants it narrower."""
    return rectified(node)[0] == "affine" and node.output not in reads_narrow


def _images(
    nodes: Sequence[Node],
    narrow: set[str],
    shapes: Mapping[str, Shape],
    arrays: Mapping[str, Array],
    trained: bool,
) -> dict[str, NarrowImage]:
    """Say how each value of bfloat16 lies, with the border that convolutions need; views share it.

    A convolution reads over the border of its input. In training its gradient reads over the border of its
    output's gradient, which lies as the output does.
    """
    borders: dict[str, Border] = dict.fromkeys(narrow, NO_BORDER)
    for node in nodes:
        x, y = node.inputs[0], node.output
        if "conv" not in (node.layer, *node.op.parts[:1]) or not narrow & {x, y}:
            continue
        w = arrays[str(node.params[0])]
        if x in narrow:
            borders[x] = wider(borders[x], border_of(node.args[0], w, shapes[x]))
        if trained and y in narrow:
            borders[y] = wider(borders[y], gradient_border_of(node.args[0], w, shapes[x]))
    images = {name: image_of(shapes[name], border) for name, border in borders.items()}
    for node in nodes:
        if node.op.view and node.output in narrow:
            images[node.output] = images[node.inputs[0]]
    return images
