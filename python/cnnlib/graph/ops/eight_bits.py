"""Operations on bytes, which stand for layers in prepared networks of eight bits.

A node of one has a dict of options, and arrays by the roles of its op. `scale` is that of the bytes made, and
`function` the layer that a table stands for, with its options: nothing computes with them, files for other
programs name them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from cnnlib._typing import Array
from cnnlib.graph.ops import conv, dense, joins, pool
from cnnlib.graph.ops.op import Op
from cnnlib.graph.ops.pool import pool_arguments
from cnnlib.graph.ops.sizes import Shape

if TYPE_CHECKING:
    from cnnlib.graph.graph import Node
    from cnnlib.graph.targets import InferenceTarget

_MEANS = ("x_zero", "ratio", "zero")
_FLOATS = {op.name: op for family in (conv, dense, joins, pool) for op in family.OPS}


def _same(node: Node, inputs: Sequence[Shape], arrays: Sequence[Array | None]) -> Shape:
    return inputs[0]


def _as_floats(node: Node, inputs: Sequence[Shape], arrays: Sequence[Array | None]) -> Shape:
    """The shape that the layer in floats makes."""
    options, kind = node.args[0], node.layer.removeprefix("byte_")
    args = tuple(options[name] for name in ("conv_param", "pool_param") if name in options)
    plain = replace(node, layer=kind, args=args)
    if kind in ("conv", "affine"):
        return _FLOATS[kind].shape_behind(plain, inputs[:1], (arrays[0], None))
    return _FLOATS[kind].shape_behind(plain, inputs, ())


# What the core is told


def _emit_quantize(target: InferenceTarget, node: Node, bound: float | None) -> None:
    options = node.args[0]
    target.call(node, "quantize", target.image(node.output), options["scale"], options["zero"])


def _emit_dequantize(target: InferenceTarget, node: Node, bound: float | None) -> None:
    options = node.args[0]
    target.call(node, "dequantize", target.image(node.inputs[0]), options["scale"], options["zero"])


def _emit_conv(target: InferenceTarget, node: Node, bound: float | None) -> None:
    w, b, multiplier, factor = map(target.array, node.params)
    _emit_weighted(target, node, w, b, multiplier, factor)


def _emit_affine(target: InferenceTarget, node: Node, bound: float | None) -> None:
    w, b, multiplier = map(target.array, node.params)
    C, H, W, *_ = target.images[node.inputs[0]]
    filters = np.ascontiguousarray(w.T).reshape(-1, C, H, W)
    _emit_weighted(target, node, filters, b, multiplier, None)


def _emit_weighted(target: InferenceTarget, node: Node, w: Any, b: Any, multiplier: Any, factor: Any) -> None:
    options = node.args[0]
    term = None if factor is None else (factor, options["other_zero"])
    numbers = options["numbers"]
    bias = folded_bias(w, b, options["x_zero"], numbers[3], term)
    images = [target.image(name) for name in (node.inputs[0], node.inputs[-1], node.output)]
    weights = w, bias, multiplier, factor, numbers, dict(options.get("conv_param", {}))
    reads = target.reads(node)
    target.call(node, "byte_conv", *images, *weights, reads=(reads[0], reads[1] if len(reads) == 2 else -1))


def folded_bias(
    w: np.ndarray, b: np.ndarray, x_zero: int, shift: int, other: tuple[np.ndarray, int] | None
) -> np.ndarray:
    """What the core adds to ``sum(x * w) << shift + other * factor``: the bias less what zero points add.

    The numbers wrap around at 32 bits as the core's sums do.
    """
    sums = w.sum(axis=tuple(range(1, w.ndim)), dtype=np.int64)
    total = b.astype(np.int64) - (x_zero * sums << shift)
    if other is not None:
        factor, zero = other
        total -= zero * factor.astype(np.int64)
    return (total & 0xFFFFFFFF).astype(np.uint32).view(np.int32)


def _images(target: InferenceTarget, node: Node) -> list[Any]:
    return [target.image(name) for name in (*node.inputs, node.output)]


def _emit_max_pool(target: InferenceTarget, node: Node, bound: float | None) -> None:
    options = node.args[0]
    geometry = pool_arguments(target.where, "max", options["pool_param"], target.like(node))
    target.call(node, "byte_max_pool", *_images(target, node), options["zero"], *geometry)


def _emit_avg_pool(target: InferenceTarget, node: Node, bound: float | None) -> None:
    param = node.args[0]["pool_param"]
    _emit_mean(target, node, *pool_arguments(target.where, "avg", param, target.like(node)))


def _emit_global_avg_pool(target: InferenceTarget, node: Node, bound: float | None) -> None:
    H, W = target.before(node)[1:]
    _emit_mean(target, node, (H, W, H, W, 0, 0, 0, 0, 1, 1), False, True)


def _emit_mean(target: InferenceTarget, node: Node, *windows: Any) -> None:
    numbers = (node.args[0][name] for name in _MEANS)
    target.call(node, "byte_avg_pool", *_images(target, node), *numbers, *windows)


def _emit_add(target: InferenceTarget, node: Node, bound: float | None) -> None:
    numbers = (node.args[0][name] for name in ("factors", "multiplier", "numbers"))
    target.call(node, "byte_add", *_images(target, node), *numbers, reads=target.reads(node))


def _emit_table(target: InferenceTarget, node: Node, bound: float | None) -> None:
    table, zero = target.array(node.params[0]), node.args[0]["zero"]
    target.call(node, "byte_table", *_images(target, node), table, zero)


def _emit_concat(target: InferenceTarget, node: Node, bound: float | None) -> None:
    *images, image = _images(target, node)
    target.call(node, "byte_concat", images, image, node.args[0]["zero"], reads=(target.reads(node),))


def check_byte_node(node: Node) -> None:
    """Raise a ValueError unless an operation on bytes has the parts and the inputs of its kind."""
    op = node.op
    roles, known = (
        {name.strip("[]"): name.startswith("[") for name in names}
        for names in (op.byte_roles, op.byte_options)
    )
    given = node.args[0] if len(node.args) == 1 else None
    named = dict(zip(roles, node.params, strict=False))
    lacking = [name for name, optional in roles.items() if named.get(name) is None and not optional]
    fits = isinstance(given, Mapping) and known.keys() >= given.keys() and len(node.params) == len(roles)
    if given is None or not fits or lacking:
        expected = " ".join(op.byte_roles), " ".join(op.byte_options)
        raise ValueError(f"{node.layer} has {node.params} and {node.args}, expected {expected}")
    if any(name not in given and not optional for name, optional in known.items()):
        raise ValueError(f"{node.layer} has {list(given)}, expected {', '.join(known)}")
    two = op.inputs == 2 or (node.layer == "byte_conv" and named.get("factor") is not None)
    if not node.inputs or (len(node.inputs) != 1 + two and op.inputs is not None):
        raise ValueError(f"{node.layer} reads {node.inputs}")


def _byte(name: str, options: str, roles: str = "", **known: Any) -> Op:
    usual: dict[str, Any] = {"shape": _same}
    return Op(
        name=name,
        eight_bits=True,
        byte_roles=tuple(roles.split()),
        byte_options=tuple(options.split()),
        no_naive="cnnlib.naive.quantized defines it",
        not_trained="networks of eight bits are not trained",
        no_onnx="it is written as its layer in floats, between DequantizeLinear and QuantizeLinear",
        no_aten="networks of eight bits come from ONNX and from calibration",
        **usual | known,
    )


OPS = (
    _byte("quantize", "scale zero", emit=_emit_quantize),
    _byte("dequantize", "scale zero", emit=_emit_dequantize),
    _byte(
        "byte_conv",
        "conv_param numbers x_zero scores scale [other_zero]",
        "w b multiplier [factor]",
        shape=_as_floats,
        weighted_axis=0,
        emit=_emit_conv,
    ),
    _byte(
        "byte_affine",
        "numbers x_zero scores scale",
        "w b multiplier",
        shape=_as_floats,
        weighted_axis=1,
        makes_rows=True,
        emit=_emit_affine,
    ),
    _byte("byte_max_pool", "pool_param zero scale", shape=_as_floats, emit=_emit_max_pool),
    _byte("byte_avg_pool", " ".join(("pool_param", *_MEANS, "scale")), shape=_as_floats, emit=_emit_avg_pool),
    _byte(
        "byte_global_avg_pool",
        " ".join((*_MEANS, "scale")),
        shape=_as_floats,
        own_size=True,
        emit=_emit_global_avg_pool,
    ),
    _byte("byte_add", "factors multiplier numbers scale", inputs=2, emit=_emit_add),
    _byte("byte_table", "zero scale [function]", "table", emit=_emit_table),
    _byte("byte_concat", "zero scale", inputs=None, shape=_as_floats, emit=_emit_concat),
)
