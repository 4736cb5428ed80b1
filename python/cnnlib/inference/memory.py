"""Where the values of a network lie in an arena: those that are not needed at the same time share room."""

from __future__ import annotations

from dataclasses import dataclass

ALIGNMENT = 16  # elements: the start of a cache line, whatever the dtype


@dataclass
class Block:
    """A piece of the arena in use from step `first` to step `last`, inclusive."""

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
