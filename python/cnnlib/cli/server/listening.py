"""uvicorn with limits on time and connections, stopped by SIGTERM and Ctrl-C."""

from __future__ import annotations

import asyncio
import contextlib
import math
import socket
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from cnnlib.cli.server.batching import Limits

_SLACK = 5.0  # seconds, beyond those of the limits, in which an answer must have left
_TOO_MANY = (
    b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
)


def bound_socket(host: str, port: int) -> socket.socket:
    """A socket that listens there (port 0 is one that is free); OSError names host and port."""
    try:
        known = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, *_, address = known[0]
        return socket.create_server(address, family=family, backlog=1024)
    except OSError as error:
        raise OSError(f"cannot listen on {host} port {port}: {error.strerror or error}") from error


def listen(server: uvicorn.Server, listener: socket.socket) -> None:
    """Serve until SIGTERM or Ctrl-C; requests that have begun are answered then."""
    with contextlib.suppress(KeyboardInterrupt):  # uvicorn hands on the signal that stopped it
        server.run(sockets=[listener])


def uvicorn_server(app: Any, limits: Limits, log_requests: bool = False) -> uvicorn.Server:
    """uvicorn for an ASGI application, with these limits."""
    config = uvicorn.Config(
        app,
        http=_protocol(limits),
        ws="none",
        lifespan="on",
        log_level="info" if log_requests else "error",
        access_log=log_requests,
        server_header=False,
        timeout_graceful_shutdown=math.ceil(2 * limits.seconds + _SLACK),
    )
    return uvicorn.Server(config)


def _protocol(limits: Limits) -> type[H11Protocol]:
    """uvicorn's, which would wait without end for the headers of a request, or for a client to read."""
    header_seconds = limits.seconds
    request_seconds = 2 * limits.seconds + _SLACK

    class Protocol(H11Protocol):
        _timer: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            # Or an answer's body would wait for the client to confirm its headers, which takes it 40 ms.
            transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if len(self.connections) > limits.connections:
                transport.write(_TOO_MANY)
                transport.close()
            else:
                self._allow(header_seconds)

        def data_received(self, data: bytes) -> None:
            before = self.cycle
            super().data_received(data)
            if self.cycle is not before and not self.cycle.response_complete:
                self._allow(request_seconds)

        def on_response_complete(self) -> None:
            before = self.cycle
            super().on_response_complete()
            self._allow(header_seconds if self.cycle is before else request_seconds)

        def connection_lost(self, exc: Exception | None) -> None:
            if self._timer is not None:
                self._timer.cancel()
            super().connection_lost(exc)

        def _allow(self, seconds: float) -> None:
            """So long until the next request has begun, or this one is answered."""
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self.loop.call_later(seconds, self.transport.abort)

    return Protocol
