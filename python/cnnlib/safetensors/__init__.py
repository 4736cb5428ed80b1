"""Files of arrays by name in the safetensors format: read where they lie, and nothing in them is run."""

from cnnlib.safetensors.format import load, save

__all__ = ["load", "save"]
