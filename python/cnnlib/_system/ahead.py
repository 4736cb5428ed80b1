"""Threads that work ahead of whoever takes what they make."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

_Item = TypeVar("_Item")
_Made = TypeVar("_Made")


def in_order(
    function: Callable[[_Item], _Made], items: Iterable[_Item], threads: int, ahead: int | None = None
) -> Generator[_Made, None, None]:
    """``map`` by threads, but only so many items ahead (None: four for each thread).

    The threads end when the generator does, or is closed.
    """
    pool = ThreadPoolExecutor(threads, thread_name_prefix="cnnlib-ahead")
    ahead = 4 * threads if ahead is None else ahead
    pending: deque[Future[_Made]] = deque()
    try:
        for item in items:
            pending.append(pool.submit(function, item))
            if len(pending) > ahead:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
