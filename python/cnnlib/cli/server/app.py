"""The server as an ASGI application: its routes and their answers."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from typing import Any

import numpy as np
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

import cnnlib
from cnnlib.cli.run.trained import Trained
from cnnlib.cli.server.batching import Batcher, Budget, Limits, Refused
from cnnlib.cli.server.tasks import Answer, Classes, Objects, Read
from cnnlib.cli.server.uploads import read_body, uploads
from cnnlib.detection import Detector

_BODIES = 16  # of the largest size, that all requests together may hold
_LINGER = 2.0  # seconds: what a refused client still sends is read, else it would not see the answer
_PAGE = {"": "text/html", "page.css": "text/css", "page.js": "text/javascript"}
_SAFE = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src blob: data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "cache-control": "no-cache",
}


class Server:
    """The routes of a server for one model.

    `name` is what people call the model. A model of classes answers with `top` of them where a request does
    not say it, and `predict` stands in for its `trained.probabilities`. `detector` finds objects with a model
    of objects.
    """

    def __init__(
        self,
        trained: Trained,
        name: str,
        top: int = 5,
        limits: Limits | None = None,
        predict: Callable[[np.ndarray], np.ndarray] | None = None,
        detector: Detector | None = None,
    ) -> None:
        self.trained, self.name, self.top = trained, name, top
        self.limits = limits or Limits()
        self._task = Classes(trained, top, predict) if detector is None else Objects(detector)
        self._requests = Budget(self.limits.requests, "requests")
        self._bytes = Budget(_BODIES * self.limits.body_bytes, "bytes of requests")
        self.answered = 0

    def warm_up(self) -> None:
        """Look at an image before the first request does."""
        ink = self.trained.normalization.ink
        self._task.predict(np.zeros((1, *self.trained.shape), np.float32 if ink else np.uint8))

    def app(self) -> Starlette:
        """The ASGI application."""
        routes = [Route(f"/{name}", _page(name, kind)) for name, kind in _PAGE.items()]
        routes += [
            Route("/health", self.health),
            Route("/model", self.model),
            Route("/predict", self.predict, methods=["POST"]),
        ]
        handlers: Any = {Refused: _refused, HTTPException: _wrong_path, Exception: _failed}
        return Starlette(routes=routes, lifespan=self._running, exception_handlers=handlers)

    @contextlib.asynccontextmanager
    async def _running(self, app: Starlette) -> AsyncIterator[None]:
        """Read images and predict, as long as the application runs."""
        self._batcher = Batcher(self._task.predict, self.limits)
        self._readers = ThreadPoolExecutor(cnnlib.get_num_threads(), "reader")
        self._worker = asyncio.create_task(self._batcher.run())
        try:
            yield
        finally:
            self._worker.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._worker
            self._readers.shutdown(wait=False, cancel_futures=True)

    async def health(self, request: Request) -> Response:
        """Whether the server works, for whoever watches it."""
        batcher = self._batcher
        healthy = not self._worker.done()
        content = {
            "status": "ok" if healthy else "broken",
            "answered": self.answered,
            "waiting": batcher.waiting,
            "images": batcher.images,
            "calls": batcher.calls,
        }
        return _Json(content, 200 if healthy else 503)

    async def model(self, request: Request) -> Response:
        """What the server's model is."""
        return _Json(
            {
                "name": self.name,
                "classes": self.trained.classes,
                "shape": self.trained.shape,
                "task": self.trained.task,
                "top": min(self.top, len(self.trained.classes)),
                "cnnlib": cnnlib.__version__,
            }
        )

    async def predict(self, request: Request) -> Response:
        """The classes or objects of the images in the request, in the form of ``cnnlib predict --json``."""
        top = self._number_of_classes(request.query_params.get("top"))
        with self._requests.share() as enter, self._bytes.share() as take:
            enter(1)
            try:
                body = await read_body(request, self.limits, take)
                named = await uploads(request, body, self.limits)
            except ClientDisconnect:
                return Response(status_code=400)  # for nobody
            try:
                answer = await asyncio.wait_for(self._answer(named, top), self.limits.seconds)
            except asyncio.TimeoutError:
                raise Refused(
                    503, f"there was no answer within {self.limits.seconds:g} s: try again"
                ) from None
        self.answered += 1
        return _Json(answer)

    def _number_of_classes(self, text: str | None) -> int | None:
        if text is None:
            return None
        if self.trained.task != "classes":
            raise Refused(400, f"top means nothing to a model of {self.trained.task}")
        if not (text.isascii() and text.isdigit() and 0 < int(text[:9])):
            raise Refused(400, f"top must be a number above 0, got {text[:20]!r}")
        return int(text[:9])

    async def _answer(self, named: list[tuple[str | None, bytes]], top: int | None) -> Answer:
        loop = asyncio.get_running_loop()
        reading = [loop.run_in_executor(self._readers, self._read, name, content) for name, content in named]
        try:
            read = await asyncio.gather(*reading)
        finally:
            for future in reading:
                future.cancel()
        rows = await self._batcher.rows([image for image, _ in read])
        names, beside = [name for name, _ in named], [more for _, more in read]
        return await loop.run_in_executor(self._readers, self._task.answer, names, rows, beside, top)

    def _read(self, name: str | None, content: bytes) -> Read:
        file = io.BytesIO(content)
        file.name = name or "the request's body"
        try:
            return self._task.read(file, self.limits.pixels)
        except ValueError as error:
            raise Refused(400, str(error)) from None
        except MemoryError:
            raise Refused(400, f"{file.name} is too large for the memory of the server") from None


def _page(name: str, kind: str) -> Callable[[Request], Any]:
    content = files(__package__).joinpath("page", name or "index.html").read_bytes()

    async def page(request: Request) -> Response:
        return Response(content, media_type=kind, headers=_SAFE)

    return page


async def _refused(request: Request, error: Refused) -> Response:
    return _answer(error.status, str(error), error.closes)


async def _wrong_path(request: Request, error: HTTPException) -> Response:
    message = {404: "there is nothing here: see / and /predict", 405: f"{request.method} is not for this"}
    answer = _answer(error.status_code, message.get(error.status_code, error.detail))
    answer.headers.update(error.headers or {})
    return answer


async def _failed(request: Request, error: Exception) -> Response:
    return _answer(500, "the server failed; its log says why")


def _answer(status: int, message: str, closes: bool = False) -> Response:
    headers = {"retry-after": "1"} if status == 503 else {}
    if closes:
        return _LastAnswer({"error": message}, status, {**headers, "connection": "close"})
    return _Json({"error": message}, status, headers)


class _Json(JSONResponse):
    """In ASCII: names of folders and files need not be text, and have no bytes in UTF-8 then."""

    def render(self, content: Any) -> bytes:
        return json.dumps(content, allow_nan=False, separators=(",", ":")).encode()


class _LastAnswer(_Json):
    """An answer before the request's end, after which the connection is closed."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def send_and_stay(message: Any) -> None:
            await send({**message, "more_body": True} if message["type"] == "http.response.body" else message)

        await super().__call__(scope, receive, send_and_stay)
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(_rest(receive), _LINGER)
        await send({"type": "http.response.body", "body": b""})


async def _rest(receive: Any) -> None:
    """Read what is left of the request, and forget it."""
    message = await receive()
    while message["type"] == "http.request" and message["more_body"]:
        message = await receive()
