"""Which operations of a prepared network are computed on bfloat16, and where values are converted."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from cnnlib._typing import Array
from cnnlib.graph.fusion import rectified
from cnnlib.graph.graph import Node, fresh
from cnnlib.graph.ops.narrow_images import NO_BORDER, Border, NarrowImage, border_of, image_of, wider
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
    nodes: Sequence[Node], shapes: Mapping[str, Shape], arrays: Mapping[str, Array]
) -> set[str]:
    """The outputs of the operations that are computed on bfloat16.

    Those are layers with weights that have such a form, what they feed as far as it has one, and what has one
    and reads that.
    """
    made: set[str] = set()
    readers: dict[str, list[Node]] = {}
    for node in nodes:
        for name in node.inputs:
            readers.setdefault(name, []).append(node)
    for node in nodes:
        form, inputs = node.op.narrow, [shapes[name] for name in node.inputs]
        if node.op.view:
            if node.inputs[0] in made and _keeps_order(node, shapes, readers.get(node.output, [])):
                made.add(node.output)
            continue
        own = [None if name is None else arrays[name] for name in node.params]
        ranks = {len(shape) for shape in (*inputs, shapes[node.output])}
        if form is None or not ranks <= {1, 3} or not form.fits(node, inputs, own):
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
    shapes: dict[str, Shape],
    arrays: Mapping[str, Array],
) -> tuple[list[Node], NarrowPart]:
    """The operations with values converted where one side is float32, and how those of bfloat16 lie.

    Adds the shapes of converted values to `shapes`.
    """
    output = nodes[-1].output
    reads_narrow = {name for node in nodes if node.output in made for name in node.inputs}
    floats = {node.output for node in nodes if node.output in made and _writes_floats(node, reads_narrow)}
    narrow = made - floats
    taken = {input, *(node.output for node in nodes)}
    result: list[Node] = []
    converted: dict[tuple[str, str], str] = {}

    def as_kind(name: str, layer: str) -> str:
        key = name, layer
        if key not in converted:
            new = fresh(f"{name} ({'bfloat16' if layer == 'narrow' else 'float32'})", taken)
            taken.add(new)
            shapes[new] = shapes[name]
            result.append(
                Node(layer, (name,), new, label=f"{name} to {'bfloat16' if layer == 'narrow' else 'float32'}")
            )
            converted[key] = new
        return converted[key]

    for node in nodes:
        on_narrow = node.output in made
        inputs = tuple(
            name if (name in narrow) == on_narrow else as_kind(name, "narrow" if on_narrow else "widen")
            for name in node.inputs
        )
        result.append(replace(node, inputs=inputs))
    if output in narrow:  # the network gives floats
        *_, last = result
        new = fresh(f"{output} (bfloat16)", taken)
        shapes[new] = shapes[output]
        result = [replace(n, inputs=tuple(new if i == output else i for i in n.inputs)) for n in result[:-1]]
        result += [replace(last, output=new), Node("widen", (new,), output, label=f"{output} to float32")]
        made, narrow = made - {output} | {new}, narrow - {output} | {new}
    narrow |= {new for (_, layer), new in converted.items() if layer == "narrow"}
    return result, NarrowPart(made, _images(result, narrow, shapes, arrays))


def _writes_floats(node: Node, reads_narrow: set[str]) -> bool:
    """Whether an operation with weights makes one pixel of floats, since nobody wants it narrower."""
    return rectified(node)[0] == "affine" and node.output not in reads_narrow


def _images(
    nodes: Sequence[Node], narrow: set[str], shapes: Mapping[str, Shape], arrays: Mapping[str, Array]
) -> dict[str, NarrowImage]:
    """Of each value of bfloat16, with the border that the convolutions that read it need; views share it."""
    borders: dict[str, Border] = dict.fromkeys(narrow, NO_BORDER)
    for node in nodes:
        own = node.inputs[0]
        if own in narrow and rectified(node)[0] == "conv":
            border = border_of(node.args[0], arrays[str(node.params[0])], shapes[own])
            borders[own] = wider(borders[own], border)
    images = {name: image_of(shapes[name], border) for name, border in borders.items()}
    for node in nodes:
        if node.op.view and node.output in narrow:
            images[node.output] = images[node.inputs[0]]
    return images
