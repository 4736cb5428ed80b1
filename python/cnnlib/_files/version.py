"""The version of a file's format: a reader knows one, and refuses the others by name."""

from __future__ import annotations

import os
from typing import Any


def check_version(path: str | os.PathLike[str], kind: str, found: Any, known: int) -> None:
    """Refuse a file of another version than `known`; `kind` says in words what the file is.

    Raises
    ------
    ValueError
        It names the file, its version and the one that is known.
    """
    if type(found) is not int or found != known:
        raise ValueError(
            f"{os.fspath(path)} is {kind} of version {found!r}, and this cnnlib reads version {known}"
        )
