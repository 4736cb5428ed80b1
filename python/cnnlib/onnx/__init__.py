"""Networks from ONNX files: :func:`load`."""

from __future__ import annotations

from cnnlib.onnx.loading import load

__all__ = ["load"]
