"""Packages that are no requirement: where one is missing, the error names the extra that brings it."""

from __future__ import annotations

import importlib
from typing import Any


def required(module: str, where: str, package: str, extra: str) -> Any:
    """The module; where it is missing, an ImportError that says what needs which package and extra."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(f"{where} needs {package}: pip install cnnlib[{extra}]") from error
