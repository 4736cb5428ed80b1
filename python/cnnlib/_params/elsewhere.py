"""Attributes that objects of other libraries have, and where to look for them here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from cnnlib._params.synonyms import advised


def missing(texts: Mapping[str, str]) -> Callable[[Any, str], Any]:
    """Make the ``__getattr__`` of a class, which is called for what its objects do not have.

    Its AttributeError says of the attributes in `texts`, whatever their capitals and underscores, where to
    look.
    """

    def __getattr__(self: Any, name: str) -> Any:
        text = None if name.startswith("__") else advised(name, texts)
        if text is None:  # the usual error, or that which a property has raised
            return object.__getattribute__(self, name)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}; {text}")

    return __getattr__
