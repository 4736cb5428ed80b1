"""The shapes of a graph's values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from cnnlib import layers
from cnnlib._typing import Array
from cnnlib.graph import joins


def shape_behind(
    layer: str,
    inputs: Sequence[tuple[int, ...]],
    params: Sequence[Array | None],
    args: Sequence[Any],
    dtype: np.dtype[Any],
) -> tuple[int, ...]:
    """The shape of one sample of what a layer makes: the layer itself says it, given no sample at all."""
    forward = joins.FORWARD.get(layer) or getattr(layers, f"{layer}_forward")
    out, _ = forward(*(np.empty((0, *shape), dtype) for shape in inputs), *params, *args)
    return out.shape[1:]
