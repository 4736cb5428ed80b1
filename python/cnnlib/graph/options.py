"""Options of layers that do not change: a node's own copies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

import numpy as np


class Options(dict[str, Any]):
    """A dict that refuses changes: the options of a node."""

    def _refuse(self, *args: object, **kwargs: object) -> NoReturn:
        raise TypeError("options of a node do not change: build another node, with dataclasses.replace")

    __setitem__ = __delitem__ = __ior__ = _refuse
    update = setdefault = pop = popitem = clear = _refuse

    def __reduce__(self) -> tuple[Any, ...]:
        return Options, (dict(self),)


def frozen(value: Any, without: tuple[str, ...] = ()) -> Any:
    """A copy of an argument that does not change; of dicts without some keys, of lists tuples."""
    if isinstance(value, Mapping):
        return Options({key: frozen(item) for key, item in value.items() if key not in without})
    if isinstance(value, (list, tuple)):
        return tuple(map(frozen, value))
    if isinstance(value, np.ndarray):
        if value.flags.writeable or not value.flags.owndata:
            value = value.copy()
            value.flags.writeable = False
        return value
    return value


def plain(value: Any) -> Any:
    """A copy in dicts, which layers read fastest."""
    return {key: plain(item) for key, item in value.items()} if isinstance(value, dict) else value
