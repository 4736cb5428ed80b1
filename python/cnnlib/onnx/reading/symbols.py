"""Numbers in constant shapes that depend on the input: how many images, and their height and width."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from cnnlib.graph.importing import Feature


@dataclass(frozen=True)
class Symbol:
    """An entry of an object array that stands for a shape, or for what was computed from one.

    Arithmetic gives Symbols again, so whatever is computed from a size is known to be.

    Attributes
    ----------
    value : int, float or None
        The number for images of the size that the network is loaded at; None if how many they are is in it.
    unit : tuple or None
        The size that it is `factor` times, as the name of a value and one of its axes; None if it is computed
        in another way.
    factor : float
    """

    value: int | float | None
    unit: tuple[str, int] | None = None
    factor: float = 1.0

    def __repr__(self) -> str:
        return "N" if self.value is None else str(self.value)

    def _with(self, function: Callable[..., Any], *others: Any) -> Symbol:
        values = [value.value if isinstance(value, Symbol) else value for value in (self, *others)]
        return Symbol(None if None in values else function(*values))

    def _times(self, number: Any, value: int | float | None) -> Symbol:
        """`value`, which is this one times a plain number."""
        if isinstance(number, Symbol) or self.unit is None:
            return Symbol(value)
        return Symbol(value, self.unit, self.factor * number)

    def _same(self, value: int | float | None) -> Symbol:
        return Symbol(value, self.unit, self.factor)

    def __add__(self, other: Any) -> Symbol:
        total = self._with(lambda a, b: a + b, other)
        return total if isinstance(other, Symbol) or other != 0 else self._same(total.value)

    def __sub__(self, other: Any) -> Symbol:
        return self + -other

    def __rsub__(self, other: Any) -> Symbol:
        return -self + other

    def __mul__(self, other: Any) -> Symbol:
        return self._times(other, self._with(lambda a, b: a * b, other).value)

    def __neg__(self) -> Symbol:
        return self * -1

    __radd__, __rmul__ = __add__, __mul__

    def __truediv__(self, other: Any) -> Symbol:
        """Of integers rounded towards zero, as ONNX divides."""
        whole = isinstance(self.value, int) and not isinstance(other, float)
        quotient = self._with((lambda a, b: math.trunc(a / b)) if whole else (lambda a, b: a / b), other)
        if isinstance(other, Symbol) or (whole and not (self.factor / other).is_integer()):
            return quotient
        return self._times(1 / other, quotient.value)

    def __rtruediv__(self, other: Any) -> Symbol:
        return self._with(lambda a, b: b / a, other)

    def real(self) -> Symbol:
        """The same as a floating-point number."""
        return self._same(None if self.value is None else float(self.value))

    def rounded(self, function: Callable[[float], int]) -> Symbol:
        """Made an integer: floor, ceil or trunc."""
        number = self._with(function)
        return self._same(number.value) if self.factor.is_integer() else number

    def bounded(self, function: Callable[..., Any], other: Any) -> Symbol:
        """The smaller or larger one of two."""
        return self._with(function, other)


BATCH = Symbol(None, ("", 0))  # the number of images


def settled(array: NDArray[Any]) -> NDArray[Any]:
    """Entries without Symbols as a plain array."""
    if array.dtype != object or any(isinstance(item, Symbol) for item in array.flat):
        return array
    return np.array(array.tolist()) if array.size else array.astype(np.int64)


def by_item(function: Callable[..., Any], *arrays: NDArray[Any]) -> NDArray[Any]:
    """A function of single entries, of arrays that spread over each other."""
    return np.asarray(
        np.frompyfunc(function, len(arrays), 1)(*(array.astype(object) for array in arrays)), object
    )


Constant: TypeAlias = NDArray[Any]  # numbers of any type; with Symbols in it an object array
Value: TypeAlias = Feature | Constant
