"""What arguments go through: parameter dicts, arrays, random streams, settings by name."""

from cnnlib._params.checks import (
    LIMIT,
    check_keys,
    choice,
    flag,
    integer,
    number,
    pads,
    pair,
    positive_int,
    probability,
    same_sides,
    type_name,
    wanted,
)

__all__ = [
    "LIMIT",
    "check_keys",
    "choice",
    "flag",
    "integer",
    "number",
    "pads",
    "pair",
    "positive_int",
    "probability",
    "same_sides",
    "type_name",
    "wanted",
]
