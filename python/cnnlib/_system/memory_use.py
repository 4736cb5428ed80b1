"""Memory that a network holds, and that the process keeps for all networks."""

from __future__ import annotations

import mmap
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from cnnlib import _core
from cnnlib._system.text import shape_text, size_text


@dataclass(frozen=True)
class MemoryUse:
    """
    Bytes that a network holds between calls; its `str` is a table.

    Attributes
    ----------
    arrays : int
        Of parameters and running statistics.
    mapped : int
        Of these, what is a file's memory map, which the system may take back and read again.
    packed : int
        Copies of weights that a predictor keeps, packed for each size of samples. A model packs its weights
        in buffers, for each call.
    sizes : tuple of tuple of int
        The shapes of a sample for which the network is compiled, the latest last. Of so many sizes, 8 in a
        predictor and 16 in a model for scores and for training each, the oldest is dropped for a new one.
    working : int
        What the values between input and output take at a time for one sample of the size that takes most,
        in a prepared network; they are there during a call alone. 0 for a model.
    buffers_used, buffers_kept : int
        Of the whole process: what the pool of buffers has given out, for results of layers and for scratch,
        and what it keeps for the next calls. `cnnlib.release_buffers` gives the latter back to the system.
    """

    arrays: int
    mapped: int
    packed: int
    sizes: tuple[tuple[int, ...], ...]
    working: int
    buffers_used: int
    buffers_kept: int

    @classmethod
    def of(
        cls,
        arrays: Iterable[np.ndarray[Any, Any]],
        sizes: Iterable[tuple[int, ...]],
        packed: int = 0,
        working: int = 0,
    ) -> MemoryUse:
        """Return it for these arrays, each counted once, and what the process keeps now."""
        own = list({id(array): array for array in arrays}.values())
        mapped = sum(array.nbytes for array in own if _is_mapped(array))
        used, kept = _core.buffer_bytes()
        total = sum(array.nbytes for array in own)
        return cls(total, mapped, packed, tuple(dict.fromkeys(sizes)), working, used, kept)

    def __str__(self) -> str:
        sizes = ", ".join(shape_text(size) for size in self.sizes) or "no size yet"
        mapped = f", {size_text(self.mapped)} of them mapped from a file" if self.mapped else ""
        return "\n".join(
            [
                f"parameters and statistics  {size_text(self.arrays)}{mapped}",
                f"packed weights             {size_text(self.packed)}",
                f"compiled for               {sizes}",
                f"values of a sample         {size_text(self.working)}, during a call",
                f"buffers of the process     {size_text(self.buffers_used)} in use, "
                f"{size_text(self.buffers_kept)} kept for the next calls",
            ]
        )


def _is_mapped(array: Any) -> bool:
    """Whether an array lies in a file's memory map."""
    while isinstance(array, np.ndarray):
        array = array.base
    return isinstance(array, mmap.mmap)
