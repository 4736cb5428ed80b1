"""What the server takes on at most, and the answers to what is more."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass


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
    def share(self) -> Iterator[Share]:
        """The part of one request, which is given back at the end of the block."""
        share = Share(self)
        try:
            yield share
        finally:
            self._left += share.taken

    def take(self, count: int) -> None:
        if count > self._left:
            raise Refused(503, "the server holds as many bytes of requests as it can: try again", closes=True)
        self._left -= count


class Share:
    """What one request has taken of a budget."""

    def __init__(self, budget: Budget) -> None:
        self._budget, self.taken = budget, 0

    def take(self, count: int) -> None:
        """
        Take so many bytes.

        Raises
        ------
        Refused
            There are not as many left.
        """
        self._budget.take(count)
        self.taken += count
