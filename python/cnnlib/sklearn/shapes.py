"""What scikit-learn's rows of numbers mean to a network: images, or signals."""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping, Sequence
from typing import Any

from cnnlib._params import integer
from cnnlib.models.spec.reading import BRANCHING, resolve

_WHERE = "ConvNetClassifier"
_DEFAULT_WINDOWS = {"conv": 3, "conv_transpose": 3}  # where such a stage names no size
# What an integer in a stage, or in an option of one, becomes across the row.
_ACROSS = {
    "size": 1,
    "depthwise": 1,
    "max_pool": 1,
    "avg_pool": 1,
    "adaptive_avg_pool": 1,
    "adaptive_max_pool": 1,
    "upsample": 1,
    "stride": 1,
    "dilation": 1,
    "pad": 0,
    "output_pad": 0,
}


def resolved_image_shape(image_shape: Sequence[int] | None, n_features: int) -> tuple[int, int, int]:
    """(C, H, W) of rows with so many numbers; ``(1, 1, n_features)``, a signal, where nothing is known.

    Raises
    ------
    ValueError, TypeError
        If `image_shape` is not three positive integers, one of which may be -1, or has another size.
    """
    if image_shape is None:
        return 1, 1, n_features
    if isinstance(image_shape, str) or not hasattr(image_shape, "__len__") or len(image_shape) != 3:
        raise ValueError(f"{_WHERE}: image_shape must be (C, H, W), got {image_shape!r}")
    sizes = [integer(_WHERE, "image_shape", size) for size in image_shape]
    if sizes.count(-1) > 1 or any(size < 1 and size != -1 for size in sizes):
        raise ValueError(
            f"{_WHERE}: image_shape must hold sizes of at least 1, one of which may be -1 for what remains, "
            f"got {image_shape!r}"
        )
    if -1 in sizes:
        sizes[sizes.index(-1)] = max(n_features // -math.prod(sizes), 1)
    if math.prod(sizes) != n_features:
        raise ValueError(
            f"{_WHERE}: images of image_shape {tuple(image_shape)!r} do not have X's {n_features} features"
        )
    C, H, W = sizes
    return C, H, W


def signal_spec(spec: Any) -> Any:
    """A ConvNet's `spec` for images of one row.

    Windows, strides, paddings and sizes that are a number reach along the row; pairs stay as they are.
    """
    spec = resolve(spec)
    if not isinstance(spec, (list, tuple)):
        return spec  # the ConvNet says what is wrong with it
    return [_along_the_row(entry) for entry in spec]


def _along_the_row(entry):
    if not isinstance(entry, Mapping):
        return entry
    changed = dict(entry)
    for kind, size in _DEFAULT_WINDOWS.items():
        if kind in changed:
            changed.setdefault("size", size)
    for name, value in changed.items():
        if name in _ACROSS and isinstance(value, numbers.Integral) and not isinstance(value, bool):
            changed[name] = _ACROSS[name], value
        elif name in ("residual", "shortcut") and value:
            changed[name] = signal_spec(value)
        elif name in BRANCHING and isinstance(value, (list, tuple)):
            # A branch is a spec, or the name of a value, which is no ready network's.
            changed[name] = [branch if isinstance(branch, str) else signal_spec(branch) for branch in value]
    return changed
