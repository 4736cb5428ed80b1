"""The shapes of samples, and checks that shape rules share."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, TypeAlias

from cnnlib._params import number, pair

Shape: TypeAlias = tuple[int, ...]  # of one sample
_KINDS = {1: "(N, D)", 3: "images (N, C, H, W)"}


def batch_of(shape: Shape) -> str:
    """The shape of N samples, for messages."""
    return f"(N, {', '.join(map(str, shape))})"


def samples_like(x: Shape) -> Any:
    """What stands for an array of samples where only its shape is asked for."""
    return SimpleNamespace(shape=(0, *x), ndim=1 + len(x))


def check_rank(function: str, x: Shape, *ranks: int) -> None:
    """Refuse samples of another number of axes, and empty ones."""
    if len(x) not in ranks or 0 in x:
        kinds = " or ".join(_KINDS[rank] for rank in ranks)
        raise ValueError(f"{function}: x must be {kinds}, got {batch_of(x)}")


def positive_pair(function: str, name: str, value: Any) -> tuple[int, int]:
    """Two integers of at least 1, or one for both."""
    numbers = pair(function, name, value)
    if min(numbers) < 1:
        raise ValueError(f"{function}: {name} must be at least 1, got {value!r}")
    return numbers


def same(function: str, x: Shape) -> Shape:
    """The rule of a layer without arguments whose output has the shape of its input."""
    return x


def same_by_number(function: str, x: Shape, value: Any) -> Shape:
    """The rule of a layer with a number whose output has the shape of its input."""
    number(function, "its number", value)
    return x
