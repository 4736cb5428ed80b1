"""Inference engines: each is made of a network's ONNX file or its graph, and called on NumPy arrays."""

from __future__ import annotations

import importlib.util

import numpy as np

from support.inference import ncnn_model

ENGINES = ("torch", "onnxruntime", "openvino", "ncnn")


def installed():
    """The engines that are at hand."""
    return [name for name in ENGINES if importlib.util.find_spec(name)]


def torch_call(net, path, x, threads, compiled=False):
    """PyTorch in inference mode, channels-last; with `compiled` through torch.compile."""
    import torch

    from support.torch_module import TorchNet

    torch.set_num_threads(threads)
    module = TorchNet(net).eval().to(memory_format=torch.channels_last)
    if compiled:
        module = torch.compile(module, mode="max-autotune")

    def call(x=x):
        with torch.inference_mode():
            images = torch.from_numpy(x).contiguous(memory_format=torch.channels_last)
            return module(images).numpy()

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
