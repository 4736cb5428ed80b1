"""The server of ``cnnlib serve`` with one engine or the other behind it, in a process of its own.

python bench/support/serving/server.py ENGINE MODEL THREADS

Everything but the scores of a batch is the same code: HTTP, reading of images, batches, JSON.
"""

import sys
from dataclasses import replace
from pathlib import Path

import cnnlib
from cnnlib.cli.run.trained import open_trained
from cnnlib.cli.server.app import Server
from cnnlib.cli.server.batching import Limits
from cnnlib.cli.server.listening import bound_socket, listen, uvicorn_server


class OnnxRuntime:
    """ONNX Runtime in the place of a model."""

    def __init__(self, path, threads):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self._name = self._session.get_inputs()[0].name

    def loss(self, X):
        """Scores, under the name that models have for them."""
        return self._session.run(None, {self._name: X})[0]


def main(engine, path, threads):
    """Serve until SIGTERM; the port is printed."""
    cnnlib.set_num_threads(int(threads))
    trained = open_trained(path)
    if engine == "onnxruntime":
        trained = replace(trained, model=OnnxRuntime(path, int(threads)))
    limits = Limits()
    server = Server(trained, Path(path).name, limits=limits)
    server.warm_up()
    with bound_socket("127.0.0.1", 0) as listener:
        print(listener.getsockname()[1], flush=True)
        listen(uvicorn_server(server.app(), limits), listener)


if __name__ == "__main__":
    main(*sys.argv[1:])
