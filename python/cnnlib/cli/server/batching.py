"""What a server takes on, and images of concurrent requests put together into one call."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np


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
        For a request's body to arrive, and again for its answer.
    waiting : int
        Images that wait for the predictor.
    batch : int
        Images that go into one call of the predictor.
    batch_seconds : float
        How long an image waits for others to make a batch; 0: as long as the predictor is busy.
    connections : int
    """

    body_bytes: int = 16 * 2**20
    pixels: int = 50_000_000
    images: int = 16
    seconds: float = 10.0
    waiting: int = 256
    batch: int = 32
    batch_seconds: float = 0.0
    connections: int = 500


class Refused(Exception):
    """
    A request that gets an error for an answer.

    Attributes
    ----------
    status : int
        Of HTTP.
    closes : bool
        Close the connection: the rest of the body is not wanted.
    """

    def __init__(self, status: int, message: str, *, closes: bool = False) -> None:
        super().__init__(message)
        self.status, self.closes = status, closes


class Budget:
    """Bytes that all requests together hold at a time."""

    def __init__(self, most: int) -> None:
        self._left = most

    @contextlib.contextmanager
    def share(self) -> Iterator[Callable[[int], None]]:
        """A function that takes so many bytes for a request, given back at the end of the block.

        It raises Refused where there are not as many left.
        """
        taken = 0

        def take(count: int) -> None:
            nonlocal taken
            if count > self._left:
                text = "the server holds as many bytes of requests as it can: try again"
                raise Refused(503, text, closes=True)
            self._left, taken = self._left - count, taken + count

        try:
            yield take
        finally:
            self._left += taken


class Batcher:
    """
    A bounded queue of images before a predictor.

    While the predictor computes one batch, the images that come meanwhile gather for the next.

    Parameters
    ----------
    predict : callable
        From images (N, C, H, W) to a row for each; it is called from one thread at a time.
    batch, waiting : int
        Images of a call at most; images that may wait for one.
    batch_seconds : float
        How long an image waits for others while the predictor is idle.
    """

    def __init__(
        self,
        predict: Callable[[np.ndarray], np.ndarray],
        *,
        batch: int = 32,
        waiting: int = 256,
        batch_seconds: float = 0.0,
    ) -> None:
        self._predict, self._batch, self._most = predict, batch, waiting
        self._batch_seconds = batch_seconds
        self._queue: deque[tuple[np.ndarray, asyncio.Future]] = deque()
        self._some, self._enough = asyncio.Event(), asyncio.Event()
        self._thread = ThreadPoolExecutor(1, "predictor")
        self.calls = self.images = 0

    @property
    def waiting(self) -> int:
        """Images that wait."""
        return len(self._queue)

    async def rows(self, images: Sequence[np.ndarray]) -> list[np.ndarray]:
        """
        What the predictor makes of each image.

        Raises
        ------
        Refused
            There is no room for so many in the queue.
        """
        if len(self._queue) + len(images) > self._most:
            raise Refused(503, f"{len(self._queue)} images are waiting for the predictor: try again")
        loop = asyncio.get_running_loop()
        futures = [loop.create_future() for _ in images]
        self._queue.extend(zip(images, futures, strict=True))
        self._mark()
        return await asyncio.gather(*futures)

    async def run(self) -> None:
        """Call the predictor for what is waiting, until cancelled."""
        try:
            while True:
                await self._some.wait()
                if self._batch_seconds > 0 and not self._enough.is_set():
                    await _at_most(self._batch_seconds, self._enough.wait())
                await self._call(self._taken())
        finally:
            self._thread.shutdown(wait=False, cancel_futures=True)
            for _, future in self._queue:
                future.cancel()

    def _taken(self) -> list[tuple[np.ndarray, asyncio.Future]]:
        """The next images, without those that nobody waits for any more."""
        taken: list[tuple[np.ndarray, asyncio.Future]] = []
        while self._queue and len(taken) < self._batch:
            image, future = self._queue.popleft()
            if not future.done():
                taken.append((image, future))
        self._mark()
        return taken

    async def _call(self, taken: list[tuple[np.ndarray, asyncio.Future]]) -> None:
        if not taken:
            return
        images = np.stack([image for image, _ in taken])
        loop = asyncio.get_running_loop()
        try:
            rows = await loop.run_in_executor(self._thread, self._predict, images)
        except Exception as error:
            for _, future in taken:
                if not future.done():
                    future.set_exception(error)
            return
        self.calls += 1
        self.images += len(taken)
        for (_, future), row in zip(taken, rows, strict=True):
            if not future.done():
                future.set_result(row)

    def _mark(self) -> None:
        for event, count in ((self._some, 1), (self._enough, self._batch)):
            if len(self._queue) >= count:
                event.set()
            else:
                event.clear()


async def _at_most(seconds: float, awaitable) -> None:
    try:
        await asyncio.wait_for(awaitable, seconds)
    except asyncio.TimeoutError:
        pass
