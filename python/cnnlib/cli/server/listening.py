"""uvicorn with limits on time, stopped by SIGTERM and Ctrl-C."""

from __future__ import annotations

import contextlib
import math
import socket
from typing import Any

import uvicorn

from cnnlib.cli.server.batching import Limits

_SLACK = 5.0  # seconds, beyond those of the limits, in which an answer must have left


def bound_socket(host: str, port: int) -> socket.socket:
    """A socket that listens there (port 0 is one that is free); OSError names host and port."""
    try:
        known = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, *_, address = known[0]
        listener = socket.create_server(address, family=family, backlog=1024)
    except OSError as error:
        raise OSError(f"cannot listen on {host} port {port}: {error.strerror or error}") from error
    # Its connections take it over. Else an answer's body waits for the client to confirm the headers: 40 ms.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def listen(server: uvicorn.Server, listener: socket.socket) -> None:
    """Serve until SIGTERM or Ctrl-C; requests that have begun are answered then."""
    with contextlib.suppress(KeyboardInterrupt):  # uvicorn hands on the signal that stopped it
        server.run(sockets=[listener])


def uvicorn_server(app: Any, limits: Limits, log_requests: bool = False) -> uvicorn.Server:
    """uvicorn for an ASGI application, with these limits.

    They begin when the headers of a request have come: uvicorn waits without end for these.
    """
    config = uvicorn.Config(
        app,
        http="h11",
        ws="none",
        lifespan="on",
        log_level="info" if log_requests else "error",
        access_log=log_requests,
        server_header=False,
        timeout_keep_alive=math.ceil(limits.seconds),
        timeout_graceful_shutdown=math.ceil(2 * limits.seconds + _SLACK),
    )
    return uvicorn.Server(config)
