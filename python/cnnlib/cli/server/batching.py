"""What a server takes on, and images of concurrent requests put together into one call."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

Rows: TypeAlias = np.ndarray | Sequence[Any]  # what a predictor makes of images, for each of them
Waiting: TypeAlias = tuple[np.ndarray, asyncio.Future]  # an image, and what becomes of it


@dataclass(frozen=True)
class Limits:
    """
    Limits of a server.

    Attributes
    ----------
    body_bytes : int
        Of a request's body. The bodies of all requests together may hold 16 times as many.
    pixels : int
        Of an image before it is scaled.
    images : int
        Of a request.
    seconds : float
        For a request's body to arrive, again for its answer, and for the next request on a kept connection.
    waiting : int
        Images that wait for the predictor.
    batch : int
        Images that go into one call of the predictor.
    batch_seconds : float
        How long an image waits for others to make a batch; 0: as long as the predictor is busy.
    requests : int
        Requests for predictions that are answered at a time.
    """

    body_bytes: int = 16 * 2**20
    pixels: int = 50_000_000
    images: int = 16
    seconds: float = 10.0
    waiting: int = 256
    batch: int = 32
    batch_seconds: float = 0.0
    requests: int = 500


class Refused(Exception):
    """A request that gets an error for an answer, of an HTTP `status`.

    `closes` the connection where the rest of the body is not wanted.
    """

    def __init__(self, status: int, message: str, *, closes: bool = False) -> None:
        super().__init__(message)
        self.status, self.closes = status, closes


class Budget:
    """What all requests together hold at a time of something: at `most` so much of `what`."""

    def __init__(self, most: int, what: str) -> None:
        self._left, self._what = most, what

    @contextlib.contextmanager
    def share(self) -> Iterator[Callable[[int], None]]:
        """A function that takes so much of it for a request, given back at the end of the block.

        It raises Refused where there is not as much left.
        """
        taken = 0

        def take(count: int) -> None:
            nonlocal taken
            if count > self._left:
                text = f"the server holds as many {self._what} as it can: try again"
                raise Refused(503, text, closes=True)
            self._left, taken = self._left - count, taken + count

        try:
            yield take
        finally:
            self._left += taken


class Batcher:
    """A bounded queue of images before a predictor.

    While the predictor computes one batch, the images that come meanwhile gather for the next. ``predict``
    makes a row for each of images (N, C, H, W), and is called from one thread at a time.
    """

    def __init__(self, predict: Callable[[np.ndarray], Rows], limits: Limits) -> None:
        self._predict, self._limits = predict, limits
        self._queue: asyncio.Queue[Waiting] = asyncio.Queue(limits.waiting)
        self._next: list[Waiting] = []  # what has left the queue for the next call
        self._thread = ThreadPoolExecutor(1, "predictor")
        self.calls = self.images = 0

    @property
    def waiting(self) -> int:
        """Images that wait."""
        return self._queue.qsize() + len(self._next)

    async def rows(self, images: Sequence[np.ndarray]) -> list[Any]:
        """What the predictor makes of each image; Refused where there is no room for so many in the queue."""
        if self.waiting + len(images) > self._queue.maxsize:
            raise Refused(503, f"{self.waiting} images are waiting for the predictor: try again")
        loop = asyncio.get_running_loop()
        futures = [loop.create_future() for _ in images]
        for image, future in zip(images, futures, strict=True):
            self._queue.put_nowait((image, future))
        return await asyncio.gather(*futures)

    async def run(self) -> None:
        """Call the predictor for what is waiting, until cancelled."""
        try:
            while True:
                self._next.append(await self._queue.get())
                while len(self._next) < self._limits.batch and not self._queue.empty():
                    self._next.append(self._queue.get_nowait())
                if self._limits.batch_seconds > 0:
                    with contextlib.suppress(asyncio.TimeoutError):
                        await asyncio.wait_for(self._fill(), self._limits.batch_seconds)
                taken, self._next = self._next, []
                await self._call([(image, future) for image, future in taken if not future.done()])
        finally:
            self._thread.shutdown(wait=False, cancel_futures=True)
            while not self._queue.empty():
                self._next.append(self._queue.get_nowait())
            for _, future in self._next:
                future.cancel()

    async def _fill(self) -> None:
        """Take images until there are enough for a call."""
        while len(self._next) < self._limits.batch:
            self._next.append(await self._queue.get())

    async def _call(self, taken: list[Waiting]) -> None:
        if not taken:
            return
        loop = asyncio.get_running_loop()
        try:
            images = np.stack([image for image, _ in taken])
            rows = await loop.run_in_executor(self._thread, self._predict, images)
            self.calls += 1
            self.images += len(taken)
            for (_, future), row in zip(taken, rows, strict=True):
                if not future.done():
                    future.set_result(row)
        except Exception as error:
            for _, future in taken:
                if not future.done():
                    future.set_exception(error)
        finally:
            for _, future in taken:
                future.cancel()  # of those that have no answer, when the server ends
