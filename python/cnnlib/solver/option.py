"""What an option of the Solver is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, overload

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
    kind, help
        Those of the option of the command line that has the same name, if there is one.
    saved : callable or None
        ``saved(value)`` is what a checkpoint holds of it: plain values, or `OWN` for a function of the user's
        own. None: nothing.
    flags : tuple of Flag
        How the command line gives it, if by other names.
    """

    def __init__(
        self,
        check: Callable[[str, Any], T],
        kind: str | tuple[str, ...] | None = None,
        help: str | None = None,
        *,
        saved: Callable[[Any], Any] | None = lambda value: value,
        flags: tuple[Flag, ...] = (),
    ) -> None:
        self.check, self.saved, self.flags = check, saved, flags
        self.name, self._own = "", (kind, help)

    def __set_name__(self, owner: type, name: str) -> None:
        self.name, (kind, help) = name, self._own
        if kind is not None:
            self.flags = (Flag(name, kind, help),)

    # Without a __set__ the value lies in the instance's own dict, where reading costs nothing.
    @overload
    def __get__(self, instance: None, owner: type) -> Option[T]: ...
    @overload
    def __get__(self, instance: object, owner: type) -> T: ...
    def __get__(self, instance: object | None, owner: type) -> Option[T] | T:
        if instance is None:
            return self
        raise AttributeError(f"{owner.__name__}: {self.name} is not set yet")
