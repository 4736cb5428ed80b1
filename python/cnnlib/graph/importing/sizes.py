"""Whether what is read depends on the size of images: other sizes, and how what is read for them differs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from cnnlib._typing import Array, Params
from cnnlib.graph.graph import Graph, Node


def other_sizes(H: int, W: int) -> list[tuple[int, int]]:
    """Sizes with other remainders by all that strides come to, in both orders of height and width."""
    return [
        *((H + 1, W + 2), (H + 2, W + 1), (H + 3, W + 5), (H + 8, W + 16), (H + 32, W + 32)),
        *((H + 64, W), (H, W + 64), (2 * H, 2 * W), (-(-H // 2), -(-W // 2))),
    ]


def changed(one: Sequence[Node], other: Sequence[Node], where: str) -> str:
    """In words, where nodes, as far as both go, are others or set otherwise for `where`; empty if nowhere."""
    for a, b in zip(one, other):
        if (a.layer, a.inputs) != (b.layer, b.inputs):
            one_way, other_way = (f"{node.layer} of {', '.join(node.inputs)}" for node in (a, b))
            return f"{a.title}, which is read as {one_way}, and as {other_way} for {where}"
        settings, others = _settings(a), _settings(b)
        for name in settings | others:
            if not np.array_equal(settings[name], others[name]):
                return f"{a.title}: {name} is {settings[name]}, and {others[name]} for {where}"
    return ""


def difference(one: Graph, params: Params, other: Graph, others: Params, where: str) -> str:
    """In words, where a graph and its parameters differ from those read for `where`; empty if they do not."""
    if why := changed(one.nodes, other.nodes, where):
        return why
    for a, b in zip(one.nodes, other.nodes):
        for key, theirs in zip(a.params, b.params):
            if key != theirs or (key is not None and not _equal(params[key], others[key])):
                return f"{a.title}: its parameter {key!r}, which is another for {where}"
    more = [*one.nodes[len(other.nodes) :], *other.nodes[len(one.nodes) :]]
    return f"{more[0].title}, which is not there for all sizes" if more else ""


def _equal(one: Array, other: Array) -> bool:
    """Bit by bit, since NaN is none of its equals; large arrays are not copied."""
    bits = f"u{one.itemsize}"
    return one is other or (one.dtype == other.dtype and np.array_equal(one.view(bits), other.view(bits)))


def _settings(node: Node) -> dict[str, Any]:
    """A node's arguments, those in dicts by their names; None for those that it lacks."""
    found: dict[str, Any] = defaultdict(lambda: None)
    for place, arg in enumerate(node.args, start=1):
        found |= arg if isinstance(arg, dict) else {f"argument {place}": arg}
    return found
