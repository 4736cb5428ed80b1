"""From networks to ONNX files."""
