"""What the core is told of a layer without parameters, by a training program and a prepared network alike."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from cnnlib.graph.graph import ACTIVATIONS, Node, activation_of
from cnnlib.layers.pool import _AVG_KEYS, _MAX_KEYS, _geometry


def core_call(
    where: str, node: Node, before: tuple[int, ...], after: tuple[int, ...], dtype: np.dtype[Any]
) -> tuple[str, tuple[Any, ...]] | None:
    """The core's method and its arguments behind the values, from samples of one shape to those of another.

    None for layers that training and inference tell the core each in its own way.
    """
    layer, (C, *plane) = node.layer, before
    if layer in ACTIVATIONS:
        return "activation", activation_of(node)
    if layer == "leaky_relu":
        return layer, (node.arguments()["alpha"],)
    if layer in ("max_pool", "avg_pool"):
        like = np.empty((0, *before), dtype)
        return layer, (like, *pool_arguments(where, layer, node.args[0], like))
    if layer in ("adaptive_avg_pool", "adaptive_max_pool"):
        return "adaptive_pool", ((*before, *after[1:]), layer == "adaptive_max_pool")
    if layer == "upsample":
        _, mode, corners = node.arguments().values()
        factors = (m // n for n, m in zip(plane, after[1:], strict=True))
        return layer, ((*before, *factors), mode == "bilinear", bool(corners))
    if layer == "global_avg_pool":
        return layer, (C, math.prod(plane))
    return (layer, ()) if layer == "relu" else None


def pool_arguments(where: str, layer: str, pool_param: dict[str, Any], like: Any) -> tuple[Any, ...]:
    """A pool's windows, ceil_mode, and, of a mean, count_include_pad."""
    if layer == "max_pool":
        return _geometry(where, pool_param, like, _MAX_KEYS)
    return *_geometry(where, pool_param, like, _AVG_KEYS), pool_param.get("count_include_pad", True)
