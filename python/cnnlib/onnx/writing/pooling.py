"""Adaptive pools: window i of n pixels in m windows goes from floor(i * n / m) to ceil((i + 1) * n / m)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cnnlib._params import pair
from cnnlib.graph.graph import Node
from cnnlib.onnx.writing.writer import Writer


def adaptive_avg_pool(writer: Writer, node: Node, inputs: list[str], output: str) -> None:
    """Even windows as a pool; uneven ones as a product with a matrix of the windows for each axis."""
    if _even("AveragePool", writer, node, inputs, output):
        return
    (_, H, W), (OH, OW) = writer.shapes[node.inputs[0]], pair(node.layer, "size", node.args[0])
    rows = writer.constant(node, "rows", _means(H, OH))
    columns = writer.constant(node, "columns", _means(W, OW).T)
    pooled = writer.operator("MatMul", node, [rows, *inputs])
    writer.operator("MatMul", node, [pooled, columns], output)


def adaptive_max_pool(writer: Writer, node: Node, inputs: list[str], output: str) -> None:
    """Even windows as a pool; uneven ones gathered, and reduced, along each axis."""
    if _even("MaxPool", writer, node, inputs, output):
        return
    (_, H, W), (OH, OW) = writer.shapes[node.inputs[0]], pair(node.layer, "size", node.args[0])
    for axis, (n, m) in ((2, (H, OH)), (3, (W, OW))):
        pixels = writer.constant(node, "pixels", _pixels(n, m), np.int64)
        gathered = writer.operator("Gather", node, [*inputs, pixels], axis=axis)
        last = writer.constant(node, "axis", [axis + 1], np.int64)
        inputs = [
            writer.operator("ReduceMax", node, [gathered, last], output if axis == 3 else "", keepdims=0)
        ]


def _even(kind: str, writer: Writer, node: Node, inputs: list[str], output: str) -> bool:
    """Write a pool of whole images, or one whose windows tile them; False if they do not."""
    (_, H, W), (OH, OW) = writer.shapes[node.inputs[0]], pair(node.layer, "size", node.args[0])
    if (OH, OW) == (1, 1):
        writer.operator(f"Global{kind}", node, inputs, output)
        return True
    writer.fix(node, f"size {(OH, OW)}")
    if H % OH == 0 and W % OW == 0:
        window = (H // OH, W // OW)
        writer.operator(kind, node, inputs, output, kernel_shape=window, strides=window)
    else:
        return False
    return True


def _windows(n: int, m: int) -> list[range]:
    return [range(i * n // m, -(-(i + 1) * n // m)) for i in range(m)]


def _means(n: int, m: int) -> NDArray[np.float64]:
    """(m, n): what the mean of each window takes of each pixel."""
    matrix = np.zeros((m, n))
    for row, window in zip(matrix, _windows(n, m), strict=True):
        row[window.start : window.stop] = 1 / len(window)
    return matrix


def _pixels(n: int, m: int) -> NDArray[np.int64]:
    """(m, longest window): each window's pixels, the last one repeated."""
    windows = _windows(n, m)
    longest = max(map(len, windows))
    return np.array([[min(window.start + i, window.stop - 1) for i in range(longest)] for window in windows])
