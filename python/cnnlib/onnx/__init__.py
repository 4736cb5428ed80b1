"""Networks from and to ONNX files: :func:`load`, :func:`save`."""

from cnnlib.onnx.reading.network import load
from cnnlib.onnx.saving import save

__all__ = ["load", "save"]
