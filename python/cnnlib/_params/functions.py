"""Functions of the user's own: that they take what they are called with."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any


def check_call(title: str, function: Callable[..., Any], call: str, count: int) -> None:
    """TypeError, which begins with `title`, for a function that cannot be called with `count` arguments.

    `call` is how it is called and what it returns, as the message says it: ``schedule(epoch, num_epochs) ->
    factor``. A function that does not tell its arguments passes.

    Examples
    --------
    >>> check_call("Solver: schedule", lambda t: 1.0, "schedule(epoch, num_epochs) -> factor", 2)
    Traceback (most recent call last):
    TypeError: Solver: schedule is called as schedule(epoch, num_epochs) -> factor; this one takes (t)
    """
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # what NumPy and other compiled modules have may not tell
        return
    try:
        signature.bind(*[None] * count)
    except TypeError:
        raise TypeError(f"{title} is called as {call}; this one takes {signature}") from None


def is_of_torch(value: Any) -> bool:
    """Return whether an object or a class is PyTorch's, or made of one of its classes."""
    kind = value if isinstance(value, type) else type(value)
    return any(base.__module__.partition(".")[0] == "torch" for base in kind.__mro__)
