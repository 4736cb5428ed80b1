"""A fuzz target that speaks HTTP: the bytes are what a client sends to `cnnlib serve`, in this process."""

import functools
import logging
import random
import socket
import threading

import networks
import numpy as np
import server
from cnnlib.cli.run.trained import open_trained
from cnnlib.cli.server.app import Server
from cnnlib.cli.server.batching import Limits
from cnnlib.cli.server.listening import bound_socket, uvicorn_server
from files import FOLDER
from PIL import Image

LIMITS = Limits(body_bytes=200_000, pixels=100_000, images=3, seconds=20, waiting=64, batch=8)
PATIENCE = 60  # seconds for an answer, or an end of the connection
SEEDS = 12  # malformed requests of tests/fuzz/server.py


class _Faults(logging.Handler):
    """Keeps what the server logs as an error: nothing that a client sends is one."""

    def __init__(self):
        super().__init__(logging.ERROR)
        self.found = []

    def emit(self, record):
        self.found.append(self.format(record))


@functools.cache
def picture():
    """Return the path of a small photo."""
    path = FOLDER / "photo.png"
    Image.fromarray(np.arange(6 * 5 * 3, dtype=np.uint8).reshape(6, 5, 3)).save(path)
    return path


@functools.cache
def running():
    """Start the server, once; return its port and what it logs."""
    path, faults = FOLDER / "served.npz", _Faults()
    networks.nets()[0].save(path)
    app = uvicorn_server(Server(open_trained(path), "model", limits=LIMITS).app(), LIMITS)
    logging.getLogger("uvicorn.error").addHandler(faults)
    logging.getLogger("asyncio").addHandler(faults)
    listener = bound_socket("127.0.0.1", 0).__enter__()
    threading.Thread(target=app.run, kwargs={"sockets": [listener]}, daemon=True).start()
    return listener.getsockname()[1], faults


def request(data):
    """The server answers in HTTP, says not that it failed, and answers a good request afterwards."""
    port, faults = running()
    status = answer(port, data)
    assert status is None or 100 <= status < 600, status
    assert status not in (500, 503), status
    assert not faults.found, faults.found
    assert answer(port, b"GET /health HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n") == 200


def answer(port, data):
    """Send a request and no more; return the answer's status, None where there is none."""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as client:
        try:
            client.sendall(data)
            client.shutdown(socket.SHUT_WR)
            content = b"".join(iter(lambda: client.recv(65536), b""))
        except (ConnectionResetError, BrokenPipeError, OSError):
            return None
    return int(content[9:12]) if content.startswith(b"HTTP/1.1 ") else None if not content else -1


def seeds():
    """Return a good request of each kind, and some malformed ones."""
    content = picture().read_bytes()
    rng = random.Random(0)
    good = [server._head(content) + content, b"GET /model HTTP/1.1\r\nHost: a\r\n\r\n"]
    form = (
        b'--line\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n'
        b"Content-Type: image/png\r\n\r\n" + content + b"\r\n--line--\r\n"
    )
    good.append(server._head(form, "multipart/form-data; boundary=line") + form)
    return [
        *good,
        *(next(malformed) for malformed in [server.requests(picture(), rng)] for _ in range(SEEDS)),
    ]
