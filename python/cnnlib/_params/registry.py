"""Small settings objects by name, so that command lines, checkpoints and config files can hold them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, fields
from typing import Any

from cnnlib._params import check_keys, hint

OWN = "(a function of the user's own)"  # stands for what a checkpoint cannot hold


class Registry:
    """Frozen dataclasses under names; `what` is what messages call them, in one word."""

    def __init__(self, what: str, classes: Mapping[str, type[Any]]) -> None:
        self.what = what
        self.classes = classes

    def build(self, value: Any) -> Callable[..., Any]:
        """The object that `value` means: a name, a dict with 'name' and arguments, or a callable itself."""
        if callable(value):
            return value
        arguments = {"name": value} if isinstance(value, str) else value
        if not isinstance(arguments, dict) or "name" not in arguments:
            raise TypeError(f"{self.what} must be a name, a dict with a 'name', or a callable, got {value!r}")
        name = arguments["name"]
        if name not in self.classes:
            raise ValueError(f"unknown {self.what} {name!r}; {hint(name, self.classes)}")
        known = [field.name for field in fields(self.classes[name])]
        check_keys(self.what, name, arguments, ["name", *known])
        try:
            return self.classes[name](**{key: item for key, item in arguments.items() if key != "name"})
        except TypeError as error:
            raise TypeError(f"{self.what} {name!r}: {error}") from error

    def describe(self, value: Any) -> Any:
        """
        The inverse of :meth:`build`, in plain values; `OWN` for a callable that is not one of these, None for
        None.
        """
        for name, kind in self.classes.items():
            if type(value) is kind:
                return {"name": name, **asdict(value)}
        return None if value is None else OWN

    def stored(self, where: str, value: Any) -> Any:
        """As :meth:`describe`; a TypeError that begins with `where` for a function of the user's own."""
        described = self.describe(value)
        if described == OWN:
            raise TypeError(
                f"{where}: preprocess must be a cnnlib.data.Normalization, got {value!r}, "
                "which cannot be stored without pickle"
            )
        return described
