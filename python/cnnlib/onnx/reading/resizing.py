"""Resize and Upsample: images enlarged by whole factors."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from cnnlib.graph.importing import Feature
from cnnlib.onnx.reading.operator import Operator
from cnnlib.onnx.reading.symbols import BATCH, Symbol

_POLICIES = ("stretch", "not_larger", "not_smaller")


def resize(op: Operator) -> Feature:
    """Resize (versions 10 to 19) and Upsample: enlarging by a whole factor."""
    x, attributes = op.images(), op.attributes
    scale = _factors(op, x)
    mode = attributes.text("mode", "nearest", ("nearest", "linear", "bilinear"))
    old = op.kind == "Upsample" or op.opset < 11
    axes = attributes.text(
        "coordinate_transformation_mode",
        "asymmetric" if old else "half_pixel",
        ("asymmetric", "half_pixel", "pytorch_half_pixel", "align_corners"),
    )
    rounding = attributes.text(
        "nearest_mode",
        "floor" if old else "round_prefer_floor",
        ("floor", "round_prefer_floor", "round_prefer_ceil", "ceil"),
    )
    attributes.ignore("cubic_coeff_a", "extrapolation_value")  # of ways that are refused
    attributes.expect("exclude_outside", 0)
    attributes.expect("antialias", 0)
    if scale == (1, 1):
        return x
    if mode == "nearest":
        # At half pixels the nearest one is that in whose block of `scale` pixels the new one lies.
        plain = axes == "asymmetric" and rounding == "floor"
        if not plain and not (axes.endswith("half_pixel") and rounding.startswith("round")):
            op.fail(f"nearest pixels by {axes} and {rounding} have no counterpart here")
        return op.emit("upsample", x, args=(scale, "nearest", False))
    if axes == "asymmetric":
        op.fail("bilinear resizing with asymmetric coordinates has no counterpart here")
    return op.emit("upsample", x, args=(scale, "bilinear", axes == "align_corners"))


def _factors(op: Operator, x: Feature) -> tuple[int, int]:
    """The factors of height and width, as whole numbers."""
    rank = len(x.view) + 1
    axes = [axis % rank for axis in op.attributes.integers("axes", range(rank)) or ()]
    policy = op.attributes.text("keep_aspect_ratio_policy", "stretch", _POLICIES)
    if op.kind == "Upsample" or op.opset < 11:
        listed = op.floats(1, "scales") if op.has(1) else np.array(op.attributes.get("scales", ()))
        sizes = np.empty(0)
    else:
        listed = op.floats(2, "scales") if op.has(2) else np.empty(0)
        sizes = op.symbols(3, "sizes") if op.has(3) and not listed.size else np.empty(0)
    given = sizes if sizes.size else listed
    if given.shape != (len(axes),) or len(set(axes)) != len(axes):
        op.fail(f"scales or sizes are {given.tolist()}, for {len(axes)} axes")
    known = dict(zip(axes, given.tolist(), strict=True))
    factors = _of_sizes(op, x, known, policy) if sizes.size else known
    if any(factors.get(axis, 1) != 1 for axis in (0, 1)):
        op.fail(f"factors {factors}; here height and width grow, not the number of images and channels")
    wanted = [float(factors.get(axis, 1)) for axis in (2, 3)]
    if any(not math.isfinite(factor) or factor < 1 or factor != int(factor) for factor in wanted):
        op.fail(f"factors {wanted}; here images grow by whole ones")
    return int(wanted[0]), int(wanted[1])


def _of_sizes(op: Operator, x: Feature, known: Mapping[int, Any], policy: str) -> dict[int, float]:
    """The factor of each axis that has a size; those that do not follow the size of images fix it."""
    factors: dict[int, float] = {}
    for axis, size in known.items():
        if axis == 0:
            if isinstance(size, Symbol) and size != BATCH:  # a number is that which the file was made with
                op.fail(f"sizes {list(known.values())}; the number of images is to stay open")
            factors[axis] = 1.0
            continue
        own = op.net.size_of(x, axis - 1)
        number, like = (size.value, size.unit) if isinstance(size, Symbol) else (size, None)
        if number is None:
            op.fail(f"sizes {list(known.values())} depend on the number of images")
        if isinstance(own, Symbol) and like != own.unit:
            op.fix(f"sizes {tuple(known.values())}")
        factors[axis] = number / x.view[axis - 1]
    if policy == "stretch":
        return factors
    factor = (min if policy == "not_larger" else max)(factors.values())
    return dict.fromkeys(factors, factor)


OPERATORS = {"Resize": resize, "Upsample": resize}
