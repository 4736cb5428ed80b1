"""Attention, which reads three values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from cnnlib._params import check_keys, flag, number
from cnnlib._params.arrays import as_array
from cnnlib.graph.ops.op import Op
from cnnlib.graph.ops.sizes import Shape, batch_of
from cnnlib.layers.attention import KEYS, added_bias, scale_of, scores_of_attention

if TYPE_CHECKING:
    from cnnlib.graph.graph import Node
    from cnnlib.graph.targets import Target
    from cnnlib.onnx.writing.writer import Writer


def _shape(function: str, q: Shape, k: Shape, v: Shape, attention_param: Any) -> Shape:
    for name, shape in (("q", q), ("k", k), ("v", v)):
        if len(shape) != 3 or 0 in shape:
            raise ValueError(
                f"{function}: {name} must be (N, heads, tokens, features), got {batch_of(shape)}"
            )
    if k[2] != q[2]:
        raise ValueError(f"{function}: k must have the features of q, {q[2]}, got {batch_of(k)}")
    if q[0] % k[0]:
        raise ValueError(f"{function}: the heads of k must divide those of q, {q[0]}, got {k[0]}")
    if v[:2] != k[:2]:
        raise ValueError(
            f"{function}: v must have the heads and tokens of k, {batch_of(k)}, got {batch_of(v)}"
        )
    check_keys(function, "attention_param", attention_param, KEYS)
    if attention_param.get("scale") is not None:
        number(function, "scale", attention_param["scale"])
    flag(function, "causal", attention_param.get("causal", False))
    if attention_param.get("bias") is not None:
        came = as_array(function, "bias", attention_param["bias"]).shape
        scores = (1, q[0], q[1], k[1])
        if len(came) != 4 or any(size not in (1, wanted) for size, wanted in zip(came, scores)):
            raise ValueError(
                f"{function}: bias must have shape {scores}, or 1 in place of a size, got {came}"
            )
    return (*q[:2], v[2])


def _emit(target: Target, node: Node, bound: float | None) -> None:
    (heads, L, D), (kv_heads, S, _), (*_, Dv) = (target.shapes[name] for name in node.inputs)
    param = node.args[0]
    bias = _bias(param)
    if bias is not None:
        bias = np.require(bias, target.dtype, ("C", "A"))
    sizes = (heads, kv_heads, L, S, D, Dv)
    target.attention(node, sizes, bias, float(scale_of(param, D)), bool(param.get("causal", False)))


def _bias(param: Any) -> np.ndarray | None:
    bias = param.get("bias")
    return None if bias is None else added_bias(np.asarray(bias))


def _write(writer: Writer, node: Node, inputs: list[str], output: str) -> None:
    """The formula: two products of matrices, and what is done to the scores between them."""
    (q, k, v), param = inputs, node.args[0]
    (heads, L, D), (kv_heads, S, _), _ = (writer.shapes[name] for name in node.inputs)
    if heads > kv_heads:
        raise ValueError(
            f"cnnlib.onnx.save: {node.title}: heads of q that share one of k and v have no operator; q has "
            f"{heads}, k {kv_heads}"
        )
    bias = _bias(param)
    q = writer.operator("Mul", node, [q, writer.constant(node, "scale", float(scale_of(param, D)))])
    k = writer.operator("Transpose", node, [k], perm=[0, 1, 3, 2])
    scores = writer.operator("MatMul", node, [q, k])
    if param.get("causal", False):
        writer.fix(node, f"its causal mask is for {L} queries and {S} keys")
        seen = np.tri(L, S, dtype=bool)[None, None]
        bias = np.where(seen, 0 if bias is None else bias, -np.inf)
    if bias is not None:
        scores = writer.operator("Add", node, [scores, writer.constant(node, "bias", bias)])
    weights = writer.operator("Softmax", node, [scores], axis=3)
    writer.operator("MatMul", node, [weights, v], output)


OPS = (
    Op(
        name="attention",
        shape=_shape,
        inputs=3,
        scoring=scores_of_attention,
        emit=_emit,
        onnx=_write,
        onnx_kinds=("Mul", "Transpose", "MatMul", "Add", "Softmax"),
        aten=("scaled_dot_product_attention",),
    ),
)
