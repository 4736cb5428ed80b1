"""What metrics have in common.

A metric looks at one batch after the other: `look` returns what it keeps of a batch, `merge` joins two of
these in the batches' order, `value` is the number at the end.
"""

from __future__ import annotations

from typing import Any


class Metric:
    """What metrics have in common.

    Attributes
    ----------
    name : str
    more_is_better : bool or None
        None: not known.
    """

    name: str
    more_is_better: bool | None = True

    def look(self, scores: Any, y: Any) -> Any:
        """What is kept of a batch: numbers or an array that :meth:`merge` adds, unless it does otherwise."""
        raise NotImplementedError

    def merge(self, first: Any, second: Any) -> Any:
        """What is kept of two runs of batches, the second behind the first."""
        return first + second

    def value(self, kept: Any) -> float:
        """The metric."""
        raise NotImplementedError
