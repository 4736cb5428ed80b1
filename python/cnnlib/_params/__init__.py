"""What arguments go through: every key known, every value of the right type and range."""

from __future__ import annotations

import math
import numbers
import operator
import os
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from cnnlib._params.synonyms import nearest

LIMIT = 2**31  # of a step or a padding
_ELSEWHERE: dict[str, tuple[tuple[str, ...], ...]] = {  # what other libraries call a key: the first that fits
    **dict.fromkeys(("kernel_size", "pool_size"), (("size",),)),
    "betas": (("beta1", "beta2"),),
}


def check_keys(
    function: str, name: str, params: object, known: Collection[str], required: Sequence[str] = ()
) -> None:
    """Refuse anything but a mapping with the keys in `known`, among them those in `required`."""
    if type(params) is not dict and not isinstance(params, Mapping):  # the second test is slow
        raise TypeError(f"{function}: {name} must be a dict, got {type(params).__name__}")
    for key in params:
        if key not in known:
            meant = next((names for names in _ELSEWHERE.get(key, ()) if set(names) <= set(known)), ())
            advice = f"did you mean {' and '.join(map(repr, meant))}?"
            if not meant:
                advice = hint(key, known, f"known keys: {', '.join(known)}")
            raise ValueError(f"{function}: unknown key {key!r} in {name}; {advice}")
    missing = [key for key in required if key not in params]
    if missing:
        raise KeyError(f"{function}: {name} lacks {', '.join(map(repr, missing))}")


def hint(name: object, known: Collection[str], otherwise: str = "") -> str:
    """What to say of an unknown name: the nearest known one, else `otherwise` or all of them."""
    near = nearest(str(name), known)
    return f"did you mean {near!r}?" if near is not None else otherwise or f"known: {', '.join(known)}"


def type_name(value: object) -> str:
    """The name of a value's type with its article: 'a str', 'an int'."""
    name = type(value).__name__
    return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"


def is_flag(value: object) -> bool:
    """Whether it is True or False, NumPy's included."""
    return isinstance(value, (bool, np.bool_))


def integer(function: str, key: str, value: Any, limit: int = LIMIT) -> int:
    """An int (or NumPy integer) between -limit and limit, not a bool or float."""
    if is_flag(value):
        raise TypeError(f"{function}: {key} must be an integer, got {value!r}")
    try:
        value = operator.index(value)
    except TypeError:
        raise TypeError(f"{function}: {key} must be an integer, got {value!r}") from None
    if not -limit < value < limit:
        raise ValueError(f"{function}: {key} must be smaller than {limit}, got {value}")
    return value


def positive_int(where: str, name: str, value: Any) -> int:
    """`value` as an int of at least 1."""
    return at_least(1, where, name, value)


def at_least(least: int, where: str, name: str, value: Any) -> int:
    """`value` as an int of at least `least`."""
    value = integer(where, name, value)
    if value < least:
        raise ValueError(f"{where}: {name} must be at least {least}, got {value}")
    return value


def is_sequence(value: object) -> bool:
    """Whether a parameter is given for each axis: as a tuple, a list, or an array that is no number."""
    return isinstance(value, (tuple, list)) or (isinstance(value, np.ndarray) and value.ndim > 0)


def pair(function: str, key: str, value: Any) -> tuple[int, int]:
    """An int for both axes, or (vertical, horizontal)."""
    if type(value) is int and -LIMIT < value < LIMIT:
        return value, value
    if is_sequence(value):
        if len(value) != 2:
            raise ValueError(f"{function}: {key} must be an integer or (vertical, horizontal), got {value!r}")
        return integer(function, key, value[0]), integer(function, key, value[1])
    value = integer(function, key, value)
    return value, value


POOL_SIZES = "pool_depth", "pool_height", "pool_width"


def pool_window(function: str, param: Mapping[str, Any], count: int) -> tuple[int, ...]:
    """The sizes of a pool's window along `count` axes: `size`, or the last ones of `POOL_SIZES`.

    KeyError where neither is there; ValueError where both are and differ.
    """
    names = POOL_SIZES[-count:]
    if "size" not in param:
        missing = [name for name in names if name not in param]
        if missing:
            raise KeyError(f"{function}: pool_param lacks {', '.join(map(repr, missing))} (or 'size')")
        return tuple(integer(function, name, param[name]) for name in names)
    size = param["size"]
    if is_sequence(size) and len(size) != count:
        wanted = f"an integer or {count} of them" if count > 1 else "an integer"
        raise ValueError(f"{function}: size must be {wanted}, got {size!r}")
    sizes = size if is_sequence(size) else [size] * count
    window = tuple(positive_int(function, "size", each) for each in sizes)
    for name, found in zip(names, window):
        if name in param and integer(function, name, param[name]) != found:
            raise ValueError(f"{function}: size {size!r} and {name} {param[name]!r} in pool_param differ")
    return window


