"""Refuses ranks that would not train the same thing: other data, options, model or version."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

import cnnlib
from cnnlib import _core
from cnnlib.distributed.failures import OutOfStepError, on_all_ranks

_IMAGES, _LABELS = 256, 2**20  # of how many the checksums are
_MODEL = ("frozen", "spec", "input_dim", "num_classes", "reg", "dropout", "use_batchnorm", "normalization")


def refuse_different(where: str, comm: Any, facts: Mapping[str, Any]) -> None:
    """Compare `facts` (plain values under what they are called) with rank 0's.

    OutOfStepError on every rank, if any of them differs.
    """
    first, *others = comm.allgather(dict(facts))
    for rank, other in enumerate(others, start=1):
        for name in dict.fromkeys([*first, *other]):
            ours, theirs = first.get(name, "missing"), other.get(name, "missing")
            if ours != theirs:
                text = f"{where}: rank {rank} is out of step with rank 0"
                fault = f"{name} is {theirs!r} there, {ours!r} on rank 0"
                raise on_all_ranks(OutOfStepError(f"{text}: {fault}"))


def version_facts() -> dict[str, str]:
    """What decides about the last bits of an update: they must be the same on all ranks."""
    return {
        "cnnlib's version": cnnlib.__version__,
        "the instruction set (CNNLIB_ISA)": _core.active_isa(),
        "NumPy's version": np.__version__,
    }


def model_facts(model: Any) -> dict[str, Any]:
    """The model's class, its parameters' shapes and dtypes, and settings that the library's models have."""
    facts: dict[str, Any] = {"the model": type(model).__qualname__}
    facts |= {
        f"model.params[{name!r}]": (value.shape, str(value.dtype)) for name, value in model.params.items()
    }
    facts["the order of model.params"] = list(model.params)
    return facts | {f"model.{name}": repr(getattr(model, name, None)) for name in _MODEL}


def data_facts(arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Shape, dtype and a checksum of each array.

    The checksum takes in at most 256 images, evenly spaced, and 2**20 labels: reading all of the data would
    take as long as an epoch.
    """
    facts: dict[str, Any] = {}
    for name, array in arrays.items():
        facts[f"{name}'s shape"] = array.shape
        facts[f"{name}'s dtype"] = str(array.dtype)
        count = min(len(array), _LABELS if array.ndim == 1 else _IMAGES)
        rows = np.linspace(0, len(array) - 1, count).astype(np.int64)
        facts[f"{name}'s checksum"] = checksum([array[rows]])
    return facts


def checksum(arrays: Iterable[np.ndarray]) -> int:
    """CRC-32 of the arrays' bytes, one after the other."""
    value = 0
    for array in arrays:
        value = zlib.crc32(np.ascontiguousarray(array).data.cast("B") if array.size else b"", value)
    return value
