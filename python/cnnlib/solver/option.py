"""What an option of the Solver is, and the checks that several of them share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, overload

from cnnlib._params import choice, integer, number, positive_int, probability

T = TypeVar("T")


@dataclass(frozen=True)
class Flag:
    """An option of ``cnnlib train``.

    `kind` is the form of its text, a key of :data:`cnnlib.cli.options.arguments.FORMS`, or the choices there
    are.
    """

    name: str
    kind: str | tuple[str, ...]
    help: str | None = None


class Option(Generic[T]):
    """A row of :class:`cnnlib.solver.options.Options`.

    Parameters
    ----------
    check : callable
        ``check(name, value)`` returns the value that the Solver keeps. Its type is that of the Solver's
        attribute.
    saved : callable or None
        ``saved(value)`` is what a checkpoint holds of it: plain values, or `OWN` for a function of the user's
        own. None: nothing.
    flags : tuple of Flag
        How the command line gives it.
    """

    def __init__(
        self,
        check: Callable[[str, Any], T],
        saved: Callable[[Any], Any] | None = lambda value: value,
        flags: tuple[Flag, ...] = (),
    ) -> None:
        self.check, self.saved, self.flags = check, saved, flags
        self.name = ""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    # Without a __set__ the value lies in the instance's own dict, where reading costs nothing.
    @overload
    def __get__(self, instance: None, owner: type) -> Option[T]: ...
    @overload
    def __get__(self, instance: object, owner: type) -> T: ...
    def __get__(self, instance: object | None, owner: type) -> Option[T] | T:
        if instance is None:
            return self
        raise AttributeError(f"{owner.__name__}: {self.name} is not set yet")


def or_none(check: Callable[[str, Any], T]) -> Callable[[str, Any], T | None]:
    """The same check, which also takes None."""
    return lambda name, value: None if value is None else check(name, value)


def by_value(build: Callable[[Any], T]) -> Callable[[str, Any], T]:
    """What needs no name for its messages."""
    return lambda name, value: build(value)


def at_least_0(name: str, value: Any) -> float:
    return number("Solver", name, value, 0)


def share(name: str, value: Any) -> float:
    """In [0, 1)."""
    return probability("Solver", name, value)


def count(name: str, value: Any) -> int:
    """At least 1."""
    return positive_int("Solver", name, value)


def count_or_0(name: str, value: Any) -> int:
    value = integer("Solver", name, value)
    if value < 0:
        raise ValueError(f"Solver: {name} must be at least 0, got {value}")
    return value


def one_of(*allowed: str) -> Callable[[str, Any], str]:
    return lambda name, value: choice("Solver", name, value, allowed)


def config(name: str, value: Any) -> dict[str, Any]:
    """A dict, or None for an empty one."""
    if value is not None and not isinstance(value, Mapping):
        raise TypeError(f"Solver: {name} must be a dict, got {value!r}")
    return dict(value or {})
