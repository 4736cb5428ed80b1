"""Matrix products."""

from __future__ import annotations

import numpy as np

from cnnlib.graph.importing import Feature
from cnnlib.onnx.reading.operator import Operator
from cnnlib.onnx.reading.quantized import check_weights
from cnnlib.onnx.reading.symbols import Constant

_BLOCK = (
    256  # rows and columns: two blocks of float32 take half a megabyte, and stay in the second-level cache
)


def gemm(op: Operator) -> Feature:
    """``alpha * x @ w + beta * b``, with the factors taken into w and b."""
    x = op.feature()
    op.attributes.expect("transA", 0)
    op.attributes.ignore("broadcast")  # before version 7; the shapes say it
    if len(x.view) != 1:
        op.fail(f"its input has the shape (N, {x.view}), expected (N, D)")
    w = op.floats(1, "w", ndim=2)
    transposed = bool(op.attributes.integer("transB", 0))
    check_weights(op, 1, 0 if transposed else 1)
    w = _transposed(w) if transposed else w
    alpha, beta = op.attributes.number("alpha", 1.0), op.attributes.number("beta", 1.0)
    b = None
    if op.has(2) and beta != 0:
        b = op.floats(2, "b")
        if b.ndim > 2 or (b.ndim == 2 and len(b) > 1):
            op.fail(f"b has the shape {b.shape}; a bias for each sample has no counterpart here")
        b = np.broadcast_to(b, (1, w.shape[1]))[0]
        b = b * b.dtype.type(beta)
    return op.product(x, w if alpha == 1 else w * w.dtype.type(alpha), b, op.names[1:])


def _transposed(w: Constant) -> Constant:
    """w.T in C order, block by block: one of (4096, 25088) takes NumPy at once more than twice as long."""
    out = np.empty(w.shape[::-1], w.dtype)
    for i in range(0, w.shape[0], _BLOCK):
        for j in range(0, w.shape[1], _BLOCK):
            out[j : j + _BLOCK, i : i + _BLOCK] = w[i : i + _BLOCK, j : j + _BLOCK].T
    return out


def matmul(op: Operator) -> Feature:
    """(N, D) @ (D, M); of images with the channels last a 1x1 convolution."""
    x, w = op.feature(), op.floats(1, "w", ndim=2)
    check_weights(op, 1, 1)
    if len(x.view) != 1 and not x.channels_last and x.view[:-1] != (1, 1):  # of one pixel they are last, too
        op.fail(f"its input has the shape (N, {x.view}), expected (N, D)")
    return op.product(x, w, names=op.names[1:])


OPERATORS = {"Gemm": gemm, "MatMul": matmul}
