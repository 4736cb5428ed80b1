"""Calibration: some images go through the float network, and each value's range is noted."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from cnnlib import layers
from cnnlib._params import type_name
from cnnlib._params.arrays import as_array
from cnnlib._typing import Array
from cnnlib.graph import joins
from cnnlib.graph.graph import parameters_of
from cnnlib.inference.ops import Op
from cnnlib.inference.quantization.weights import Observed

_BATCH = 16


def batches_of(images: Any, input_dim: tuple[int, ...]) -> Iterator[np.ndarray]:
    """Calibration images a few at a time: of an array, of an iterable of batches, or of a folder."""
    if isinstance(images, (str, os.PathLike)):
        images = _folder(images, input_dim)
    if (
        isinstance(images, Iterable)
        and not hasattr(images, "__array__")
        and not hasattr(images, "__dlpack__")
    ):
        for batch in images:
            yield from _parts(as_array("prepare", "calibration", batch))
        return
    if isinstance(images, (int, float, bool)) or images is None:
        raise TypeError(
            "prepare: calibration must be images: an array (N, C, H, W), an iterable of such batches, or a "
            f"folder, got {type_name(images)}"
        )
    yield from _parts(as_array("prepare", "calibration", images))


def _parts(batch: np.ndarray) -> Iterator[np.ndarray]:
    if batch.ndim == 0:
        raise ValueError(f"prepare: calibration must be an array of images, got shape {batch.shape}")
    for first in range(0, len(batch), _BATCH):
        yield batch[first : first + _BATCH]


def _folder(path: str | os.PathLike[str], input_dim: tuple[int, ...]) -> np.ndarray:
    from cnnlib.data import load_image_folder

    if len(input_dim) != 3:
        raise ValueError(f"prepare: a folder of images calibrates no network of samples {input_dim}")
    return load_image_folder(path, input_dim[1:], validation=0, test=0, channels=input_dim[0])["X_train"]


def evaluate(op: Op, xs: list[Array]) -> Array:
    """What an operation in floats makes of its inputs."""
    function: Any = joins.FORWARD.get(op.kind) or getattr(layers, f"{op.kind}_forward")
    arrays = [op.arrays.get(role) for role in parameters_of(op.kind)]
    out, _ = function(*xs, *arrays, **op.options)
    return out if op.most is None else np.clip(out, 0, None if np.isinf(op.most) else op.most)


def values_of(ops: Sequence[Op], output: str, x: Array) -> Iterator[tuple[Op, list[Array], Array]]:
    """Run the operations on x: each with its inputs and its output."""
    last = {name: i for i, op in enumerate(ops) for name in op.inputs}
    values = {"input": x}
    for i, op in enumerate(ops):
        inputs = [values[name] for name in op.inputs]
        values[op.output] = out = evaluate(op, inputs)
        yield op, inputs, out
        for name in op.inputs:
            if last[name] == i and name != output:
                values.pop(name, None)


def observe(ops: Sequence[Op], output: str, batches: Iterable[Array]) -> tuple[dict[str, Observed], Array]:
    """What the network's values are on calibration images; and the first batch of these.

    Raises
    ------
    ValueError
        If there are no images, if one holds NaN or infinity, or if all are of one and the same value.
    """
    seen: dict[str, Observed] = {"input": Observed()}
    first = None
    for x in batches:
        if not np.isfinite(x).all():
            raise ValueError("prepare: calibration has NaN or infinite values")
        if not x.size:
            continue
        first = x if first is None else first
        seen["input"].add(x)
        for op, _, out in values_of(ops, output, x):
            if not np.isfinite(out).all():
                raise ValueError(
                    f"prepare: {op.label} makes NaN or infinite values of the calibration images"
                )
            seen.setdefault(op.output, Observed()).add(out)
    if first is None:
        raise ValueError("prepare: calibration has no images")
    if seen["input"].low == seen["input"].high:
        raise ValueError(
            f"prepare: calibration has one value alone, {seen['input'].low:g}: it says nothing of the ranges"
        )
    return seen, first
