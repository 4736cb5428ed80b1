"""Which nodes of a graph run as one operation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

import numpy as np

from cnnlib import _core
from cnnlib._typing import Array
from cnnlib.graph.graph import Graph, Node
from cnnlib.graph.ops import Executor, chains


def fused(graph: Graph, executor: Executor, apart: Collection[str] = ()) -> list[Node]:
    """The graph's nodes with the longest op of an executor in place of each chain that it fits.

    A chain is of nodes that alone read what the one before makes. Layers in `apart` stay by themselves.
    """
    table = chains(executor)
    longest = max(map(len, table))
    readers, results = graph.readers(), graph.results()
    inside: set[str] = set()
    result = []
    for node in graph:
        if node.output in inside:
            continue
        chain = [node]
        while len(chain) < longest and chain[-1].output not in results:
            behind = readers[chain[-1].output]
            if len(behind) != 1 or len(behind[0].inputs) != 1:
                break
            chain.append(behind[0])
        for length in range(len(chain), 0, -1):
            run = chain[:length]
            kinds = tuple(part.layer for part in run)
            if length == 1 or (kinds in table and not any(kind in apart for kind in kinds)):
                break
        inside.update(part.output for part in run)
        result.append(node if len(run) == 1 else _joined(table[kinds], run))
    return result


def _joined(layer: str, run: list[Node]) -> Node:
    """One node for a chain of them, parameters and arguments one behind the other."""
    params = tuple(name for node in run for name in node.params)
    args = tuple(arg for node in run for arg in node.args)
    label = " + ".join(node.label or node.layer for node in run)
    statistics = "".join(node.statistics_of for node in run)  # of the one batch norm that there may be
    return Node(layer, run[0].inputs, run[-1].output, params, args, label, statistics)


def rectified(node: Node) -> tuple[str, float | None]:
    """The layer of an operation, and the bound of the ReLU that it ends with; None for none."""
    op = node.op
    return (node.layer, None) if op.bound is None else (op.parts[0], op.bound)


def adds(node: Node) -> bool:
    """Whether it is a convolution that adds its result to its second input, where that lies."""
    return len(node.inputs) == 2 and rectified(node)[0] == "conv"


def operations(graph: Graph) -> list[Node]:
    """The graph's nodes with ReLUs in the layers before them; at least one makes the output.

    Several outputs leave the network as one row, one behind the other.
    """
    nodes = [replace(node, label=node.label or node.layer) for node in fused(graph, "inference")]
    if graph.outputs:
        new = f"{max(graph.readers(), key=len)}."  # begins no value's name
        rows = [Node("flatten", (name,), new + name, label=f"{name} as a row") for name in graph.outputs]
        return [*nodes, *rows, Node("concat", tuple(row.output for row in rows), new, label="outputs")]
    makers, name = {node.output: node for node in nodes}, graph.output
    while name in makers and makers[name].op.view:
        name = makers[name].inputs[0]
    if name == graph.input:  # in another shape at most
        nodes.append(Node("concat", (graph.output,), f"{graph.output} (copy)", label="copy"))
    return nodes


def without_identities(graph: Graph) -> Graph:
    """The graph in test mode: without layers whose output is their input, such as dropout.

    One that makes one of several outputs, whose name stays, becomes a product with 1.
    """
    made = Graph([], graph.input, fixed_by=graph.fixed_by, outputs=graph.outputs)
    same: dict[str, str] = {}
    for node in graph:
        inputs = tuple(same.get(name, name) for name in node.inputs)
        if not node.op.identity:
            made.nodes.append(replace(node, inputs=inputs))
        elif node.output in graph.outputs:
            made.nodes.append(Node("scale", inputs, node.output, (), (1.0,), node.label))
        else:
            same[node.output] = inputs[0]
    made.output = same.get(graph.output, graph.output)
    return made


def refuse_unprepared(where: str, graph: Graph) -> None:
    """Raise a ValueError for a layer that the core has no operation for."""
    for node in graph:
        if node.op.not_prepared or node.op.identity:
            advice = "; net(X) gives its scores"
            if node.layer.endswith("1d"):
                advice += f", and {node.layer.removesuffix('1d')} on images (C, 1, L) can be prepared"
            raise ValueError(
                f"{where}: {node.title}: {node.layer} has no place in a prepared network yet{advice}"
            )


def fuse_sums(
    nodes: Sequence[Node],
    shapes: Mapping[str, tuple[int, ...]],
    arrays: Mapping[str, Array],
    dtype: np.dtype,
    narrow: Collection[str] = (),
) -> list[Node]:
    """Let a convolution add its result to the other term of a sum, if it can and nothing else needs that.

    Any can whose output is in `narrow`: it is computed on bfloat16, as the sum then is.

    Such a convolution has two inputs, and writes to the place of the second: it may not read that itself, nor
    may what comes between it and the sum, which a flattened value of it lies in, too.
    """
    readers, flattened = readers_of(nodes), dict[str, str]()
    for node in nodes:
        if node.op.view:
            flattened[node.output] = flattened.get(node.inputs[0], node.inputs[0])
    reads = [{flattened.get(name, name) for name in node.inputs} for node in nodes]
    output = flattened.get(nodes[-1].output, nodes[-1].output)
    makers = {node.output: i for i, node in enumerate(nodes)}
    made: list[Node | None] = list(nodes)
    for i, node in enumerate(nodes):
        if node.layer not in ("add", "add_relu") or shapes[node.inputs[0]] != shapes[node.inputs[1]]:
            continue
        for own, other in (node.inputs, node.inputs[::-1]):
            k = makers.get(own, -1)
            conv = made[k] if k >= 0 else None
            if conv is None or conv.layer != "conv" or len(conv.inputs) > 1:
                continue
            # Nothing but the sum may read the other term from the convolution on, which writes over it.
            last = all(j < k or j == i for j, names in enumerate(reads) if other in names)
            free = readers[own] == 1 and makers.get(other, i) < k and other != output and last
            like = np.empty((0, *shapes[conv.inputs[0]]), dtype)
            fits = own in narrow or _core.conv_adds(like, arrays[str(conv.params[0])], conv.args[0])
            if free and fits:
                layer = "conv_relu" if node.layer == "add_relu" else "conv"
                label = f"{conv.label} + {node.label}"
                inputs = (*conv.inputs, other)
                made[k] = replace(conv, layer=layer, inputs=inputs, output=node.output, label=label)
                made[i] = None
                break
    return [node for node in made if node is not None]


def readers_of(nodes: Sequence[Node]) -> Counter[str]:
    """Count the readers of each value; the network's output counts as one more."""
    return Counter([name for node in nodes for name in node.inputs] + [nodes[-1].output])


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
    """The filters of a convolution whose method is free to choose, else None."""
    plain = rectified(node)[0] == "conv" and node.args[0].get("algorithm", "auto") == "auto"
    return arrays[str(node.params[0])] if plain else None


def _pointwise(node: Node, w: Array) -> bool:
    """Whether it is a 1x1 convolution at every pixel."""
    param = node.args[0]
    once = {key: param.get(key, usual) for key, usual in (("stride", 1), ("pad", 0), ("groups", 1))}
    plain = {"stride": (1, (1, 1)), "pad": (0, "same", "valid", (0, 0)), "groups": (1,)}
    return w.shape[2:] == (1, 1) and all(value in plain[key] for key, value in once.items())


def _written(between: Sequence[Node], expand: Node) -> bool:
    """Whether a convolution in `between` overwrites the input of `expand` with a sum."""
    return any(adds(node) and node.inputs[1:] == expand.inputs for node in between)


def _block(expand: Node, depthwise: Node, project: Node) -> Node:
    parts = expand, depthwise, project
    bounds = tuple(rectified(part)[1] for part in parts)
    return Node(
        "inverted_residual",
        (*expand.inputs, *project.inputs[1:]),
        project.output,
        tuple(name for part in parts for name in part.params),
        (depthwise.args[0], bounds),
        " -> ".join(part.label for part in parts),
    )
