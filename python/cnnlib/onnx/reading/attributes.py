"""The attributes of an operator, each of which has to be understood."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

import numpy as np

_NOT_SET = object()


class Attributes:
    """Typed access to an operator's attributes; :meth:`finish` refuses those that nobody asked for.

    Parameters
    ----------
    values : mapping
        Their values by name, as ``onnx.helper.get_attribute_value`` gives them.
    fail : callable
        Raises the ValueError that names the operator, from a text.
    """

    def __init__(self, values: Mapping[str, Any], fail: Callable[[str], NoReturn]) -> None:
        self._left = {
            k: v.decode("utf-8", "replace") if isinstance(v, bytes) else v for k, v in values.items()
        }
        self._fail = fail

    def __contains__(self, name: str) -> bool:
        return name in self._left

    def get(self, name: str, default: Any = None) -> Any:
        """Any value: that of a tensor, say."""
        return self._left.pop(name, default)

    def peek(self, name: str, default: Any) -> Any:
        """Any value, which is still to be taken."""
        return self._left.get(name, default)

    def integer(self, name: str, default: int) -> int:
        return int(self._typed(name, default, int))

    def number(self, name: str, default: float) -> float:
        """A real number: of those that float32, which files hold, does not tell apart the shortest one."""
        return float(str(np.float32(self._typed(name, default, (int, float)))))

    def text(self, name: str, default: str, allowed: Sequence[str]) -> str:
        value = self._typed(name, default, str)
        if value not in allowed:
            self._fail(f"attribute {name} is {value!r}, here only {', '.join(map(repr, allowed))}")
        return value

    def integers(self, name: str, default: Sequence[int] | None = None) -> list[int] | None:
        value = self._left.pop(name, _NOT_SET)
        if value is _NOT_SET:
            return None if default is None else list(default)
        if not isinstance(value, (list, tuple)) or not all(isinstance(item, int) for item in value):
            self._fail(f"attribute {name} is {value!r}, expected integers")
        return list(value)

    def numbers(self, name: str, count: int, default: int) -> tuple[int, ...]:
        """A number for each axis, or for each side of each axis."""
        values = self.integers(name, [default] * count) or []
        if len(values) != count:
            self._fail(f"attribute {name} is {values}; {count} numbers belong to its input")
        return tuple(values)

    def expect(self, name: str, value: Any) -> None:
        """Take an attribute that here can only have one value."""
        came = self._left.pop(name, value)
        if came != value:
            self._fail(f"attribute {name} is {came!r}, here only {value!r}")

    def ignore(self, *names: str) -> None:
        """Take attributes that change nothing, whatever they are."""
        for name in names:
            self._left.pop(name, None)

    def finish(self) -> None:
        for name in self._left:
            self._fail(f"attribute {name} has no counterpart here")

    def _typed(self, name, default, kind):
        value = self._left.pop(name, default)
        if not isinstance(value, kind):
            self._fail(f"attribute {name} is {value!r}")
        return value
