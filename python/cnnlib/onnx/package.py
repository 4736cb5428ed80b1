"""The onnx package, which only this part of cnnlib needs."""

from __future__ import annotations

import importlib
from typing import Any


def require_onnx(where: str) -> Any:
    """The module `onnx`.

    Raises
    ------
    ImportError
        If it is not installed; the message names the extra.
    """
    try:
        importlib.import_module("onnx.numpy_helper")  # numpy_helper and helper come with it
        return importlib.import_module("onnx")
    except ImportError as error:
        raise ImportError(f"{where} needs the onnx package: pip install 'cnnlib[onnx]'") from error
