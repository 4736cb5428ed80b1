"""Networks from and to ONNX files: :func:`load`, :func:`save`."""

from __future__ import annotations

from cnnlib.onnx.reading.network import load
from cnnlib.onnx.saving import save

__all__ = ["load", "save"]
