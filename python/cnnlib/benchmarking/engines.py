"""Inference engines of others: each is made of a network's ONNX file or its graph, and called on arrays."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import numpy as np

from cnnlib.benchmarking import ncnn_model

ENGINES = {  # and what people call them
    "torch": "PyTorch",
    "onnxruntime": "ONNX Runtime",
    "openvino": "OpenVINO",
    "ncnn": "ncnn",
}
OF_FLOAT32 = ("openvino", "ncnn")  # as they are called here
OF_ONNX = ("onnxruntime", "openvino")  # that read a file, which the package onnx writes
_IMAGES = 4  # axes of a batch of images


def installed() -> list[str]:
    """Return the names of the engines that are installed."""
    return [name for name in ENGINES if importlib.util.find_spec(name)]


def torch_call(
    net: Any, path: str, x: Any, threads: int, compiled: bool = False, module: Any = None
) -> Callable[..., Any]:
    """Make a call of PyTorch in inference mode, images channels-last; with `compiled` by torch.compile.

    `module` is the network as PyTorch has it; None: it is made of `net`.
    """
    import copy

    import torch

    from cnnlib.benchmarking.torch_module import TorchNet

    torch.set_num_threads(threads)
    module = TorchNet(net) if module is None else copy.deepcopy(module)
    layout = torch.channels_last if x.ndim == _IMAGES else torch.contiguous_format
    module = module.eval().to(memory_format=layout)
    if compiled:
        module = torch.compile(module, mode="max-autotune")

    def call(x=x):
        with torch.inference_mode():
            return module(torch.from_numpy(x).contiguous(memory_format=layout)).numpy()

    return call


def torch_compile_call(net, path, x, threads):
    return torch_call(net, path, x, threads, compiled=True)


def onnxruntime_call(net, path, x, threads):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda x=x: session.run(None, {name: x})[0]


def openvino_call(net, path, x, threads):
    import openvino

    core = openvino.Core()
    model = core.read_model(path)
    model.reshape(list(x.shape))
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": "f32",
    }
    request = core.compile_model(model, "CPU", settings).create_infer_request()

    def call(x=x):
        return request.infer({0: x}, share_inputs=True)[0]

    return call


def ncnn_call(net, path, x, threads):
    """ncnn takes one image at a time: its layers have no batch."""
    import ncnn

    engine = ncnn.Net()
    engine.opt.num_threads = threads
    engine.opt.use_fp16_packed = engine.opt.use_fp16_storage = engine.opt.use_fp16_arithmetic = False
    engine.opt.use_bf16_storage = False
    ncnn_model.load(engine, net, path)

    def one(image):
        extractor = engine.create_extractor()
        extractor.input("input", ncnn.Mat(image))
        return np.array(extractor.extract("output")[1])

    return lambda x=x: np.stack([one(image) for image in x])


CALLS = {
    "torch": torch_call,
    "torch-compile": torch_compile_call,
    "onnxruntime": onnxruntime_call,
    "openvino": openvino_call,
    "ncnn": ncnn_call,
}
