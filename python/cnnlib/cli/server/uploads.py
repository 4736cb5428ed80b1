"""The images in the body of a request."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from python_multipart.exceptions import FormParserError
from starlette.exceptions import HTTPException
from starlette.requests import Request

from cnnlib.cli.server.batching import Limits, Refused

_MOST_FIELDS = 16  # of a form, beside its files: they are passed over


async def read_body(request: Request, limits: Limits, take: Callable[[int], None]) -> bytes:
    """The whole body of a request; Refused if it is too large, or comes too slowly.

    ClientDisconnect where the client has gone.
    """
    length = request.headers.get("content-length")
    if length is not None and int(length) > limits.body_bytes:
        raise _too_large(limits)
    try:
        return await asyncio.wait_for(_collected(request, limits, take), limits.seconds)
    except asyncio.TimeoutError:
        raise Refused(
            408, f"the request did not arrive whole within {limits.seconds:g} s", closes=True
        ) from None


async def _collected(request: Request, limits: Limits, take: Callable[[int], None]) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        if len(body) + len(chunk) > limits.body_bytes:
            raise _too_large(limits)
        take(len(chunk))
        body += chunk
    return bytes(body)


def _too_large(limits: Limits) -> Refused:
    return Refused(413, f"the request is larger than {limits.body_bytes / 2**20:g} MB", closes=True)


async def uploads(request: Request, body: bytes, limits: Limits) -> list[tuple[str | None, bytes]]:
    """Name and content of each file: of a form's files, or of the body, which has no name.

    Refused if there is none, or there are too many.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "multipart/form-data":
        files: list[tuple[str | None, bytes]] = [(None, body)] if body else []
    else:
        files = await _files_of_form(request, body, limits)
    if not files:
        raise Refused(400, "there is no image in the request: its body may be one, or a form with files")
    return files


async def _files_of_form(request: Request, body: bytes, limits: Limits) -> list[tuple[str | None, bytes]]:
    async def replayed() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    named: list[tuple[str | None, bytes]] = []
    try:
        parts = Request(request.scope, replayed).form(max_files=limits.images, max_fields=_MOST_FIELDS)
        async with parts as form:
            for _, value in form.multi_items():
                if not isinstance(value, str):
                    # JSON cannot hold half of a surrogate pair, as some charsets have it.
                    name = (value.filename or "").encode("utf-8", "replace").decode()
                    named.append((name, await value.read()))
    except HTTPException as error:
        raise Refused(400, f"the form cannot be read: {error.detail}") from None
    except FormParserError as error:
        raise Refused(400, f"the form cannot be read: {error}") from None
    except UnicodeError:  # the client names the charset
        raise Refused(400, "the form cannot be read: a name is not in its charset") from None
    return named
