"""How much room a package takes on the disk."""

from __future__ import annotations

import importlib.util
from pathlib import Path


def installed_bytes(package: str) -> int | None:
    """Return the bytes of a package's folder and of the libraries that its wheel brings; None without one.

    The packages that it needs are not counted.

    Examples
    --------
    >>> installed_bytes("numpy") > 1_000_000, installed_bytes("no_such_package")
    (True, None)
    """
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        return None
    folder = Path(spec.submodule_search_locations[0])
    folders = folder, folder.with_name(f"{folder.name}.libs")
    files = (path for each in folders for path in each.rglob("*") if path.suffix != ".pyc")
    return sum(path.stat().st_size for path in files if path.is_file())
