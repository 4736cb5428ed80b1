"""Matrix products and norms."""

from __future__ import annotations

import math

import numpy as np

from cnnlib.graph.importing import Feature
from cnnlib.onnx.reading.files import Constant
from cnnlib.onnx.reading.operator import Operator

_BLOCK = 256  # rows and columns: two blocks of float32, half a megabyte, stay in the second-level cache


def gemm(op: Operator) -> Feature:
    """``alpha * x @ w + beta * b``, with the factors taken into w and b."""
    x = op.feature()
    op.ignore("broadcast")  # before version 7; the shapes say it
    op.expect("transA", 0)
    if len(x.view) != 1:
        op.fail(f"its input has the shape (N, {x.view}), expected (N, D)")
    w = op.weights(0 if op["transB"] else 1, ndim=2)
    w = op.once(_transposed, w) if op["transB"] else w
    alpha, beta = op["alpha"], op["beta"]
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
    x, w = op.feature(), op.weights(1, ndim=2)
    if len(x.view) != 1 and not x.channels_last and x.view[:-1] != (1, 1):  # of one pixel they are last, too
        op.fail(f"its input has the shape (N, {x.view}), expected (N, D)")
    return op.product(x, w, names=op.names[1:])


def batch_norm(op: Operator) -> Feature:
    x = op.feature()
    op.ignore("consumed_inputs")
    op.choice("is_test", 1)  # before version 7, where its default is 0
    op.check_axis(x, 1)
    C = x.view[0]
    names = ("scale", "bias", "mean", "var")
    gamma, beta, mean, var = (op.floats(i, name, 1) for i, name in enumerate(names, start=1))
    if not all(array.shape == (C,) for array in (gamma, beta, mean, var)):
        op.fail(f"scale, bias, mean and var must have the shape ({C},)")
    bn_param = {
        "eps": op["epsilon"],
        "momentum": op["momentum"],  # both mean the share of the old statistics
        "running_mean": mean.copy(),
        "running_var": var.copy(),
    }
    if len(x.view) == 1 or x.shape[0] != C:
        x = op.plain(x)
    layer = "spatial_batchnorm" if len(x.shape) == 3 else "batchnorm"
    out = op.emit(layer, x, params=op.parameters(gamma=gamma, beta=beta), args=(bn_param,))
    return out.seen_like(x)


def instance_norm(op: Operator) -> Feature:
    """Over each channel; over groups of them where a Reshape has put these in one."""
    x = op.feature()
    gamma, beta = op.floats(1, "scale", 1), op.floats(2, "bias", 1)
    eps = op["epsilon"]
    if len(x.shape) != 3 or x.channels_last or len(x.view) < 2:
        op.fail(f"its input has the shape (N, {x.view}), expected images")
    C, G = x.shape[0], x.view[0]
    if C % G or gamma.shape != (G,) or beta.shape != (G,):
        op.fail(f"scale and bias have the shapes {gamma.shape} and {beta.shape}, the input has {G} channels")
    if G == C:
        params = op.parameters(gamma=gamma, beta=beta)
        out = op.emit("spatial_instancenorm", x, params=params, args=({"eps": eps},))
    else:
        gamma, beta = np.repeat(gamma, C // G), np.repeat(beta, C // G)
        params = op.parameter("gamma", gamma), op.parameter("beta", beta)
        out = op.emit("spatial_groupnorm", x, params=params, args=(G, {"eps": eps}))
    return out.seen_as(x.view)


def group_norm(op: Operator) -> Feature:
    x, G = op.images(), op["num_groups"]
    C = x.shape[0]
    if G < 1 or C % G:
        op.fail(f"attribute num_groups is {G}, with {C} channels")
    gamma, beta = op.floats(1, "scale", 1), op.floats(2, "bias", 1)
    size = G if op.opset < 21 else C  # before version 21 a value for each group
    if not len(gamma) == len(beta) == size:
        op.fail(f"scale and bias have {len(gamma)} and {len(beta)} values; version {op.opset} wants {size}")
    if size != C:
        gamma, beta = np.repeat(gamma, C // G), np.repeat(beta, C // G)
    args = (G, {"eps": op["epsilon"]})
    return op.emit("spatial_groupnorm", x, params=op.parameters(gamma=gamma, beta=beta), args=args)


def layer_norm(op: Operator) -> Feature:
    x = op.feature()
    axis, eps = op["axis"], op["epsilon"]
    place = op.axis(axis, len(x.view) + 1)
    by_pixel = x.channels_last and place == 3
    if x.shape[1:] == (1, 1) and place > 0 and math.prod(x.view[: place - 1]) == 1:  # images of one pixel
        by_pixel = True
    if not by_pixel and (x.channels_last or place == 0 or math.prod(x.view[: place - 1]) != 1):
        op.fail(
            f"attribute axis is {axis}; here all of a sample's values are normalised together, or the "
            "channels of each pixel, if they come last"
        )
    gamma = op.floats(1, "scale")
    beta = op.floats(2, "bias") if op.has(2) else np.zeros_like(gamma)
    D = x.shape[0] if by_pixel else math.prod(x.view)
    if gamma.size != D or beta.size != D:
        op.fail(f"scale and bias have the shapes {gamma.shape} and {beta.shape}, {D} values are normalised")
    params = op.parameters(gamma=gamma.ravel(), beta=beta.ravel())
    if by_pixel:
        return op.same("spatial_layernorm", x, {"eps": eps}, params=params)
    flat = op.plain(x.seen_as((D,)))
    return op.emit("layernorm", flat, params=params, args=({"eps": eps},)).seen_as(x.view)


OPERATORS = {
    "Gemm": gemm,
    "MatMul": matmul,
    "BatchNormalization": batch_norm,
    "InstanceNormalization": instance_norm,
    "GroupNormalization": group_norm,
    "LayerNormalization": layer_norm,
}
