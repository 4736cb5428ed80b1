"""What each ATen operator is in cnnlib: functions from a recorded call to a value of a Graph, by operator."""

from __future__ import annotations

from collections.abc import Callable

from cnnlib.graph.importing import Feature
from cnnlib.torch.aten import elementwise, layers
from cnnlib.torch.aten.call import Call, Refused
from cnnlib.torch.aten.tensors import TENSORS

__all__ = ["IGNORED", "OPERATORS", "TENSORS", "Call", "Refused"]


def _pass_on(call: Call) -> Feature:
    """The first argument, as far as a network is concerned."""
    call.ignore()
    value = call.operand(0)
    assert isinstance(value, Feature)  # else it has been computed
    return value


OPERATORS: dict[str, Callable[[Call], Feature]] = {
    **layers.OPERATORS,
    **elementwise.OPERATORS,
    **elementwise.JOINS,
    **dict.fromkeys(
        ("alias", "clone", "contiguous", "detach", "lift_fresh_copy", "to", "_to_copy", "type_as"), _pass_on
    ),
}
IGNORED = ("_assert_tensor_metadata",)
