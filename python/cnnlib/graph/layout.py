"""Where the values of a prepared network lie.

Those that are not needed at the same time, or are written in place, share room.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass

from cnnlib.graph.fusion import adds
from cnnlib.graph.graph import Node

ALIGNMENT = 64  # bytes: of a cache line


@dataclass
class Block:
    """Bytes of the arena in use from step `first` to step `last`, inclusive."""

    size: int
    first: int
    last: int
    offset: int = 0

    @property
    def room(self) -> int:
        """Its size up to the next multiple of the alignment."""
        return -(-self.size // ALIGNMENT) * ALIGNMENT


def place(blocks: list[Block]) -> int:
    """Give each block an offset; return the size of the arena that they need.

    The largest first, each into the smallest gap that it fits between those placed before that are in use at
    the same time (Pisarchyk and Lee 2020, arXiv:2001.03288, "greedy by size").
    """
    placed: list[Block] = []
    for block in sorted(blocks, key=lambda block: -block.size):
        at, best = 0, None
        others = sorted(
            (other for other in placed if other.first <= block.last and block.first <= other.last),
            key=lambda other: other.offset,
        )
        for other in others:
            gap = other.offset - at
            if gap >= block.room and (best is None or gap < best[0]):
                best = gap, at
            at = max(at, other.offset + other.room)
        block.offset = at if best is None else best[1]
        placed.append(block)
    return max((block.offset + block.room for block in placed), default=0)


_INPUT, _OUTPUT, _ARENA = range(3)  # the core's Value::Place


class Layout:
    """Where the values lie: at the caller's input or output, or in an arena of `arena` bytes a sample.

    `sizes` are the bytes of one sample of each value. Nothing is written in place of values in `apart`, or by
    what makes them. `values` are (place, size, offset) for the core, in
    bytes too: 0 for the input, 1 for the output, 2 for the arena.
    """

    def __init__(
        self,
        nodes: Sequence[Node],
        sizes: Mapping[str, int],
        input: str,
        output: str,
        apart: Container[str] = (),
    ) -> None:
        self._home, blocks = _homes(nodes, sizes, input, output, apart)
        inside = {name: block for name, block in blocks.items() if name not in (input, self._home[output])}
        self.arena = place(list(inside.values()))
        self.values: list[tuple[int, int, int]] = []
        self._ids: dict[str, int] = {}
        for name, block in blocks.items():
            self._ids[name] = len(self.values)
            where = _ARENA if name in inside else _INPUT if name == input else _OUTPUT
            self.values.append((where, block.size, block.offset))

    def id(self, name: str) -> int:
        """The index in `values` of a value of the network."""
        return self._ids[self._home[name]]


def _homes(
    nodes: Sequence[Node], sizes: Mapping[str, int], input: str, output: str, apart: Container[str]
) -> tuple[dict[str, str], dict[str, Block]]:
    """Map each value to the value whose buffer it lies in, and list the buffers.

    Operations in place reuse a dead input's; a convolution that adds to its second input has to.
    """
    last_read = {name: i for i, node in enumerate(nodes) for name in node.inputs}
    last_read[output] = len(nodes)
    home = {input: input}
    blocks = {input: Block(sizes[input], 0, len(nodes))}
    for i, node in enumerate(nodes):
        in_place = node.output not in apart and not any(name in apart for name in node.inputs)
        source = home[node.inputs[1 if adds(node) and in_place else 0]]
        free = node.op.in_place and blocks[source].last <= i
        if node.op.view or (in_place and (adds(node) or free)):
            home[node.output] = source
            blocks[source].last = max(blocks[source].last, last_read[node.output])
        else:
            home[node.output] = node.output
            blocks[node.output] = Block(sizes[node.output], i, last_read[node.output])
    return home, blocks
