"""Windows of convolutions and pools as attributes of ONNX operators.

The layers have checked their parameters when the shapes behind them were found.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from cnnlib.layers.axes import Axis

if TYPE_CHECKING:
    from cnnlib.graph.graph import Node
    from cnnlib.onnx.writing.writer import Writer


def write_windows(writer: Writer, node: Node, axes: Sequence[Axis]) -> dict[str, Any]:
    """strides, dilations and pads; 'same' as what it is for images of this size, which fixes the size."""
    pad = node.args[0].get("pad")
    if isinstance(pad, str) and pad == "same" and any(axis.span > 1 and axis.stride > 1 for axis in axes):
        writer.fix(node, "pad 'same' at a stride")
    return {
        "strides": [axis.stride for axis in axes],
        "dilations": [axis.dilation for axis in axes],
        "pads": [*(axis.before for axis in axes), *(axis.after for axis in axes)],
    }
