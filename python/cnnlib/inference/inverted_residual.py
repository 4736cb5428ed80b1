"""Inverted residuals, found among a network's operations and made one operation each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cnnlib._typing import Array
from cnnlib.graph.graph import Node
from cnnlib.inference.fusion import RECTIFIED, readers_of


def fuse_inverted_residuals(nodes: Sequence[Node], arrays: Mapping[str, Array]) -> list[Node]:
    """Make a 1x1 convolution, a depthwise one behind it and a 1x1 one behind that one operation.

    Where the hidden channels are more than those before and behind, nothing else reads them, and no method
    was asked for. The operation has a second input where the last convolution adds its result to that, the
    parameters of all three, and as arguments the depthwise one's conv_param and the three bounds of ReLUs.
    """
    readers = readers_of(nodes)
    makers = {node.output: node for node in nodes}
    places = {node.output: i for i, node in enumerate(nodes)}
    blocks: dict[str, Node] = {}
    inside: set[str] = set()

    def before(node: Node | None) -> Node | None:
        maker = None if node is None else makers.get(node.inputs[0])
        return maker if maker is not None and readers[maker.output] == 1 else None

    for project in nodes:
        depthwise = before(project)
        expand = before(depthwise)
        if expand is None or depthwise is None or len(expand.inputs) > 1 or expand.output in blocks:
            continue
        w = [_filters(node, arrays) for node in (expand, depthwise, project)]
        if w[0] is None or w[1] is None or w[2] is None or len(depthwise.inputs) > 1:
            continue
        pointwise = _pointwise(expand, w[0]) and _pointwise(project, w[2])
        by_channel = w[1].shape[1] == 1 and depthwise.args[0].get("groups", 1) == len(w[1])
        widens = w[0].shape[0] > max(w[0].shape[1], len(w[2]))
        between = nodes[places[expand.output] + 1 : places[project.output]]
        if pointwise and by_channel and widens and not _written(between, expand):
            blocks[project.output] = _block(expand, depthwise, project)
            inside |= {expand.output, depthwise.output}
    return [blocks.get(node.output, node) for node in nodes if node.output not in inside]


def _filters(node: Node, arrays: Mapping[str, Array]) -> Array | None:
    """Those of a convolution by whatever method is best."""
    layer, _ = RECTIFIED.get(node.layer, (node.layer, None))
    plain = layer == "conv" and node.args[0].get("algorithm", "auto") == "auto"
    return arrays[str(node.params[0])] if plain else None


def _pointwise(node: Node, w: Array) -> bool:
    """Whether it is a 1x1 convolution at every pixel."""
    param = node.args[0]
    once = {key: param.get(key, usual) for key, usual in (("stride", 1), ("pad", 0), ("groups", 1))}
    plain = {"stride": (1, (1, 1)), "pad": (0, "same", "valid", (0, 0)), "groups": (1,)}
    return w.shape[2:] == (1, 1) and all(value in plain[key] for key, value in once.items())


def _written(between: Sequence[Node], expand: Node) -> bool:
    """Whether a convolution in between adds its result to what `expand` reads, in its place."""
    return any(node.layer.startswith("conv") and node.inputs[1:] == expand.inputs for node in between)


def _block(expand: Node, depthwise: Node, project: Node) -> Node:
    parts = expand, depthwise, project
    bounds = tuple(RECTIFIED.get(part.layer, (part.layer, None))[1] for part in parts)
    return Node(
        "inverted_residual",
        (*expand.inputs, *project.inputs[1:]),
        project.output,
        tuple(name for part in parts for name in part.params),
        (depthwise.args[0], bounds),
        " -> ".join(part.label for part in parts),
    )
