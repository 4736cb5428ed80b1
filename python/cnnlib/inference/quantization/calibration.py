"""Calibration: run some images through the float network and record the range of each value."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from cnnlib._params import type_name
from cnnlib._params.arrays import as_array
from cnnlib._typing import Array
from cnnlib.graph.fusion import rectified
from cnnlib.graph.graph import Node, last_reads
from cnnlib.graph.ops import op_of
from cnnlib.graph.options import plain
from cnnlib.inference.predictor import Predictor
from cnnlib.inference.quantization.weights import Observed

_BATCH = 16


def batches_of(images: Any, predictor: Predictor) -> Iterator[np.ndarray]:
    """Calibration images a few at a time: of an array, of an iterable of batches, or of a folder."""
    if isinstance(images, (str, os.PathLike)):
        images = _folder(images, predictor)
    if isinstance(images, (int, float, bool)) or images is None:
        raise TypeError(
            "prepare: calibration must be images: an array (N, C, H, W), an iterable of such batches, or a "
            f"folder, got {type_name(images)}"
        )
    whole = hasattr(images, "__array__") or hasattr(images, "__dlpack__") or not isinstance(images, Iterable)
    for each in [images] if whole else images:
        batch = as_array("prepare", "calibration", each)
        if batch.ndim == 0:
            raise ValueError(f"prepare: calibration must be an array of images, got shape {batch.shape}")
        for first in range(0, len(batch), _BATCH):
            yield batch[first : first + _BATCH]


def _folder(path: str | os.PathLike[str], predictor: Predictor) -> np.ndarray:
    from cnnlib.data import Normalization, load_image_folder
    from cnnlib.data.writing import load_writing

    input_dim, preprocess = predictor.input_dim, predictor.preprocess
    if len(input_dim) != 3:
        raise ValueError(f"prepare: a folder of images calibrates no network of samples {input_dim}")
    if isinstance(preprocess, Normalization) and preprocess.ink and predictor.head == "classes":
        ink = load_writing(path, input_dim, validation=0, test=0)["X_train"]
        return preprocess(ink * np.float32(preprocess.white))
    return load_image_folder(path, input_dim[1:], validation=0, test=0, channels=input_dim[0])["X_train"]


def evaluate(node: Node, arrays: Mapping[str, Array], xs: Sequence[Array]) -> Array:
    """What an operation in floats makes of its inputs."""
    layer, bound = rectified(node)
    params = [None if name is None else arrays[name] for name in node.params]
    op, args = op_of(layer), [plain(arg) for arg in node.args]
    if op.per_call:
        args[0]["mode"] = "test"
    out, _ = op.forward(*xs, *params, *args)
    return out if bound is None else np.clip(out, 0, None if np.isinf(bound) else bound, out=out)


def values_of(
    nodes: Sequence[Node], arrays: Mapping[str, Array], start: str, x: Array
) -> Iterator[tuple[Node, list[Array], Array]]:
    """Run the operations, whose input is `start`, on x: each with its inputs and its output."""
    values = {start: x}
    for node, done in zip(nodes, last_reads(nodes, ()), strict=True):
        inputs = [values[name] for name in node.inputs]
        values[node.output] = out = evaluate(node, arrays, inputs)
        yield node, inputs, out
        for name in done:
            del values[name]


def observe(
    nodes: Sequence[Node], arrays: Mapping[str, Array], start: str, batches: Iterable[Array]
) -> tuple[dict[str, Observed], Array]:
    """What the network's values are on calibration images; and the first batch of these.

    ValueError if there are no images, if one holds NaN or infinity, or if all are of one and the same value.
    """
    seen: dict[str, Observed] = {start: Observed()}
    first = None
    for x in batches:
        if not np.isfinite(x).all():
            raise ValueError("prepare: calibration has NaN or infinite values")
        if not x.size:
            continue
        first = x if first is None else first
        seen[start].add(x)
        for node, _, out in values_of(nodes, arrays, start, x):
            if not np.isfinite(out).all():
                raise ValueError(
                    f"prepare: {node.label} makes NaN or infinite values of the calibration images"
                )
            seen.setdefault(node.output, Observed()).add(out)
    if first is None:
        raise ValueError("prepare: calibration has no images")
    if seen[start].low == seen[start].high:
        raise ValueError(
            f"prepare: calibration has one value alone, {seen[start].low:g}: it says nothing of the ranges"
        )
    return seen, first
