"""The same network in eight bits for other engines, quantised by ONNX Runtime's tools."""

from __future__ import annotations

import numpy as np

CALIBRATION = 16  # images


def calibration(size):
    """Images to calibrate with, for every engine the same."""
    return np.random.default_rng(2).standard_normal((CALIBRATION, 3, size, size)).astype(np.float32)


def quantize_onnx(path, target, images):
    """Write the network of an ONNX file with QuantizeLinear and DequantizeLinear, weights by filter."""
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(quantization.CalibrationDataReader):
        def __init__(self):
            self.batches = iter(np.array_split(images, len(images)))

        def get_next(self):
            batch = next(self.batches, None)
            return None if batch is None else {name: batch}

    import onnx

    prepared = f"{target}.prepared"
    quant_pre_process(path, prepared)
    name = onnx.load(prepared).graph.input[0].name
    quantization.quantize_static(
        prepared,
        target,
        Reader(),
        quant_format=quantization.QuantFormat.QDQ,
        activation_type=quantization.QuantType.QUInt8,
        weight_type=quantization.QuantType.QInt8,
        per_channel=True,
    )