def pads(
    function: str, value: Any, size: tuple[int, int] | None, window: tuple[int, int], stride: tuple[int, int]
) -> tuple[int, int, int, int]:
    """
    Padding as (top, bottom, left, right).

    `size`, `window` and `stride` are (vertical, horizontal), the window already dilated. 'same' gives
    ceil(size / stride) outputs, the odd pixel going below and right; where `size` is None it is refused.
    """
    if type(value) is int and -LIMIT < value < LIMIT:
        return value, value, value, value
    if isinstance(value, str):
        if value == "valid":
            return 0, 0, 0, 0
        if value == "same" and size is not None:
            (top, bottom), (left, right) = map(same_sides, size, window, stride)
            return top, bottom, left, right
        allowed = "'same' or 'valid'" if size is not None else "'valid' ('same' is not defined here)"
        raise ValueError(f"{function}: pad must be an integer, a pair, two pairs, {allowed}, got {value!r}")
    if is_sequence(value):
        if len(value) != 2:
            raise ValueError(
                f"{function}: pad must be an integer, (vertical, horizontal) or "
                f"((top, bottom), (left, right)), got {value!r}"
            )
        return (*pair(function, "pad", value[0]), *pair(function, "pad", value[1]))
    return pads(function, integer(function, "pad", value), size, window, stride)


def same_sides(size: int, window: int, stride: int) -> tuple[int, int]:
    """Padding (before, after) of an axis for ceil(size / stride) outputs; the odd pixel goes behind."""
    total = max(0, (-(-size // stride) - 1) * stride + window - size) if stride > 0 else 0
    return total // 2, total - total // 2


def number(function: str, key: str, value: Any, low: float = -math.inf, high: float = math.inf) -> float:
    """A finite real number in [low, high]."""
    if type(value) is float and low <= value <= high and math.isfinite(value):  # most calls
        return value
    # An array of one number will do.
    plain = value.item() if getattr(value, "shape", None) == () and hasattr(value, "item") else value
    if isinstance(plain, bool) or not isinstance(plain, numbers.Real):
        raise TypeError(f"{function}: {key} must be a number, got {value!r}")
    value = float(plain)
    if not (math.isfinite(value) and low <= value <= high):
        bounds = f"in [{low:g}, {high:g}]" if math.isfinite(high) else f"finite and at least {low:g}"
        raise ValueError(f"{function}: {key} must be {bounds}, got {value!r}")
    return value


def above_0(where: str, name: str, value: Any) -> float:
    """`value` as a finite float above 0."""
    value = number(where, name, value, 0)
    if value == 0:
        raise ValueError(f"{where}: {name} must be above 0, got {value:g}")
    return value


def probability(where: str, name: str, value: Any) -> float:
    """`value` as a float in [0, 1)."""
    value = number(where, name, value, 0, 1)
    if value == 1:
        raise ValueError(f"{where}: {name} must be below 1, got {value}")
    return value


def flag(function: str, key: str, value: object) -> bool:
    """True or False (NumPy's included)."""
    if is_flag(value):
        return bool(value)
    raise TypeError(f"{function}: {key} must be True or False, got {value!r}")


def real_dtype(where: str, dtype: Any, error: type[Exception] = ValueError) -> np.dtype[Any]:
    """`dtype` as float32 or float64."""
    try:
        dtype = np.dtype(dtype)
    except (TypeError, ValueError):  # it names none
        dtype = repr(dtype)
    if dtype not in ("float32", "float64"):
        raise error(f"{where}: dtype must be float32 or float64, got {dtype}")
    return dtype


def choice(function: str, key: str, value: Any, allowed: Collection[str]) -> str:
    """One of a few strings."""
    if not isinstance(value, str):
        raise TypeError(f"{function}: {key} must be a string, got {value!r}")
    if value not in allowed:
        raise ValueError(f"{function}: {key} must be one of {', '.join(map(repr, allowed))}, got {value!r}")
    return value


def path_text(where: str, name: str, value: Any) -> str:
    """A path as text."""
    if not isinstance(value, (str, bytes, os.PathLike)):  # a number would be a file that is open
        raise TypeError(f"{where}: {name} must be a string or a path, got {value!r}")
    return os.fsdecode(value)


def wanted(function: str, needs: Collection[str] | None, names: Sequence[str]) -> list[bool]:
    """Which of the gradients `names` are asked for, as booleans; `needs` None means all."""
    if needs is None:
        return [True] * len(names)
    if isinstance(needs, str) or not isinstance(needs, Collection):  # an iterator's names are there once
        raise TypeError(f"{function}: needs must be a tuple of names, got {needs!r}")
    for name in needs:
        if name not in names:
            raise ValueError(f"{function}: needs may name {', '.join(map(repr, names))}, got {name!r}")
    return [name in needs for name in names]
