"""Packages that are no requirement: where one is missing, the error names the extra that brings it."""

from __future__ import annotations

import importlib
from importlib import metadata
from typing import Any

EXTRAS = {  # of `pip install cnnlib[NAME]`, and the packages that they bring
    "plots": ("matplotlib",),
    "progress": ("tqdm",),
    "data": ("pooch",),
    "images": ("Pillow", "filelock"),
    "tensorboard": ("tensorboardX",),
    "onnx": ("onnx",),
    "sklearn": ("scikit-learn",),
    "serve": ("starlette", "uvicorn", "python-multipart", "Pillow"),
    "completion": ("shtab",),
    "torch": ("torch",),
    "mpi": ("mpi4py",),
}


def required(module: str, where: str, package: str, extra: str) -> Any:
    """The module; where it is missing, an ImportError that says what needs which package and extra."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(f"{where} needs {package}: pip install cnnlib[{extra}]") from error


def installed_version(package: str) -> str | None:
    """Return the version of an installed package; None where it is missing.

    Examples
    --------
    >>> installed_version("numpy") == np.__version__, installed_version("no-such-package")
    (True, None)
    """
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def describe_extra(name: str) -> str:
    """Say which versions of an extra's packages are installed, or which are missing and how to get them."""
    versions = {package: installed_version(package) for package in EXTRAS[name]}
    missing = [package for package, version in versions.items() if version is None]
    if missing:
        return f"lacks {', '.join(missing)}: pip install cnnlib[{name}]"
    return ", ".join(f"{package} {version}" for package, version in versions.items())
