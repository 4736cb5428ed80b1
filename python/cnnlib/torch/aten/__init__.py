"""What each ATen operator is in cnnlib: functions from a recorded call to nodes of a Graph, by operator."""

from __future__ import annotations

from collections.abc import Callable

from cnnlib.torch.aten import elementwise, joins, spatial, weighted
from cnnlib.torch.aten.call import LAYOUTS, Call

__all__ = ["IGNORED", "LAYOUTS", "OPERATORS", "PASSED_ON", "Call"]

OPERATORS: dict[str, Callable[[Call], None]] = {
    **weighted.OPERATORS,
    **spatial.OPERATORS,
    **elementwise.OPERATORS,
    **joins.OPERATORS,
}
# Operators whose result is their first argument, as far as a network is concerned.
PASSED_ON = ("alias", "clone", "contiguous", "detach", "lift_fresh_copy", "to", "_to_copy")
IGNORED = ("_assert_tensor_metadata",)
